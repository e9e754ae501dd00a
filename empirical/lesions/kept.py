"""What is kept of damages: their sums, or those of every image, in memory or in a file."""

from __future__ import annotations

from typing import IO

import numpy as np
from numpy.typing import NDArray

from empirical.data.images import check_memory
from empirical.lesions.execution import DENSE, Block
from empirical.lesions.table import DAMAGES


class Kept:
    """Damages of R lesions, block by block.

    Parameters
    ----------
    rows : R
    per_image : True keeps every image's damages in memory, and False their sums and those of their
        squares; a file takes every image's as float32 (4, R), one image after another, beside sums
    """

    def __init__(self, rows: int, per_image: bool | IO[bytes]) -> None:
        self.rows, self.per_image = rows, per_image
        self.digests: set[bytes] = set()
        self._dense: list[NDArray[np.float64]] = []
        self._blocks: list[NDArray[np.float32]] = []
        self._sums = np.zeros((len(DAMAGES), rows, 2))
        self._foreseen = False

    def add(self, block: Block) -> None:
        """Keep a block.

        Raises
        ------
        MemoryError
            Once it is known how many images there are, where memory does not hold their damages.
        """
        self.digests.update(block.digests)
        self._dense.append(block.dense)
        if self.per_image is True:
            self._blocks.append(block.damage)
            if block.foreseen and not self._foreseen:
                self._foreseen = True
                self._foresee(block.foreseen)
            return
        self._sums[..., 0] += block.damage.sum(axis=2, dtype=np.float64)
        self._sums[..., 1] += np.einsum("krn,krn->kr", block.damage, block.damage, dtype=np.float64)
        if self.per_image is not False:
            self.per_image.write(block.damage.transpose(2, 0, 1).tobytes())

    def _foresee(self, images: int) -> None:
        """They are held twice at the end."""
        check_memory(
            2 * len(DAMAGES) * self.rows * images * np.dtype(np.float32).itemsize,
            f"the damages of {self.rows} lesions on some {images} images",
            "Pass per_image=False for their means and errors alone or a folder to keep them in, "
            "lesion fewer layers at a time, or give each process a share of the images (`twoaxis "
            "lesion --shard`, merge_lesions).",
        )

    def damage(self) -> dict[str, NDArray[np.float32]]:
        """`LesionTable.damage`."""
        if not self._blocks:
            return {}
        return dict(zip(DAMAGES, np.concatenate(self._blocks, axis=2), strict=True))

    def dense(self) -> dict[str, NDArray[np.float64]]:
        """`LesionTable.dense`."""
        return dict(zip(DENSE, np.concatenate(self._dense, axis=1), strict=True))

    def sums(self) -> dict[str, NDArray[np.float64]]:
        """`LesionTable.sums`."""
        return {} if self.per_image is True else dict(zip(DAMAGES, self._sums, strict=True))
