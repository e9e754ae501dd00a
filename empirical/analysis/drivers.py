"""The images, and the positions on them, at which a channel's output is largest; its filter."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from empirical.devices import placed
from empirical.reading.batches import batches
from empirical.reading.hooks import capture, evaluating
from empirical.reading.layers import find_layers
from empirical.reading.networks import Adapter, opened
from empirical.reading.points import Tap, taps
from theory.shared.validation import Float, count, index

SHOWN_CHANNELS = (1, 3)
"""Images of so many colour channels can be drawn."""


@dataclass(frozen=True, eq=False)
class Drivers:
    """What a channel answers to most.

    Attributes
    ----------
    images : (k,) indices of the images in the data, the largest output first
    values : (k,) the channel's largest output on each
    places : (k, d) where on its map of `size` (d,) that is; d = 0 where it has no map
    size : (d,) of the map
    pictures : (k, H, W, 1 or 3) the images, each from its darkest, 0, to its brightest, 255; None
        where the inputs are no pictures
    filter : (inputs, ...) the channel's weights; None where it has none of its own
    """

    images: NDArray[np.int64]
    values: Float
    places: NDArray[np.int64]
    size: tuple[int, ...]
    pictures: NDArray[np.uint8] | None
    filter: Float | None


def top_images(
    model: nn.Module,
    loader: Iterable[object],
    layer: str,
    channel: int,
    *,
    number: int = 8,
    point: str = "pre_norm",
    adapt: Adapter | None = None,
    device: torch.device | str | None = None,
) -> Drivers:
    """Read every image once, and keep those on which the channel's output is largest anywhere.

    Parameters
    ----------
    model, loader, adapt, device : as in `measure`
    layer, channel : which
    number : how many images
    point : "pre_norm", "post_norm" or "post_activation"

    Raises
    ------
    ValueError
        an unknown layer or point; a channel that is not there
    """
    count("number", number)
    network = opened(model, adapt)
    place = placed(network, device)
    stream = batches(loader if adapt is None else adapt.loader(loader), place, classes=False)
    tap: Tap | None = None
    best: list[_Found] = []
    for batch in stream:
        if tap is None:
            found, _ = taps(find_layers(network, batch.images, [layer]), point, strict=True)
            tap = found[0]
            index("channel", channel, tap.layer.n_channels)
        maps: list[Tensor] = []
        with evaluating(network), capture(network, {tap.module: maps.append}):
            network(batch.images)
        read = maps[-1] if tap.change is None else tap.change(maps[-1])
        own = read.movedim(tap.channel_dim, 1)[:, channel].flatten(1)
        size = tuple(read.movedim(tap.channel_dim, 1).shape[2:])
        values, at = own.double().max(dim=1)
        for row in values.argsort(descending=True, stable=True)[:number].tolist():
            best.append(
                _Found(
                    float(values[row]), batch.first + row, int(at[row]), size,
                    batch.host_images[row],
                )
            )  # fmt: skip
        best = sorted(best, key=lambda one: (-one.value, one.image))[:number]
    assert tap is not None  # an empty loader was refused
    return Drivers(
        np.array([one.image for one in best]),
        np.array([one.value for one in best]),
        np.array([np.unravel_index(one.at, one.size) for one in best], dtype=np.int64)
        if best[0].size
        else np.empty((len(best), 0), dtype=np.int64),
        best[0].size,
        _pictures([one.input for one in best]),
        _filter(tap, channel) if point == "pre_norm" else None,
    )


@dataclass(frozen=True)
class _Found:
    value: float
    image: int
    at: int
    size: tuple[int, ...]
    input: Tensor


def _pictures(inputs: list[Tensor]) -> NDArray[np.uint8] | None:
    same = {tuple(one.shape) for one in inputs}
    if len(same) != 1 or inputs[0].ndim != 3 or inputs[0].shape[0] not in SHOWN_CHANNELS:
        return None
    stacked = torch.stack(inputs).double().cpu()
    low, high = (end(stacked.flatten(1), dim=1) for end in (torch.amin, torch.amax))
    span = torch.where(high > low, high - low, 1.0)
    shade = (stacked - low[:, None, None, None]) / span[:, None, None, None]
    return (255 * shade).round().to(torch.uint8).movedim(1, -1).numpy()


def _filter(tap: Tap, channel: int) -> Float:
    return np.asarray(tap.layer.module.weight.detach()[channel].double().cpu().numpy())
