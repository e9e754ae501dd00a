"""Sweeps: resumable after any kill, and the same on a cluster."""

import math
import os
import signal
import subprocess
import sys
import time

import distributed
import pytest

from sim.experiments import initial, lesion
from sim.experiments.cells import phase_cell
from sim.sweep import run_sweep
from tests.sim import sweep_job

CELL = {
    "exponent": 1.0, "alignment": 0.0, "width": 12, "scale": 1.0, "noise": 0.0, "outputs": 1,
    "seeds": 3, "first_seed": 5, "steps": 40, "dimension": 6, "target": "output",
}  # fmt: skip
CELLS = [CELL | {"exponent": e, "alignment": a} for e in (0.5, 1.5) for a in (0.0, 1.0, 2.0)]


def squared(setting):
    return {"square": setting["x"] ** 2, "none": math.nan, "list": [1.0, math.nan]}


def kept(folder):
    """The finished settings, a line each, in whatever order they were finished."""
    (file,) = folder.glob("*.jsonl")
    return sorted(file.read_bytes().splitlines())


def test_results_come_in_order_and_only_the_missing_are_computed(tmp_path):
    settings = [{"x": x} for x in range(5)]
    first = run_sweep(squared, settings, out=tmp_path)
    assert [r["square"] for r in first] == [0, 1, 4, 9, 16]
    assert math.isnan(first[0]["none"])
    before = kept(tmp_path)
    file = tmp_path / "squared.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines[:2], lines[2].replace(b"4", b"5"), *lines[3:]]))
    seen = []
    again = run_sweep(
        squared, settings, out=tmp_path, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(4, 5), (5, 5)]
    assert str(again) == str(first)
    assert kept(tmp_path) == before


def cubed(setting):
    return {"cube": setting["x"] ** 3}


def test_two_sweeps_in_one_folder_are_kept_apart(tmp_path):
    run_sweep(squared, [{"x": 2}], out=tmp_path)
    assert run_sweep(cubed, [{"x": 2}], out=tmp_path) == [{"cube": 8}]
    assert run_sweep(squared, [{"x": 2}], out=tmp_path)[0]["square"] == 4


@pytest.mark.parametrize("patience", [0.0, 0.3])
def test_a_killed_sweep_ends_in_the_same_files(tmp_path, patience):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    sweep_job.run(whole)
    process = subprocess.Popen([sys.executable, "-m", "tests.sim.sweep_job", str(broken)])
    file = broken / "third.jsonl"
    while not (file.exists() and file.stat().st_size):
        assert process.poll() is None, "the sweep ended without a result"
        time.sleep(0.01)
    time.sleep(patience)
    process.kill()
    process.wait()
    done = file.read_bytes().count(b"\n")
    assert 0 < done < 30
    fresh = []
    sweep_job.run(broken, progress=lambda *now: fresh.append(now))
    assert fresh[0] == (done, 30)
    assert kept(broken) == kept(whole)


def test_a_cluster_gives_bitwise_the_same(tmp_path):
    here = run_sweep(phase_cell, CELLS, out=tmp_path / "here")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, scheduler_port=0, dashboard_address=":0", processes=False
    ) as cluster:
        there = run_sweep(
            phase_cell, CELLS, out=tmp_path / "there", scheduler=cluster.scheduler_address
        )
    assert str(here) == str(there)
    assert kept(tmp_path / "here") == kept(tmp_path / "there")


def test_other_experiments_give_the_same_on_a_cluster(tmp_path):
    small = {"seeds": 2, "dimension": 6, "width": 4}
    trained = {**small, "steps": 30, "records": 3}
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, scheduler_port=0, dashboard_address=":0", processes=False
    ) as cluster:
        address = cluster.scheduler_address
        for experiment, given in ((initial, small), (lesion, trained)):
            folder = tmp_path / experiment.__name__
            there = experiment(**given, out=folder, scheduler=address)
            assert there.to_frame().equals(experiment(**given).to_frame())
            assert list(folder.iterdir())
        with pytest.raises(ValueError, match="out must be a folder that the workers"):
            lesion(**trained, scheduler=address)


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_gives_bitwise_the_same(tmp_path):
    many = [CELL | {"alignment": a / 10, "steps": 2000} for a in range(30)]
    here = run_sweep(phase_cell, many, out=tmp_path / "here")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, scheduler_port=0, dashboard_address=":0", processes=True
    ) as cluster:
        lost = []

        def kill_one(done, total):
            if done == 5:
                lost.append(cluster.workers[0].pid)
                os.kill(lost[0], signal.SIGKILL)

        there = run_sweep(
            phase_cell,
            many,
            out=tmp_path / "there",
            scheduler=cluster.scheduler_address,
            progress=kill_one,
        )
    assert lost
    assert str(here) == str(there)
    assert kept(tmp_path / "here") == kept(tmp_path / "there")
