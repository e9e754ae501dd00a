"""Recorded moments and axes against `theory.channel_axes`, samples and differentiation."""

import numpy as np
import pytest

from sim import Mixture, Network, Regression, power_law, simulate
from sim.law import expected_law, predicted_rank_coupling
from sim.records import gradient_cosine, layer_axes, layer_moments
from tests.sim.naive import numerical_gradient
from tests.tolerances import NAIVE, STANDARD_ERRORS
from theory import Moments, channel_axes, spearman

TASKS = {
    "one output": Regression(power_law(9, 1.0), noise=0.5, alignment=0.5),
    "three outputs": Regression(power_law(9, 1.0), outputs=3, noise=0.5),
    "mixture": Mixture(power_law(9, 1.0), classes=4),
}


def drawn_layer(task, nonlinearity="linear", width=6, seed=0):
    weights = Network(width=width).draw(task.population, seed)
    return layer_moments(
        weights.filters[None], weights.readout[None], task.population, nonlinearity
    ), weights


def samples(task, n, rng):
    """Inputs and targets of a task, in its eigenbasis."""
    population = task.population
    x = rng.standard_normal((n, population.spectrum.size)) * np.sqrt(population.spectrum)
    if isinstance(task, Mixture):
        label = rng.integers(len(population.means), size=n)
        return x + population.means[label], np.eye(len(population.means))[label] - 0.25
    noise = population.noise * rng.standard_normal((n, population.outputs))
    return x, x @ population.teacher.T + noise


@pytest.mark.parametrize(
    ("name", "nonlinearity"),
    [(name, "linear") for name in TASKS] + [("one output", "relu"), ("three outputs", "relu")],
)
def test_moments_are_those_of_samples(name, nonlinearity):
    task = TASKS[name]
    layer, weights = drawn_layer(task, nonlinearity)
    n = 100_000
    x, t = samples(task, n, np.random.default_rng(1))
    y = x @ weights.filters.T
    f = (np.maximum(y, 0) if nonlinearity == "relu" else y) @ weights.readout.T
    for target, values in (("label", t), ("output", f)):
        exact = layer.moments((0,), target).cov
        centered = np.column_stack([y, values - values.mean(axis=0)])
        products = centered[:, :, None] * centered[:, None, :]
        error = products.std(axis=0) / np.sqrt(n)
        assert (np.abs(products.mean(axis=0) - exact) < STANDARD_ERRORS * error + 1e-12).all()
    losses = 0.5 * np.sum((f - t) ** 2, axis=1)
    assert abs(losses.mean() - layer.loss[0]) < STANDARD_ERRORS * losses.std() / np.sqrt(n)


@pytest.mark.parametrize("name", TASKS)
def test_fast_axes_equal_those_of_theory(name):
    layer, _ = drawn_layer(TASKS[name])
    fast = layer_axes(layer)
    for target in ("label", "output"):
        axes = channel_axes(layer.moments((0,), target))
        pairs = {
            "input_capture": axes.input_capture,
            "peer_overlap": axes.peer_overlap,
            f"{target}/task_information": axes.task_information,
        }
        for key, expected in pairs.items():
            np.testing.assert_allclose(fast[key][0], expected, rtol=NAIVE)


@pytest.mark.parametrize("target", ["label", "output"])
@pytest.mark.parametrize("name", TASKS)
def test_gradient_cosines_are_those_of_the_informations(name, target):
    task = TASKS[name]
    layer, weights = drawn_layer(task)
    cross, within = layer.input_cross[target][0], layer.target_cov[target][0]
    inverse, sigma = np.linalg.pinv(within, hermitian=True), task.population.sigma

    def task_information(w):
        covariance = w @ cross
        return -0.5 * np.log1p(-(covariance @ inverse @ covariance) / (w @ sigma @ w))

    for i, w in enumerate(weights.filters):
        capture = numerical_gradient(lambda v: 0.5 * np.log1p(v @ sigma @ v), w)
        about = numerical_gradient(task_information, w)
        cosine = capture @ about / np.linalg.norm(capture) / np.linalg.norm(about)
        # Central differences of step 1e-6.
        assert np.isclose(gradient_cosine(layer, target)[0, i], cosine, atol=1e-7)


def test_recorded_quantities_are_those_of_theory():
    run = simulate(TASKS["one output"], Network(width=5), steps=30, seeds=2, records=3)
    population = run.task.population
    for member, record in np.ndindex(2, run.steps.size):
        w, a = run.filters[member, record], run.readout[member, record]
        cov = w @ population.sigma @ w.T
        for target, cross, within in (
            ("label", w @ population.cross, population.target_cov),
            ("output", cov @ a.T, a @ cov @ a.T),
        ):
            moments = Moments.from_covariance(np.block([[cov, cross], [cross.T, within]]))
            for name, values in channel_axes(moments, weights=w).as_dict().items():
                found = run.quantities[f"{target}/{name}"][member, record]
                np.testing.assert_allclose(found, values, rtol=NAIVE, err_msg=name)


def test_couplings_are_rank_and_moment_correlations():
    run = simulate(TASKS["one output"], Network(width=12), steps=30, seeds=3, records=3, hull=False)
    capture = run.quantities["label/input_capture"]
    about = run.quantities["label/task_information"]
    for member, record in np.ndindex(*run.loss.shape):
        pair = capture[member, record], about[member, record]
        found = run.coupling(target="label")[member, record]
        assert np.isclose(found, spearman(*pair))
        found = run.coupling(target="label", method="pearson")[member, record]
        assert np.isclose(found, np.corrcoef(*pair)[0, 1])
    with pytest.raises(ValueError, match="'pearson'"):
        run.coupling(method="kendall")
    with pytest.raises(ValueError, match="Did you mean 'input_capture'"):
        run.axis("capture")


def test_deep_layers_are_measured_through_the_layers_below():
    network = Network(width=5, depth=4)
    runs = [
        simulate(TASKS["one output"], network, steps=20, seeds=1, layer=n, quantities=False)
        for n in (1, 2, 3)
    ]
    ends = [r.readout[0, -1] @ r.filters[0, -1] for r in runs]
    np.testing.assert_allclose(ends[0], ends[1], rtol=NAIVE)
    np.testing.assert_allclose(ends[0], ends[2], rtol=NAIVE)
    assert np.isnan(runs[0].drift).all()


def test_filters_follow_their_law():
    """Covariance of trained filters over many networks against `expected_law`."""
    spectrum = power_law(5, 1.0)
    task = Regression(spectrum, alignment=0.0)
    network = Network(width=200, scale=0.3, train_readout=False)
    run = simulate(task, network, steps=4000, seeds=60, records=[0, 4000], quantities=False)
    law = expected_law(task.population, network, np.inf, np.random.default_rng(0))
    assert law.richness > 0.5  # the learned part matters
    per_network = np.einsum("sci,scj->sij", run.filters[:, -1], run.filters[:, -1]) / 200
    expected = law.noise * np.eye(5) + law.drive
    error = per_network.std(axis=0) / np.sqrt(60)
    # (AAᵀ)⁻¹ is replaced by the inverse of its mean, a relative error of 2 / width.
    slack = 2 / 200 * np.abs(expected).max()
    assert (np.abs(per_network.mean(axis=0) - expected) < STANDARD_ERRORS * error + slack).all()


@pytest.mark.parametrize(("scale", "alignment"), [(1.0, 0.0), (1.0, 2.0), (0.2, 0.0)])
def test_predicted_rank_coupling_is_that_of_simulations(scale, alignment):
    task = Regression(power_law(16, 2.0), alignment=alignment)
    network = Network(width=150, scale=scale, train_readout=False)
    run = simulate(task, network, steps=20_000, seeds=24, records=6, quantities=False)
    for record in (0, -1):
        values = run.coupling()[:, record]
        predicted = predicted_rank_coupling(
            task.population, network, run.time[record], starts=64 if record == 0 else 8
        )
        # Over seeds and, for the prediction, over its own draws of M(0).
        error = values.std(ddof=1) * np.sqrt(1 / 24 + 1 / 64)
        assert abs(values.mean() - predicted) < STANDARD_ERRORS * error


def test_the_law_refuses_what_it_does_not_describe():
    population, rng = TASKS["one output"].population, np.random.default_rng(0)
    for network in (Network(depth=3), Network(nonlinearity="relu"), Network(balance="exact")):
        with pytest.raises(ValueError, match="linear with two layers"):
            expected_law(population, network, 1.0, rng)
    with pytest.raises(ValueError, match="more channels than outputs"):
        expected_law(TASKS["three outputs"].population, Network(width=3), 1.0, rng)
