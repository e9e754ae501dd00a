"""Runs that are kept: an ensemble that was trained before is loaded instead of trained again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sim.networks import Network, network_from_config
from sim.simulation import Progress, simulate
from sim.tasks import Task, task_from_config
from sim.trajectory import Trajectory
from theory.shared import tasks
from theory.shared.store import Stage, key_of

PERFORM = f"{__name__}:perform"

Run = tuple[Task, Network, dict[str, Any]]
"""What `kept_run` is called with beside the folder, threads and progress."""


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


def run_on_cluster(
    out: str | os.PathLike[str] | None, runs: Sequence[Run], scheduler: str | None
) -> None:
    """Let the workers of a Dask scheduler make each run in `out`, which they see as well.

    Raises
    ------
    ValueError
        a scheduler without a folder
    """
    if scheduler is None:
        return
    if out is None:
        raise ValueError(
            "out must be a folder that the workers of the scheduler write to as well; got None."
        )
    folder = os.path.abspath(out)
    wanted = {
        f"run {number}": tasks.Task(
            PERFORM,
            {"out": folder, "task": task.config(), "network": network.config(), "options": options},
        )
        for number, (task, network, options) in enumerate(runs)
    }
    for _ in tasks.run_tasks(wanted, scheduler=scheduler):
        pass


def perform(
    out: str, task: Mapping[str, Any], network: Mapping[str, Any], options: Mapping[str, Any]
) -> None:
    """Make one run, unless it is there."""
    kept_run(out, task_from_config(task), network_from_config(network), **options)
