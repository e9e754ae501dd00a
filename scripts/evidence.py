"""Every claim on four networks: train, measure, lesion and prune them on folders of images.

    python scripts/evidence.py --data FOLDER [FOLDER] --out runs/evidence --workers 2 --device cpu

Each data set is a folder of its own in --out, each network (scripts/evidence_*.toml) one below it,
as `twoaxis run` writes it, but for the report; of each trained network, `digest` there holds the
small tables that `scripts/evidence_tables.py` makes the committed ones of, `refit` and `tune` its
pruning with other recoveries. All stages of all networks are one graph of tasks:
training first, then what is measured and lesioned, then pruning, then fine-tuning; within each, the
first seeds of all networks come first. What is finished is kept: the same command continues after a
kill. With --stages only those are run, on the checkpoints that lie in --out, whatever made them: so
lesions can be measured on more images than the course of training is.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # workers import scripts.evidence

from empirical.analysis.couplings import OF_INTERVENTION, PAIRS, layer_couplings
from empirical.analysis.flow import channel_links
from empirical.analysis.groupings import layer_groupings
from empirical.analysis.modularity import layer_modularity
from empirical.analysis.triplets import layer_triplets
from empirical.data.folders import DEFAULT_CACHE
from empirical.data.images import image_loader
from empirical.measuring.table import AxisTable
from empirical.runs.campaign import as_text, open_run, run_graph
from empirical.runs.config import RunConfig, read_config
from empirical.runs.steps import RunStages
from empirical.training.checkpoints import load_model
from theory.shared.files import write_archive, write_table
from theory.shared.store import Stage, content_hash
from theory.shared.tasks import Task, run_tasks

OWN = "scripts.evidence:own_stage"
SCRIPTS = Path(__file__).resolve().parent
NETWORKS = ("resnet18", "vgg16", "mobilenetv2", "convnext")
SEEDS = 3
"""Networks of each kind that come first; what further ones there are wait for their pruning."""

STAGES = (
    ("train",),
    ("measure", "evaluate", "gradients", "digest"),
    ("prune",),
    ("lesion",),
    ("refit",),
    ("tune",),
)
"""In the order in which they are taken up, seed by seed. What runs measure again one choice at a
time (robustness) is left out."""

FURTHER: dict[str, dict[str, Any]] = {
    "refit": {"allocations": ("uniform",), "recoveries": ("reconstruct",)},
    "tune": {
        "criteria": ("input_capture", "task_information", "replaceability", "random"),
        "allocations": ("uniform",),
        "recoveries": ("finetune",),
        "draws": 1,
    },
}
"""Folder of a trained network -> factors that are changed there: every layer refitted to the dense
network, and five epochs of training on, which take longer than the recoveries of the run."""


def main() -> None:
    """Run what is missing, a line for each finished task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders of images")
    parser.add_argument("--out", type=Path, default=Path("runs/evidence"))
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--workers", type=int, default=0, help="processes of one thread each")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE)
    parser.add_argument("--stages", nargs="+", choices=[s for kind in STAGES for s in kind])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    begun = time.time()
    tasks: dict[str, Task] = {}
    for network in options.networks:
        for data in options.data:
            folder = data.resolve()
            settings = [f'data.source="{folder}"', f"device={options.device}", *options.set]
            config = read_config(SCRIPTS / f"evidence_{network}.toml", settings)
            out = options.out.resolve() / folder.name / network
            own = network_tasks(config, str(out), str(options.cache.resolve()))
            tasks |= only(own, options.stages) if options.stages else own
    results = run_tasks(in_order(tasks), workers=options.workers)
    for number, (key, _) in enumerate(results, start=1):
        print(f"{time.time() - begun:7.1f} s  {number} of {len(tasks)}  {key}", flush=True)


def network_tasks(config: RunConfig, out: str, cache: str) -> dict[str, Task]:
    """The tasks of a campaign; a digest; and pruning with further factors.

    What takes long waits in one chain for each network, behind its digest.
    """
    stages = open_run(as_text(config), out, cache)
    graph = run_graph(stages, out, cache)
    tasks = {k: task for k, task in graph.items() if task.arguments["stage"] != "robustness"}
    for seed in config.seeds:

        def key(stage: str, seed: int = seed) -> str:
            return f"{out}: seed {seed}: {stage}"

        given = dict(tasks[key("train")].arguments)
        own = {k: task for k, task in tasks.items() if task.arguments["seed"] == seed}
        measured = tuple(k for k, task in own.items() if task.arguments["stage"] == "measure")
        chain = {"digest": Task(OWN, given | {"stage": "digest"}, measured)}
        if config.pruning.enabled:
            chain["prune"] = own[key("prune")]
        if config.lesion.enabled:
            chain["lesion"] = Task(OWN, given | {"stage": "lesion"})
        for stage, factors in FURTHER.items() if config.pruning.enabled else ():
            changed = as_text(with_options(config, "pruning", _asked(config, factors)))
            chain[stage] = Task(OWN, given | {"stage": stage, "config": changed})
        before = measured
        for stage, task in chain.items():
            tasks[key(stage)] = replace(task, after=before)
            before = (key(stage),)
        if seed - SEEDS in config.seeds:
            enough = key("prune" if "prune" in chain else "digest", seed - SEEDS)
            tasks[key("train")] = replace(tasks[key("train")], after=(enough,))
    return tasks


def _asked(config: RunConfig, factors: dict[str, Any]) -> dict[str, Any]:
    """The factors, of their criteria those that the configuration has."""
    own = config.pruning.criteria
    if not own or "criteria" not in factors:
        return factors
    return factors | {"criteria": tuple(name for name in factors["criteria"] if name in own)}


def only(tasks: dict[str, Task], stages: Sequence[str]) -> dict[str, Task]:
    """The tasks of some stages, which wait for none of the others."""
    kept = {key: task for key, task in tasks.items() if task.arguments["stage"] in stages}
    return {k: replace(t, after=tuple(a for a in t.after if a in kept)) for k, t in kept.items()}


def with_options(config: RunConfig, section: str, options: dict[str, Any]) -> RunConfig:
    """The configuration with some options of a section changed."""
    changed = config.to_dict()
    changed[section] |= options
    return read_config(changed)


def in_order(tasks: dict[str, Task]) -> dict[str, Task]:
    """By kind of stage, then by seed, then as they came: whatever ends early ends alike."""
    kind = {stage: number for number, stages in enumerate(STAGES) for stage in stages}
    return dict(
        sorted(
            tasks.items(),
            key=lambda item: (kind[item[1].arguments["stage"]], item[1].arguments["seed"]),
        )
    )


def own_stage(
    config: str, out: str, cache: str | None, stage: str, seed: int, step: int | None
) -> None:
    """A stage that a campaign does not have, for one trained network."""
    stages = open_run(config, out, cache)
    if stage in FURTHER:
        stages.prune(seed, into=stage)
        return
    if stage == "lesion":
        stages.measure(seed, stages.steps[-1])
        stages.lesion(seed)
        return
    folder = stages.folder(seed) / "digest"
    files = tuple(folder / name for name in DIGEST)
    tables = {step: stages.table_path(seed, step) for step in stages.steps}
    inputs = {str(step): content_hash(file) for step, file in tables.items()}
    made = Stage(files, inputs, ("scripts.evidence",))
    made.ensure(partial(digest, folder, stages, seed, tables))


DIGEST = ("couplings.csv", "groupings.csv", "structure.csv", "scores.npz", "links.npz")


def digest(folder: Path, stages: RunStages, seed: int, files: dict[int, Path]) -> None:
    """What the tables of a trained network come to, in a thousandth of their size."""
    ends = (stages.steps[0], stages.steps[-1])
    couplings, groupings, structure = [], [], []
    scores, links = dict[str, Any](), dict[str, Any]()
    for step, file in files.items():
        table, of = AxisTable.load(file), {"seed": seed, "step": step}
        pairs = [*PAIRS, *(OF_INTERVENTION if table.damage else ())]
        draws = stages.config.measure.permutations
        couplings.append(layer_couplings(table, pairs=pairs, permutations=draws).assign(**of))
        if step not in ends:
            continue
        groupings.append(layer_groupings(table).assign(**of))
        sets = layer_triplets(table, draws=20)
        structure.append(sets.merge(layer_modularity(table, draws=10), "outer").assign(**of))
        scores |= {
            f"{step}/{layer}/{name}": np.asarray(values, np.float32)
            for layer in table.layers
            for name, values in table.values(layer).items()
        }
        model = load_model(stages.checkpoint(seed, step), stages.spec)[0]
        example = next(iter(image_loader(stages.split.calibration, batch_size=1)))[0]
        links |= {
            f"{step}/{source}>{reader}": np.asarray(strength / strength.max(), np.float16)
            for (source, reader), strength in channel_links(model, example).items()
        }
    for name, rows in zip(DIGEST, (couplings, groupings, structure), strict=False):
        write_table(folder / name, pd.concat(rows))
    write_archive(folder / "scores.npz", {"seed": seed}, scores)
    write_archive(folder / "links.npz", {"seed": seed}, links)


if __name__ == "__main__":
    main()
