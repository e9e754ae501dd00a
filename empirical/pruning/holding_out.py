"""The two parts of a calibration: what everything is fitted on, and images that verify it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from empirical.reading.batches import Batch

EVERY = 5
"""One calibration image of so many is held out, where not told otherwise."""


@dataclass(frozen=True)
class Fold:
    """One of `every` images of re-iterable batches alone, or all others, batch by batch."""

    batches: Callable[[], Iterator[Batch]]
    held: bool
    every: int = EVERY

    def __iter__(self) -> Iterator[tuple[object, object]]:
        for batch in self.batches():
            rows = self._rows(batch)
            if rows:
                yield batch.images[rows], batch.labels[rows]

    def __bool__(self) -> bool:
        return next(iter(self), None) is not None

    def _rows(self, batch: Batch) -> list[int]:
        return [
            i
            for i in range(len(batch.images))
            if ((batch.first + i) % self.every == self.every - 1) == self.held
        ]
