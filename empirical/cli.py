"""The command line of the CNN experiments: `twoaxis run` and `twoaxis measure`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Train, measure and report on convolutional networks.")

Data = Annotated[
    str | None,
    typer.Option(
        help="digits, cifar10, cifar100, or a folder with train/<class>/* and test/<class>/*."
    ),
]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1, or auto (a GPU if there is one).")
]
Cache = Annotated[
    Path | None, typer.Option(help="Where decoded images are kept (default: ~/.cache/twoaxis).")
]
Download = Annotated[bool, typer.Option(help="Let torchvision download CIFAR into the data root.")]


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="A TOML file; ready ones are in scripts/.")],
    data: Data = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run (default: runs/<name of CONFIG>).")
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key, as training.epochs=3."),
    ] = None,
    device: Device = None,
    download: Download = False,
    cache: Cache = None,
) -> None:
    """Train, measure at every checkpoint, analyse and report; start again to continue."""
    from rich.console import Console
    from rich.table import Table

    from empirical.data.folders import DEFAULT_CACHE
    from empirical.runs import pipeline

    overrides = list(override or [])
    if data is not None:
        overrides.append(f"data.source={_toml_string(data)}")
    if device is not None:
        overrides.append(f"device={_toml_string(device)}")
    folder = out if out is not None else Path("runs") / config.stem
    _import_from_here()
    with _resumable(folder), _progress() as progress:
        result = pipeline.run(
            config,
            out=folder,
            overrides=overrides,
            download=download,
            cache=cache or DEFAULT_CACHE,
            progress=progress,
        )
    if int(os.environ.get("RANK", "0")) > 0:
        return
    found = Table(title="What was found", show_lines=True)
    found.add_column("chapter", style="bold", max_width=24)
    found.add_column("finding")
    for section in result.sections:
        for finding in section.findings:
            found.add_row(section.title, str(finding))
    console = Console()
    console.print(found)
    console.print(f"Report: {result.report.resolve()}", soft_wrap=True)


@app.command()
def measure(
    data: Data = "digits",
    model: Annotated[
        str | None,
        typer.Option(
            help="A name, package.module:callable or file.py:callable; not needed with a "
            "checkpoint of twoaxis."
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Weights: .safetensors, or a .pt/.pth file that holds a state dict."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder to write axes.csv and axes.npz to.")] = Path(
        "runs/measure"
    ),
    images: Annotated[int, typer.Option(min=2, help="Number of training images to use.")] = 5000,
    image_size: Annotated[int | None, typer.Option(help="Resize and crop images to this.")] = None,
    width: Annotated[float, typer.Option(help="Width multiplier of a network by name.")] = 1.0,
    target: Annotated[
        str, typer.Option(help="logit_margin, true_logit, logit_pc1 or label.")
    ] = "logit_margin",
    layer: Annotated[
        list[str] | None, typer.Option(help="Measure this layer only; may be repeated.")
    ] = None,
    positions: Annotated[int, typer.Option(min=1, help="Random positions of each image.")] = 16,
    batch_size: Annotated[int, typer.Option(min=1)] = 250,
    mean: Annotated[
        str | None, typer.Option(help="Normalization per channel, as 0.485,0.456,0.406.")
    ] = None,
    std: Annotated[str | None, typer.Option(help="Likewise, as 0.229,0.224,0.225.")] = None,
    seed: Annotated[int, typer.Option(help="Of images, positions and random weights.")] = 0,
    device: Device = "auto",
    root: Annotated[Path, typer.Option(help="Where torchvision's data sets lie.")] = Path("data"),
    download: Download = False,
    cache: Cache = None,
) -> None:
    """Measure both axes of every channel of one network."""
    from rich.console import Console

    from empirical.data.folders import DEFAULT_CACHE
    from empirical.measuring.measure_one import measure_one, summary_table

    _import_from_here()
    table = measure_one(
        data,
        model=model,
        checkpoint=checkpoint,
        out=out,
        images=images,
        image_size=image_size,
        width=width,
        mean=_numbers("mean", mean),
        std=_numbers("std", std),
        seed=seed,
        device=device or "auto",
        root=root,
        download=download,
        cache=cache or DEFAULT_CACHE,
        batch_size=batch_size,
        target=target,
        layers=layer or None,
        positions=positions,
    )
    console = Console()
    console.print(summary_table(table))
    console.print(f"Tables: {out.resolve()}/axes.csv, axes.npz", soft_wrap=True)


def _toml_string(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _import_from_here() -> None:
    """Let package.module:callable find the user's own modules in the current folder."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())


def _numbers(name: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(
            f"--{name} must be numbers separated by commas, one per channel; got {text!r}."
        ) from None


@contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """Say, on Ctrl-C, how to continue."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(
            f"\nInterrupted. What was finished is in {folder}; the same command continues there.",
            err=True,
        )
        raise


@contextmanager
def _progress() -> Iterator[Callable[[str, float], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<60}"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("starting", total=1.0)
        yield lambda what, share: bar.update(task, description=what, completed=share)
