"""The demo: from formula to simulation to trained networks, with a report, in about two minutes.

The simulation comes from outside, as no package but the front door knows both sides.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import pandas as pd
import torch
from matplotlib.figure import Figure

from empirical.commands.digits import DemoSettings, digits_sections
from empirical.commands.terminal import print_findings, progress_bar
from empirical.report.page import Section, write_report
from empirical.runs.record import versions
from theory.shared.files import write_json
from theory.shared.findings import Finding


class Simulation(Protocol):
    """What a simulated experiment returns."""

    def findings(self) -> list[Finding]: ...  # noqa: D102
    def to_frame(self) -> pd.DataFrame: ...  # noqa: D102
    def figure(self) -> Figure: ...  # noqa: D102


def run_demo(
    out: Path, *, seeds: int, small: bool, simulation: Callable[[], Simulation]
) -> Sequence[Section]:
    """Run the simulation and the networks; print what was found, and write the report to `out`.

    Parameters
    ----------
    seeds : how many networks to train; `small` trains two, for seconds.
    simulation : runs the simulated experiment of the first chapter.
    """
    started = time.time()
    settings = DemoSettings.small() if small else DemoSettings(seeds=tuple(range(seeds)))
    with progress_bar() as progress:
        progress("simulation", 0.0)
        sections = [simulation_section(simulation()), *digits_sections(settings, progress)]
    seconds = round(time.time() - started, 1)
    write_json(
        out / "run.json",
        {
            "settings": {**vars(settings), "recipe": settings.recipe.to_dict()},
            "seeds": list(settings.seeds),
            "seconds": seconds,
            "versions": {"python": platform.python_version(), **versions()},
            "threads": torch.get_num_threads(),
        },
    )
    page = write_report(
        out,
        "Two axes of channel information",
        "What a channel says about the task is one question; whether its peers could replace it "
        "is another. This page asks both of small networks, from formula to lesion.",
        sections,
    )
    print_findings(sections, page)
    return sections


def simulation_section(result: Simulation) -> Section:
    """Ensembles of linear networks trained from a coupled start, with theory's curves over them."""
    return Section(
        title="From formula to simulation",
        note="Ensembles of two-layer linear networks with a fixed readout, trained from a coupled "
        "start. Theory names the outcome of each regime before anything is trained; intervals are "
        "over networks.",
        findings=result.findings(),
        figures={
            "simulated_separation": (
                result.figure(),
                "Above: rank coupling of input capture and task information of the network's own "
                "output, and of capture and peer overlap. Below: the simulated correlation of "
                "power and squared target covariance, with theory's curve over it.",
            )
        },
        tables={"simulated_separation": result.to_frame()},
    )
