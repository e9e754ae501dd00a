"""`twoaxis compare`: two measured networks, channel by channel."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def compare(
    a: Annotated[Path, typer.Argument(help="axes.npz of the first measurement.")],
    b: Annotated[Path, typer.Argument(help="axes.npz of the second.")],
    match: Annotated[
        str,
        typer.Option(help="index (checkpoints of one training) or moments (permuted or apart)."),
    ] = "index",
    out: Annotated[
        Path | None, typer.Option(help="Also write every channel's changes to this CSV file.")
    ] = None,
) -> None:
    """Say which channels changed between two measurements, and how."""
    from empirical.analysis.comparing import compare as compared
    from empirical.measuring.table import AxisTable
    from theory.shared.files import write_table

    found = compared(AxisTable.load(a), AxisTable.load(b), match=match)
    typer.echo(str(found))
    if out is not None:
        write_table(out, found.to_frame())
        typer.echo(f"Changes: {out.resolve()}")
