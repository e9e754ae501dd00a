"""`twoaxis measure`: both axes of every channel of one network, on training images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from empirical.commands.options import TARGET, spread
from empirical.commands.shards import SHARD, Shard
from empirical.commands.source import NetworkSource

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.table import Table

    from empirical.measuring.table import AxisTable


@spread
def measure(
    source: NetworkSource,
    out: Annotated[Path, typer.Option(help="Folder to write axes.csv and axes.npz to.")] = Path(
        "runs/measure"
    ),
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
    shard: Annotated[str | None, SHARD] = None,
) -> None:
    """Measure both axes of every channel of one network.

    `twoaxis theory quantities` says what each column of axes.csv means.
    """
    from rich.console import Console

    from empirical.data.images import image_loader
    from empirical.devices import halving_batches
    from empirical.measuring.measurement import measure
    from empirical.measuring.targets import target_function
    from theory.axes import ESTIMATES
    from theory.shared.files import check_writable, write_table
    from theory.shared.validation import one_of

    target_function(target)
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
    rows = range(len(chosen)) if share is None else share.rows(len(chosen))
    chosen = chosen if share is None else chosen.subset(rows)
    typer.echo(opened.accuracy_line(chosen))
    table = halving_batches(
        lambda size: measure(
            opened.network,
            image_loader(chosen, batch_size=size),
            target=target,
            layers=layer or None,
            positions=positions,
            estimate=estimate,
            damage=damage,
            seed=source.seed,
            first_image=rows[0],
            device=opened.device,
        ),
        source.batch_size,
    )
    if share is not None:
        path = out / share.name("axes")
        table.save(path, moments="groups")
        typer.echo(f"Share {shard} of the images: {path.resolve()}")
        return
    write_table(out / "axes.csv", table.to_frame())
    table.save(out / "axes.npz")
    console = Console()
    console.print(summary_table(table))
    console.print(f"Tables: {out.resolve()}/axes.csv, axes.npz", soft_wrap=True)


def summary_table(table: AxisTable) -> Table:
    """Return one row per layer: mean I_X, I_T and E, and the coupling of I_X and I_T."""
    from rich.table import Table

    from empirical.analysis.couplings import PAIRS, layer_couplings

    shown = ("input_capture", "task_information", "peer_predictability")
    couplings = layer_couplings(table, pairs=PAIRS[:1]).set_index("layer")
    summary = Table(title="Means over channels (nats; peer predictability is a share)")
    summary.add_column("layer")
    means = [name.replace("_", " ") for name in shown]
    for column in ("channels", *means, "coupling", "null 95 %"):
        summary.add_column(column, justify="right")
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
    return f"{known.mean():.4f}" if known.size else "–"
