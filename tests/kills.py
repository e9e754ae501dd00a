"""Kill a computation at random moments until it has died often enough; are its tables the same?

    python -m tests.kills JOB KILLS SEED FOLDER

Each attempt is a fork that dies of SIGPROF, which nothing catches, after a random amount of
processor time: the machine's load does not matter. A folder is used again until an attempt ends by
itself; then what it holds is compared with that of a computation in one go.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch

import twoaxis
from empirical.data.tables import read_table
from empirical.runs.pipeline import run
from empirical.training.checkpoints import read_tensors, tensor_hash
from sim.sweep import run_sweep
from tests.sim.sweep_job import roots
from theory.shared.files import write_table

VOLATILE = ["seconds", "latency_share"]
TRAINING = {
    "seeds": [1],
    "device": "cpu",
    "data": {"calibration": 60},
    "training": {"epochs": 1, "batch_size": 128},
    "measure": {"checkpoints": 2, "positions": 2, "permutations": 5},
}
LESIONS = {**TRAINING, "lesion": {"enabled": True, "images": 20, "random_draws": 1}}
PRUNING = {
    **TRAINING,
    "pruning": {
        "enabled": True,
        "images": 60,
        "report": 60,
        "batch_size": 60,
        "criteria": ["replaceability", "l2", "random"],
        "allocations": ["uniform"],
        "recoveries": ["compensate"],
        "shares": [0.7, 0.5],
        "draws": 2,
    },
}
SOURCE = ["--model", "small_convnet", "--device", "cpu", "--images", "60"]


def command(name: str, *options: str) -> Callable[[Path], None]:
    def once(out: Path) -> None:
        twoaxis.app([name, *SOURCE, *options, "--out", str(out)], standalone_mode=False)

    return once


def sweep(out: Path) -> None:
    results = run_sweep(roots, [{"x": x} for x in range(300)], out=out)
    write_table(out / "results.csv", pd.DataFrame(results))


JOBS: dict[str, Callable[[Path], object]] = {
    "train": lambda out: run(TRAINING, out=out),
    "lesions": lambda out: run(LESIONS, out=out),
    "pruning": lambda out: run(PRUNING, out=out),
    "measure": command("measure", "--positions", "2"),
    "lesion": command(
        "lesion", "--calibration-images", "60", "--permutations", "99", "--draws", "1"
    ),
    "prune": command("prune", "--recovery", "compensate", "--macs", "0.6"),
    "sweep": sweep,
}


def attempt(job: Callable[[Path], object], out: Path, seconds: float) -> tuple[int, float]:
    """Return how the fork ended (0: by itself), and its processor time."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            signal.setitimer(signal.ITIMER_PROF, seconds)
            job(out)
            code = 0
        finally:
            os._exit(code)
    _, status, used = os.wait4(child, 0)
    return os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime


def contents(folder: Path) -> dict[str, str]:
    """Return every table of a finished computation, but for what it measured of the machine."""
    found = {}
    for file in sorted(folder.rglob("*.csv")):
        table = read_table(file).drop(columns=VOLATILE, errors="ignore")
        found[str(file.relative_to(folder))] = table.to_csv()
    for file in sorted([*folder.rglob("step-*.safetensors"), *folder.rglob("pruned.safetensors")]):
        found[str(file.relative_to(folder))] = tensor_hash(read_tensors(file)[0])
    return found


def main(name: str, kills: int, seed: int, folder: Path) -> dict[str, object]:
    torch.set_num_threads(1)
    job, rng = JOBS[name], random.Random(f"{name} {seed}")
    ended, whole = attempt(job, folder / "whole", 0.0)
    assert ended == 0, f"{name} does not end by itself"
    expected = contents(folder / "whole")
    assert expected, f"{name} writes no tables"
    died = finished = 0
    different = set()
    while died < kills or ended != 0:
        out = folder / f"try-{finished}"
        limit = rng.uniform(0.01, 0.9 * whole) if died < kills else 0.0
        ended, _ = attempt(job, out, limit)
        if ended == 0:
            found = contents(out)
            names = found.keys() | expected.keys()
            different |= {file for file in names if found.get(file) != expected.get(file)}
            finished += 1
        elif ended == -signal.SIGPROF:
            died += 1
        else:
            return {"job": name, "failed": ended, "kills": died, "folder": str(out)}
    return {"job": name, "kills": died, "finished": finished, "different": sorted(different)}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))))
