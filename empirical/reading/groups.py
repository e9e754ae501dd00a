"""Moments of one layer, kept apart by group of images, for the delete-one-group jackknife."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import overload

import numpy as np

from empirical.reading.expansion import Expansion
from empirical.reading.sums import Sums
from empirical.reading.workers import workers
from theory.few_samples import PeerEstimates, estimate_peers
from theory.moments import Moments, merge, trusted_moments


class Groups(Sequence[Moments]):
    """Moments of each group; of an expansion, those of its inputs, pushed forward when read.

    Examples
    --------
    >>> a = Moments.from_samples([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]])
    >>> b = Moments.from_samples([[5.0, 1.0], [1.0, 7.0]])
    >>> bool(np.allclose(Groups([a, b]).without(1).cov, a.cov))
    True
    """

    def __init__(self, parts: Iterable[Moments], layer: Expansion | None = None) -> None:
        self._parts, self._layer = list(parts), layer

    def __len__(self) -> int:
        return len(self._parts)

    @overload
    def __getitem__(self, index: int) -> Moments: ...
    @overload
    def __getitem__(self, index: slice) -> Groups: ...
    def __getitem__(self, index: int | slice) -> Moments | Groups:
        if isinstance(index, slice):
            return Groups(self._parts[index], self._layer)
        return self._read(self._parts[index])

    def peers(self, samples_per_image: float) -> PeerEstimates:
        """Estimate what peers explain; of an expansion, without pushing every group forward."""
        expand = None if self._layer is None else self._layer.moments
        return estimate_peers(self._parts, samples_per_image=samples_per_image, expand=expand)

    def total(self) -> Moments:
        """Moments of all groups together."""
        return self._read(self._whole)

    def without(self, index: int) -> Moments:
        """Moments of all groups but one."""
        return self._read(without(self._whole, self._parts[index]))

    def project_targets(self, weights: np.ndarray) -> Groups:
        """The same with the targets replaced by linear ones; see `Moments.project_targets`."""
        return Groups([part.project_targets(weights) for part in self._parts], self._layer)

    @cached_property
    def _whole(self) -> Moments:
        return merge(self._parts)

    def _read(self, moments: Moments) -> Moments:
        return moments if self._layer is None else self._layer.moments(moments)


def grouped_moments(sums: dict[str, Sums], wide: Mapping[str, Expansion]) -> dict[str, Groups]:
    """Return layer name -> moments of each group; the sums are given up for them, one by one.

    `wide` names the layers whose inputs were added.
    """

    def of_layer(name: str) -> Groups:
        return Groups(sums.pop(name).moments(), wide.get(name))

    names = list(sums)
    with workers() as pool:
        return dict(zip(names, pool.map(of_layer, names), strict=True))


def without(total: Moments, part: Moments) -> Moments:
    """Moments of the samples of `total` that are not in `part`: the inverse of `+`.

    Removing one of G groups loses a factor G/(G - 1) of precision, no more.

    Examples
    --------
    >>> a = Moments.from_samples([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]])
    >>> b = Moments.from_samples([[5.0, 1.0], [1.0, 7.0]])
    >>> bool(np.allclose(without(a + b, b).cov, a.cov))
    True
    """
    whole, left_out = _samples(total), _samples(part)
    n = whole - left_out
    mean = total.mean + (total.mean - part.mean) * (left_out / n)
    shift = part.mean - mean
    scatter = (whole - 1) * total.cov
    scatter -= (left_out - 1) * part.cov
    scatter -= np.outer(shift * (n * left_out / whole), shift)
    scatter /= max(n - 1, 1)
    return trusted_moments(mean, scatter, total.n_targets, n)


def _samples(moments: Moments) -> int:
    if moments.n is None:
        raise ValueError("moments must be of samples to take some of them away; n is None.")
    return moments.n
