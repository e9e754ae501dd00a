"""The compact hull: the smallest set of peers, found greedily, that explains a channel.

Forward selection runs for all channels at once. For channel i with selected peers S it keeps, for
every candidate j, the residual variance d_j = Var(Y_j | Y_S) and the residual covariance
c_j = Cov(Y_i, Y_j | Y_S); the next peer is the j with the largest gain c_j² / d_j. One Gram-Schmidt
step per round updates both, so nothing is inverted and each round costs O(C) per channel and
selected peer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from theory.moments import Moments
from theory.shared.validation import Float, count, finite_array, positive, within
from theory.standardize import COPY_TOLERANCE, standardize

BLOCK_ENTRIES, LEAST_BLOCK = 65536, 32
"""Channels treated at once are so many that their residuals have so many entries: enough that
threads rarely wait for Python's lock, and few enough for a core's cache."""


@dataclass(frozen=True)
class Hull:
    """Greedy hulls of all channels of a layer.

    Attributes
    ----------
    size : (C,) number of peers chosen; 0 where no peer explains anything.
    members : (C, most) their indices in the order of choice, -1 beyond `size`.
    explained : (C,) share of variance that they explain.
    gains : (C, most) what each of them adds to it, 0 beyond `size`.
    """

    size: NDArray[np.intp]
    members: NDArray[np.intp]
    explained: Float
    gains: Float


class Peer(NamedTuple):
    """A member of a hull: which channel, its partial weight, and what it adds."""

    channel: int
    weight: float
    gain: float


@dataclass(frozen=True, eq=False)
class PeerHull:
    """The peers that predict each channel of a layer, in the order of choice.

    Attributes
    ----------
    members : (C, m) int32; -1 where there are no more.
    weights : (C, m) float32, partial regression weights of the activations: the channel is the
        sum of weight × peer, up to a constant, as far as they predict it.
    gains : (C, m) float32, share of the channel's variance that each adds to those before it, of
        the samples that it was fitted on.
    """

    members: NDArray[np.int32]
    weights: NDArray[np.float32]
    gains: NDArray[np.float32]

    def of(self, channel: int) -> list[Peer]:
        """Peers of a channel, as chosen."""
        rows = zip(self.members[channel], self.weights[channel], self.gains[channel], strict=True)
        return [
            Peer(int(who), float(weight), float(gain)) for who, weight, gain in rows if who >= 0
        ]


def peer_hull(
    hull: Hull,
    correlation: Float,
    power: Float,
    live: NDArray[np.intp],
    *,
    ridge: float = 0.0,
) -> PeerHull:
    """Regress every channel on its hull, and name its peers by their place in the whole layer.

    Parameters
    ----------
    hull : of the L live channels.
    correlation : (L, L) that it was chosen on.
    power : (C,) variances of all channels.
    live : (L,) which of them the rows of `hull` are.
    ridge : added to the diagonal, as in the choice.

    >>> cov = np.array([[2.0, 1.0, 1.0], [1.0, 1.0, 0.0], [1.0, 0.0, 1.0]])  # Y_0 = Y_1 + Y_2
    >>> r = cov / np.sqrt(np.outer(np.diag(cov), np.diag(cov)))
    >>> peer_hull(compact_hull(r, np.ones(3)), r, np.diag(cov), np.arange(3)).of(0)
    [Peer(channel=1, weight=1.0, gain=0.5), Peer(channel=2, weight=1.0, gain=0.5)]
    """
    c, most = power.size, int(hull.size.max(initial=0))
    chosen = hull.members[:, :most]
    absent = chosen < 0
    place = np.where(absent, 0, chosen)
    between = correlation[place[:, :, None], place[:, None, :]] + ridge * np.eye(most)
    between[absent[:, :, None] | absent[:, None, :]] = 0.0
    between += np.einsum("im,mn->imn", absent, np.eye(most))  # those that are not there weigh 0
    toward = np.where(absent, 0.0, correlation[np.arange(len(place))[:, None], place])
    slopes = np.linalg.solve(between, toward[:, :, None])[:, :, 0]
    deviation = np.sqrt(power[live])
    members = np.full((c, most), -1, dtype=np.int32)
    weights, gains = (np.zeros((c, most), dtype=np.float32) for _ in range(2))
    members[live] = np.where(absent, -1, live[place])
    with np.errstate(over="ignore"):
        weights[live] = slopes * (deviation[:, None] / deviation[place])
    weights[~np.isfinite(weights)] = np.nan  # scales so far apart that single precision ends
    gains[live] = hull.gains[:, :most]
    return PeerHull(members, weights, gains)


def compact_hull(
    correlation: Float,
    predictability: Float,
    *,
    ridge: float = 0.0,
    share: float = 0.95,
    most: int = 10,
) -> Hull:
    """Add the best peer until `share` of what all peers explain is reached, or `most` are chosen.

    Parameters
    ----------
    correlation : (C, C) correlation of the channels.
    predictability : (C,) E_i, what all peers explain together, at the same ridge.
    ridge : added to the diagonal, as in E_i.
    share : of E_i to be reached.
    most : the largest hull.

    Source: DESIGN of the local axis; greedy forward selection on a Gram matrix.

    >>> import numpy as np
    >>> r = np.array([[1.0, 0.8, 0.0], [0.8, 1.0, 0.0], [0.0, 0.0, 1.0]])
    >>> compact_hull(r, np.array([0.64, 0.64, 0.0])).members[:, 0]
    array([ 1,  0, -1])
    """
    correlation = finite_array("correlation", correlation, ndim=2)
    predictability = finite_array("predictability", predictability, ndim=1)
    c = predictability.size
    if correlation.shape != (c, c):
        raise ValueError(
            f"correlation must be square, and predictability have an entry for each of its rows; "
            f"got shapes {correlation.shape} and {predictability.shape}."
        )
    positive("ridge", ridge, zero=True)
    within("share", share, "[0, 1]")
    most = min(count("most", most), c - 1)
    hull = Hull(
        np.zeros(c, dtype=np.intp),
        np.full((c, most), -1, dtype=np.intp),
        np.zeros(c),
        np.zeros((c, most)),
    )
    matrix = correlation + ridge * np.eye(c) if ridge else correlation
    worth_it = np.flatnonzero(predictability > COPY_TOLERANCE)
    block = max(LEAST_BLOCK, BLOCK_ENTRIES // c)
    for start in range(0, worth_it.size, block):
        rows = worth_it[start : start + block]
        _select(hull, correlation, matrix, rows, share * predictability[rows])
    return hull


def peer_order(moments: Moments, *, ridge: float = 0.0) -> NDArray[np.intp]:
    """(C, m) peers of each channel in their order of choice, as many as a hull may have.

    -1 where no other adds anything. It is what `channel_axes` takes as `hull` for replicates.

    >>> peer_order(Moments.from_covariance([[1, 0.6, 0.8], [0.6, 1, 0], [0.8, 0, 1]], 0)).tolist()
    [[2, 1], [0, 2], [0, 1]]
    """
    layer = standardize(moments)
    everything = np.ones(layer.live.size)
    chosen = compact_hull(layer.correlation, everything, ridge=ridge, share=1.0).members
    order = np.full((layer.power.size, chosen.shape[1]), -1)
    order[layer.live] = np.where(chosen < 0, -1, layer.live[chosen])
    return order


def among_live(
    members: NDArray[np.intp], live: NDArray[np.intp], channels: int
) -> NDArray[np.intp]:
    """(L, m) such peers of the live channels, as places among them; -1 where one has died."""
    if (
        members.ndim != 2
        or len(members) != channels
        or members.dtype.kind != "i"
        or not np.isin(members, np.arange(-1, channels)).all()
    ):
        raise ValueError(
            f"hull must be True, False or ({channels}, m) channels, -1 for none; got "
            f"{members.dtype} of shape {members.shape}. Pass what peer_order returned."
        )
    place = np.full(channels + 1, -1)  # the last is that of none
    place[live] = np.arange(live.size)
    return np.asarray(place[members[live]])


def hull_along(
    correlation: Float,
    predictability: Float,
    members: NDArray[np.intp],
    *,
    ridge: float = 0.0,
    share: float = 0.95,
) -> Hull:
    """How many of given peers, in their order, reach `share` of what all peers explain.

    Parameters
    ----------
    correlation, predictability, ridge, share : as for `compact_hull`
    members : (C, m) peers in their order; -1 where there is none

    >>> r = np.array([[1.0, 0.8, 0.5], [0.8, 1.0, 0.0], [0.5, 0.0, 1.0]])
    >>> hull_along(r, np.array([0.89, 0.64, 0.25]), np.array([[2, 1], [0, 2], [0, 1]])).size
    array([2, 1, 1])
    """
    absent = members < 0
    place = np.where(absent, 0, members)
    left = correlation[place[:, :, None], place[:, None, :]]  # of the peers, given those before
    toward = np.take_along_axis(correlation, place, axis=1)
    toward[absent] = 0.0
    most, scale = members.shape[1], 1 + ridge
    left[:, np.arange(most), np.arange(most)] += ridge
    gains = np.zeros(toward.shape)
    for k in range(most):
        variance = left[:, k, k]
        known = (variance > COPY_TOLERANCE * scale) & ~absent[:, k]
        inverse = np.divide(1, variance, out=np.zeros(len(known)), where=known)
        gains[:, k] = toward[:, k] ** 2 * inverse
        slope = left[:, k + 1 :, k] * inverse[:, None]
        toward[:, k + 1 :] -= slope * toward[:, k, None]
        left[:, k + 1 :, k + 1 :] -= slope[:, :, None] * left[:, k, None, k + 1 :]
    before = np.cumsum(gains, axis=1) - gains
    wanted = (before < share * predictability[:, None]) & (gains > 0)
    wanted &= predictability[:, None] > COPY_TOLERANCE
    gains[~wanted] = 0.0
    return Hull(wanted.sum(axis=1), np.where(wanted, members, -1), gains.sum(axis=1), gains)


def _select(
    hull: Hull, correlation: Float, matrix: Float, rows: NDArray[np.intp], goal: Float
) -> None:
    """Fill in the hulls of some channels, all at once; `matrix` is the correlation with ridge."""
    c, most = hull.members.shape
    index = np.arange(rows.size)
    scale = matrix[0, 0]
    covariance = correlation[rows]
    covariance[index, rows] = 0.0  # a channel is never its own peer
    variance = np.full(covariance.shape, scale)
    variance[index, rows] = np.inf
    basis = np.empty((max(0, most - 1), rows.size, c))
    scratch = np.empty((rows.size, c))
    for step in range(most):
        gain = np.multiply(covariance, covariance, out=scratch[: rows.size])
        gain /= variance
        best = gain.argmax(axis=1)
        largest = gain[index, best]
        useful = largest > 0
        hull.members[rows[useful], step] = best[useful]
        hull.size[rows[useful]] += 1
        hull.gains[rows[useful], step] = largest[useful]
        hull.explained[rows[useful]] += largest[useful]
        going = useful & (hull.explained[rows] < goal)
        if step == most - 1 or not going.any():
            return
        if not going.all():
            rows, goal, best, index = rows[going], goal[going], best[going], index[: going.sum()]
            covariance, variance = covariance[going], variance[going]
            basis = np.concatenate([basis[:step, going], basis[step:, : rows.size]])
        # Direction of the chosen peer, made orthogonal to the earlier ones.
        earlier, known = basis[:step].swapaxes(0, 1), scratch[: rows.size]
        direction = np.take(matrix, best, axis=0, out=basis[step], mode="clip")
        np.matmul(earlier[index, :, best][:, None], earlier, out=known[:, None])
        direction -= known
        inverse = 1 / np.sqrt(variance[index, best])
        direction *= inverse[:, None]
        share = covariance[index, best] * inverse
        covariance -= np.multiply(direction, share[:, None], out=known)
        variance -= np.multiply(direction, direction, out=known)
        # out of play: the chosen peer, and whoever has no variance of its own left
        variance[index, best] = np.inf
        if variance.min() <= COPY_TOLERANCE * scale:
            variance[variance <= COPY_TOLERANCE * scale] = np.inf
