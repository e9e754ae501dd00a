"""Several runs as one graph of tasks: local processes or a Dask cluster, one shared folder.

Every task is a stage of a run for one seed, kept in the run's store: a task that is started twice
finds what it would make. Two processes never make the same artifact at once.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from empirical.data.folders import DEFAULT_CACHE
from empirical.data.splits import DataSplit
from empirical.devices import chosen_device
from empirical.runs.config import RunConfig, read_config
from empirical.runs.pipeline import RunResult, reported
from empirical.runs.steps import RunStages, read_images
from theory.shared.code import fingerprint
from theory.shared.store import key_of
from theory.shared.tasks import Task, run_tasks
from theory.shared.validation import called, count

PERFORM = f"{__name__}:perform"
Say = Callable[[str, float], None]


def campaign(
    configs: Mapping[Path, RunConfig],
    *,
    workers: int = 0,
    scheduler: str | None = None,
    download: bool = False,
    cache: str | os.PathLike[str] | None = DEFAULT_CACHE,
    progress: Say | None = None,
) -> list[RunResult]:
    """Train, measure, lesion and prune all networks of all runs; then write each run's report.

    The result is that of `run` for each configuration. What an earlier start finished is not done
    again.

    Parameters
    ----------
    configs : folder of the run -> its configuration, of `read_config`. Workers see the same
        folders, and names of models that are relative files as this process does.
    workers : local processes of one thread each; 0 for this one
    scheduler : address of a Dask scheduler, "tcp://host:8786", in place of local processes. Runs on
        "cuda" go to workers started with ``--resources GPU=1``, one at a time.
    download, cache : as for `load_data`; it is this process that downloads
    progress : called with what was finished, and the share of all tasks that is

    Raises
    ------
    ValueError, FileNotFoundError
        for what is wrong in a configuration, before anything starts
    theory.shared.tasks.TasksFailedError
        tasks that failed twice, by name; everything else is finished, no report is written
    ConnectionError
        a scheduler that cannot be reached or goes away; what was finished is kept
    """
    count("workers", workers, least=0)
    called("progress", progress)
    say = progress or (lambda _, __: None)
    if not configs:
        raise ValueError("configs must name at least one run; got none. Pass {folder: config}.")
    kept = None if cache is None else os.path.abspath(cache)
    if len({os.path.abspath(out) for out in configs}) < len(configs):
        raise ValueError(
            f"configs must be of different folders; got {[str(out) for out in configs]}, of which "
            "some are one. Give each run a folder of its own."
        )
    _forget()
    opened = {
        os.path.abspath(out): open_run(as_text(config), os.path.abspath(out), kept, download)
        for out, config in configs.items()
    }
    tasks: dict[str, Task] = {}
    for out, stages in opened.items():
        tasks |= run_graph(stages, out, kept)
    results = run_tasks(tasks, workers=workers, scheduler=scheduler)
    for number, (key, _) in enumerate(results, start=1):
        say(key, number / len(tasks))
    return [reported(stages) for stages in opened.values()]


def run_graph(stages: RunStages, out: str, cache: str | None) -> dict[str, Task]:
    """Return the tasks of one run: key -> task, in the order of one process."""
    config, first, last = stages.config, stages.steps[0], stages.steps[-1]
    device = chosen_device(config.device)
    resources = {"GPU": 1.0} if device.type == "cuda" else {}
    made_from = {"images": _told(stages.split), "code": _code(stages)}
    tasks: dict[str, Task] = {}

    def add(stage: str, seed: int, step: int | None = None, after: Sequence[str] = ()) -> str:
        key = f"{out}: seed {seed}: {stage}" + ("" if step is None else f", step {step}")
        arguments = {
            "config": as_text(config), "out": out, "cache": cache,
            "stage": stage, "seed": seed, "step": step, "made_from": made_from,
        }  # fmt: skip
        tasks[key] = Task(PERFORM, arguments, tuple(after), resources)
        return key

    for seed in config.seeds:
        trained = add("train", seed)
        measured = [add("measure", seed, step, [trained]) for step in stages.steps]
        for step in stages.steps:
            add("evaluate", seed, step, [trained])
        for step in dict.fromkeys((first, last)):
            add("gradients", seed, step, [trained])
        add("robustness", seed, None, [trained])
        if config.lesion.enabled:
            add("lesion", seed, None, [measured[-1]])
        if config.pruning.enabled:
            add("prune", seed, None, [trained])
    return tasks


def perform(
    config: str,
    out: str,
    cache: str | None,
    stage: str,
    seed: int,
    step: int | None,
    made_from: Mapping[str, str],
) -> None:
    """Do one stage of a run for one seed, unless its store has it.

    Raises
    ------
    ValueError
        images or code here that are not those of the process that asks
    """
    stages = open_run(config, out, cache)
    if _told(stages.split) != made_from["images"]:
        _forget()
        stages = open_run(config, out, cache)
    if _told(stages.split) != made_from["images"]:
        raise ValueError(
            f"data {stages.config.data.source!r} must hold the same images for all workers; here "
            "they are others. Give a folder that all see."
        )
    if _code(stages) != made_from["code"]:
        raise ValueError(
            "workers must run the code of the process that asks; this one has read another "
            "version. Start the workers again."
        )
    if stage == "train":
        stages.train(stages.config.seeds.index(seed), seed)
    elif step is None:
        getattr(stages, stage)(seed)
    else:
        getattr(stages, stage)(seed, step)


def _told(split: DataSplit) -> str:
    """Hash of the images of a run."""
    parts = (split.fit, split.calibration, split.report)
    return key_of({"images": [part.fingerprint for part in parts]})


def _code(stages: RunStages) -> str:
    """Fingerprint of the code of a run, the user's network among it."""
    return fingerprint(RunStages.__module__, *stages.spec.own_code)


@functools.lru_cache(maxsize=16)
def open_run(config: str, out: str, cache: str | None, download: bool = False) -> RunStages:
    """The stages of a run."""
    settings = read_config(json.loads(config))
    device = chosen_device(settings.device)
    split = _images(json.dumps(settings.to_dict()["data"]), download, cache)
    return RunStages(settings, Path(out), device, download, cache, lambda _, __: None, split)


@functools.lru_cache(maxsize=2)
def _images(data: str, download: bool, cache: str | None) -> DataSplit:
    """The images of a run; a worker reads those of several runs once."""
    return read_images(read_config({"data": json.loads(data)}).data, download, cache)


def _forget() -> None:
    """Have images read again, which may have changed since an earlier campaign."""
    open_run.cache_clear()
    _images.cache_clear()


def as_text(config: RunConfig) -> str:
    """The configuration as JSON, folders of images by their whole path."""
    found = config.to_dict()
    folder = Path(found["data"]["source"]).expanduser()
    if folder.is_dir():
        found["data"]["source"] = str(folder.resolve())
    found["data"]["root"] = os.path.abspath(found["data"]["root"])
    return json.dumps(found, sort_keys=True)
