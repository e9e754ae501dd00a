"""Regressions of channels on their peers against one least-squares problem each."""

from __future__ import annotations

import numpy as np
import pytest

from theory import Moments, channel_axes, regress_on_peers

SAME = 1e-9
"""Relative: one inverse against one regression a channel, condition numbers up to 1e4."""


def moments(c: int = 7, n: int = 200, seed: int = 0) -> Moments:
    rng = np.random.default_rng(seed)
    return Moments.from_samples(
        rng.standard_normal((n, c)) @ rng.standard_normal((c, c)) + 3 * rng.standard_normal(c)
    )


@pytest.mark.parametrize("ridge", [0.0, 0.01])
def test_all_peers_are_one_ridge_regression_each(ridge: float) -> None:
    found = moments()
    fit = regress_on_peers(found, peers="all", ridge=ridge)
    deviation = np.sqrt(np.diagonal(found.cov))
    r = found.cov / np.outer(deviation, deviation)
    for i in range(7):
        others = np.delete(np.arange(7), i)
        slopes = np.linalg.solve(r[np.ix_(others, others)] + ridge * np.eye(6), r[others, i])
        np.testing.assert_allclose(
            fit.coefficients[i, others], slopes * deviation[i] / deviation[others], rtol=SAME
        )
        assert fit.coefficients[i, i] == 0
    at_mean = fit.coefficients @ found.mean + fit.intercepts
    np.testing.assert_allclose(at_mean, found.mean, rtol=SAME)


def test_recovered_variance_is_peer_predictability() -> None:
    found = moments()
    fit = regress_on_peers(found, peers="all", ridge=0.0)
    np.testing.assert_allclose(fit.recovered, channel_axes(found).peer_predictability, rtol=SAME)


def test_hull_overlap_and_random_sets_have_one_size_and_ordered_power() -> None:
    found = moments(12)
    fits = {
        kind: regress_on_peers(found, peers=kind, ridge=0.0, rng=np.random.default_rng(1))
        for kind in ("all", "hull", "overlap", "random")
    }
    assert (fits["hull"].n_peers == channel_axes(found).hull_size).all()
    for kind in ("overlap", "random"):
        np.testing.assert_array_equal(fits[kind].n_peers, fits["hull"].n_peers)
        assert ((fits[kind].coefficients != 0).sum(axis=1) == fits[kind].n_peers).all()
        assert (np.diagonal(fits[kind].coefficients) == 0).all()
        assert (fits[kind].recovered <= fits["all"].recovered + 1e-12).all()
    # the hull reaches 95 % of E_i, or has its most, ten of eleven
    reached = fits["hull"].recovered >= 0.95 * fits["all"].recovered - 1e-12
    assert (reached | (fits["hull"].n_peers == 10)).all()
    assert fits["hull"].recovered.mean() > fits["random"].recovered.mean()


def test_overlap_takes_the_strongest_correlations() -> None:
    found = moments(6)
    fit = regress_on_peers(found, peers="overlap", size=2)
    deviation = np.sqrt(np.diagonal(found.cov))
    r = np.abs(found.cov / np.outer(deviation, deviation)) - np.eye(6)
    for i in range(6):
        assert set(np.flatnonzero(fit.coefficients[i])) == set(np.argsort(-r[i])[:2])


def test_copies_and_dead_channels_give_finite_regressions() -> None:
    rng = np.random.default_rng(0)
    y = rng.standard_normal((100, 4))
    y[:, 1] = 2 * y[:, 0]
    y[:, 3] = 5.0
    for ridge in (0.0, 1e-4):
        fit = regress_on_peers(Moments.from_samples(y), peers="all", ridge=ridge)
        assert np.isfinite(fit.coefficients).all()
        assert fit.recovered[0] == pytest.approx(1.0, abs=1e-6)
        assert np.isnan(fit.recovered[3])
        assert fit.intercepts[3] == pytest.approx(5.0)
        assert not fit.coefficients[3].any()
        assert not fit.coefficients[:, 3].any()


def dependent(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Samples of channels of which some are exact functions of others."""
    own = rng.standard_normal((60, 5))
    mixed = own @ rng.standard_normal((5, 9))
    if kind == "copies":
        return np.column_stack([own, own[:, 0], 3 * own[:, 0], -own[:, 1]])
    if kind == "beside others":
        return np.column_stack([mixed, rng.standard_normal((60, 4))])
    return mixed if kind == "low rank" else np.column_stack([own, own.sum(axis=1)])


@pytest.mark.parametrize("kind", ["copies", "low rank", "beside others", "sum"])
def test_a_singular_layer_gets_the_least_squares_of_each_channel(kind: str) -> None:
    """One decomposition against a least-squares problem per channel, smallest of its solutions."""
    found = Moments.from_samples(dependent(kind, np.random.default_rng(3)))
    deviation = np.sqrt(np.diagonal(found.cov))
    r = found.cov / np.outer(deviation, deviation)
    fit = regress_on_peers(found, ridge=0.0)
    slopes = fit.coefficients / deviation[:, None] * deviation
    for i in range(len(r)):
        others = np.delete(np.arange(len(r)), i)
        naive = np.linalg.lstsq(r[np.ix_(others, others)], r[others, i], rcond=1e-12)[0]
        np.testing.assert_allclose(slopes[i, others], naive, atol=1e-7)


@pytest.mark.parametrize("peers", ["all", "hull", "overlap", "random"])
def test_a_layer_without_a_live_channel_keeps_its_means(peers: str) -> None:
    fit = regress_on_peers(Moments.from_samples(np.full((5, 3), 2.0)), peers=peers)
    assert not fit.coefficients.any()
    np.testing.assert_array_equal(fit.intercepts, 2.0)
    np.testing.assert_array_equal(fit.n_peers, 0)
    assert np.isnan(fit.recovered).all()


def test_of_the_solutions_of_a_singular_layer_the_smallest_is_taken() -> None:
    """A copy can be read off either of two others: half of each is the least norm."""
    rng = np.random.default_rng(1)
    y = rng.standard_normal((50, 2))
    fit = regress_on_peers(Moments.from_samples(y[:, [0, 0, 0, 1]]), ridge=0.0)
    np.testing.assert_allclose(fit.coefficients[0], [0, 0.5, 0.5, 0], atol=SAME)


def test_random_peers_are_seeded_and_follow_their_generator() -> None:
    found = moments(12)
    plain = [regress_on_peers(found, peers="random", size=3) for _ in range(2)]
    np.testing.assert_array_equal(plain[0].coefficients, plain[1].coefficients)
    rng = np.random.default_rng(0)
    drawn = [regress_on_peers(found, peers="random", size=3, rng=rng) for _ in range(2)]
    np.testing.assert_array_equal(drawn[0].coefficients, plain[0].coefficients)
    assert (drawn[1].coefficients != plain[0].coefficients).any()
