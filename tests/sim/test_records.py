"""Recorded moments and axes against `theory.channel_axes`, samples and differentiation."""

import numpy as np
import pytest

from sim import Mixture, Network, Regression, power_law, simulate
from sim.law import end_to_end, expected_law, predicted_couplings
from sim.records import gradient_cosine, layer_axes, layer_moments
from sim.trajectory import balance_drift
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
    for target in layer.cross:
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


@pytest.mark.parametrize("nonlinearity", ["linear", "relu"])
@pytest.mark.parametrize("width", [4, 40])
def test_the_drift_is_that_of_the_whole_matrix(width, nonlinearity):
    """In C channels as in the inputs and outputs, of which there are fewer or more."""
    rng = np.random.default_rng(0)
    filters, readout = rng.standard_normal((2, 3, width, 5)), rng.standard_normal((2, 3, 2, width))
    found = balance_drift(filters, readout, Network(width=width, nonlinearity=nonlinearity))

    def conserved(member, record):
        w, a = filters[member, record], readout[member, record]
        both = w @ w.T, a.T @ a
        return [np.diag(m) for m in both] if nonlinearity == "relu" else both

    for member, record in np.ndindex(2, 3):
        (w, a), (first_w, first_a) = conserved(member, record), conserved(member, 0)
        naive = np.linalg.norm(w - a - first_w + first_a) / (np.linalg.norm(w) + np.linalg.norm(a))
        assert abs(found[member, record] - naive) < NAIVE


@pytest.mark.parametrize("outputs", [1, 3])
def test_filters_follow_their_law(outputs):
    """Each channel's mean and variance given readout and output, over filters it does not see."""
    task = Regression(power_law(5, 1.0), outputs=outputs, alignment=0.0)
    network = Network(width=6, scale=0.7, train_readout=False)
    law = expected_law(task.population, network, 0.8, np.random.default_rng(0))
    filters = np.stack([law.draw(np.random.default_rng(k)) for k in range(1500)])
    error = filters.std(axis=0) / np.sqrt(1500)
    assert (np.abs(filters.mean(0) - law.centers) < 4.5 * error).all()
    spread = filters.var(axis=0)
    allowed = 4.5 * np.sqrt(2 / 1500) * law.variances[:, None]
    assert (np.abs(spread - law.variances[:, None]) < allowed).all()
    np.testing.assert_allclose(law.readout @ filters[0], law.output, atol=1e-12)


@pytest.mark.parametrize("rate", [0.0, 0.05])
@pytest.mark.parametrize("outputs", [1, 2])
def test_end_to_end_weights_are_those_of_training(outputs, rate):
    """Descent step by step with its rate, and with a rate near 0 the flow; also past λη = 1."""
    rng = np.random.default_rng(3)
    task = Regression(np.array([9.0, 1.0, 0.2]), outputs=outputs)
    readout, start = rng.standard_normal((outputs, 4)), rng.standard_normal((outputs, 3))
    population, step, steps = task.population, rate or 1e-5, 40 if rate else 20_000
    expected, gram = start.copy(), readout @ readout.T
    for _ in range(steps):
        expected -= step * gram @ (expected - population.teacher) * population.spectrum
    time = np.array([step * steps])
    found = end_to_end(population, start, readout, time, rate)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-9 if rate else 1e-3)


@pytest.mark.parametrize(("scale", "alignment"), [(1.0, 0.0), (1.0, 2.0), (0.2, 0.0)])
@pytest.mark.parametrize("coupling", [None, 0.9])
def test_predicted_couplings_are_those_of_simulations(scale, alignment, coupling):
    """The law is exact: over networks that share no weights, means differ by chance alone."""
    task = Regression(power_law(16, 2.0), alignment=alignment)
    network = Network(width=24, scale=scale, coupling=coupling, train_readout=False)
    run = simulate(
        task, network, steps=3000, seeds=100, records=8, learning_rate=0.05, quantities=False
    )
    values = run.coupling()
    foretold = predicted_couplings(
        task.population, network, run.time, networks=400, rate=0.05, seed=1
    )
    error = np.sqrt(values.var(0, ddof=1) / 100 + foretold.var(0, ddof=1) / 400)
    assert (np.abs(values.mean(0) - foretold.mean(0)) < STANDARD_ERRORS * error).all()


def test_the_law_refuses_what_it_does_not_describe():
    population, rng = TASKS["one output"].population, np.random.default_rng(0)
    for network in (Network(depth=3), Network(nonlinearity="relu"), Network(balance="exact")):
        with pytest.raises(ValueError, match="linear with two layers"):
            expected_law(population, network, 1.0, rng)
    with pytest.raises(ValueError, match="more channels than outputs"):
        expected_law(TASKS["three outputs"].population, Network(width=3), 1.0, rng)
