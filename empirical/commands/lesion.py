"""The command line of the lesion experiments: `twoaxis lesion`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from empirical.commands import options as common


def lesion(
    data: common.Data = "digits",
    model: common.Model = None,
    checkpoint: common.Checkpoint = None,
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
    image_size: common.ImageSize = None,
    width: common.Width = 1.0,
    mean: common.Mean = None,
    std: common.Std = None,
    batch_size: common.BatchSize = 250,
    seed: Annotated[int, typer.Option(help="Of images, random peers and permutations.")] = 0,
    device: common.Device = "auto",
    root: common.Root = Path("data"),
    download: common.Download = False,
    cache: common.Cache = None,
) -> None:
    """Lesion and replace every channel of one network, and say what explains the damage."""
    from empirical.commands.lesion_one import lesion_one
    from empirical.data.folders import DEFAULT_CACHE

    common.import_from_here()
    wanted = list(peers or ["all", "hull", "random"])
    with common.progress_bar() as progress:
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
            mean=common.numbers("mean", mean),
            std=common.numbers("std", std),
            seed=seed,
            device=device or "auto",
            root=root,
            download=download,
            cache=cache or DEFAULT_CACHE,
            batch_size=batch_size,
            progress=progress,
        )
    common.print_findings(sections, out / "report.html")
