"""The command line of pruning: `twoaxis prune`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from theory._validation import one_of

if TYPE_CHECKING:
    from empirical.pruning.one_network import PruneOutcome


def prune(
    data: Annotated[
        str,
        typer.Option(
            help="digits, cifar10, cifar100, or a folder with train/<class>/* and test/<class>/*."
        ),
    ] = "digits",
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
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("runs/prune"),
    macs: Annotated[float, typer.Option(help="Share of multiply-accumulates to keep.")] = 0.5,
    criterion: Annotated[
        str, typer.Option(help="Which channels stay; 'list' prints all criteria.")
    ] = "replaceability",
    allocation: Annotated[str, typer.Option(help="uniform, global or sensitivity.")] = "uniform",
    recovery: Annotated[
        str,
        typer.Option(
            help="none, recalibrate, merge, compensate (merge + recalibrate), reconstruct (every "
            "layer refitted), fold; finetune, compensate_finetune or reconstruct_finetune."
        ),
    ] = "compensate",
    floor: Annotated[
        float, typer.Option(help="Least share of its channels that each layer keeps.")
    ] = 0.05,
    skip: Annotated[
        list[str] | None, typer.Option(help="Keep this layer whole; may be repeated.")
    ] = None,
    coupled: Annotated[bool, typer.Option(help="Also thin out residual streams.")] = True,
    images: Annotated[int, typer.Option(min=2, help="Training images to calibrate on.")] = 5000,
    image_size: Annotated[int | None, typer.Option(help="Resize and crop images to this.")] = None,
    width: Annotated[float, typer.Option(help="Width multiplier of a network by name.")] = 1.0,
    target: Annotated[
        str, typer.Option(help="logit_margin, true_logit, logit_pc1 or label.")
    ] = "logit_margin",
    export: Annotated[
        list[str] | None, typer.Option(help="onnx or torch; may be repeated.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 250,
    mean: Annotated[
        str | None, typer.Option(help="Normalization per channel, as 0.485,0.456,0.406.")
    ] = None,
    std: Annotated[str | None, typer.Option(help="Likewise, as 0.229,0.224,0.225.")] = None,
    seed: Annotated[int, typer.Option(help="Of images, positions and random draws.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps, or auto.")] = "auto",
    root: Annotated[Path, typer.Option(help="Where torchvision's data sets lie.")] = Path("data"),
    download: Annotated[bool, typer.Option(help="Let torchvision download CIFAR.")] = False,
    cache: Annotated[Path | None, typer.Option(help="Where decoded images are kept.")] = None,
) -> None:
    """Make one network smaller by removing channels, save it, and say what it cost."""
    from empirical.pruning.criteria import criterion_names

    if criterion == "list":
        typer.echo("\n".join(criterion_names()))
        return
    from empirical.data.folders import DEFAULT_CACHE
    from empirical.pruning.one_network import EXPORTS, prune_one

    for kind in export or ():
        one_of("--export", kind, EXPORTS)
    if os.getcwd() not in sys.path:  # so that package.module:callable finds the user's own
        sys.path.insert(0, os.getcwd())
    outcome = prune_one(
        data,
        out=out,
        model=model,
        checkpoint=checkpoint,
        images=images,
        image_size=image_size,
        width=width,
        mean=_numbers("mean", mean),
        std=_numbers("std", std),
        target=target,
        skip=skip or (),
        coupled=coupled,
        exports=export or (),
        seed=seed,
        device=device,
        root=root,
        download=download,
        cache=cache or DEFAULT_CACHE,
        batch_size=batch_size,
        macs=macs,
        criterion=criterion,
        allocation=allocation,
        recovery=recovery,
        floor=floor,
    )
    _show(outcome, out)


def _numbers(name: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(
            f"--{name} must be numbers separated by commas, one per channel; got {text!r}."
        ) from None


def _show(outcome: PruneOutcome, out: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    report = outcome.pruned.report
    (dense, smaller), (slow, fast) = outcome.accuracy, outcome.latency
    table = Table(title=f"{report.criterion}, {report.allocation}, {report.recovery}")
    for column in ("", "before", "after"):
        table.add_column(column, justify="right" if column else "left")
    table.add_row("multiply-accumulates", f"{report.macs_before:,}", f"{report.macs_after:,}")
    table.add_row("parameters", f"{report.parameters_before:,}", f"{report.parameters_after:,}")
    table.add_row(
        f"accuracy on {dense.images} test images",
        f"{dense.accuracy:.2%} ± {dense.accuracy_se:.2%}",
        f"{smaller.accuracy:.2%} ± {smaller.accuracy_se:.2%}",
    )
    table.add_row(
        f"ms for {slow.images} images, median of {slow.repeats}",
        f"{1000 * slow.median:.2f}",
        f"{1000 * fast.median:.2f}",
    )
    console = Console()
    console.print(table)
    console.print(
        f"Kept {report.macs_share:.2%} of the multiply-accumulates, {report.requested:.2%} "
        f"requested. Files: {', '.join(str(f) for f in outcome.files)}, "
        f"{out / 'channels.csv'}, {out / 'prune.json'}",
        soft_wrap=True,
    )
