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

from collections.abc import Sequence
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


def estimate_peers(parts: Sequence[Moments], *, samples_per_image: float = 1.0) -> PeerEstimates:
    """Estimate E_i and I(T; Y_i | Y_-i) inside and outside of groups of images.

    σ² of the regression on the peers gives E_i = 1 - σ²/J_i; half the log of its ratio to σ² of the
    regression on peers and targets is the conditional information. Channels that peers determine
    have E_i = 1; where the samples are too few to say, estimates are NaN.

    Parameters
    ----------
    parts : moments of each group of images, at least two groups
    samples_per_image : positions of one image, which may be alike

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> parts = [Moments.from_samples(rng.standard_normal((10, 40))) for _ in range(10)]
    >>> found = estimate_peers(parts)  # independent channels: E = 0, where 1 - 1/P_ii is about 0.4
    >>> bool(abs(found.predictability.mean()) < 0.1)
    True
    """
    used = [part for part in parts if part.n]
    total = merge(used)
    layer = standardize(total)
    inverse = precision(layer.correlation, layer.loadings, 0.0)
    determined, where = layer.live[inverse.collinear], layer.live[inverse.basis]
    scale = 1 / np.sqrt(layer.power[where])
    white = whitening(total.cov[total.n_channels :, total.n_channels :])
    if total.n_targets:
        used = [part.project_targets(white) for part in used]
    groups = [_Scatter(part, where, scale, white.shape[1]) for part in used]
    effect = _effect(groups, where.size) if len(groups) > 1 else 1.0
    likeness = likeness_of(effect, samples_per_image)
    few = int(total.n or 0) - 1 < layer.live.size
    open_ = ~inverse.collinear[inverse.basis]
    found = PeerEstimates.unknown(total.n_channels, len(used), int(total.n or 0) / max(1.0, effect))
    if not few:
        found.say_determined(determined)
    if few or not open_.any():
        return found
    alone, both = _in_out(groups, where.size, likeness, samples_per_image)
    if alone is None:
        return found
    found.predictability[where[open_]] = 1 - alone.variance[open_]
    power = _power_without(groups)[:, : where.size]
    found.predictability_replicates[:, where[open_]] = (1 - alone.replicates / power)[:, open_]
    found.recoverable[where[open_]] = 1 - alone.outside[open_]
    if both is not None:
        ratio, ratios = alone.variance / both.variance, alone.replicates / both.replicates
        found.conditional[where[open_]] = 0.5 * np.log(ratio[open_])
        found.conditional_replicates[:, where[open_]] = 0.5 * np.log(ratios[:, open_])
    return found


@dataclass(frozen=True)
class _Variances:
    """(p,) conditional variances, (G, p) replicates, and (p,) what is left outside."""

    variance: Float
    replicates: Float
    outside: Float


class _Scatter:
    """One group's scatter of scaled channels, then of white targets, about its mean."""

    def __init__(self, part: Moments, index: NDArray[np.intp], scale: Float, targets: int) -> None:
        keep = np.concatenate([index, part.n_channels + np.arange(targets)]).astype(np.intp)
        factor = np.concatenate([scale, np.ones(targets)])
        self.n = int(part.n or 0)
        self.mean = part.mean[keep] * factor
        self.scatter = part.cov[np.ix_(keep, keep)] * (factor * (self.n - 1))
        self.scatter *= factor[:, None]


def _pooled(groups: Sequence[_Scatter]) -> tuple[int, Float, Float]:
    """Samples of all groups, (G, p) means of groups less the mean of all, and scatter about it."""
    counts = np.array([group.n for group in groups])
    means = np.array([group.mean for group in groups])
    total = int(counts.sum())
    shifts = means - counts @ means / total
    scatter = shifts.T @ (shifts * counts[:, None])
    for group in groups:
        scatter += group.scatter
    return total, shifts, scatter


def _power_without(groups: Sequence[_Scatter]) -> Float:
    """(G, p) variances without one group at a time."""
    total, shifts, scatter = _pooled(groups)
    own = np.array([np.diagonal(group.scatter) for group in groups])
    n = np.array([[group.n] for group in groups])
    left = np.diagonal(scatter) - own - n * total / (total - n) * shifts**2
    return np.asarray(left / (total - n - 1))


def _in_out(
    groups: Sequence[_Scatter], channels: int, likeness: float, samples_per_image: float
) -> tuple[_Variances | None, _Variances | None]:
    """Each channel's variance given all others, alone and with the targets; None if too few."""
    total, shifts, scatter = _pooled(groups)
    left = total - max(group.n for group in groups)
    targets = len(scatter) - channels if left >= len(scatter) + LEAST_SPARE else 0
    if len(groups) < 2 or left < channels + LEAST_SPARE:
        return None, None
    found = np.empty((4, len(groups), channels))
    for row, group in enumerate(groups):
        n, shift = total - group.n, shifts[row]
        others = scatter - group.scatter
        others -= np.outer(shift * (group.n * total / n), shift)
        others /= n - 1
        held_out = np.outer(shift * (total / n) ** 2, shift)
        held_out += group.scatter / group.n
        one = _given_peers(others, held_out, channels, targets)
        if one is None and targets:
            targets = 0
            one = _given_peers(others, held_out, channels, targets)
        if one is None:
            return None, None
        found[:, row] = one
    used = total * (1 - 1 / len(groups))

    def variances(inside: Float, outside: Float, size: int) -> _Variances | None:
        product = in_out_product(size / used, likeness, samples_per_image)
        if product < LEAST_PRODUCT:
            return None
        product *= _finite_product(used, size - 1)
        left_out = np.array([np.delete(outside, g, axis=0).mean(0) for g in range(len(groups))])
        return _Variances(
            np.sqrt(inside.mean(0) * outside.mean(0) / product),
            np.sqrt(inside * left_out / product),
            outside.mean(0),
        )

    both = variances(found[2], found[3], channels + targets) if targets else None
    return variances(found[0], found[1], channels), both


def _given_peers(others: Float, held_out: Float, channels: int, targets: int) -> Float | None:
    """(4, C) variances inside and outside given the peers, then given peers and targets.

    One inverse P of both serves: that of the channels alone is its Schur complement,
    P_YY - U W Uᵀ with U = P_YT and W = P_TT⁻¹, and so are the products with the group left out.
    Where targets are nearly determined it would cancel, and channels are inverted by themselves.
    """
    c, size = channels, channels + targets
    own = held_out[:c, :c]
    inverse = well_conditioned_inverse(others[:size, :size])
    if inverse is None:
        return None
    p, u = inverse[:c, :c], inverse[:c, c:]
    product = p @ own
    if not targets:
        inside, outside = _in_and_out(p, product)
        return np.stack([inside, outside, inside, outside])
    beside = held_out[:c, c:size]
    both = _in_and_out(p, product + u @ beside.T)
    further = p @ beside + u @ held_out[c:size, c:size]
    both[1] += (further * u).sum(axis=1) * both[0] ** 2
    corner = inverse[c:, c:]
    if np.diagonal(corner).max() < DETERMINED:
        slopes = np.linalg.solve(corner, u.T)
        alone = _in_and_out(p - u @ slopes, product - u @ (slopes @ own))
    else:
        separate = well_conditioned_inverse(others[:c, :c])
        if separate is None:
            return None
        alone = _in_and_out(separate, separate @ own)
    return np.concatenate([alone, both])


def _in_and_out(inverse: Float, product: Float) -> Float:
    """1 / P_ii, and (P K P)_ii / P_ii² from P and P K."""
    inside = 1 / np.diagonal(inverse)
    return np.stack([inside, np.einsum("ij,ij->i", product, inverse) * inside**2])


def _finite_product(n: float, p: int) -> float:
    """Inside times outside over σ⁴ of n independent samples; catalogue entry "in_out_product"."""
    return (n - 1 - p) * (n + 1) * (n - 2) / (n * (n - 1) * (n - p - 2))


def _effect(groups: Sequence[_Scatter], channels: int) -> float:
    """How many times covariances scatter more between groups than independent samples let them.

    Gaussian covariances of n independent samples scatter by (K_ii K_jj + K_ij²) / n; the ratio is
    of sums over all pairs of different channels.
    """
    total, shifts, scatter = _pooled(groups)
    covariance = scatter[:channels, :channels] / total
    power = np.diagonal(covariance)
    expected = power.sum() ** 2 - power @ power + _off_diagonal(covariance)
    if expected <= 0:
        return 1.0
    observed = 0.0
    for group, shift in zip(groups, shifts[:, :channels], strict=True):
        apart = group.scatter[:channels, :channels] / group.n
        apart += np.outer(shift, shift)
        apart -= covariance
        observed += group.n * _off_diagonal(apart)
    return float(observed / expected / (len(groups) - 1))


def _off_diagonal(matrix: Float) -> float:
    """Sum of the squares off the diagonal."""
    copy = matrix.copy()
    np.fill_diagonal(copy, 0.0)
    return float(np.vdot(copy, copy))
