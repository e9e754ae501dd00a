"""`twoaxis merge`: the shares of a measurement or of lesions, joined to the whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from empirical.commands.tables import write_channels


def merge(
    folder: Annotated[Path, typer.Argument(help="Folder that `--shard K/N` wrote to.")],
) -> None:
    """Join the tables that `--shard K/N` wrote to those of the whole."""
    from empirical.commands.shards import complete
    from empirical.lesions.table import LesionTable, merge_lesions
    from empirical.measuring.estimation import merge_tables
    from empirical.measuring.shares import check_complete
    from empirical.measuring.table import AxisTable
    from theory.shared.files import write_table

    for what, paths in complete(folder).items():
        if what == "axes":
            tables = [AxisTable.load(path) for path in paths]
            check_complete(tables)
            table = merge_tables(tables)
            table.save(folder / "axes.npz")
            write_channels(folder, table)
        else:
            shares = [LesionTable.load(path) for path in paths]
            check_complete(shares)
            lesions = merge_lesions(shares)
            lesions.save(folder / "lesions.npz")
            write_table(folder / "lesions.csv", lesions.to_frame())
        written = f"{what}.csv, {what}.npz" + (", layers.csv" if what == "axes" else "")
        typer.echo(f"{len(paths)} shares merged in {folder}: {written}")
