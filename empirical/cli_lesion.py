"""The command line of the lesion experiments: `twoaxis lesion`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from empirical.cli import Cache, Data, Device, Download, _import_from_here, _numbers, _progress


def lesion(
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
    out: Annotated[Path, typer.Option(help="Folder to write tables and report.html to.")] = Path(
        "runs/lesion"
    ),
    images: Annotated[int, typer.Option(min=2, help="Number of test images.")] = 1000,
    calibration_images: Annotated[
        int, typer.Option(min=2, help="Number of training images that scores are measured on.")
    ] = 5000,
    kind: Annotated[
        list[str] | None, typer.Option(help="mean, zero or resample; may be repeated.")
    ] = None,
    peers: Annotated[
        list[str] | None,
        typer.Option(help="all, hull, overlap, random or none; may be repeated."),
    ] = None,
    draws: Annotated[int, typer.Option(min=1, help="Draws of random peers.")] = 3,
    pairs: Annotated[int, typer.Option(min=0, help="Pairs lesioned in each layer; 0: none.")] = 12,
    layer: Annotated[
        list[str] | None, typer.Option(help="Lesion this layer only; may be repeated.")
    ] = None,
    permutations: Annotated[int, typer.Option(min=99, help="For p-values.")] = 2000,
    memory: Annotated[float, typer.Option(min=0, help="GiB that activations may take.")] = 2.0,
    image_size: Annotated[int | None, typer.Option(help="Resize and crop images to this.")] = None,
    width: Annotated[float, typer.Option(help="Width multiplier of a network by name.")] = 1.0,
    mean: Annotated[
        str | None, typer.Option(help="Normalization per channel, as 0.485,0.456,0.406.")
    ] = None,
    std: Annotated[str | None, typer.Option(help="Likewise, as 0.229,0.224,0.225.")] = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 250,
    seed: Annotated[int, typer.Option(help="Of images, random peers and permutations.")] = 0,
    device: Device = "auto",
    root: Annotated[Path, typer.Option(help="Where torchvision's data sets lie.")] = Path("data"),
    download: Download = False,
    cache: Cache = None,
) -> None:
    """Lesion and replace every channel of one network, and say what explains the damage."""
    from rich.console import Console
    from rich.table import Table

    from empirical.data.folders import DEFAULT_CACHE
    from empirical.lesions.one_network import lesion_one

    _import_from_here()
    wanted = list(peers or ["all", "hull", "random"])
    with _progress() as progress:
        sections = lesion_one(
            data,
            model=model,
            checkpoint=checkpoint,
            out=out,
            images=images,
            calibration_images=calibration_images,
            kinds=tuple(kind or ["mean", "zero"]),
            peers=() if wanted == ["none"] else tuple(wanted),
            draws=draws,
            pairs=pairs,
            layers=layer or None,
            permutations=permutations,
            memory=int(memory * 2**30),
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
            progress=progress,
        )
    table = Table(title="What was found", show_lines=True)
    table.add_column("chapter", style="bold", max_width=24)
    table.add_column("finding")
    for section in sections:
        for finding in section.findings:
            table.add_row(section.title, str(finding))
    console = Console()
    console.print(table)
    console.print(f"Report: {(out / 'report.html').resolve()}", soft_wrap=True)
