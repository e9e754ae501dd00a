"""A calibration split in two: what everything is fitted on, and images that verify it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from empirical.pruning.calibration import Calibration
from empirical.reading.batches import Batch

EVERY = 5
"""One calibration image of so many is held out."""


def held_out(known: Calibration) -> tuple[Calibration, Fold]:
    """A calibration without every fifth image, measured anew, and a re-iterable of these images.

    Raises ValueError where there are fewer than five.
    """
    held = Fold(known, held=True)
    if next(iter(held), None) is None:
        raise ValueError(
            f"loader must hold at least {EVERY} calibration images, since one of {EVERY} is held "
            "out to verify. Give more images."
        )
    return known.on(Fold(known, held=False)), held


@dataclass(frozen=True)
class Fold:
    """The batches of a calibration, every fifth image alone, or all others."""

    known: Calibration
    held: bool

    def __iter__(self) -> Iterator[tuple[object, object]]:
        for batch in self.known.batches():
            rows = self._rows(batch)
            if rows:
                yield batch.images[rows], batch.labels[rows]

    def _rows(self, batch: Batch) -> list[int]:
        return [
            i
            for i in range(len(batch.images))
            if ((batch.first + i) % EVERY == EVERY - 1) == self.held
        ]
