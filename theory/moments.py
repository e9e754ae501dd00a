"""First and second moments of channels Y and targets T: the one type that joins the packages.

Every quantity of the two axes is a function of these moments, so parameters, simulated networks
and streamed activations meet here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
from numpy.typing import ArrayLike

from theory.shared.validation import Float, count, finite_array, indices, instance, symmetric_psd

BLOCK = 256
"""Rows of a symmetric product that are computed at once."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Sample count, mean and covariance of (Y, T), targets last.

    Attributes
    ----------
    mean : (C + q,) means of the C channels, then of the q targets.
    cov : (C + q, C + q) covariance; of samples it is the unbiased one, with divisor n - 1.
    n_targets : q; 0 where there is no target, and the target axis is then NaN.
    n : number of samples, or None for a population, whose covariance is exact.

    Build one with `from_samples` or `from_covariance`; merge two with `+`.

    >>> import numpy as np
    >>> y = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]])
    >>> (Moments.from_samples(y[:1]) + Moments.from_samples(y[1:])).mean
    array([1., 1.])
    """

    mean: Float
    cov: Float
    n_targets: int
    n: int | None

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
        mean = joint.mean(axis=0)
        # The second centering removes the rounding of the mean, which matters at mean >> deviation.
        centered = joint - mean
        correction = centered.mean(axis=0)
        centered -= correction
        cov = centered.T @ centered / max(n - 1, 1)
        return cls(mean + correction, cov, joint.shape[1] - channels.shape[1], n)

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
        matrix = symmetric_psd("cov", cov)
        size = matrix.shape[0]
        q = count("n_targets", n_targets, least=0)
        if q >= size:
            raise ValueError(
                f"n_targets must leave at least one channel; got {q} for a {size} x {size} cov."
            )
        center = np.zeros(size) if mean is None else finite_array("mean", mean, ndim=1)
        if center.size != size:
            raise ValueError(f"mean must have length {size}, as cov has; got {center.size}.")
        return cls(center, matrix, q, None if n is None else count("n", n))

    def __add__(self, other: Moments) -> Moments:
        """Moments of both sets of samples together, whatever the order or the split."""
        if not isinstance(other, Moments):
            return NotImplemented
        if (self.n_channels, self.n_targets) != (other.n_channels, other.n_targets):
            raise ValueError(
                "Moments to merge must have the same channels and targets; got "
                f"{self.n_channels} + {self.n_targets} and {other.n_channels} + {other.n_targets}."
            )
        if self.n is None or other.n is None:
            raise ValueError(
                "Moments to merge must have a sample count; one of them is a population (n=None). "
                "Pass n to from_covariance."
            )
        n = self.n + other.n
        shift = other.mean - self.mean
        scatter = (self.n - 1) * self.cov + (other.n - 1) * other.cov
        scatter += np.outer(shift * (self.n * other.n / n), shift)
        return Moments(self.mean + shift * (other.n / n), scatter / (n - 1), self.n_targets, n)

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
        cov = np.block([[self.cov[:c, :c], cross], [cross.T, (within + within.T) / 2]])
        return Moments(
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
        return Moments(mean, cov, self.n_targets, self.n)

    def select(self, channels: ArrayLike) -> Moments:
        """The moments of some channels, in the given order, with all targets."""
        index = indices("channels", channels, self.n_channels)
        keep = np.concatenate([index, np.arange(self.n_channels, self.mean.size)])
        return Moments(self.mean[keep], self.cov[np.ix_(keep, keep)], self.n_targets, self.n)


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
    return reduce(add, groups)
