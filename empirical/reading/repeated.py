"""A loader that is read more than once gives the same batches each time, or is refused.

Whoever compares what two passes found, or leaves images out of one of them, compares other images
where the loader shuffles. What a loader draws at random it draws from the same state in each pass:
from torch's, NumPy's and Python's global generators, which are left as they were, and from its own
where it is a DataLoader. The images are then looked at, whoever gave them.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

State = tuple[Callable[[], Any], Callable[[Any], Any]]
"""How the state of a generator is read, and how it is set."""

_END = object()


def repeated(loader: Iterable[object]) -> Iterable[object]:
    """Return a loader that gives the same images each time; a list of batches does so by itself.

    Raises
    ------
    TypeError
        no iterable, or an iterator, which can be read only once

    Examples
    --------
    >>> data = [(torch.full((1, 1), float(i)), torch.tensor(0)) for i in range(9)]
    >>> shuffled = torch.utils.data.DataLoader(data, shuffle=True)
    >>> loader = repeated(shuffled)
    >>> [batch[0].item() for batch in loader] == [batch[0].item() for batch in loader]
    True
    """
    if not isinstance(loader, Iterable):
        raise TypeError(
            "loader must be an iterable of (images, labels), such as a DataLoader; got "
            f"{type(loader).__name__}."
        )
    if isinstance(loader, Iterator):
        raise TypeError(
            f"loader must be readable more than once; got the iterator {type(loader).__name__}. "
            "Pass a DataLoader or a list of batches."
        )
    return loader if isinstance(loader, list | tuple | Repeated) else Repeated(loader)


@dataclass(frozen=True)
class FirstBatches:
    """The first batches of a re-iterable loader."""

    loader: Iterable[object]
    limit: int

    def __iter__(self) -> Iterator[object]:
        return islice(self.loader, self.limit)


class Repeated:
    """A loader whose passes all begin in the same states of what it draws from.

    Raises
    ------
    ValueError
        while a later pass is read, where its images are not those of an earlier one
    """

    def __init__(self, loader: Iterable[object]) -> None:
        self.loader = loader
        self._states = _states(loader)
        self._first = self._read()
        self._digests: list[bytes] = []
        self._ended = False

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[object]:
        states, stream, number = self._first, None, 0
        while True:
            others = self._read()
            self._set(states)
            try:
                stream = iter(self.loader) if stream is None else stream
                batch = next(stream, _END)
            finally:
                states = self._read()
                self._set(others)
            if batch is _END:
                break
            self._check(number, batch)
            yield batch
            number += 1
        if number < len(self._digests):
            self._refuse(f"now it ends after {number} of {len(self._digests)} batches")
        self._ended = True

    def _check(self, number: int, batch: object) -> None:
        images = batch[0] if isinstance(batch, tuple | list) and len(batch) else batch
        if not isinstance(images, Tensor):
            return  # refused, with what it is, by the reader of batches
        values = images.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        digest = hashlib.blake2b(values.tobytes(), digest_size=16).digest()
        if number < len(self._digests):
            if digest != self._digests[number]:
                self._refuse(f"its batch {number} has changed")
        elif self._ended:
            self._refuse(f"now it goes on after {number} batches")
        else:
            self._digests.append(digest)

    def _refuse(self, found: str) -> None:
        raise ValueError(
            "loader must give the same images in the same order each time it is read, since what "
            f"several passes find is compared image by image; {found}. Pass shuffle=False and no "
            "random augmentation, or a list of batches: list(loader)."
        )

    def _read(self) -> list[Any]:
        return [read() for read, _ in self._states]

    def _set(self, values: list[Any]) -> None:
        for (_, put), value in zip(self._states, values, strict=True):
            put(value)


def _states(loader: object) -> list[State]:
    """What a loader, and the loaders that it wraps, may draw from."""
    found: list[State] = [
        (torch.get_rng_state, torch.set_rng_state),
        (np.random.get_state, np.random.set_state),
        (random.getstate, random.setstate),
    ]
    own: dict[int, torch.Generator] = {}
    holders = [loader]
    for holder in holders:  # grows
        names = ("loader", "batch_sampler", "sampler")
        holders += [x for x in (getattr(holder, name, None) for name in names) if x is not None]
        generator = getattr(holder, "generator", None)
        if isinstance(generator, torch.Generator):
            own[id(generator)] = generator
    return [*found, *((g.get_state, g.set_state) for g in own.values())]
