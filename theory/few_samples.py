"""What peers leave unexplained, from few samples: inside and outside of groups of images.

A regression of a channel on its peers leaves too little variance on the samples that it was fitted
on, and too much on others. For each group of images left out, with P the inverse covariance of the
other groups and K_g the second moment of the group left out about their mean,

    inside_i = 1 / P_ii,    outside_i = (P K_g P)_ii / P_ii²,

and for Gaussian samples the two factors nearly cancel: σ² ≈ √(inside · outside). They do so for
independent samples; where positions of one image are alike, what is left of the product follows
from how alike they are (`theory.sampling.in_out_product`), which the scatter of the groups shows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from theory._precision import precision, well_conditioned_inverse
from theory.moments import Moments, merge
from theory.sampling import in_out_product, likeness_of
from theory.shared.validation import Float
from theory.standardize import standardize, whitening

LEAST_SPARE = 3
"""Samples beyond the number of regressors, at least, for an inverse to be read as an estimate."""

LEAST_PRODUCT = 0.3
"""Of inside and outside over σ⁴; where likeness within images takes more than that, the estimate
would rest on the correction."""

DETERMINED = 1e3
"""Variance of a target over what all channels leave of it, up to which a difference of inverses
keeps 12 digits or so."""

BLOCK = 128
"""Columns of a quadratic form that are multiplied at once."""

ENOUGH = 4
"""Effective samples per channel below which a layer is listed as "few_samples": intervals are only
known to cover from there on."""


@dataclass(frozen=True)
class PeerEstimates:
    """What peers explain of each channel, and what targets add, from groups of images.

    Attributes
    ----------
    predictability, conditional : (C,) E_i, and I(T; Y_i | Y_-i) in nats (NaN without targets)
    predictability_replicates, conditional_replicates : (G, C) without one group at a time
    recoverable : (C,) share of a channel's variance that a regression fitted on these samples
        recovers on others: less than E_i, and below 0 where it harms
    effective_samples : number of samples divided by their design effect
    """

    predictability: Float
    predictability_replicates: Float
    conditional: Float
    conditional_replicates: Float
    recoverable: Float
    effective_samples: float

    @classmethod
    def unknown(cls, channels: int, groups: int, effective_samples: float) -> PeerEstimates:
        """Return estimates that are all NaN, to be filled."""
        one, many = (channels,), (groups, channels)
        nan = (np.full(shape, np.nan) for shape in (one, many, one, many, one))
        e, e_without, conditional, conditional_without, recoverable = nan
        return cls(e, e_without, conditional, conditional_without, recoverable, effective_samples)

    def say_determined(self, channels: NDArray[np.intp]) -> None:
        """Fill in channels that are exact functions of their peers."""
        for explained in (self.predictability, self.predictability_replicates, self.recoverable):
            explained[..., channels] = 1.0
        for added in (self.conditional, self.conditional_replicates):
            added[..., channels] = 0.0

    def without(self, group: int) -> PeerEstimates:
        """Return the estimates from all groups but one; they have no replicates of their own."""
        groups, channels = self.predictability_replicates.shape
        rest = PeerEstimates.unknown(channels, 0, self.effective_samples * (1 - 1 / groups))
        rest.predictability[:] = self.predictability_replicates[group]
        rest.conditional[:] = self.conditional_replicates[group]
        return rest


Expand = Callable[[Moments, NDArray[np.intp] | None], Moments]
"""(moments of inputs, channels or None for all) -> moments of these channels."""


def estimate_peers(
    parts: Sequence[Moments], *, samples_per_image: float = 1.0, expand: Expand | None = None
) -> PeerEstimates:
    """Estimate E_i and I(T; Y_i | Y_-i) inside and outside of groups of images.

    σ² of the regression on the peers gives E_i = 1 - σ²/J_i; half the log of its ratio to σ² of the
    regression on peers and targets is the conditional information. Channels that peers determine
    have E_i = 1; where the samples are too few to say, estimates are NaN.

    Parameters
    ----------
    parts : moments of each group of images, at least two groups
    samples_per_image : positions of one image, which may be alike
    expand : where channels are functions of fewer inputs, `parts` are of these, and this makes
        them the channels'; only as many channels are made as are not functions of others

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> parts = [Moments.from_samples(rng.standard_normal((10, 40))) for _ in range(10)]
    >>> found = estimate_peers(parts)  # independent channels: E = 0, where 1 - 1/P_ii is about 0.4
    >>> bool(abs(found.predictability.mean()) < 0.1)
    True
    """
    used = [part for part in parts if part.n]
    read = expand or _select
    total = read(merge(used), None)
    layer = standardize(total)
    inverse = precision(layer.correlation, layer.loadings, 0.0)
    determined, where = layer.live[inverse.collinear], layer.live[inverse.basis]
    scale = 1 / np.sqrt(layer.power[where])
    white = whitening(total.cov[total.n_channels :, total.n_channels :])
    groups = _Groups([_Scatter(read(part, where), scale, white) for part in used])
    n = int(total.n or 0)
    effect = _effect(groups, where.size) if len(used) > 1 else 1.0
    likeness = likeness_of(effect, samples_per_image)
    few = n - 1 < layer.live.size
    open_ = ~inverse.collinear[inverse.basis]
    effective = n / max(1.0, effect)
    found = PeerEstimates.unknown(total.n_channels, len(used), effective)
    if not few:
        found.say_determined(determined)
    if few or not open_.any():
        return found
    alone, both = _in_out(groups, where.size, likeness, samples_per_image)
    if alone is None:
        return found
    found.predictability[where[open_]] = 1 - alone.variance[open_]
    power = groups.power_without()[:, : where.size]
    found.predictability_replicates[:, where[open_]] = (1 - alone.replicates / power)[:, open_]
    found.recoverable[where[open_]] = 1 - alone.outside[open_]
    if both is not None:
        ratio, ratios = alone.variance / both.variance, alone.replicates / both.replicates
        found.conditional[where[open_]] = 0.5 * np.log(ratio[open_])
        found.conditional_replicates[:, where[open_]] = 0.5 * np.log(ratios[:, open_])
    return found


def _select(moments: Moments, channels: NDArray[np.intp] | None) -> Moments:
    if channels is None or channels.size == moments.n_channels:
        return moments
    return moments.select(channels)


@dataclass(frozen=True)
class _Variances:
    """(p,) conditional variances, (G, p) replicates, and (p,) what is left outside."""

    variance: Float
    replicates: Float
    outside: Float


class _Scatter:
    """One group's scatter of scaled channels, then of targets made white, about its mean."""

    def __init__(self, part: Moments, scale: Float, white: Float) -> None:
        c, q = part.n_channels, white.shape[1]
        self.n = int(part.n or 0)
        self.mean = np.concatenate([part.mean[:c] * scale, part.mean[c:] @ white])
        self.scatter = np.empty((c + q, c + q))
        channels, cross = self.scatter[:c, :c], self.scatter[:c, c:]
        np.multiply(part.cov[:c, :c], scale * (self.n - 1), out=channels)
        channels *= scale[:, None]
        cross[:] = part.cov[:c, c:] @ white * (scale * (self.n - 1))[:, None]
        self.scatter[c:, :c] = cross.T
        within = white.T @ part.cov[c:, c:] @ white
        self.scatter[c:, c:] = (within + within.T) * ((self.n - 1) / 2)


class _Groups:
    """All groups: samples, (G, p) means less the mean of all, and scatter about it."""

    def __init__(self, parts: Sequence[_Scatter]) -> None:
        self.parts = parts
        self.counts = np.array([part.n for part in parts])
        self.n = int(self.counts.sum())
        means = np.array([part.mean for part in parts])
        self.shifts = means - self.counts @ means / self.n
        self.scatter = self.shifts.T @ (self.shifts * self.counts[:, None])
        for part in parts:
            self.scatter += part.scatter

    def power_without(self) -> Float:
        """(G, p) variances without one group at a time."""
        own = np.array([np.diagonal(part.scatter) for part in self.parts])
        n = self.counts[:, None]
        left = np.diagonal(self.scatter) - own - n * self.n / (self.n - n) * self.shifts**2
        return np.asarray(left / (self.n - n - 1))

    def without(self, group: int) -> tuple[Float, Float]:
        """(p, p) covariance of all groups but one, and (p,) mean of that one less theirs."""
        part = self.parts[group]
        n = self.n - part.n
        shift = self.shifts[group] * (self.n / n)
        others = self.scatter - part.scatter
        others -= np.outer(self.shifts[group] * part.n, shift)
        others /= n - 1
        return others, shift


def _in_out(
    groups: _Groups, channels: int, likeness: float, samples_per_image: float
) -> tuple[_Variances | None, _Variances | None]:
    """Each channel's variance given all others, alone and with the targets; None if too few."""
    number, size = len(groups.parts), len(groups.scatter)
    left = groups.n - int(groups.counts.max())
    targets = size - channels if left >= size + LEAST_SPARE else 0
    if number < 2 or left < channels + LEAST_SPARE:
        return None, None
    found = np.empty((4, number, channels))
    for row, part in enumerate(groups.parts):
        others, shift = groups.without(row)
        one = _given_peers(others, part, shift, channels, targets)
        if one is None and targets:
            targets = 0
            one = _given_peers(others, part, shift, channels, targets)
        if one is None:
            return None, None
        found[:, row] = one
    used = groups.n * (1 - 1 / number)

    def variances(inside: Float, outside: Float, size: int) -> _Variances | None:
        product = in_out_product(size / used, likeness, samples_per_image)
        if product < LEAST_PRODUCT:
            return None
        product *= _finite_product(used, size - 1)
        left_out = np.array([np.delete(outside, g, axis=0).mean(0) for g in range(number)])
        return _Variances(
            np.sqrt(inside.mean(0) * outside.mean(0) / product),
            np.sqrt(inside * left_out / product),
            outside.mean(0),
        )

    both = variances(found[2], found[3], channels + targets) if targets else None
    return variances(found[0], found[1], channels), both


def _given_peers(
    others: Float, left_out: _Scatter, shift: Float, channels: int, targets: int
) -> Float | None:
    """(4, C) variances inside and outside given the peers, then given peers and targets.

    One inverse P of both serves: that of the channels alone is its Schur complement A = P_YY - U M,
    with U = P_YT and M = P_TT⁻¹ Uᵀ, and the rows of P are those of A plus U (M, 1). Where targets
    are nearly determined the difference would cancel, and channels are inverted by themselves.
    """
    c, size = channels, channels + targets
    inverse = well_conditioned_inverse(others[:size, :size])
    if inverse is None:
        return None
    second, shift = left_out.scatter[:size, :size], shift[:size]
    alone, u = inverse[:c, :c], inverse[:c, c:]
    slopes = np.eye(targets, size)
    if targets:
        corner = inverse[c:, c:]
        slopes = np.concatenate([np.linalg.solve(corner, u.T), np.eye(targets)], axis=1)
        if np.diagonal(corner).max() < DETERMINED:
            alone = alone - u @ slopes[:, :c]
        else:
            separate = well_conditioned_inverse(others[:c, :c])
            if separate is None:
                return None
            alone = separate
    outside = _quadratic(alone, second[:c, :c])
    along = alone @ shift[:c]
    further = second @ slopes.T
    both = outside + (u * (2 * alone @ further[:c] + u @ (slopes @ further))).sum(axis=1)
    both_along = along + u @ (slopes @ shift)
    inside = 1 / np.diagonal(alone), 1 / np.diagonal(inverse)[:c]
    return np.stack(
        [
            inside[0],
            (outside / left_out.n + along**2) * inside[0] ** 2,
            inside[1],
            (both / left_out.n + both_along**2) * inside[1] ** 2,
        ]
    )


def _quadratic(rows: Float, matrix: Float) -> Float:
    """(m,) x K xᵀ of each row x, for a symmetric K: by halves, with half of the products."""
    half = len(matrix) // 2
    if half < BLOCK:
        return np.asarray(np.einsum("ij,ij->i", rows @ matrix, rows))
    left, right = rows[:, :half], rows[:, half:]
    crossed = np.einsum("ij,ij->i", right @ matrix[half:, :half], left)
    own = _quadratic(left, matrix[:half, :half]) + _quadratic(right, matrix[half:, half:])
    return np.asarray(own + 2 * crossed)


def _finite_product(n: float, p: int) -> float:
    """Inside times outside over σ⁴ of n independent samples; catalogue entry "in_out_product"."""
    return (n - 1 - p) * (n + 1) * (n - 2) / (n * (n - 1) * (n - p - 2))


def _effect(groups: _Groups, channels: int) -> float:
    """How many times covariances scatter more between groups than independent samples let them.

    Gaussian covariances of n independent samples scatter by (K_ii K_jj + K_ij²) / n; the ratio is
    of sums over all pairs of different channels.
    """
    covariance = groups.scatter[:channels, :channels] / groups.n
    power = np.diagonal(covariance).copy()
    off_diagonal = covariance.copy()
    np.fill_diagonal(off_diagonal, 0.0)
    expected = power.sum() ** 2 - power @ power + np.vdot(off_diagonal, off_diagonal)
    if expected <= 0:
        return 1.0
    observed = 0.0
    for part, shift in zip(groups.parts, groups.shifts[:, :channels], strict=True):
        apart = part.scatter[:channels, :channels] / part.n
        apart += np.outer(shift, shift)
        apart -= covariance
        np.fill_diagonal(apart, 0.0)
        observed += part.n * float(np.vdot(apart, apart))
    return float(observed / expected / (len(groups.parts) - 1))
