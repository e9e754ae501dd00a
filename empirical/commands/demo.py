"""The demo: small networks asked a person's questions, with a report, in about two minutes.

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

from empirical.commands.demo_networks import DemoSettings, network_sections
from empirical.commands.terminal import print_findings, progress_bar
from empirical.report.page import Section, write_report
from empirical.runs.record import versions
from theory.shared.files import check_writable, write_json
from theory.shared.findings import Finding


class Simulation(Protocol):
    """What a simulated experiment returns."""

    def findings(self) -> list[Finding]: ...  # noqa: D102
    def to_frame(self) -> pd.DataFrame: ...  # noqa: D102
    def figure(self) -> Figure: ...  # noqa: D102


def run_demo(
    out: Path, *, data: str, seeds: int, small: bool, simulation: Callable[[], Simulation]
) -> Sequence[Section]:
    """Run the simulation and the networks; print what was found, and write the report to `out`.

    Parameters
    ----------
    data : "photographs", where axes start coupled, or "digits", where they do not.
    seeds : how many networks to train; `small` trains two, for seconds.
    simulation : runs the simulated experiment of the last chapter.

    Raises
    ------
    OSError
        `out` cannot be written: before anything is computed.
    """
    check_writable(out)
    started = time.time()
    settings = DemoSettings.small(data) if small else DemoSettings(data, seeds=tuple(range(seeds)))
    with progress_bar() as progress:
        sections = network_sections(settings, progress)
        progress("simulation", 1.0)
        sections.append(simulation_section(simulation()))
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
        "is another. This page asks both of small networks: do they differ, what does losing "
        "a channel cost, and how much of a network can go?",
        sections,
    )
    print_findings(sections, page)
    return sections


def simulation_section(result: Simulation) -> Section:
    """Ensembles of linear networks trained from a coupled start, with theory's curves over them."""
    return Section(
        title="In linear networks: when do the axes separate?",
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
