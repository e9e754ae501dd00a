"""The pairs of a layer against loops that are written from their definitions."""

import numpy as np
import pytest

from theory.pairs import TIE, nearest_peers, total_overlap


def random_correlation(channels, seed):
    rows = np.random.default_rng(seed).standard_normal((2 * channels, channels))
    return np.corrcoef(rows, rowvar=False)


@pytest.mark.parametrize("channels", [1, 2, 63, 64, 65, 130])
def test_overlap_is_summed_over_all_peers_of_layers_of_any_width(channels):
    correlation = np.atleast_2d(random_correlation(channels, seed=channels))
    expected = [
        sum(-0.5 * np.log(1 - correlation[i, j] ** 2) for j in range(channels) if j != i)
        for i in range(channels)
    ]
    np.testing.assert_allclose(total_overlap(correlation), expected, rtol=1e-12, atol=1e-15)


def test_the_overlap_of_copies_is_infinite_for_both():
    correlation = random_correlation(100, seed=0)
    correlation[3, 80] = correlation[80, 3] = -1.0
    assert np.flatnonzero(np.isnan(total_overlap(correlation))).tolist() == [3, 80]


@pytest.mark.parametrize("apart", [0.0, 1e-13, 1e-11, 1e-9, 1e-8, 1e-6])
@pytest.mark.parametrize("peers", [1, 5, 20, 38])
def test_the_nearest_peers_are_those_of_a_sort_however_near_the_others_are(apart, peers):
    """Correlations of one row lie `apart`: ties, apart for float64, and apart for float32 too."""
    channels = 40
    correlation = random_correlation(channels, seed=peers)
    correlation[7] = correlation[:, 7] = 0.3 - apart * np.arange(channels)
    nearest, chosen = nearest_peers(correlation, peers)
    for i in range(channels):
        strength = sorted((abs(correlation[i, j]), j) for j in range(channels) if j != i)
        last = strength[-peers][0]
        expected = {j for size, j in strength if size >= last - TIE}
        assert set(nearest[i, chosen[i]].tolist()) == expected
        assert len(set(nearest[i].tolist())) == nearest.shape[1]
