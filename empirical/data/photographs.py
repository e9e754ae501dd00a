"""Two photographs as a data set: which of ten strips does a tile of 16 × 16 pixels come from?

scikit-learn ships both, a temple and a flower, so that images with the steep spectrum of nature are
at hand without a download. Tiles lie on a grid: no two share a pixel. Test tiles are whole blocks
of a strip, so that few of them touch a training tile.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

TILE = 16
"""Pixels along a tile's side; the photographs' JPEG blocks divide it, so tiles share none."""
STRIPS = 5
"""Of each photograph, side by side."""
PERIOD, TEST = 6, 2
"""Of so many rows of tiles, the last so many are for testing."""
PHOTOGRAPHS = ("china.jpg", "flower.jpg")


def photograph_tiles() -> tuple[dict[str, tuple[Tensor, Tensor]], tuple[str, ...]]:
    """Return part -> (images, labels), and the strips' names.

    Returns
    -------
    dict
        ``"train"`` and ``"test"``: uint8 (n, 3, 16, 16) and int64 (n,), strip by strip, each from
        top to bottom.
    tuple of str
        Photograph and number of each strip.

    Examples
    --------
    >>> parts, names = photograph_tiles()
    >>> [len(labels) for _, labels in parts.values()], names[0], len(names)
    ([1440, 640], 'china 1', 10)
    """
    from sklearn.datasets import load_sample_image

    tiles, labels, held_out = [], [], []
    for index, name in enumerate(PHOTOGRAPHS):
        grid = _grid(load_sample_image(name))
        rows, columns = grid.shape[:2]
        strip = np.arange(columns) * STRIPS // columns
        order = np.argsort(np.add.outer(np.zeros(rows), strip), axis=None, kind="stable")
        tiles.append(grid.reshape(rows * columns, *grid.shape[2:])[order])
        labels.append(np.tile(strip, rows)[order] + index * STRIPS)
        held_out.append(np.repeat(np.arange(rows) % PERIOD >= PERIOD - TEST, columns)[order])
    images, strips = (
        torch.from_numpy(np.concatenate(tiles)),
        torch.from_numpy(np.concatenate(labels)),
    )
    test = torch.from_numpy(np.concatenate(held_out))
    parts = {
        part: (images[rows], strips[rows]) for part, rows in (("train", ~test), ("test", test))
    }
    names = [f"{name.removesuffix('.jpg')} {s + 1}" for name in PHOTOGRAPHS for s in range(STRIPS)]
    return parts, tuple(names)


def _grid(photograph: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(rows, columns, 3, 16, 16) tiles of an (H, W, 3) photograph; what fills none is left out."""
    rows, columns = photograph.shape[0] // TILE, photograph.shape[1] // TILE
    whole = photograph[: rows * TILE, : columns * TILE]
    return whole.reshape(rows, TILE, columns, TILE, 3).transpose(0, 2, 4, 1, 3)
