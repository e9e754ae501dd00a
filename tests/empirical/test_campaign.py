"""Campaigns: the tables of one process, whoever computes them and whatever is lost."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import twoaxis
from empirical import run
from empirical.runs import campaign as campaigns
from empirical.runs.campaign import as_text, campaign, open_run, perform, run_graph
from empirical.runs.config import read_config
from theory.shared.tasks import TasksFailedError

pytestmark = pytest.mark.usefixtures("figures_not_drawn")

SETTINGS = {
    "seeds": [0, 1],
    "device": "cpu",
    "data": {"calibration": 200},
    "model": {"name": "small_convnet"},
    "training": {"epochs": 0.3, "batch_size": 128},
    "measure": {"checkpoints": 2, "positions": 2, "permutations": 5},
}
HALF = {"seeds": [2], "model": {"name": "small_convnet", "width": 0.5}}
LESIONED = {"lesion": {"enabled": True, "images": 20, "random_draws": 1}}
PRUNED = {
    "pruning": {
        "enabled": True, "images": 60, "report": 60, "batch_size": 60, "criteria": ["l2"],
        "allocations": ["uniform"], "recoveries": ["recalibrate"], "shares": [0.5], "draws": 1,
    }
}  # fmt: skip


def tables(folder: Path) -> dict[str, pd.DataFrame]:
    return {path.name: pd.read_csv(path) for path in sorted((folder / "tables").glob("*.csv"))}


def assert_same_tables(one: Path, other: Path) -> None:
    mine, its = tables(one), tables(other)
    assert mine.keys() == its.keys()
    assert mine
    for name, table in mine.items():
        for column in table:
            if "latency" in column or column.startswith("ms"):
                continue
            first, second = (pd.to_numeric(t[column], errors="coerce") for t in (table, its[name]))
            np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-7, err_msg=name)
            words = first.isna()
            assert table[column][words].equals(its[name][column][words]), (name, column)


@pytest.fixture(scope="module")
def alone(tmp_path_factory, figures_not_drawn) -> Path:
    """Two runs, each in this process."""
    folder = tmp_path_factory.mktemp("alone")
    run(SETTINGS | LESIONED, out=folder / "a")
    run(SETTINGS | HALF, out=folder / "b")
    return folder


def configs(folder: Path) -> dict[Path, object]:
    return {
        folder / "a": read_config(SETTINGS | LESIONED),
        folder / "b": read_config(SETTINGS | HALF),
    }


def test_local_workers_make_the_tables_of_one_process(alone, tmp_path):
    seen = []
    results = campaign(configs(tmp_path), workers=2, progress=lambda *now: seen.append(now))
    assert [result.out.name for result in results] == ["a", "b"]
    assert seen[-1][1] == 1.0
    for name in ("a", "b"):
        assert_same_tables(alone / name, tmp_path / name)
        assert (tmp_path / name / "report.html").is_file()


def test_a_campaign_continues_a_run(alone):
    def times():
        return {path: path.stat().st_mtime_ns for path in alone.glob("a/seed-*/*/*.*")}

    before = times()
    assert len(before) > 20
    campaign({alone / "a": read_config(SETTINGS | LESIONED)})
    assert times() == before


def test_what_fails_is_named_and_the_rest_is_kept(tmp_path, monkeypatch):
    def broken(self, seed):
        raise ValueError(f"no lesions of seed {seed}")

    monkeypatch.setattr("empirical.runs.steps.RunStages.lesion", broken)
    with pytest.raises(TasksFailedError, match="2 tasks failed, each of 2 times") as caught:
        campaign({tmp_path / "a": read_config(SETTINGS | LESIONED)})
    wrong = [f"ValueError: no lesions of seed {seed}" for seed in (0, 1)]
    assert sorted(caught.value.failed.values()) == wrong
    assert len(list(tmp_path.glob("a/seed-*/axes/*.npz"))) >= 4
    assert not (tmp_path / "a" / "report.html").exists()


def test_runs_on_a_gpu_ask_their_workers_for_one(alone, monkeypatch):
    stages = open_run(as_text(read_config(SETTINGS | LESIONED)), str(alone / "a"), None)
    assert not any(task.resources for task in run_graph(stages, str(alone / "a"), None).values())
    monkeypatch.setattr("empirical.runs.campaign.chosen_device", lambda _: torch.device("cuda", 0))
    found = run_graph(stages, str(alone / "a"), None)
    assert all(task.resources == {"GPU": 1.0} for task in found.values())
    lesion = next(task for key, task in found.items() if key.endswith("seed 1: lesion"))
    assert [after.split(": ", 1)[1] for after in lesion.after] == ["seed 1: measure, step 2"]


def test_several_configurations_need_different_names(tmp_path):
    paths = [tmp_path / "one" / "c.toml", tmp_path / "two" / "c.toml"]
    for path in paths:
        path.parent.mkdir()
        path.write_text("seeds = [0]\n")
    result = CliRunner().invoke(twoaxis.app, ["run", *map(str, paths)])
    assert isinstance(result.exception, ValueError)
    assert str(result.exception).startswith("CONFIG must be files of different names")
    with pytest.raises(ValueError, match="configs must name at least one run"):
        campaign({})


def test_one_folder_is_one_run(tmp_path, monkeypatch):
    """Two names of one folder: the first run was left out, and nothing said so."""
    monkeypatch.chdir(tmp_path)
    given = {Path("a"): read_config(SETTINGS), tmp_path / "a": read_config(SETTINGS | HALF)}
    with pytest.raises(ValueError, match=r"configs must be of different folders; got .*'a'"):
        campaign(given)


@pytest.fixture
def pictures(tmp_path) -> Path:
    """A folder of random images of two classes."""
    for part, label in itertools.product(("train", "test"), ("a", "b")):
        (tmp_path / "data" / part / label).mkdir(parents=True)
    draw(tmp_path / "data", seed=0)
    return tmp_path / "data"


def draw(folder: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for place, number in itertools.product(sorted(folder.glob("*/*")), range(20)):
        Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).save(place / f"{number}.png")


def test_workers_read_changed_images_again_and_refuse_others(pictures, tmp_path, monkeypatch):
    """A worker outlives a campaign: what it has read of images and of code may be old."""
    trained: list[str] = []
    monkeypatch.setattr(
        "empirical.runs.steps.RunStages.train",
        lambda stages, *_: trained.append(stages.split.fit.fingerprint),
    )
    data = {"data": {"source": str(pictures), "calibration": 20}}
    text, out = as_text(read_config(SETTINGS | data)), str(tmp_path / "run")

    def asked() -> tuple[str, dict[str, object]]:
        """The images as they are now, and the arguments of a task that is to read them."""
        campaigns._forget()
        stages = open_run(text, out, None)
        first = next(iter(run_graph(stages, out, None).values()))
        return stages.split.fit.fingerprint, dict(first.arguments)

    before, old = asked()
    perform(**old)
    draw(pictures, seed=1)
    after, new = asked()
    draw(pictures, seed=0)
    asked()  # now this process, as a worker of before, holds the old images
    draw(pictures, seed=1)
    perform(**new)
    assert trained == [before, after]
    assert before != after
    with pytest.raises(ValueError, match="must hold the same images for all workers"):
        perform(**old)
    monkeypatch.setattr(campaigns, "fingerprint", lambda *_: "edited")
    with pytest.raises(ValueError, match="must run the code of the process that asks"):
        perform(**new)
    assert len(trained) == 2


COUNTING = """
from theory.shared import tasks

def counting(original):
    def perform(call, arguments):
        with open({log!r}, "a") as log:
            log.write(call + chr(10))
        return original(call, arguments)
    return perform

if not hasattr(tasks, "counted"):
    tasks.counted, tasks.perform = True, counting(tasks.perform)
"""
"""Read by each worker as it starts, twice: a line for every execution of a task."""


@pytest.mark.slow
def test_a_cluster_that_loses_workers_all_the_time_makes_the_tables_of_one_process(tmp_path):
    """A scheduler and three workers on loopback; every 15 seconds one is killed and replaced."""
    settings = SETTINGS | LESIONED | PRUNED | {"training": {"epochs": 3, "batch_size": 32}}
    models = ({"name": "small_convnet"}, {"name": "small_convnet", "width": 0.5})
    made = {f"{i}": read_config(settings | {"model": model}) for i, model in enumerate(models)}
    for name, config in made.items():
        run(config, out=tmp_path / "alone" / name)
    log = tmp_path / "log"
    words = ("--port", "0", "--host", "127.0.0.1", "--no-dashboard")
    with log.open("wb") as file:
        scheduler = started(file, "distributed.cli.dask_scheduler", *words)
    while "Scheduler at:" not in log.read_text():
        time.sleep(0.1)
    address = log.read_text().split("Scheduler at:")[1].split()[0]
    executed, preload = tmp_path / "executed", tmp_path / "preload.py"
    preload.write_text(COUNTING.format(log=str(executed)))
    one = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--preload", str(preload))
    new = lambda: started(subprocess.DEVNULL, "distributed.cli.dask_worker", address, *one)  # noqa: E731
    workers, ended = [new() for _ in range(3)], threading.Event()
    lost: list[int] = []

    def kill_now_and_then() -> None:
        for number in itertools.count():
            if ended.wait(15):
                return
            victim = workers.pop(number % 3)
            os.kill(victim.pid, signal.SIGKILL)
            victim.wait()
            lost.append(number)
            workers.append(new())

    killer = threading.Thread(target=kill_now_and_then)
    killer.start()
    try:
        folders = {tmp_path / "cluster" / name: config for name, config in made.items()}
        tasks: list[str] = []
        campaign(folders, scheduler=address, progress=lambda key, _: tasks.append(key))
    finally:
        ended.set()
        killer.join()
        for process in (*workers, scheduler):
            process.kill()
            process.wait()
    executions = executed.read_text().split()
    print(f"{len(tasks)} tasks, {len(executions)} executions, {len(lost)} workers lost")
    assert len(lost) >= 2
    assert len(tasks) <= len(executions) <= len(tasks) + len(lost)
    for name in made:
        assert_same_tables(tmp_path / "alone" / name, tmp_path / "cluster" / name)


def started(log: object, *words: str) -> subprocess.Popen[bytes]:
    path = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", *words], env=environment, stdout=log, stderr=log)
