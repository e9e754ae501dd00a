"""The front door: the command line, and the public names of the three packages in one place."""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from empirical.commands.cli import app as experiments
from empirical.commands.lesion import lesion
from empirical.commands.prune import prune
from sim.cli import app as simulations
from theory.cli import app as theory_commands

if TYPE_CHECKING:
    from empirical.report.page import Section

_PACKAGES = ("theory", "sim", "empirical")

app = typer.Typer(
    name="twoaxis",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Which channels does a trained network still need? Theory, simulation and measurement of "
    "the two axes of channel information.",
)


def __getattr__(name: str) -> object:
    """Public names of `theory`, `sim` and `empirical`, loaded on first use."""
    if not name.startswith("_"):
        for package in map(importlib.import_module, _PACKAGES):
            if name in package.__all__:
                return getattr(package, name)
    raise AttributeError(f"module 'twoaxis' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({n for p in map(importlib.import_module, _PACKAGES) for n in p.__all__})


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("runs/demo"),
    seeds: Annotated[int, typer.Option(min=1, help="How many networks to train.")] = 3,
    small: Annotated[bool, typer.Option(help="A minimal version, to see that it works.")] = False,
) -> None:
    """From formula to simulation to trained network, with a report, in about two minutes."""
    from rich.console import Console
    from rich.table import Table

    started = time.time()
    sections = _demo_sections(out, seeds, small, started)
    from empirical.commands.demo import headline
    from empirical.report.page import write_report

    page = write_report(
        out,
        "Two axes of channel information",
        "What a channel says about the task is one question; whether its peers could replace it "
        "is another. This page asks both of small networks, from formula to lesion.",
        sections,
    )
    table = Table(title="What was found", show_lines=True)
    table.add_column("chapter", style="bold", max_width=24)
    table.add_column("finding")
    for chapter, finding in headline(sections):
        table.add_row(chapter, finding)
    console = Console()
    console.print(table)
    console.print(f"Report: {page.resolve()}  ({time.time() - started:.0f} s)", soft_wrap=True)


def _demo_sections(out: Path, seeds: int, small: bool, started: float) -> list[Section]:
    """Run both parts of the demo under one progress bar, and write `run.json`."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from empirical.commands.demo import DemoSettings, digits_sections, run_record
    from theory.shared.files import write_json

    settings = DemoSettings.small() if small else DemoSettings(seeds=tuple(range(seeds)))
    out.mkdir(parents=True, exist_ok=True)
    columns = (TextColumn("{task.description:<44}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns) as bar:
        task = bar.add_task("simulation", total=1.0)
        simulation = _simulation_section(small)
        sections = digits_sections(
            settings, lambda what, share: bar.update(task, description=what, completed=share)
        )
    write_json(out / "run.json", run_record(settings, started))
    return [simulation, *sections]


def _simulation_section(small: bool) -> Section:
    """Ensembles of linear networks trained from a coupled start, with theory's curves over them."""
    from empirical.report.page import Section
    from sim.experiments.separation import quick, separate

    tiny = {"width": 32, "dimension": 8, "seeds": 3, "steps": 500, "records": 6}
    result = separate(**tiny) if small else quick()
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


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A folder written by demo or run.")],
) -> None:
    """Render report.html again from a folder's findings, figures and tables."""
    from empirical.report.page import render

    typer.echo(render(folder))


app.add_typer(theory_commands, name="theory")
app.add_typer(simulations, name="sim")
app.add_typer(experiments)
app.command()(lesion)
app.command()(prune)


def main() -> None:
    """Run the command line; an error of the user is one line that names the remedy."""
    try:
        app()
    except (ValueError, TypeError, OSError) as error:
        typer.echo(f"twoaxis: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
