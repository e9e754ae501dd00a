"""Runs that are kept: an ensemble that was trained before is loaded instead of trained again."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from sim.networks import Network
from sim.simulation import Progress, simulate
from sim.tasks import Task
from sim.trajectory import Trajectory


def kept_run(
    out: str | os.PathLike[str] | None,
    task: Task,
    network: Network,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Trajectory:
    """`simulate`, or what it saved in the folder `out` when called with the same arguments.

    Parameters
    ----------
    out : folder; None keeps nothing.
    task, network, threads, progress : as in `simulate`.
    options : other arguments of `simulate`, as JSON types.
    """
    if out is None:
        return simulate(task, network, threads=threads, progress=progress, **options)
    text = json.dumps([task.config(), network.config(), options], sort_keys=True)
    path = Path(out) / f"run-{hashlib.sha256(text.encode()).hexdigest()[:16]}.npz"
    if path.exists():
        return Trajectory.load(path)
    run = simulate(task, network, threads=threads, progress=progress, **options)
    run.save(path)
    return run
