"""Moments from drawn inputs, against closed forms and against samples of their own."""

import numpy as np
import pytest

from sim import Mixture, Network, Regression, power_law
from sim.outputs import drawn_inputs, margins, mean_loss
from sim.records import layer_moments
from tests.tolerances import NAIVE, STANDARD_ERRORS

MIXTURE = Mixture(power_law(5, 1.0), classes=4)
REGRESSION = Regression(power_law(5, 1.0), outputs=2, noise=0.4)


@pytest.mark.parametrize("task", [MIXTURE, REGRESSION])
def test_an_output_that_is_linear_is_exact(task):
    population = task.population
    map_ = np.random.default_rng(0).standard_normal((3, 5))
    drawn = drawn_inputs(population)
    cross, cov = drawn.moments(drawn.inputs @ map_.T, population.sigma)
    np.testing.assert_allclose(cross, population.sigma @ map_.T, atol=NAIVE)
    np.testing.assert_allclose(cov, map_ @ population.sigma @ map_.T, atol=NAIVE)
    loss = mean_loss(drawn.inputs @ population.teacher.T, drawn, population)
    assert loss == pytest.approx(population.floor, rel=0.03)


def drawn_layer(task, **network):
    weights = Network(width=6, nonlinearity="relu", **network).draw(task.population, 0)
    layers = [weights.filters, *weights.inner, weights.readout]
    moments = layer_moments(
        weights.filters[None],
        weights.readout[None],
        task.population,
        "relu",
        weights.inner[None] if len(weights.inner) else None,
    )
    return layers, moments


def test_two_rectified_layers_on_gaussian_inputs_agree_with_their_closed_form():
    _, exact = drawn_layer(REGRESSION)
    weights = Network(width=6, nonlinearity="relu").draw(REGRESSION.population, 0)
    drawn = drawn_inputs(REGRESSION.population)
    outputs = np.maximum(drawn.inputs @ weights.filters.T, 0) @ weights.readout.T
    cross, cov = drawn.moments(outputs, REGRESSION.population.sigma)
    scale = np.sqrt(np.diag(cov)[None] * REGRESSION.spectrum[:, None])
    assert np.abs((cross - exact.input_cross["output"][0]) / scale).max() < 0.03
    np.testing.assert_allclose(cov, exact.target_cov["output"][0], rtol=0.1, atol=0.02)
    loss = mean_loss(outputs, drawn, REGRESSION.population)
    assert loss == pytest.approx(exact.loss[0], rel=0.05)


@pytest.mark.parametrize(
    ("task", "network"),
    [
        (MIXTURE, {}),
        (MIXTURE, {"depth": 3}),
        (REGRESSION, {"depth": 3}),
        (Mixture(power_law(5, 1.0), classes=4, loss="cross_entropy"), {"depth": 4}),
    ],
    ids=["mixture", "deep", "regression", "cross-entropy"],
)
def test_moments_are_those_of_other_samples(task, network):
    layers, moments = drawn_layer(task, **network)
    population, n = task.population, 40_000
    rng = np.random.default_rng(1)
    x = rng.standard_normal((n, 5)) * np.sqrt(population.spectrum)
    labels = rng.integers(4, size=n)
    if task is REGRESSION:
        t = x @ population.teacher.T + population.noise * rng.standard_normal((n, 2))
    else:
        x, t = x + population.means[labels], np.eye(4)[labels] - 0.25
    hidden = x
    for layer in layers[:-1]:
        hidden = np.maximum(hidden @ layer.T, 0)
    f = hidden @ layers[-1].T
    asked = {"output": f}
    if task is not REGRESSION:
        asked["margin"] = margins(f, labels)
    for target, values in asked.items():
        exact = moments.moments((0,), target).cov
        centered = np.column_stack([x @ layers[0].T, values - values.mean(axis=0)])
        products = centered[:, :, None] * centered[:, None, :]
        # Both sides are sampled, the recorded one from 16,384 inputs.
        error = products.std(axis=0) * np.sqrt(1 / n + 1 / 16_384)
        assert (np.abs(products.mean(axis=0) - exact) < STANDARD_ERRORS * error + 1e-12).all()
    if population.cross_entropy:
        own = f[np.arange(n), labels]
        losses = np.log(np.exp(f).sum(1)) - own
    else:
        losses = 0.5 * np.sum((f - t) ** 2, axis=1)
    error = losses.std() * np.sqrt(1 / n + 1 / 16_384)
    assert abs(losses.mean() - moments.loss[0]) < STANDARD_ERRORS * error


def test_a_network_that_says_nothing_has_the_cross_entropy_of_chance():
    population = Mixture(np.ones(4), classes=5, loss="cross_entropy").population
    drawn = drawn_inputs(population)
    assert mean_loss(np.zeros((len(drawn.inputs), 5)), drawn, population) == pytest.approx(
        np.log(5)
    )
