"""Blocks of channels, such as attention heads: both axes of a whole set, from second moments.

S is a block, O are all other channels of the layer, and K_{S|O} = K_SS − K_SO K_OO⁻¹ K_OS is what
a regression on the others leaves of its covariance. Determinants then measure in nats, and traces
what T5 says of damages: at a least-squares readout a, replacing the block by its regression costs
tr(a_Sᵀ K_{S|O} a_S), and holding it at its mean tr(a_Sᵀ K_SS a_S).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from theory.axes import reference_noise
from theory.block_regression import (
    Index,
    checked_blocks,
    live_of,
    pseudo_inverse,
    readout_weights,
)
from theory.few_samples import LEAST_SPARE
from theory.moments import Moments, merge
from theory.shared.validation import Float
from theory.standardize import RANK_TOLERANCE, Standardized, standardize, whitening

DETERMINED = 1e-9
"""A share of some direction's variance below this is rounding: the others determine it."""


@dataclass(frozen=True, eq=False)
class BlockAxes:
    """Every quantity of each block, (B,); information in nats.

    Attributes
    ----------
    signal_power : tr K_SS.
    input_capture : ½ log det(I + K_SS / σ0²), σ0² the layer's reference noise.
    peer_overlap : mean over the other blocks S' of I(Y_S; Y_S').
    peer_information : I(Y_S; Y_O) = −½ log(|K_{S|O}| / |K_SS|); NaN where the others determine a
        direction of the block.
    peer_predictability : 1 − exp(−2 I(Y_S; Y_O) / r), r the rank of the block: the geometric mean
        over its directions; of one channel E_i. 1 where a direction is determined.
    recoverable : 1 − tr(W_S K_{S|O} W_Sᵀ) / tr(W_S K_SS W_Sᵀ), W the readout: the share of the
        damage of losing the block that its regression on the others recovers.
    task_information : I(T; Y_S).
    conditional_task_information : I(T; Y_S | Y_O).
    """

    signal_power: Float
    input_capture: Float
    peer_overlap: Float
    peer_information: Float
    peer_predictability: Float
    recoverable: Float
    task_information: Float
    conditional_task_information: Float


def block_axes(
    moments: Moments,
    blocks: Sequence[ArrayLike],
    *,
    readout: ArrayLike | None = None,
    noise: str | float = "median",
) -> BlockAxes:
    """Evaluate every quantity of each block of a layer, from the moments as they are (plug-in).

    Parameters
    ----------
    moments : of (Y, T); without targets the target axis is NaN.
    blocks : at least two disjoint lists of channels; channels in none are among every block's
        others.
    readout : (m, C) W, weights that read the channels, for `recoverable`; the identity by default,
        the share of variance.
    noise : σ0², as in `channel_axes`.

    Raises
    ------
    ValueError
        blocks that overlap, are empty or fewer than two; a readout that does not fit; no variance.

    Source: T5, catalogue entries `block_information`, `block_recovered`.

    >>> cov = [[1.0, 0.6], [0.6, 1.0]]  # blocks of one channel: E_i
    >>> axes = block_axes(Moments.from_covariance(cov, n_targets=0), [[0], [1]])
    >>> axes.peer_predictability.round(6), axes.recoverable.round(6)
    (array([0.36, 0.36]), array([0.36, 0.36]))
    """
    sets, weights = checked_blocks(moments, blocks), readout_weights(readout, moments.n_channels)
    return _evaluate(_Joint(_live_layer(moments), moments, []), moments, sets, weights, noise, None)


def block_axes_of_groups(
    groups: Sequence[Moments],
    blocks: Sequence[ArrayLike],
    *,
    readout: ArrayLike | None = None,
    noise: str | float = "median",
) -> tuple[BlockAxes, list[BlockAxes]]:
    """Evaluate the blocks from groups of images, right from few samples; and without each group.

    Whatever a regression leaves unexplained is the geometric mean of what it leaves on the samples
    that it was fitted on and on the group left out: one is too small and the other too large, by
    factors that nearly cancel, as in `theory.few_samples`. NaN where a group's others are too few.

    Parameters
    ----------
    groups : moments of (Y, T) of each group of images, at least two.
    blocks, readout, noise : as for `block_axes`.

    Returns
    -------
    All groups' quantities, and those without one group at a time, for the jackknife.

    >>> rng = np.random.default_rng(0)
    >>> parts = [Moments.from_samples(rng.standard_normal((10, 20))) for _ in range(10)]
    >>> axes, _ = block_axes_of_groups(parts, np.arange(20).reshape(4, 5))  # nothing shared
    >>> bool(abs(axes.recoverable.mean()) < 0.1)
    True
    """
    used = [part for part in groups if part.n]
    if len(used) < 2:
        raise ValueError(f"groups must hold at least 2 groups of samples; got {len(used)}.")
    total = merge(used)
    sets, weights = checked_blocks(total, blocks), readout_weights(readout, total.n_channels)
    joint = _Joint(_live_layer(total), total, used)
    whole = _evaluate(joint, total, sets, weights, noise, None)
    draws = [
        _evaluate(joint, merge(used[:g] + used[g + 1 :]), sets, weights, noise, g)
        for g in range(len(used))
    ]
    return whole, draws


class _Joint:
    """Scaled channels and white targets of one layer, in which blocks are conditioned."""

    def __init__(self, layer: Standardized, total: Moments, groups: Sequence[Moments]) -> None:
        c = total.n_channels
        self.layer = layer
        white = whitening(total.cov[c:, c:])
        self.c, self.q = layer.live.size, white.shape[1]
        self.targets = np.arange(self.c, self.c + self.q)
        change = np.zeros((len(total.mean), self.c + self.q))
        change[layer.live, np.arange(self.c)] = 1 / np.sqrt(layer.power[layer.live])
        change[c:, self.c :] = white
        self.whole = change.T @ total.cov @ change
        self.fits: list[tuple[Float, Float]] = []
        """Covariance of all groups but one, and second moment of that one about their mean."""
        for g, part in enumerate(groups):
            others = merge([*groups[:g], *groups[g + 1 :]])
            n, shift = int(part.n or 0), part.mean - others.mean
            second = part.cov * (n - 1) / n + np.outer(shift, shift)
            self.fits.append((change.T @ others.cov @ change, change.T @ second @ change))
        fewest = min((int(total.n or 0) - int(part.n or 0) for part in groups), default=0)
        self.few = bool(groups) and fewest < self.c + self.q + LEAST_SPARE
        self._left: dict[tuple[bytes, bytes], list[list[Float]]] = {}

    def left(self, left: Index, right: Index, without: int | None) -> list[Float]:
        """What regressions on `right` leave of `left`: on their own samples, and on others'."""
        if not self.fits:
            return [_residual(self.whole, left, right)[0]]
        key = left.tobytes(), right.tobytes()
        if key not in self._left:
            pairs = [_residual(*fit, left, right) for fit in self.fits]
            self._left[key] = [[pair[side] for pair in pairs] for side in (0, 1)]
        inside, outside = self._left[key]
        if without is None:
            return [np.mean(inside, axis=0), np.mean(outside, axis=0)]
        return [inside[without], np.mean(outside[:without] + outside[without + 1 :], axis=0)]

    def covariance(self, left: Index, without: int | None) -> Float:
        """Covariance of all samples, or of all but one group's."""
        joint = self.whole if without is None else self.fits[without][0]
        return joint[np.ix_(left, left)]

    def information(self, left: Index, right: Index, without: int | None) -> tuple[float, int]:
        """I(left; right), and the number of directions of `left`; NaN from too few samples."""
        own = self.covariance(left, without)
        found = [_information(own, residual) for residual in self.left(left, right, without)]
        information = float(np.mean([value for value, _ in found]))
        return (float("nan") if self.few else information), found[0][1]


def _evaluate(
    joint: _Joint,
    moments: Moments,
    sets: Sequence[Index],
    weights: Float,
    noise: str | float,
    without: int | None,
) -> BlockAxes:
    layer, count = joint.layer, len(sets)
    inside = [live_of(layer, block) for block in sets]
    everything = np.arange(joint.c)
    sigma = reference_noise(np.diagonal(moments.cov)[layer.live], noise)
    found = {each.name: np.full(count, np.nan) for each in fields(BlockAxes)}
    overlaps = np.zeros((count, count))
    told = joint.information(joint.targets, everything, without)[0]
    for b, block in enumerate(sets):
        own, others = moments.cov[np.ix_(block, block)], np.setdiff1d(everything, inside[b])
        found["signal_power"][b] = np.trace(own)
        capture = 0.5 * np.linalg.slogdet(np.eye(len(own)) + own / sigma)[1]
        found["input_capture"][b] = capture
        peers, directions = joint.information(inside[b], others, without)
        found["peer_information"][b] = _finite(peers)
        found["peer_predictability"][b] = 1 - np.exp(-2 * peers / max(directions, 1))
        # in units of the scaled channels
        reading = weights[:, layer.live[inside[b]]] * np.sqrt(layer.power[layer.live[inside[b]]])
        lost, *kept = (
            float(np.sum((reading @ cov) * reading))
            for cov in (
                joint.covariance(inside[b], without),
                *joint.left(inside[b], others, without),
            )
        )
        if lost > 0 and not joint.few:
            left = float(np.prod(np.maximum(kept, 0.0)) ** (1 / len(kept)))
            found["recoverable"][b] = 1 - left / lost
        for other in range(b):
            shared = joint.information(inside[b], inside[other], without)[0]
            overlaps[b, other] = overlaps[other, b] = _finite(shared)
        if joint.q:
            said = joint.information(joint.targets, inside[b], without)[0]
            unsaid = joint.information(joint.targets, others, without)[0]
            found["task_information"][b] = _finite(said)
            if np.isfinite(told):
                found["conditional_task_information"][b] = told - unsaid
    found["peer_overlap"] = overlaps.sum(axis=1) / (count - 1)
    return BlockAxes(**found)


def _residual(joint: Float, *rest: Any) -> list[Float]:
    """What a regression fitted on `joint` leaves there, and on the second moments that follow."""
    *others, left, right = rest
    coefficients = joint[np.ix_(left, right)] @ pseudo_inverse(joint[np.ix_(right, right)])
    change = np.zeros((left.size, len(joint)))
    change[np.arange(left.size), left] = 1
    change[:, right] -= coefficients
    return [np.asarray(change @ second @ change.T) for second in (joint, *others)]


def _information(whole: Float, left: Float) -> tuple[float, int]:
    """−½ log(|left| / |whole|) over the directions that `whole` has, and their number."""
    if not whole.size:
        return 0.0, 0
    values, vectors = np.linalg.eigh(whole)
    kept = values > RANK_TOLERANCE * max(values[-1], 1.0)
    white = vectors[:, kept] / np.sqrt(values[kept])
    shares = np.linalg.eigvalsh(white.T @ left @ white)
    if shares.size and shares[0] < DETERMINED:
        return float("inf"), int(kept.sum())
    return float(-0.5 * np.log(shares).sum()), int(kept.sum())


def _finite(information: float) -> float:
    """NaN where the variables determine each other."""
    return float("nan") if np.isinf(information) else information


def _live_layer(moments: Moments) -> Standardized:
    layer = standardize(moments)
    if not layer.live.size:
        raise ValueError(
            "moments have no live channel: every variance is 0. Check that the layer is reached."
        )
    return layer
