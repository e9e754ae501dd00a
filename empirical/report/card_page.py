"""A channel's card as a piece of HTML, with thumbnails of what drives it."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from empirical.analysis.standing import Standing
from empirical.report.wording import spelled, unit, words
from theory.shared.findings import Finding
from theory.shared.validation import Float

if TYPE_CHECKING:
    from empirical.analysis.drivers import Drivers

THUMBNAIL = 96
"""Pixels of a thumbnail's longer side, at least."""

STYLE = (
    "font:14px/1.5 system-ui,sans-serif;max-width:46rem;border:1px solid #8886;border-radius:6px;"
    "padding:.6rem 1rem"
)


def card_html(
    title: str, standing: Standing, findings: Sequence[Finding], drivers: Drivers | None
) -> str:
    """A card with its sentences, its numbers and its pictures; nothing is loaded."""
    rows = "".join(
        f"<tr><td>{escape(words(name))}</td><td align=right>{value}</td><td>{error}</td>"
        f"<td>{unit(name)}</td><td>{rank}</td></tr>"
        for name, place in standing.quantities.items()
        for value, error, rank in [spelled(place)]
    )
    sentences = "".join(f"<li>{escape(str(finding))}</li>" for finding in findings)
    pictures = "" if drivers is None else _drivers(drivers)
    return (
        f'<section style="{STYLE}"><h3>{escape(title)}</h3>'
        f"<ul>{sentences}</ul>{pictures}<details><summary>All quantities</summary><table>"
        "<thead><tr><th>quantity</th><th>value</th><th>standard error</th><th>unit</th>"
        f"<th>rank from the largest</th></tr></thead><tbody>{rows}</tbody></table></details>"
        "</section>"
    )


def _drivers(found: Drivers) -> str:
    parts = [f"<p>Largest on these images ({_where(found)}):</p>"]
    if found.pictures is None:
        listed = ", ".join(
            f"{image} ({value:.3g})"
            for image, value in zip(found.images, found.values, strict=True)
        )
        parts.append(f"<p>{listed}</p>")
    else:
        for row, picture in enumerate(found.pictures):
            parts.append(_thumbnail(found, row, picture))
    if found.filter is not None and found.filter.ndim == 3:
        parts.append(_filter(found.filter))
    return "".join(parts)


def _where(found: Drivers) -> str:
    return "the ring marks where on its map" if found.size else "it has no map"


def _thumbnail(found: Drivers, row: int, picture: NDArray[np.uint8]) -> str:
    height, width = picture.shape[:2]
    scale = max(1, math.ceil(THUMBNAIL / max(height, width)))
    ring = ""
    if len(found.size) == 2:
        y, x = ((found.places[row] + 0.5) / found.size * (height, width)).tolist()
        ring = (
            f'<circle cx="{x:.2f}" cy="{y:.2f}" r="{max(height, width) / 10:.2f}" fill="none" '
            f'stroke="#e4572e" stroke-width="{max(height, width) / 40:.2f}"/>'
        )
    text = f"image {found.images[row]}: {found.values[row]:.3g}"
    return (
        '<figure style="display:inline-block;margin:.2rem">'
        f'<svg role="img" aria-label="{text}" width="{scale * width}" height="{scale * height}" '
        f'viewBox="0 0 {width} {height}"><image width="{width}" height="{height}" '
        f'style="image-rendering:pixelated" href="{png(picture)}"/>{ring}</svg>'
        f'<figcaption style="font-size:.8em">{text}</figcaption></figure>'
    )


def _filter(weights: Float) -> str:
    """The filter as a picture where its inputs are colours, else its norm over the inputs."""
    colours = weights.shape[0] in (1, 3)
    shown = np.moveaxis(weights, 0, -1) if colours else np.linalg.norm(weights, axis=0)[..., None]
    low, high = float(shown.min()), float(shown.max())
    shade = (255 * (shown - low) / (high - low if high > low else 1.0)).round().astype(np.uint8)
    text = "its filter" if colours else "norm of its filter over the inputs"
    text += f", {low:.2g} to {high:.2g}"
    return (
        f'<figure style="display:inline-block;margin:.2rem"><img alt="{text}" src="{png(shade)}" '
        f'style="width:{THUMBNAIL}px;image-rendering:pixelated">'
        f'<figcaption style="font-size:.8em">{text}</figcaption></figure>'
    )


def png(picture: NDArray[np.uint8]) -> str:
    """(H, W, 1 or 3) as the address of an inlined picture."""
    stream = io.BytesIO()
    Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
