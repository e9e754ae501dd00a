"""First and second moments of channels Y and targets T: the one type that joins the packages.

Every quantity of the two axes is a function of these moments, so parameters, simulated networks
and streamed activations meet here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from theory.shared.validation import (
    Float,
    count,
    finite_array,
    instance,
    shown,
    symmetric_psd,
)

BLOCK = 256
"""Rows of a symmetric product that are computed at once."""

CACHED = 1 << 16
"""Entries of a matrix that a core's cache holds beside others."""

SMALLEST_DEVIATION, LARGEST_DEVIATION = 1e-140, 1e140
"""Their squares, and products of those with the counts of any data set, keep all their digits."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Sample count, mean and covariance of (Y, T), targets last.

    Attributes
    ----------
    mean : (C + q,) means of the C channels, then of the q targets.
    cov : (C + q, C + q) covariance; of samples it is the unbiased one, with divisor n - 1.
    n_targets : q; 0 where there is no target, and the target axis is then NaN.
    n : number of samples, or None for a population, whose covariance is exact.

    Build one with `from_samples` or `from_covariance`; merge two with `+`. However it is built,
    what no second moments can be is refused.

    >>> import numpy as np
    >>> y = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]])
    >>> (Moments.from_samples(y[:1]) + Moments.from_samples(y[1:])).mean
    array([1., 1.])
    """

    mean: Float
    cov: Float
    n_targets: int
    n: int | None

    def __post_init__(self) -> None:
        matrix = symmetric_psd("cov", self.cov)
        size = matrix.shape[0]
        q = count("n_targets", self.n_targets, least=0)
        if q >= size:
            raise ValueError(
                f"n_targets must leave at least one channel; got {q} for a {size} x {size} cov."
            )
        center = finite_array("mean", self.mean, ndim=1)
        if center.size != size:
            raise ValueError(f"mean must have length {size}, as cov has; got {center.size}.")
        _set(self, center, matrix, q, None if self.n is None else count("n", self.n))

    @property
    def n_channels(self) -> int:
        """C, the number of channels."""
        return self.mean.size - self.n_targets

    @classmethod
    def from_samples(cls, y: ArrayLike, t: ArrayLike | None = None) -> Moments:
        """Moments of samples.

        Parameters
        ----------
        y : (n, C) channel values.
        t : (n,) or (n, q) targets, or None.

        Raises
        ------
        ValueError
            wrong shape, no samples, or an entry that is not finite.
        """
        channels = finite_array("y", y, ndim=2)
        n = channels.shape[0]
        if channels.size == 0:
            raise ValueError(f"y must hold samples and channels; got shape {channels.shape}.")
        targets = np.empty((n, 0)) if t is None else finite_array("t", t, ndim=(1, 2))
        if targets.shape[0] != n:
            raise ValueError(
                f"t must have one row per sample of y; got {targets.shape[0]} rows for {n} samples."
            )
        joint = np.column_stack([channels, targets])
        _refuse_extremes(joint, channels.shape[1])
        mean = joint.mean(axis=0)
        # The second centering removes the rounding of the mean, which matters at mean >> deviation.
        centered = joint - mean
        correction = centered.mean(axis=0)
        centered -= correction
        cov = centered.T @ centered / max(n - 1, 1)
        return trusted_moments(mean + correction, cov, joint.shape[1] - channels.shape[1], n)

    @classmethod
    def from_covariance(
        cls,
        cov: ArrayLike,
        n_targets: int = 1,
        mean: ArrayLike | None = None,
        n: int | None = None,
    ) -> Moments:
        """Moments from parameters.

        Parameters
        ----------
        cov : (C + q, C + q) covariance of (Y, T), targets last.
        n_targets : q.
        mean : (C + q,) means; zero by default.
        n : number of samples that `cov` was estimated from; None for a population.

        Raises
        ------
        ValueError
            `cov` not symmetric positive semidefinite, or shapes that do not fit.
        """
        matrix = finite_array("cov", cov, ndim=2)
        center = np.zeros(len(matrix)) if mean is None else finite_array("mean", mean, ndim=1)
        return cls(center, matrix, n_targets, n)

    def __add__(self, other: Moments) -> Moments:
        """Moments of both sets of samples together, whatever the order or the split."""
        if not isinstance(other, Moments):
            return NotImplemented
        return merge([self, other])

    def project_targets(self, weights: ArrayLike) -> Moments:
        """The same channels with the targets T replaced by the linear ones T @ weights.

        Parameters
        ----------
        weights : (q,) or (q, r).
        """
        matrix = finite_array("weights", weights, ndim=(1, 2))
        matrix = matrix.reshape(matrix.shape[0], -1)
        if matrix.shape[0] != self.n_targets:
            raise ValueError(
                f"weights must have {self.n_targets} rows, one per target; got {matrix.shape[0]}."
            )
        c = self.n_channels
        cross = self.cov[:c, c:] @ matrix
        within = matrix.T @ self.cov[c:, c:] @ matrix
        cov = np.empty((c + matrix.shape[1],) * 2)
        cov[:c, :c], cov[:c, c:], cov[c:, :c] = self.cov[:c, :c], cross, cross.T
        cov[c:, c:] = (within + within.T) / 2
        return trusted_moments(
            np.concatenate([self.mean[:c], self.mean[c:] @ matrix]), cov, matrix.shape[1], self.n
        )

    def transform_channels(self, weights: ArrayLike, offset: ArrayLike | None = None) -> Moments:
        """The moments of (W Y + b, T): mean W μ + b, covariance W K Wᵀ.

        Parameters
        ----------
        weights : (C', C) W.
        offset : (C',) b; 0 by default.

        >>> one = Moments.from_covariance([[2.0, 0.5], [0.5, 1.0]])
        >>> one.transform_channels([[1.0], [3.0]]).cov[0]
        array([2. , 6. , 0.5])
        """
        matrix = finite_array("weights", weights, ndim=2)
        c, wide = self.n_channels, matrix.shape[0]
        if matrix.shape[1] != c:
            raise ValueError(
                f"weights must have {c} columns, one per channel; got {matrix.shape[1]}."
            )
        cov = np.empty((wide + self.n_targets,) * 2)
        half = matrix @ self.cov[:c, :c]
        for left in range(0, wide, BLOCK):
            block = slice(left, min(left + BLOCK, wide))
            # from the diagonal on only: what is mirrored is exactly symmetric
            right = half[block] @ matrix[left:].T
            corner = right[:, : len(right)]
            corner[:] = (corner + corner.T) / 2
            cov[block, left:wide] = right
            cov[left:wide, block] = right.T
        cov[:wide, wide:] = matrix @ self.cov[:c, c:]
        cov[wide:, :wide] = cov[:wide, wide:].T
        cov[wide:, wide:] = self.cov[c:, c:]
        shift = np.zeros(wide) if offset is None else finite_array("offset", offset, ndim=1)
        if shift.size != wide:
            raise ValueError(f"offset must have length {wide}, as weights; got {shift.size}.")
        mean = np.concatenate([matrix @ self.mean[:c] + shift, self.mean[c:]])
        return trusted_moments(mean, cov, self.n_targets, self.n)

    def select(self, channels: ArrayLike) -> Moments:
        """The moments of some channels, with all targets.

        Parameters
        ----------
        channels : their indices, in the order wanted, or a mask of C truth values.
        """
        given = np.asarray(channels).ravel()
        if given.dtype == bool and given.size == self.n_channels:
            given = np.flatnonzero(given)
        whole = given.dtype.kind in "iu"
        if not whole or not given.size or given.min() < 0 or given.max() >= self.n_channels:
            raise ValueError(
                f"channels must be indices from 0 to {self.n_channels - 1}, or a mask of "
                f"{self.n_channels} truth values that keeps one or more; got {shown(channels)}."
            )
        index = given.astype(np.intp)
        keep = np.concatenate([index, np.arange(self.n_channels, self.mean.size)])
        cov = self.cov[np.ix_(keep, keep)]
        return trusted_moments(self.mean[keep], cov, self.n_targets, self.n)


def trusted_moments(mean: Float, cov: Float, n_targets: int, n: int | None) -> Moments:
    """Return moments of what this package has computed itself; they are not checked again."""
    return _set(object.__new__(Moments), mean, cov, n_targets, n)


def _set(moments: Moments, mean: Float, cov: Float, n_targets: int, n: int | None) -> Moments:
    for name, value in (("mean", mean), ("cov", cov), ("n_targets", n_targets), ("n", n)):
        object.__setattr__(moments, name, value)
    return moments


def _refuse_extremes(joint: Float, n_channels: int) -> None:
    """Refuse samples whose second moments double precision cannot hold, before they are lost."""
    low, high = joint.min(axis=0), joint.max(axis=0)
    with np.errstate(over="ignore"):
        largest, spread = np.maximum(-low, high), high - low
    # a deviation at the rounding of its mean is none
    small = (spread < SMALLEST_DEVIATION) & (spread > 8 * np.finfo(np.float64).eps * largest)
    for wrong, size in ((largest > LARGEST_DEVIATION, largest), (small, spread)):
        if wrong.any():
            k = int(np.argmax(wrong))
            name, column = ("y", k) if k < n_channels else ("t", k - n_channels)
            raise ValueError(
                f"{name} must have deviations between {SMALLEST_DEVIATION:g} and values up to "
                f"{LARGEST_DEVIATION:g}, whose squares double precision holds; column {column} has "
                f"{size[k]:.3g}. Divide that column by its scale."
            )


def merge(parts: Iterable[Moments]) -> Moments:
    """The moments of all parts together.

    Raises
    ------
    ValueError
        no parts.
    """
    instance("parts", parts, Iterable, "Pass a list of Moments.")
    groups = list(parts)
    for group in groups:
        instance("parts", group, Moments, "Build each with Moments.from_samples.")
    if not groups:
        raise ValueError("parts must hold at least one Moments; got none.")
    first, *others = groups
    if not others:
        return first
    n, mean = _mergeable(first, first), first.mean
    scatter = (n - 1) * first.cov
    for part in others:
        more = _mergeable(first, part)
        shift, together = part.mean - mean, n + more
        _add_scatter(scatter, part.cov, more - 1, shift, n * more / together)
        n, mean = together, mean + shift * (more / together)
    scatter /= n - 1
    return trusted_moments(mean, scatter, first.n_targets, n)


def _mergeable(first: Moments, part: Moments) -> int:
    """Return the sample count of a part, or say why it cannot be merged with the first."""
    if (part.n_channels, part.n_targets) != (first.n_channels, first.n_targets):
        raise ValueError(
            "Moments to merge must have the same channels and targets; got "
            f"{first.n_channels} + {first.n_targets} and {part.n_channels} + {part.n_targets}."
        )
    if part.n is None:
        raise ValueError(
            "Moments to merge must have a sample count; one of them is a population (n=None). "
            "Pass n to from_covariance."
        )
    return part.n


def _add_scatter(total: Float, cov: Float, weight: int, shift: Float, shifted: float) -> None:
    """Add weight cov + shifted shift shiftᵀ in place, some rows at a time.

    Whole temporary matrices would be new memory, which costs more than the sums.
    """
    rows = max(1, CACHED // len(total))
    buffer = np.empty((rows, len(total)))
    for start in range(0, len(total), rows):
        part = total[start : start + rows]
        term = buffer[: len(part)]
        part += np.multiply(cov[start : start + rows], weight, out=term)
        part += np.multiply.outer(shifted * shift[start : start + rows], shift, out=term)
