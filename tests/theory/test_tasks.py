"""Tasks: order, tries, losses, and a scheduler that knows nothing of us and goes away."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from theory.shared.tasks import SINGLE, Task, TasksFailedError, run_tasks

HERE = "tests.theory.test_tasks"


def noted(folder, key, value=None, seconds=0.0):
    """Leave a mark of this execution, and return the value."""
    (Path(folder) / f"{key}-{time.time_ns()}").touch()
    time.sleep(seconds)
    return value


def wrong(folder, key):
    noted(folder, key)
    raise ValueError(f"{key} is wrong.\nmore")


def deep():
    return deep()


def killer(folder, key, until):
    """End the whole process until there are so many marks."""
    noted(folder, key)
    if executions(folder, key) < until:
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def threads():
    return {name: os.environ[name] for name in SINGLE}


def executions(folder, key):
    return len(list(Path(folder).glob(f"{key}-*")))


def task(name, folder, key, after=(), **more):
    return Task(f"{HERE}:{name}", {"folder": str(folder), "key": key, **more}, after)


@pytest.mark.parametrize("workers", [0, 2])
def test_tasks_follow_what_they_wait_for(tmp_path, workers):
    tasks = {
        "c": task("noted", tmp_path, "c", after=("a", "b"), value=3),
        "a": task("noted", tmp_path, "a", value=1),
        "b": task("noted", tmp_path, "b", after=("a",), value=2),
    }
    seen = []
    found = list(run_tasks(tasks, workers=workers, progress=lambda *now: seen.append(now)))
    assert found == [("a", 1), ("b", 2), ("c", 3)]
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert all(executions(tmp_path, key) == 1 for key in tasks)


def test_what_fails_is_tried_twice_and_named_and_the_others_go_on(tmp_path):
    tasks = {
        "bad": task("wrong", tmp_path, "bad"),
        "behind": task("noted", tmp_path, "behind", after=("bad",)),
        "good": task("noted", tmp_path, "good"),
    }
    found = []
    with pytest.raises(TasksFailedError) as caught:
        found.extend(run_tasks(tasks))
    assert str(caught.value).startswith("1 tasks failed, each of 2 times: bad: ValueError: bad is")
    assert "1 tasks that wait for them were not started" in str(caught.value)
    assert [executions(tmp_path, key) for key in tasks] == [2, 0, 1]


def test_a_lost_worker_is_made_up_for(tmp_path):
    tasks = {
        "k": task("killer", tmp_path, "k", until=2),
        "x": task("noted", tmp_path, "x", value=1),
    }
    assert dict(run_tasks(tasks, workers=1)) == {"k": "alive", "x": 1}
    assert executions(tmp_path, "k") == 2
    hopeless = {"h": task("killer", tmp_path, "h", until=99), "y": task("noted", tmp_path, "y")}
    with pytest.raises(TasksFailedError, match="h: BrokenProcessPool"):
        list(run_tasks(hopeless, workers=1))
    assert executions(tmp_path, "h") == 3  # once beside another one, twice alone
    assert executions(tmp_path, "y") == 1


def test_local_workers_have_one_thread_and_this_process_keeps_its_own(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    ((_, found),) = run_tasks({"t": Task(f"{HERE}:threads")}, workers=1)
    assert set(found.values()) == {"1"}
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ


def test_a_scheduler_that_is_not_there_is_one_sentence(monkeypatch):
    monkeypatch.setattr("theory.shared.tasks.PATIENCE", 1)
    with pytest.raises(ConnectionError, match=r"'tcp://127.0.0.1:9' cannot be reached: .*Start"):
        list(run_tasks({"t": Task("builtins:dict")}, scheduler="tcp://127.0.0.1:9"))


def started(*words, log=subprocess.DEVNULL, path=""):
    return subprocess.Popen(
        [sys.executable, "-m", *words],
        env={**os.environ, "PYTHONPATH": str(path)},
        stdout=log,
        stderr=log,
    )


@pytest.fixture
def scheduler(tmp_path):
    """A scheduler that can import none of our packages, and its address."""
    blocked = tmp_path / "blocked" / "theory"
    blocked.mkdir(parents=True)
    (blocked / "__init__.py").write_text("raise ImportError('not on the scheduler')")
    file = tmp_path / "log"
    words = ("--port", "0", "--host", "127.0.0.1", "--no-dashboard")
    with file.open("wb") as log:
        process = started("distributed.cli.dask_scheduler", *words, log=log, path=blocked.parent)
    while (found := re.search(r"Scheduler at: +(\S+)", file.read_text())) is None:
        assert process.poll() is None, file.read_text()
        time.sleep(0.05)
    yield process, found[1]
    process.kill()
    process.wait()


def worker(address):
    words = (address, "--nthreads", "1", "--no-nanny", "--no-dashboard")
    return started("distributed.cli.dask_worker", *words, path=Path(__file__).parents[2])


def test_a_cluster_loses_a_worker_and_then_its_scheduler(tmp_path, scheduler):
    process, address = scheduler
    workers = [worker(address), worker(address)]
    marks = tmp_path / "marks"
    marks.mkdir()
    tasks = {str(i): task("noted", marks, f"n{i}", value=i, seconds=0.3) for i in range(12)}
    tasks["k"] = task("killer", marks, "k", until=2)
    try:
        found = dict(run_tasks(tasks, scheduler=address))
        assert found == {str(i): i for i in range(12)} | {"k": "alive"}
        assert sum(executions(marks, f"n{i}") for i in range(12)) <= 13
        with pytest.raises(TasksFailedError, match="each of 2 times: deep: RecursionError"):
            list(run_tasks({"deep": Task(f"{HERE}:deep")}, scheduler=address))
        endless = {str(i): task("noted", marks, f"m{i}", seconds=0.2) for i in range(300)}
        results = run_tasks(endless, scheduler=address)
        next(results)
        process.kill()
        with pytest.raises(ConnectionError, match=r"is gone\. Everything that was finished"):
            list(results)
    finally:
        for one in workers:
            one.kill()
            one.wait()
