"""`twoaxis explain`: one channel of a measured network, in words."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from empirical.commands.options import spread
from empirical.commands.source import NetworkSource

if TYPE_CHECKING:
    import pandas as pd


@spread
def explain(
    source: NetworkSource,
    table: Annotated[Path, typer.Argument(help="axes.npz, as `twoaxis measure` wrote it.")],
    layer: Annotated[str, typer.Argument(help="Name of the layer.")],
    channel: Annotated[int, typer.Argument(help="Index of the channel, from 0.")],
    page: Annotated[
        Path | None, typer.Option(help="Also write the card to this HTML file.")
    ] = None,
    lesions: Annotated[
        Path | None,
        typer.Option(help="Folder of `twoaxis lesion`, for damages that were measured."),
    ] = None,
    images: Annotated[
        int, typer.Option(min=1, help="Training images among which to seek what drives it.")
    ] = 2000,
) -> None:
    """Say who could stand in for a channel, and what its removal costs.

    With --model or --checkpoint the page shows the images that drive it most.
    """
    from empirical.data.images import image_loader
    from empirical.measuring.table import AxisTable
    from empirical.report.card import explain as card_of
    from theory.shared.files import write_text

    measured = AxisTable.load(table)
    network: dict[str, Any] = {}
    if source.model is not None or source.checkpoint is not None:
        opened = source.open((images, 1))
        chosen = opened.drawn(opened.train, images)
        loader = image_loader(chosen, batch_size=source.batch_size)
        network = {"model": opened.network, "loader": loader}
    frames = [] if lesions is None else lesion_frames(lesions)
    card = card_of(measured, layer, channel, lesions=frames, **network)
    typer.echo(str(card))
    if page is not None:
        write_text(
            page,
            '<!doctype html><html lang="en"><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            '<meta name="color-scheme" content="light dark">'
            f"<title>{escape(card.title)}</title>{card.to_html()}</html>",
        )
        typer.echo(f"Card: {page.resolve()}")


def lesion_frames(folder: Path) -> list[pd.DataFrame]:
    """What `twoaxis lesion` wrote of single channels.

    Raises
    ------
    FileNotFoundError
        the folder holds no lesions.csv
    """
    from empirical.data.tables import read_table

    if not (folder / "lesions.csv").is_file():
        raise FileNotFoundError(
            f"--lesions must be a folder of `twoaxis lesion`; {folder} holds no lesions.csv."
        )
    files = [folder / f"{name}.csv" for name in ("lesions", "replacements")]
    return [read_table(file) for file in files if file.is_file()]
