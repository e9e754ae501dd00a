"""What the commands write of a measured table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from empirical.measuring.table import AxisTable


def write_channels(folder: Path, table: AxisTable) -> None:
    """Write axes.csv, a row per channel with what is special about it, and layers.csv."""
    from empirical.measuring.description import kinds_of_channels, layers_table
    from theory.shared.files import write_table

    frame = table.to_frame().assign(affected=kinds_of_channels(table.axes))
    write_table(folder / "axes.csv", frame)
    write_table(folder / "layers.csv", layers_table(table.axes, table.damage, table.skipped))
