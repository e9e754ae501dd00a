"""What sets of channels say about the target together, and three beyond any two. In nats."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from theory.pairs import BLOCK
from theory.shared.validation import Float, count, instance
from theory.standardize import COPY_TOLERANCE, Standardized


def set_information(layer: Standardized, sets: NDArray[np.intp]) -> Float:
    """(m,) information I(T; Y_A) of sets of k live channels, in nats.

        I(T; Y_A) = -½ log det(1 - G_Aᵀ R_A⁻¹ G_A)

    NaN where the channels of a set are collinear up to rounding, or determine the target.

    Parameters
    ----------
    layer : correlations R and loadings G of a layer, of `theory.standardize.standardize`.
    sets : (m, k) different live channels.
    """
    result = np.full(len(sets), np.nan)
    for left in range(0, len(sets), BLOCK * BLOCK):
        chosen = sets[left : left + BLOCK * BLOCK]
        r = layer.correlation[chosen[:, :, None], chosen[:, None, :]]
        g = layer.loadings[chosen]
        open_ = np.linalg.det(r) > COPY_TOLERANCE
        explained = np.swapaxes(g[open_], 1, 2) @ np.linalg.solve(r[open_], g[open_])
        rest = np.linalg.det(np.eye(g.shape[2]) - explained)
        known = rest > COPY_TOLERANCE
        result[left + np.flatnonzero(open_)[known]] = -0.5 * np.log(rest[known])
    return result


def triplet_excess(layer: Standardized, triples: NDArray[np.intp]) -> tuple[Float, Float]:
    """(m,) excess of triples over their best pair, and mean (m,) excess of their pairs, in nats.

        S₃ = I(T; Y_i, Y_j, Y_k) - max over pairs of I(T; Y_a, Y_b) = min I(T; Y_a | the other two)
        S₂ = mean over the three pairs of I(T; Y_a, Y_b) - max(I(T; Y_a), I(T; Y_b))

    S₃ is the synergy of three sources by the rule of minimum mutual information, as S₂ is that of
    two. NaN as for `set_information`.

    Parameters
    ----------
    layer : correlations and loadings, of `theory.standardize.standardize`.
    triples : (m, 3) different live channels.
    """
    pairs = [triples[:, columns] for columns in ([0, 1], [0, 2], [1, 2])]
    joint = np.stack([set_information(layer, pair) for pair in pairs])
    single = np.stack([set_information(layer, triples[:, [column]]) for column in range(3)])
    better = np.stack([np.maximum(single[a], single[b]) for a, b in ((0, 1), (0, 2), (1, 2))])
    whole = set_information(layer, triples) - joint.max(axis=0)
    return np.maximum(whole, 0.0), np.maximum(joint - better, 0.0).mean(axis=0)


def draw_triples(channels: int, most: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """(m, 3) triples of different channels: all of them, or `most` drawn at random.

    >>> draw_triples(4, 10, np.random.default_rng(0)).tolist()
    [[0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3]]
    """
    count("channels", channels, least=3)
    count("most", most)
    instance("rng", rng, np.random.Generator, "Pass numpy.random.default_rng(seed).")
    if channels * (channels - 1) * (channels - 2) // 6 <= most:
        i, j, k = np.ogrid[:channels, :channels, :channels]
        return np.argwhere((i < j) & (j < k))
    first = rng.integers(channels, size=most)
    # the second and third are drawn from what is left, and moved past what is taken
    second = rng.integers(channels - 1, size=most)
    second += second >= first
    third = rng.integers(channels - 2, size=most)
    low, high = np.minimum(first, second), np.maximum(first, second)
    third += third >= low
    third += third >= high
    return np.stack([first, second, third], axis=1)
