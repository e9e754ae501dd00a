"""Sets of channels against regressions on data and the catalogue's forms."""

import numpy as np
import pytest

from theory import Moments, find_closed_form
from theory.sets import draw_triples, set_information, triplet_excess
from theory.standardize import standardize


def layer(rng, channels=6, targets=1):
    factor = rng.standard_normal((channels + targets, channels + targets + 2))
    return standardize(Moments.from_covariance(factor @ factor.T, n_targets=targets))


@pytest.mark.parametrize("targets", [1, 3])
def test_set_information_is_that_of_log_determinants(targets):
    rng = np.random.default_rng(targets)
    factor = rng.standard_normal((5 + targets, 12))
    cov = factor @ factor.T
    known = standardize(Moments.from_covariance(cov, n_targets=targets))
    t = list(range(5, 5 + targets))
    for chosen in ([2], [0, 3], [4, 1, 2]):

        def logdet(rows):
            return np.linalg.slogdet(cov[np.ix_(rows, rows)])[1]

        expected = (logdet(chosen) + logdet(t) - logdet(chosen + t)) / 2
        assert set_information(known, np.array([chosen])) == pytest.approx([expected], rel=1e-10)


def test_triplet_excess_is_the_catalogues_and_bounded_by_every_conditional():
    rng = np.random.default_rng(0)
    known = layer(rng)
    triples = draw_triples(6, 100, rng)
    three, two = triplet_excess(known, triples)
    form, pair = find_closed_form("triplet_excess"), find_closed_form("pairwise_excess")
    for row, (i, j, k) in enumerate(triples):
        r, g = known.correlation, known.loadings[:, 0]
        values = [r[i, j], r[i, k], r[j, k], g[i], g[j], g[k]]
        assert three[row] == pytest.approx(form(*values), rel=1e-9, abs=1e-12)
        pairs = [pair(r[a, b], g[a], g[b]) for a, b in ((i, j), (i, k), (j, k))]
        assert two[row] == pytest.approx(np.mean(pairs), rel=1e-9, abs=1e-12)
    shuffled = triplet_excess(known, triples[:, [2, 0, 1]])
    np.testing.assert_allclose(shuffled[0], three, rtol=1e-9, atol=1e-12)


def test_parity_is_beyond_every_pair_and_copies_are_undecided():
    """T = Y1 + Y2 + Y3, with channels such that any two leave the third's variance."""
    cov = np.eye(4)
    cov[:3, 3] = cov[3, :3] = 1.0
    cov[3, 3] = 3.5
    known = standardize(Moments.from_covariance(cov, n_targets=1))
    three, two = triplet_excess(known, np.array([[0, 1, 2]]))
    assert three == pytest.approx([0.5 * np.log(1.5 / 0.5)])
    assert two == pytest.approx([0.5 * np.log(2.5 / 1.5)])
    copied = np.array([[1.0, 1, 0.2, 0.1], [1, 1, 0.2, 0.1], [0.2, 0.2, 1, 0], [0.1, 0.1, 0, 1]])
    known = standardize(Moments.from_covariance(copied, n_targets=1))
    assert np.isnan(triplet_excess(known, np.array([[0, 1, 2]]))[0]).all()


def test_drawn_triples_are_of_different_channels_and_evenly_spread():
    triples = draw_triples(9, 60, np.random.default_rng(1))
    assert triples.shape == (60, 3)
    many = draw_triples(40, 9000, np.random.default_rng(1))
    assert (np.diff(np.sort(many, axis=1)) > 0).all()
    counts = np.bincount(many.ravel(), minlength=40)
    assert abs(counts / (9000 * 3 / 40) - 1).max() < 0.15
    with pytest.raises(ValueError, match="channels must be"):
        draw_triples(2, 5, np.random.default_rng(0))
