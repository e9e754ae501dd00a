"""The command line of the CNN experiments: `twoaxis run` and `twoaxis measure`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from empirical.cli_options import (
    BatchSize,
    Cache,
    Checkpoint,
    Data,
    Device,
    Download,
    ImageSize,
    Mean,
    Model,
    Root,
    Std,
    Target,
    Width,
    import_from_here,
    numbers,
    print_findings,
    progress_bar,
)

app = typer.Typer(no_args_is_help=True, help="Train, measure and report on convolutional networks.")


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
    from empirical.data.folders import DEFAULT_CACHE
    from empirical.runs import pipeline

    overrides = list(override or [])
    if data is not None:
        overrides.append(f"data.source={_toml_string(data)}")
    if device is not None:
        overrides.append(f"device={_toml_string(device)}")
    folder = out if out is not None else Path("runs") / config.stem
    import_from_here()
    with _resumable(folder), progress_bar() as progress:
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
    print_findings(result.sections, result.report)


@app.command()
def measure(
    data: Data = "digits",
    model: Model = None,
    checkpoint: Checkpoint = None,
    out: Annotated[Path, typer.Option(help="Folder to write axes.csv and axes.npz to.")] = Path(
        "runs/measure"
    ),
    images: Annotated[int, typer.Option(min=2, help="Number of training images to use.")] = 5000,
    image_size: ImageSize = None,
    width: Width = 1.0,
    target: Target = "logit_margin",
    layer: Annotated[
        list[str] | None, typer.Option(help="Measure this layer only; may be repeated.")
    ] = None,
    positions: Annotated[int, typer.Option(min=1, help="Random positions of each image.")] = 16,
    batch_size: BatchSize = 250,
    mean: Mean = None,
    std: Std = None,
    seed: Annotated[int, typer.Option(help="Of images, positions and random weights.")] = 0,
    device: Device = "auto",
    root: Root = Path("data"),
    download: Download = False,
    cache: Cache = None,
) -> None:
    """Measure both axes of every channel of one network."""
    from rich.console import Console

    from empirical.data.folders import DEFAULT_CACHE
    from empirical.measuring.measure_one import measure_one, summary_table

    import_from_here()
    table = measure_one(
        data,
        model=model,
        checkpoint=checkpoint,
        out=out,
        images=images,
        image_size=image_size,
        width=width,
        mean=numbers("mean", mean),
        std=numbers("std", std),
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
