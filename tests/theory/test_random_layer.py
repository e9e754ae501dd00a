"""The local axis of a random layer, foretold from its spectrum, against layers that are drawn."""

import numpy as np
import pytest

from theory import channel_axes, differentiation, initial_layer


def power_law(size, exponent):
    return np.arange(1.0, size + 1) ** -exponent


def drawn(layer, draws):
    """Mean over layers with its standard error: E, J(1 − E), their spread, R²."""
    found = []
    for seed in range(draws):
        moments = layer.draw(seed)
        inverse, power = np.linalg.inv(moments.cov), np.diagonal(moments.cov)
        left = 1 / np.diagonal(inverse)
        correlation = moments.cov / np.sqrt(np.outer(power, power))
        squares = correlation[np.triu_indices(power.size, 1)] ** 2
        found.append([np.mean(1 - left / power), left.mean(), left.var(), squares.mean()])
    values = np.array(found)
    return values.mean(0), values.std(0, ddof=1) / np.sqrt(draws)


@pytest.mark.parametrize(
    ("exponent", "size", "width", "allowed"),
    [(0.0, 64, 32, 0.0), (1.0, 128, 24, 0.006), (1.0, 128, 100, 0.002), (2.0, 128, 32, 0.004)],
)
def test_mean_predictability_is_foretold(exponent, size, width, allowed):
    """Within sampling (three standard errors) and the stated error of the limit."""
    layer = initial_layer(power_law(size, exponent), width, scale=0.7)
    (share, left, variance, square), error = drawn(layer, 60)
    assert abs(share - layer.mean_predictability) < allowed + 3 * error[0]
    assert abs(left / layer.residual - 1) < 5 * allowed + 3 * error[1] / layer.residual
    assert abs(square / layer.squared_overlap - 1) < 3 * error[3] / layer.squared_overlap
    spread = np.sqrt(variance) / left
    # channels of one layer share their peers, which takes 1/C of the variance
    assert spread == pytest.approx(layer.residual_spread, rel=0.15)


def test_white_inputs_are_exact():
    layer = initial_layer(np.full(40, 2.5), 11, scale=2.0)
    assert layer.residual == pytest.approx(4 * 2.5 * 30)
    assert layer.residual_spread == pytest.approx(np.sqrt(2 / 30))
    assert layer.mean_predictability == pytest.approx(10 / 40)
    assert layer.squared_overlap == pytest.approx(1 / 40)
    assert layer.residual_power_correlation == pytest.approx(np.sqrt(30 / 40))


def test_units_do_not_matter_and_a_matrix_is_as_its_eigenvalues():
    values = power_law(20, 1.3)
    basis, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((20, 20)))
    one = initial_layer(values, 9)
    other = initial_layer((basis * (1e6 * values)) @ basis.T, 9)
    assert other.mean_predictability == pytest.approx(one.mean_predictability, rel=1e-9)
    assert other.residual == pytest.approx(1e6 * one.residual, rel=1e-9)
    assert other.residual_spread == pytest.approx(one.residual_spread, rel=1e-9)


@pytest.mark.parametrize("width", [6, 7, 30])
def test_peers_that_span_the_inputs_leave_nothing(width):
    layer = initial_layer([3.0, 2.0, 1.0, 0.5, 0.1, 0.0], width)
    assert layer.residual == 0
    assert layer.mean_predictability == pytest.approx(1)
    assert np.isnan(layer.residual_spread)


@pytest.mark.parametrize("exponent", [0.0, 2.0, 6.0])
@pytest.mark.parametrize("width", [2, 3, 50, 63, 64])
def test_the_fixed_point_holds_at_any_steepness(exponent, width):
    values = power_law(64, exponent)
    layer = initial_layer(values, width)
    kept = values[values > 1e-12]
    assert np.sum(kept / (kept + layer.kappa)) == pytest.approx(min(width - 1, kept.size), rel=1e-9)


def test_predictability_follows_power():
    layer = initial_layer(power_law(256, 1.5), 64)
    axes = channel_axes(layer.draw(3), hull=False)
    error = axes.peer_predictability - layer.predictability(axes.signal_power)
    assert np.sqrt(np.mean(error**2)) < 0.4 * axes.peer_predictability.std()


def test_fewer_peers_are_needed_than_there_are_and_a_chosen_hull_is_smaller():
    layer = initial_layer(power_law(128, 2.0), 64)
    found = channel_axes(layer.draw())
    assert found.hull_size.mean() < layer.peers_needed() < 63
    needed = initial_layer(power_law(128, 2.0), layer.peers_needed() + 1).mean_predictability
    assert needed >= 0.95 * layer.mean_predictability


def test_differentiation_of_a_layer_born_equal_and_of_one_that_is_not():
    layer = initial_layer(power_law(128, 1.5), 48)
    born = layer.differentiation(draws=4)
    axes = channel_axes(layer.draw(9), hull=False)
    one = differentiation(axes.signal_power, axes.peer_predictability)
    assert one.spread == pytest.approx(born.spread, rel=0.3)
    assert one.rank_correlation == pytest.approx(born.rank_correlation, abs=0.15)
    grown = differentiation(np.ones(48), np.linspace(0.1, 0.9, 48))
    assert grown.spread > born.spread
    with_gaps = differentiation([1.0, np.nan, 2.0, 4.0], [0.5, 0.1, 0.75, 0.875])
    assert (with_gaps.channels, with_gaps.spread) == (3, 0.0)
    assert np.isnan(differentiation([1.0, 2.0], [0.5, 0.5]).spread)
