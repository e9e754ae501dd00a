"""Blocks of channels, such as attention heads: both axes of a whole set, from second moments.

S is a block, O are all other channels of the layer, and K_{S|O} = K_SS − K_SO K_OO⁻¹ K_OS is what
a regression on the others leaves of its covariance. Determinants then measure in nats, and traces
what T5 says of damages: at a least-squares readout a, replacing the block by its regression costs
tr(a_Sᵀ K_{S|O} a_S), and holding it at its mean tr(a_Sᵀ K_SS a_S).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._precision import well_conditioned_inverse
from theory.axes import reference_noise
from theory.moments import Moments, merge
from theory.peer_regression import PeerRegression, in_original_units
from theory.sampling import gaussian_information_bias
from theory.shared.validation import Float, finite_array, indices, instance, positive
from theory.standardize import RANK_TOLERANCE, Standardized, standardize

Index = NDArray[np.intp]

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
    samples: float | None = None,
) -> BlockAxes:
    """Evaluate every quantity of each block of a layer.

    Parameters
    ----------
    moments : of (Y, T); without targets the target axis is NaN.
    blocks : at least two disjoint lists of channels; channels in none are among every block's
        others.
    readout : (m, C) W, weights that read the channels, for `recoverable`; the identity by default,
        the share of variance.
    noise : σ0², as in `channel_axes`.
    samples : number of independent samples that the moments are worth. Informations are then
        corrected by their exact bias, and variances left for their degrees of freedom; NaN where
        there are fewer than that needs. None corrects nothing.

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
    sets = _checked(moments, blocks)
    weights = _readout(readout, moments.n_channels)
    layer = standardize(moments)
    if not layer.live.size:
        raise ValueError(
            "moments have no live channel: every variance is 0. Check that the layer is reached."
        )
    sigma = reference_noise(layer.power[layer.live], noise)
    worth = None if samples is None else int(positive("samples", samples))
    joint = _Joint(layer, worth)
    found = [joint.block(_live(layer, block)) for block in sets]
    overlap = joint.overlaps([_live(layer, block) for block in sets])
    own = [moments.cov[np.ix_(block, block)] for block in sets]
    deviation = np.sqrt(layer.power[layer.live])
    recoverable = np.full(len(sets), np.nan)
    for b, (block, each) in enumerate(zip(sets, found, strict=True)):
        where = _live(layer, block)
        scaled = weights[:, layer.live[where]] * deviation[where]
        lost = np.sum((weights[:, block] @ own[b]) * weights[:, block])
        if lost > 0:
            recoverable[b] = 1 - np.sum((scaled @ each.left) * scaled) / lost
    return BlockAxes(
        signal_power=np.array([np.trace(cov) for cov in own]),
        input_capture=np.array(
            [0.5 * np.linalg.slogdet(np.eye(len(cov)) + cov / sigma)[1] for cov in own]
        ),
        peer_overlap=overlap,
        peer_information=np.array([each.peers for each in found]),
        peer_predictability=np.array([each.predictability for each in found]),
        recoverable=recoverable,
        task_information=np.array([each.task for each in found]),
        conditional_task_information=np.array([each.task_given_others for each in found]),
    )


def regress_on_other_blocks(
    moments: Moments, blocks: Sequence[ArrayLike], *, ridge: float = 1e-4
) -> PeerRegression:
    """Regress each channel of a block on the channels outside it; those in no block stay zero rows.

    Parameters
    ----------
    moments, blocks : as for `block_axes`.
    ridge : r ≥ 0 on the diagonal of the correlation.

    >>> cov = [[1.0, 0.9, 0.6], [0.9, 1.0, 0.6], [0.6, 0.6, 1.0]]
    >>> fit = regress_on_other_blocks(
    ...     Moments.from_covariance(cov, n_targets=0), [[0, 1], [2]], ridge=0)
    >>> fit.coefficients[:2].round(12).tolist(), fit.n_peers.tolist()
    ([[0.0, 0.0, 0.6], [0.0, 0.0, 0.6]], [1, 1, 2])
    """
    sets = _checked(moments, blocks)
    positive("ridge", ridge, zero=True)
    layer = standardize(moments)
    slopes, sizes = np.zeros_like(layer.correlation), np.zeros(layer.live.size, dtype=np.intp)
    for block in sets:
        inside = _live(layer, block)
        outside = np.setdiff1d(np.arange(layer.live.size), inside)
        if outside.size:
            right = layer.correlation[np.ix_(outside, outside)] + ridge * np.eye(outside.size)
            cross = layer.correlation[np.ix_(outside, inside)]
            slopes[np.ix_(inside, outside)] = (_inverse(right)[0] @ cross).T
        sizes[inside] = outside.size
    return in_original_units(moments, layer, slopes, sizes)


def blocks_recovered_outside(
    parts: Sequence[Moments],
    blocks: Sequence[ArrayLike],
    *,
    readout: ArrayLike | None = None,
    ridge: float = 1e-4,
) -> Float:
    """(B,) what the regression of each block on the others recovers on samples it has not seen.

    1 − Σ tr(W_S R_S W_Sᵀ) / Σ tr(W_S V_S W_Sᵀ): for each group of images left out, R_S is the
    second moment of what a regression fitted on the other groups leaves there, V_S that of the
    block about the mean of the others. NaN for a block without variance.

    Parameters
    ----------
    parts : moments of each group of images, at least two.
    blocks, readout, ridge : as for `block_axes` and `regress_on_other_blocks`.

    >>> rng = np.random.default_rng(0)
    >>> parts = [Moments.from_samples(rng.standard_normal((9, 4))) for _ in range(5)]
    >>> bool(blocks_recovered_outside(parts, [[0, 1], [2, 3]]).max() < 0)  # nothing but noise
    True
    """
    used = [part for part in parts if part.n]
    if len(used) < 2:
        raise ValueError(f"parts must hold at least 2 groups of samples; got {len(used)}.")
    sets = _checked(used[0], blocks)
    c = used[0].n_channels
    weights = _readout(readout, c)
    left, whole = np.zeros(len(sets)), np.zeros(len(sets))
    for index, part in enumerate(used):
        others = merge(used[:index] + used[index + 1 :])
        fit = regress_on_other_blocks(others, sets, ridge=ridge)
        n, shift = int(part.n or 0), part.mean[:c] - others.mean[:c]
        second = part.cov[:c, :c] * (n - 1) + n * np.outer(shift, shift)
        residual = np.eye(c) - fit.coefficients
        for b, block in enumerate(sets):
            reading = weights[:, block]
            error = reading @ residual[block]
            left[b] += np.sum((error @ second) * error)
            whole[b] += np.sum((reading @ second[np.ix_(block, block)]) * reading)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(whole > 0, 1 - left / whole, np.nan))


@dataclass(frozen=True)
class _Block:
    """One block: informations, and (d, d) what the others leave of its correlation."""

    peers: float
    predictability: float
    task: float
    task_given_others: float
    left: Float


class _Joint:
    """Correlations of live channels and white targets, in which blocks are conditioned."""

    def __init__(self, layer: Standardized, samples: int | None) -> None:
        loadings = layer.loadings
        self.c, self.q = loadings.shape
        self.matrix = np.block([[layer.correlation, loadings], [loadings.T, np.eye(self.q)]])
        self.targets = np.arange(self.c, self.c + self.q)
        self.samples = samples
        everything, self.rank = self.left(self.targets, np.arange(self.c))
        self.all_say = _information(np.eye(self.q), everything)[0]

    def left(self, left: Index, right: Index) -> tuple[Float, int]:
        """What a regression on `right` leaves of the covariance of `left`; the rank of `right`."""
        own = self.matrix[np.ix_(left, left)]
        if not right.size:
            return own, 0
        inverse, rank = _inverse(self.matrix[np.ix_(right, right)])
        cross = self.matrix[np.ix_(left, right)]
        return own - cross @ inverse @ cross.T, rank

    def block(self, inside: Index) -> _Block:
        """Evaluate one block."""
        others = np.setdiff1d(np.arange(self.c), inside)
        both, rank = self.left(np.concatenate([inside, self.targets]), others)
        d = inside.size
        left, unsaid = both[:d, :d], both[d:, d:]
        peers, own = _information(self.matrix[np.ix_(inside, inside)], left)
        few = self.samples is not None and self.samples <= self.c + self.q
        if self.samples is not None:
            left = left * (self.samples - 1) / max(self.samples - 1 - rank, 1)
        task = given = np.nan
        if self.q:
            without = _information(np.eye(self.q), unsaid)[0]
            alone = _information(np.eye(self.q), self.left(self.targets, inside)[0])[0]
            task = self.corrected(alone, self.q, own)
            if np.isfinite(self.all_say):
                given = self.corrected(self.all_say, self.q, self.rank)
                given -= self.corrected(without, self.q, rank)
        peers = self.corrected(peers, own, rank)
        explained = 1 - np.exp(-2 * peers / max(own, 1))
        return _Block(
            _finite(peers),
            float("nan") if few else float(explained),
            _finite(task),
            _finite(given),
            np.full_like(left, np.nan) if few else left,
        )

    def overlaps(self, blocks: Sequence[Index]) -> Float:
        """(B,) mean information that each block shares with each other one."""
        shared = np.zeros((len(blocks), len(blocks)))
        for i, first in enumerate(blocks):
            for j, second in enumerate(blocks[:i]):
                own = self.matrix[np.ix_(first, first)]
                left, rank = self.left(first, second)
                information, ours = _information(own, left)
                shared[i, j] = shared[j, i] = self.corrected(information, ours, rank)
        shared[np.isinf(shared)] = np.nan
        return np.asarray(shared.sum(axis=1) / (len(blocks) - 1))

    def corrected(self, information: float, p: int, q: int) -> float:
        """Subtract the bias of an information between p and q directions; NaN from too few."""
        if self.samples is None or p == 0 or q == 0 or np.isinf(information):
            return information
        if self.samples < p + q + 1:
            return float("nan")
        return information - gaussian_information_bias(self.samples, p, q)


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
    return float(-0.5 * np.log(np.minimum(shares, 1.0)).sum()), int(kept.sum())


def _finite(information: float) -> float:
    """NaN where the variables determine each other."""
    return float("nan") if np.isinf(information) else information


def _inverse(matrix: Float) -> tuple[Float, int]:
    """The (pseudo-)inverse of a correlation matrix, and its rank."""
    inverse = well_conditioned_inverse(matrix)
    if inverse is not None:
        return inverse, len(matrix)
    values, vectors = np.linalg.eigh(matrix)
    kept = values > RANK_TOLERANCE * values[-1]
    basis = vectors[:, kept]
    return np.asarray((basis / values[kept]) @ basis.T), int(kept.sum())


def _checked(moments: Moments, blocks: Sequence[ArrayLike]) -> list[Index]:
    instance("moments", moments, Moments, "Build one with Moments.from_samples.")
    sets = [
        indices(f"blocks[{b}]", block, moments.n_channels, distinct=True)
        for b, block in enumerate(blocks)
    ]
    if len(sets) < 2:
        raise ValueError(f"blocks must be at least two, each the others' peers; got {len(sets)}.")
    joined, times = np.unique(np.concatenate(sets), return_counts=True)
    if times.max() > 1:
        twice = joined[times > 1][0]
        raise ValueError(f"blocks must be disjoint; channel {twice} is in more than one.")
    return sets


def _readout(readout: ArrayLike | None, c: int) -> Float:
    if readout is None:
        return np.eye(c)
    weights = finite_array("readout", readout, ndim=2)
    if weights.shape[1] != c:
        raise ValueError(
            f"readout must have {c} columns, one per channel; got shape {weights.shape}."
        )
    return weights


def _live(layer: Standardized, block: Index) -> Index:
    """Where the live channels of a block are among all live channels."""
    return np.flatnonzero(np.isin(layer.live, block)).astype(np.intp)
