"""`twoaxis measure`: both axes of every channel of one network, on training images."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from empirical.commands.options import TARGET, spread
from empirical.commands.shards import SHARD, Shard
from empirical.commands.source import NetworkSource
from empirical.commands.tables import write_channels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.table import Table

    from empirical.commands.source import OpenNetwork
    from empirical.data.images import ImageSet
    from empirical.measuring.table import AxisTable
    from empirical.pruning.what_if import RemovalPlan

LISTED, LISTED_LAYERS = 8, 20
"""Channels of a layer, and layers, that are named at the terminal."""


@spread
def measure(
    source: NetworkSource,
    out: Annotated[
        Path, typer.Option(help="Folder to write axes.csv, layers.csv and axes.npz to.")
    ] = Path("runs/measure"),
    images: Annotated[int, typer.Option(min=2, help="Number of training images to use.")] = 5000,
    target: Annotated[str, TARGET] = "logit_margin",
    layer: Annotated[
        list[str] | None, typer.Option(help="Measure this layer only; may be repeated.")
    ] = None,
    positions: Annotated[int, typer.Option(min=1, help="Random positions of each image.")] = 16,
    estimate: Annotated[
        str | None,
        typer.Option(help="Of what regresses on all peers: in_out (default), corrected, plug_in."),
    ] = None,
    damage: Annotated[
        bool, typer.Option(help="Also foretell what the prediction loses by each channel.")
    ] = False,
    page: Annotated[
        Path | None,
        typer.Option(help="Also write this HTML file: a map of all channels, to explore."),
    ] = None,
    forecast: Annotated[
        bool,
        typer.Option(help="For the page: prune on trial at two shares, to foretell divergence."),
    ] = False,
    shard: Annotated[str | None, SHARD] = None,
) -> None:
    """Measure both axes of every channel of one network.

    `twoaxis theory quantities` says what each column of axes.csv means. The page foretells as well
    what the prediction loses without channels, alone and many at once.
    """
    from rich.console import Console

    from empirical.analysis.standing import WHY
    from empirical.data.images import image_loader
    from empirical.devices import halving_batches
    from empirical.measuring.measurement import measure
    from empirical.measuring.targets import target_function
    from empirical.report.card import WIDTH
    from theory.axes import ESTIMATES
    from theory.shared.files import check_writable
    from theory.shared.validation import one_of

    target_function(target)
    if forecast and page is None:
        raise ValueError("--forecast goes with --page; got it alone. Name the page to write.")
    if shard is not None and page is not None:
        raise ValueError(
            f"--page needs all images, and --shard {shard} a share of them. Merge the shares first."
        )
    share = None if shard is None else Shard.read(shard)
    if share is not None and target == "logit_pc1":
        raise ValueError(
            "target must not be 'logit_pc1' with --shard: its direction depends on all images. "
            "Take logit_margin or true_logit."
        )
    if estimate is not None:
        one_of("--estimate", estimate, ESTIMATES)
    check_writable(out)
    opened = source.open((images, 1))  # a folder has test images, and none of them is read here
    chosen = opened.drawn(opened.train, images)
    rows, told = range(len(chosen)), dict[str, object]()
    if share is not None:
        chosen, rows, told = share.of(chosen, source.batch_size)
    typer.echo(opened.accuracy_line(chosen))
    table = halving_batches(
        lambda size: measure(
            opened.network,
            image_loader(chosen, batch_size=size),
            target=target,
            layers=layer or None,
            positions=positions,
            estimate=estimate,
            damage=damage or page is not None,
            seed=source.seed,
            first_image=rows[0],
            device=opened.device,
        ),
        source.batch_size,
    )
    if share is not None:
        path = out / share.name("axes")
        replace(table, settings={**table.settings, **told}).save(path, moments="groups")
        typer.echo(f"Share {shard} of the images: {path.resolve()}")
        return
    write_channels(out, table)
    table.save(out / "axes.npz")
    console = Console()
    console.print(summary_table(table))
    for name, kinds in table.affected.items():
        listed = ", ".join(f"{k.replace('_', ' ')} {len(c)} ({WHY[k]})" for k, c in kinds.items())
        console.print(f"Special in {name}: {listed}", soft_wrap=True)
    for name, why in table.skipped.items():
        console.print(f"Left out: {name}, {why}", soft_wrap=True)
    console.print(f"Tables: {out.resolve()}/axes.csv, layers.csv, axes.npz", soft_wrap=True)
    if page is not None:
        from empirical.report.map_page import map_findings, write_map
        from empirical.report.plan import plan_payload

        title = f"{opened.name} on {opened.train.name}"
        plan = _plan(opened, chosen, forecast)
        write_map(page, table, plan=plan, title=title)
        for finding in map_findings(table, None if plan is None else plan_payload(plan)):
            console.print(textwrap.fill(f"- {finding}", WIDTH, subsequent_indent="  "))
        for line in [] if plan is None else who_may_go(plan):
            console.print(line)
        console.print(f"Page: {page.resolve()}", soft_wrap=True)


def _plan(opened: OpenNetwork, images: ImageSet, measured: bool) -> RemovalPlan | None:
    """What would go at what price; None, with the reason said, where the network does not trace.

    With `measured` a forecast turns damages into divergences.
    """
    from empirical.pruning.calibration import Calibration
    from empirical.pruning.forecasting import forecast
    from empirical.pruning.what_if import removal_plan

    known = Calibration(opened.network, opened.loader(images), device=opened.device)
    try:
        law = forecast(opened.network, known) if measured else None
        return removal_plan(known, forecast=law)
    except ValueError as reason:
        typer.echo(f"Nothing is foretold of removing channels together: {reason}")
        return None


def who_may_go(plan: RemovalPlan) -> list[str]:
    """A line per layer: which channels go first, so that `SHARES[-1]` of the cost is left."""
    from empirical.measuring.description import shortened
    from empirical.report.plan import SHARES

    gone = {name: number for name, number in plan.at_share(SHARES[-1]).items() if number}
    lines = [f"Who goes first, until {SHARES[-1]:.0%} of the multiply-accumulates are left:"]
    for name, number in list(gone.items())[:LISTED_LAYERS]:
        listed = ", ".join(str(unit) for unit in plan.order[name][: min(number, LISTED)])
        more = f" and {number - LISTED} more" if number > LISTED else ""
        lines.append(f"  {shortened(name)}: {listed}{more} ({number} of {len(plan.order[name])})")
    if len(gone) > LISTED_LAYERS:
        lines.append(f"  and channels of {len(gone) - LISTED_LAYERS} more layers, on the page")
    return lines


def summary_table(table: AxisTable) -> Table:
    """Return one row per layer: mean I_X, I_T and E, and the coupling of I_X and I_T."""
    from rich.table import Table

    from empirical.analysis.couplings import PAIRS, layer_couplings

    shown = ("input_capture", "task_information", "peer_predictability")
    couplings = layer_couplings(table, pairs=PAIRS[:1]).set_index("layer")
    summary = Table(
        title="Means over channels",
        caption="I_X input capture, I_T task information (nats), E share that peers predict; rank "
        "correlation of I_X and I_T, and 95 % of it were there none.",
    )
    summary.add_column("layer")
    for column in ("channels", "I_X", "I_T", "E", "I_X ~ I_T", "by chance"):
        summary.add_column(column, justify="right", no_wrap=True)
    for name in table.layers:
        values, row = table[name].as_dict(), couplings.loc[name]
        summary.add_row(
            name,
            str(len(values[shown[0]])),
            *(_mean(values[quantity]) for quantity in shown),
            f"{row['coupling']:+.2f}",
            f"{row['null_low']:+.2f} {row['null_high']:+.2f}",
        )
    return summary


def _mean(values: NDArray[np.float64]) -> str:
    """The mean over the channels that have a value, a dash where none has."""
    known = values[values == values]  # NaN is not
    return f"{known.mean():.3g}" if known.size else "–"
