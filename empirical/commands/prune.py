"""The command line of pruning: `twoaxis prune`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from empirical.commands import options as common
from theory.shared.validation import one_of

if TYPE_CHECKING:
    from empirical.commands.prune_one import PruneOutcome


def prune(
    data: common.Data = "digits",
    model: common.Model = None,
    checkpoint: common.Checkpoint = None,
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
    image_size: common.ImageSize = None,
    width: common.Width = 1.0,
    target: common.Target = "logit_margin",
    export: Annotated[
        list[str] | None, typer.Option(help="onnx or torch; may be repeated.")
    ] = None,
    batch_size: common.BatchSize = 250,
    mean: common.Mean = None,
    std: common.Std = None,
    seed: Annotated[int, typer.Option(help="Of images, positions and random draws.")] = 0,
    device: common.Device = "auto",
    root: common.Root = Path("data"),
    download: common.Download = False,
    cache: common.Cache = None,
) -> None:
    """Make one network smaller by removing channels, save it, and say what it cost."""
    from empirical.pruning.criteria import criterion_names

    if criterion == "list":
        typer.echo("\n".join(criterion_names()))
        return
    from empirical.commands.prune_one import EXPORTS, prune_one
    from empirical.data.folders import DEFAULT_CACHE

    for kind in export or ():
        one_of("--export", kind, EXPORTS)
    common.import_from_here()
    outcome = prune_one(
        data,
        out=out,
        model=model,
        checkpoint=checkpoint,
        images=images,
        image_size=image_size,
        width=width,
        mean=common.numbers("mean", mean),
        std=common.numbers("std", std),
        target=target,
        skip=skip or (),
        coupled=coupled,
        exports=export or (),
        seed=seed,
        device=device or "auto",
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
