"""Runs that are kept: an ensemble that was trained before is loaded instead of trained again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sim.networks import Network
from sim.simulation import Progress, simulate
from sim.tasks import Task
from sim.trajectory import Trajectory
from theory.shared.store import Stage, key_of


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

    def made() -> Trajectory:
        return simulate(task, network, threads=threads, progress=progress, **options)

    if out is None:
        return made()
    inputs = {"task": task.config(), "network": network.config(), "options": options}
    path = Path(out) / f"run-{key_of(inputs)}.npz"
    Stage((path,), inputs, (simulate.__module__,)).ensure(lambda: made().save(path))
    return Trajectory.load(path)
