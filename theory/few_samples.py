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
    channels = [_Scatter(part, where, scale) for part in used]
    effect = design_effect(channels) if len(channels) > 1 else 1.0
    likeness = likeness_of(effect, samples_per_image)
    few = int(total.n or 0) - 1 < layer.live.size
    open_ = ~inverse.collinear[inverse.basis]
    found = PeerEstimates.unknown(total.n_channels, len(used), int(total.n or 0) / max(1.0, effect))
    if not few:
        found.say_determined(determined)
    alone = None if few or not open_.any() else _in_out(channels, likeness, samples_per_image)
    if alone is None:
        return found
    power = np.stack([_without(channels, g) for g in range(len(used))])
    found.predictability[where[open_]] = 1 - alone.variance[open_]
    found.predictability_replicates[:, where[open_]] = (1 - alone.replicates / power)[:, open_]
    found.recoverable[where[open_]] = 1 - alone.outside[open_]
    if total.n_targets:
        joint = [_Scatter(part, where, scale, white.shape[1]) for part in used]
        both = _in_out(joint, likeness, samples_per_image)
        if both is not None:
            ratio = alone.variance / both.variance[: where.size]
            ratios = alone.replicates / both.replicates[:, : where.size]
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
    """One group's scatter of scaled channels, and of white targets, about its mean."""

    def __init__(
        self, part: Moments, index: NDArray[np.intp], scale: Float, targets: int = 0
    ) -> None:
        keep = np.concatenate([index, part.n_channels + np.arange(targets)]).astype(np.intp)
        factor = np.concatenate([scale, np.ones(targets)])
        self.n = int(part.n or 0)
        self.mean = part.mean[keep] * factor
        self.scatter = part.cov[np.ix_(keep, keep)] * np.outer(factor, factor) * (self.n - 1)

    def about(self, point: Float) -> Float:
        """Return the scatter about some point."""
        shift = self.mean - point
        return np.asarray(self.scatter + self.n * np.outer(shift, shift))


def _pooled(groups: Sequence[_Scatter]) -> tuple[int, Float, Float]:
    """Samples, mean, and scatter about it of all groups."""
    total = sum(group.n for group in groups)
    mean = np.asarray(sum(group.n * group.mean for group in groups) / total)
    return total, mean, np.asarray(sum(group.about(mean) for group in groups))


def _rest(group: _Scatter, total: int, mean: Float, scatter: Float) -> tuple[int, Float, Float]:
    """Samples, mean and covariance of all groups but one."""
    n = total - group.n
    others = (total * mean - group.n * group.mean) / n
    left = scatter - group.about(mean) - n * np.outer(others - mean, others - mean)
    return n, others, left / (n - 1)


def _without(groups: Sequence[_Scatter], index: int) -> Float:
    return np.asarray(np.diagonal(_rest(groups[index], *_pooled(groups))[2]))


def _in_out(
    groups: Sequence[_Scatter], likeness: float, samples_per_image: float
) -> _Variances | None:
    """Estimate each variable's variance given all others; None where the samples are too few."""
    total, mean, scatter = _pooled(groups)
    size = len(mean)
    if len(groups) < 2 or total - max(group.n for group in groups) < size + LEAST_SPARE:
        return None
    inside, outside = np.empty((len(groups), size)), np.empty((len(groups), size))
    for row, group in enumerate(groups):
        _, others, covariance = _rest(group, total, mean, scatter)
        inverse = well_conditioned_inverse(covariance)
        if inverse is None:
            return None
        diagonal = np.diagonal(inverse)
        inside[row] = 1 / diagonal
        held_out = group.about(others) / group.n
        outside[row] = np.einsum("ij,ij->i", inverse @ held_out, inverse) / diagonal**2
    used = total * (1 - 1 / len(groups))
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


def _finite_product(n: float, p: int) -> float:
    """Inside times outside over σ⁴ of n independent samples; catalogue entry "in_out_product"."""
    return (n - 1 - p) * (n + 1) * (n - 2) / (n * (n - 1) * (n - p - 2))


def design_effect(groups: Sequence[_Scatter]) -> float:
    """How many times covariances scatter more between groups than independent samples let them.

    Gaussian covariances of n independent samples scatter by (K_ii K_jj + K_ij²) / n; the ratio is
    of sums over all pairs of different channels.
    """
    total, mean, scatter = _pooled(groups)
    covariance = scatter / total
    power = np.diagonal(covariance)
    off = ~np.eye(len(power), dtype=bool)
    expected = (np.outer(power, power) + covariance**2)[off].sum()
    if expected == 0:
        return 1.0
    observed = sum(
        group.n * ((group.about(mean) / group.n - covariance)[off] ** 2).sum() for group in groups
    )
    return float(observed / expected / (len(groups) - 1))
