"""The command line of the simulations: `twoaxis sim separate`, `phase` and others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from theory.shared.findings import Finding

app = typer.Typer(no_args_is_help=True, help="Synthetic training, with theory beside it.")

Out = Annotated[
    Path | None,
    typer.Option(help="Folder for runs, table, figure and findings; start again to continue."),
]
Seeds = Annotated[int, typer.Option(min=2, help="Networks per setting.")]
Scheduler = Annotated[str | None, typer.Option(help="Address of a Dask scheduler to run on.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads (default: all cores).")]


class ExperimentResult(Protocol):
    """What every experiment returns."""

    def findings(self) -> list[Finding]: ...  # noqa: D102
    def to_frame(self) -> pd.DataFrame: ...  # noqa: D102
    def figure(self) -> Figure: ...  # noqa: D102


@app.command()
def separate(
    seeds: Seeds = 32,
    width: Annotated[int, typer.Option(min=2, help="Channels.")] = 256,
    dimension: Annotated[int, typer.Option(min=2, help="Inputs.")] = 32,
    steps: Annotated[int, typer.Option(min=1, help="Steps of gradient descent.")] = 120_000,
    threads: Threads = None,
    scheduler: Scheduler = None,
    out: Out = None,
) -> None:
    """Coupling of the axes over training, in regimes named beforehand."""
    from sim.experiments import separate as experiment

    with _progress() as bar:
        tasks: dict[str, Any] = {}

        def show(regime: str, made: int, total: int) -> None:
            if regime not in tasks:
                tasks[regime] = bar.add_task(regime, total=total)
            bar.update(tasks[regime], completed=made)

        result = experiment(
            seeds=seeds,
            width=width,
            dimension=dimension,
            steps=steps,
            threads=threads,
            scheduler=scheduler,
            out=out,
            progress=show,
        )
    _finish(result, "separate", out)


@app.command()
def phase(
    x: Annotated[str, typer.Option(help="First parameter to vary.")] = "exponent",
    y: Annotated[str, typer.Option(help="Second parameter to vary.")] = "alignment",
    points: Annotated[int, typer.Option(min=2, help="Settings along each.")] = 20,
    seeds: Seeds = 16,
    steps: Annotated[int, typer.Option(min=1, help="Steps of gradient descent.")] = 20_000,
    target: Annotated[str, typer.Option(help="Target: output or label.")] = "output",
    fixed: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Another parameter, as scale=0.3."),
    ] = None,
    scheduler: Scheduler = None,
    out: Out = None,
) -> None:
    """Where training separates the axes, over two settings.

    The settings are exponent, alignment, width, scale, noise and outputs.
    """
    from sim.experiments import phase as experiment

    with _progress() as bar:
        result = experiment(
            x,
            y,
            points=points,
            seeds=seeds,
            steps=steps,
            target=target,
            fixed=dict(_assignment(text) for text in fixed or []),
            out=None if out is None else out / "settings",
            scheduler=scheduler,
            progress=_counter(bar, "settings"),
        )
    _finish(result, "phase", out)


@app.command()
def lesion(
    seeds: Seeds = 16,
    width: Annotated[int, typer.Option(min=2, help="Channels, at most as many as inputs.")] = 16,
    dimension: Annotated[int, typer.Option(min=2, help="Inputs.")] = 32,
    steps: Annotated[int, typer.Option(min=1, help="Steps of gradient descent.")] = 4000,
    threads: Threads = None,
    scheduler: Scheduler = None,
    out: Out = None,
) -> None:
    """Damage of lesion, replacement and refit, against identities."""
    from sim.experiments import lesion as experiment

    with _progress() as bar:
        result = experiment(
            seeds=seeds,
            width=width,
            dimension=dimension,
            steps=steps,
            threads=threads,
            scheduler=scheduler,
            out=out,
            progress=_counter(bar, "training"),
        )
    _finish(result, "lesion", out)


@app.command()
def init(
    seeds: Seeds = 200,
    width: Annotated[int, typer.Option(min=2, help="Channels.")] = 128,
    dimension: Annotated[int, typer.Option(min=2, help="Inputs.")] = 32,
    scheduler: Scheduler = None,
    out: Out = None,
) -> None:
    """Coupling of the axes at initialization, against its exact laws."""
    from sim.experiments import initial as experiment

    with _progress() as bar:
        result = experiment(
            seeds=seeds,
            width=width,
            dimension=dimension,
            out=None if out is None else out / "settings",
            scheduler=scheduler,
            progress=_counter(bar, "settings"),
        )
    _finish(result, "init", out)


@app.command()
def carriers(
    seeds: Seeds = 32,
    width: Annotated[int, typer.Option(min=2, help="Channels.")] = 64,
    dimension: Annotated[int, typer.Option(min=2, help="Inputs.")] = 32,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the exact ReLU gradient.")] = 5000,
    threads: Threads = None,
    scheduler: Scheduler = None,
    out: Out = None,
) -> None:
    """What carries the separation: features or the target."""
    from sim.experiments import factorial as experiment

    with _progress() as bar:
        result = experiment(
            seeds=seeds,
            width=width,
            dimension=dimension,
            steps=steps,
            threads=threads,
            scheduler=scheduler,
            out=out,
            progress=_counter(bar, "networks"),
        )
    _finish(result, "carriers", out)


@contextmanager
def _progress() -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield bar


def _counter(bar: Any, name: str) -> Any:
    task = bar.add_task(name, total=None)
    return lambda made, total: bar.update(task, completed=made, total=total)


def _assignment(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise ValueError(f"--set must be NAME=NUMBER, as scale=0.3; got {text!r}.") from None


def _finish(result: ExperimentResult, name: str, out: Path | None) -> None:
    """Print the findings; write them, the table and the figure."""
    from theory.shared.files import atomic, write_json, write_table

    findings = result.findings()
    for finding in findings:
        typer.echo(f"- {finding}")
    if out is None:
        return
    record = [{"sentence": str(f), "values": f.numbers()} for f in findings]
    write_table(out / f"{name}.csv", result.to_frame())
    with atomic(out / f"{name}.png") as stream:
        result.figure().savefig(stream, format="png")
    write_json(out / f"{name}.json", _without_nan(record))
    typer.echo(f"Written to {out.resolve()}")


def _without_nan(value: Any) -> Any:
    """JSON has no NaN; None stands for it."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and value != value else value
