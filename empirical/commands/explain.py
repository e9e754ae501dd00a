"""`twoaxis explain`: one channel of a measured network, in words."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Annotated, Any

import typer

from empirical.commands.options import spread
from empirical.commands.source import NetworkSource


@spread
def explain(
    source: NetworkSource,
    table: Annotated[Path, typer.Argument(help="axes.npz, as `twoaxis measure` wrote it.")],
    layer: Annotated[str, typer.Argument(help="Name of the layer.")],
    channel: Annotated[int, typer.Argument(help="Index of the channel, from 0.")],
    page: Annotated[
        Path | None, typer.Option(help="Also write the card to this HTML file.")
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
    card = card_of(measured, layer, channel, **network)
    typer.echo(str(card))
    if page is not None:
        write_text(
            page,
            '<!doctype html><html lang="en"><meta charset="utf-8">'
            f"<title>{escape(card.title)}</title>{card.to_html()}</html>",
        )
        typer.echo(f"Card: {page.resolve()}")
