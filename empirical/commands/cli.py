"""The command line of the CNN experiments: `twoaxis run` and `twoaxis measure`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from empirical.commands import options as common

app = typer.Typer(no_args_is_help=True, help="Train, measure and report on convolutional networks.")


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="A TOML file; ready ones are in scripts/.")],
    data: common.Data = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run (default: runs/<name of CONFIG>).")
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key, as training.epochs=3."),
    ] = None,
    device: common.Device = None,
    download: common.Download = False,
    cache: common.Cache = None,
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
    common.import_from_here()
    with _resumable(folder), common.progress_bar() as progress:
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
    common.print_findings(result.sections, result.report)


@app.command()
def measure(
    data: common.Data = "digits",
    model: common.Model = None,
    checkpoint: common.Checkpoint = None,
    out: Annotated[Path, typer.Option(help="Folder to write axes.csv and axes.npz to.")] = Path(
        "runs/measure"
    ),
    images: Annotated[int, typer.Option(min=2, help="Number of training images to use.")] = 5000,
    image_size: common.ImageSize = None,
    width: common.Width = 1.0,
    target: common.Target = "logit_margin",
    layer: Annotated[
        list[str] | None, typer.Option(help="Measure this layer only; may be repeated.")
    ] = None,
    positions: Annotated[int, typer.Option(min=1, help="Random positions of each image.")] = 16,
    batch_size: common.BatchSize = 250,
    mean: common.Mean = None,
    std: common.Std = None,
    seed: Annotated[int, typer.Option(help="Of images, positions and random weights.")] = 0,
    device: common.Device = "auto",
    root: common.Root = Path("data"),
    download: common.Download = False,
    cache: common.Cache = None,
) -> None:
    """Measure both axes of every channel of one network."""
    from rich.console import Console

    from empirical.commands.measure_one import measure_one, summary_table
    from empirical.data.folders import DEFAULT_CACHE

    common.import_from_here()
    table = measure_one(
        data,
        model=model,
        checkpoint=checkpoint,
        out=out,
        images=images,
        image_size=image_size,
        width=width,
        mean=common.numbers("mean", mean),
        std=common.numbers("std", std),
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
