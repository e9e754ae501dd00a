"""Where does the Gaussian reading fail? Copula and nearest-neighbour information, in nats."""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree

from theory.moments import Moments
from theory.shared.validation import Float, count, finite_array


def normal_scores(samples: ArrayLike) -> Float:
    """Each column's ranks mapped to normal quantiles, Φ⁻¹(rank/(n + 1)); ties share their mean.

    Parameters
    ----------
    samples : (n,) or (n, p).

    >>> normal_scores([3.0, 1.0, 2.0]).round(3)
    array([ 0.674, -0.674,  0.   ])
    """
    return _scores(finite_array("samples", samples, ndim=(1, 2)))


def _scores(x: Float) -> Float:
    ranks = scipy.stats.rankdata(x, axis=0)
    return np.asarray(scipy.special.ndtri(ranks / (x.shape[0] + 1)), dtype=np.float64)


def copula_moments(y: ArrayLike, t: ArrayLike | None = None) -> Moments:
    """Moments of the normal scores: `channel_axes` on them is the Gaussian-copula reading.

    It is unchanged by any increasing transform of a channel or target, and a lower bound of the
    information where the copula is not Gaussian.

    Parameters
    ----------
    y : (n, C) channels.
    t : (n,) or (n, q) targets.

    Source: Ince et al. (2017), Human Brain Mapping 38, equation 9.

    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal((500, 2))
    >>> bool(np.allclose(copula_moments(x**3).cov, copula_moments(x).cov))
    True
    """
    channels = _scores(finite_array("y", y, ndim=2))
    return Moments.from_samples(
        channels, None if t is None else _scores(finite_array("t", t, ndim=(1, 2)))
    )


def nearest_neighbor_information(x: ArrayLike, y: ArrayLike, k: int = 5) -> float:
    """I(X; Y) by k nearest neighbours, without any assumption on the distribution.

    ψ(k) + ψ(n) − ⟨ψ(n_x + 1) + ψ(n_y + 1)⟩, n_x and n_y the neighbours strictly nearer in X and
    in Y than the k-th joint one, in the maximum norm. Columns are standardized first.

    Where values repeat, as a rectifier's zeros do, several neighbours are as far as the k-th one.
    Such a sample counts all up to that distance, itself among them, jointly, in X and in Y, and
    contributes ψ(k̃) + ψ(n) − ψ(ñ_x) − ψ(ñ_y).

    Parameters
    ----------
    x : (n,) or (n, p).
    y : (n,) or (n, q), as many rows.
    k : number of neighbours; more lowers the variance and raises the bias.

    Raises
    ------
    ValueError
        row counts differ, n <= k, or a constant column.

    Source: Kraskov, Stögbauer and Grassberger (2004), arXiv:cond-mat/0305641, equation 8; Gao,
    Kannan, Oh and Viswanath (2017), arXiv:1709.06212, for distributions with atoms.

    >>> rng = np.random.default_rng(0)
    >>> a, e = rng.standard_normal((2, 2000))
    >>> bool(abs(nearest_neighbor_information(a, a + e) - 0.5 * np.log(2)) < 0.05)
    True
    """
    first, second = _standardized("x", x), _standardized("y", y)
    n, neighbours = first.shape[0], count("k", k)
    if second.shape[0] != n or n <= neighbours:
        raise ValueError(
            f"x and y must have the same number of rows, more than k; got {n}, {second.shape[0]} "
            f"and k = {neighbours}."
        )
    joint = np.hstack([first, second])
    tree = cKDTree(joint)
    radius = np.asarray(tree.query(joint, k=neighbours + 1, p=np.inf)[0])[:, -1]
    # The point itself is among those counted, which makes the counts n_x + 1 and n_y + 1.
    reached = _counts(tree, joint, radius)
    tied = reached > neighbours + 1
    inside = np.where(tied, radius, np.nextafter(radius, 0))
    alone = [_counts(cKDTree(part), part, inside) for part in (first, second)]
    psi = scipy.special.digamma
    mean = np.mean(psi(np.where(tied, reached, neighbours)) - psi(alone[0]) - psi(alone[1]))
    return float(psi(n) + mean)


def _counts(tree: cKDTree, points: Float, radius: Float) -> Float:
    found = tree.query_ball_point(points, radius, p=np.inf, return_length=True)
    return np.asarray(found, dtype=np.float64)


def _standardized(name: str, value: ArrayLike) -> Float:
    array = finite_array(name, value, ndim=(1, 2))
    array = array.reshape(array.shape[0], -1)
    deviation = array.std(axis=0)
    if np.any(deviation == 0):
        column = int(np.argmin(deviation))
        raise ValueError(
            f"{name} has a constant column, {column}, all of it {array[0, column]}. Remove it."
        )
    return np.asarray((array - array.mean(axis=0)) / deviation, dtype=np.float64)
