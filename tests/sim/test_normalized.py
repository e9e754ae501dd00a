"""Batch-normalized channels: training equals a naive twin, and obeys the closed forms."""

import numpy as np
import pytest
import torch

from sim import Mixture, Network, Regression, power_law, simulate
from tests.sim import naive
from theory import catalogue

EXACT = 1e-9
"""Relative, over a hundred steps of the same arithmetic in another order."""
IDENTITY = 1e-6

TASK = Regression(power_law(5, 1.0), outputs=2, alignment=0.5, noise=0.3)
MIXTURE = Mixture(power_law(5, 1.0), classes=3)
CLASSES = Mixture(power_law(5, 1.0), classes=3, loss="cross_entropy")
TASKS = pytest.mark.parametrize(
    "task", [TASK, MIXTURE, CLASSES], ids=["regression", "mixture", "cross-entropy"]
)


def trained(task=TASK, *, steps=100, width=4, train_readout=True, **options):
    network = Network(width=width, norm=True, train_readout=train_readout)
    given = {"learning_rate": 0.05, "records": range(steps + 1), "quantities": False} | options
    return simulate(task, network, steps=steps, seeds=1, **given)


def start(task, width=4):
    weights = Network(width=width, norm=True).draw(task.population, 0)
    return weights.filters.copy(), weights.readout.copy()


def population_gradients(w, a, population):
    """Of ½E‖T − A D^(-1/2) W x‖² by central differences of the loss."""

    def loss(filters, readout):
        deviation = np.sqrt(np.sum((filters @ population.sigma) * filters, axis=1))
        m = (readout / deviation) @ filters - population.teacher
        return 0.5 * np.sum((m @ population.sigma) * m)

    def slope(values, function):
        found = np.empty_like(values)
        for place in np.ndindex(values.shape):
            step = np.zeros_like(values)
            step[place] = 1e-5
            found[place] = (function(values + step) - function(values - step)) / 2e-5
        return found

    return slope(w, lambda x: loss(x, a)), slope(a, lambda x: loss(w, x))


def batch_gradients(w, a, x, t, cross_entropy=False):
    """Of the batch's mean loss: the mean and deviation of the batch written out."""
    y = x @ w.T
    centered = y - y.mean(0)
    deviation = np.sqrt((centered**2).mean(0))
    h = centered / deviation
    error = naive.errors(h @ a.T, t, cross_entropy)
    back = error @ a / len(x)
    through = back - back.mean(0) - h * (back * h).mean(0)
    return (through / deviation).T @ x, error.T @ h / len(x)


@pytest.mark.parametrize("train_readout", [True, False])
def test_the_population_gradient_is_that_of_the_loss(train_readout):
    w, a = start(TASK)
    run = trained(steps=1, train_readout=train_readout)
    by_w, by_a = population_gradients(w, a, TASK.population)
    np.testing.assert_allclose(run.filters[0, 1], w - 0.05 * by_w, atol=1e-9)
    moved = a - 0.05 * by_a if train_readout else a
    after = run.filters[0, 1]
    deviation = np.sqrt(np.sum((after @ TASK.population.sigma) * after, axis=1))
    np.testing.assert_allclose(run.readout[0, 1], moved / deviation, atol=1e-9)


@pytest.mark.parametrize("samples", [0, 20])
@TASKS
def test_minibatches_with_momentum_and_decay_are_those_of_a_naive_twin(task, samples):
    options = {"batch": 8, "samples": samples, "momentum": 0.9, "weight_decay": 0.02}
    run = trained(task, steps=30, **options)
    w, a = start(task)
    population = task.population
    key = int(np.random.SeedSequence(0).generate_state(1, np.uint64)[0])
    parts = (population.spectrum, population.means, population.teacher, population.noise)
    pace = [np.zeros_like(w), np.zeros_like(a)]
    for step in range(30):
        x, t = naive.batch(parts, key, step, 8, samples)
        slopes = batch_gradients(w, a, x, t, task is CLASSES)
        for index, (values, slope) in enumerate(zip((w, a), slopes, strict=True)):
            pace[index] = 0.9 * pace[index] + slope + 0.02 * values
            values -= 0.05 * pace[index]
    assert np.abs(run.filters[0, -1] - w).max() < EXACT * np.abs(w).max()


@TASKS
def test_the_naive_twin_is_automatic_differentiation(task):
    rng = np.random.default_rng(0)
    w, a = start(task)
    x = rng.standard_normal((8, 5))
    t = np.eye(a.shape[0])[rng.integers(a.shape[0], size=8)] - 1 / a.shape[0]
    by_torch = [torch.tensor(values, requires_grad=True) for values in (w, a)]
    y = torch.tensor(x) @ by_torch[0].T
    h = (y - y.mean(0)) / y.var(0, correction=0).sqrt()
    output, target = h @ by_torch[1].T, torch.tensor(t)
    if task is CLASSES:
        loss = torch.nn.functional.cross_entropy(output, target.argmax(1))
    else:
        loss = 0.5 * (output - target).square().sum(1).mean()
    loss.backward()
    for mine, theirs in zip(batch_gradients(w, a, x, t, task is CLASSES), by_torch, strict=True):
        np.testing.assert_allclose(mine, theirs.grad.numpy(), atol=1e-10)


def test_filters_that_may_not_turn_keep_their_directions_and_lengths():
    """Behind a norm nothing of a gradient lies along its filter."""
    run = trained(steps=50, turning=False, batch=8)
    np.testing.assert_allclose(run.filters[0, -1], run.filters[0, 0], rtol=1e-10)
    assert np.isnan(run.drift).all()
    assert (run.readout[0, -1] != run.readout[0, 0]).any()


@pytest.mark.parametrize("batch", [0, 16])
def test_steps_are_orthogonal_to_filters_and_lengthen_them_by_the_closed_form(batch):
    run = trained(steps=60, batch=batch)
    before, after = run.filters[0, :-1], run.filters[0, 1:]
    step = after - before
    along = np.sum(step * before, axis=-1)
    size = np.linalg.norm(step, axis=-1) * np.linalg.norm(before, axis=-1)
    assert np.abs(along / size).max() < IDENTITY
    grown = np.sum(before**2, axis=-1) + np.sum(step**2, axis=-1)
    np.testing.assert_allclose(np.sum(after**2, axis=-1), grown, rtol=IDENTITY)


def test_the_velocity_is_the_catalogues_at_every_step():
    """−∂L/∂w along the trajectory, and dD/dt over a small step."""
    rate = 1e-7
    run = trained(steps=3, learning_rate=rate)
    form, power = catalogue()["normalized_velocity"], catalogue()["normalized_power_velocity"]
    sigma, population = TASK.population.sigma, TASK.population
    for record in range(3):
        w, read = run.filters[0, record], run.readout[0, record]
        residual = population.cross - sigma @ (read @ w).T
        deviation = np.sqrt(np.sum((w @ sigma) * w, axis=1))
        for i in range(4):
            at = {"Sigma": sigma, "w": w[i], "r": residual, "a": read[:, i] * deviation[i]}
            found = (run.filters[0, record + 1, i] - w[i]) / rate
            np.testing.assert_allclose(found, form(**at), rtol=IDENTITY, atol=IDENTITY)
            after = run.filters[0, record + 1, i]
            slope = (after @ sigma @ after - w[i] @ sigma @ w[i]) / rate
            np.testing.assert_allclose(slope, power(**at), rtol=1e-5, atol=IDENTITY)


def test_power_stands_still_where_inputs_are_white():
    run = trained(Regression(np.ones(6), outputs=1), steps=200, learning_rate=1e-5)
    norms = np.sum(run.filters[0] ** 2, axis=-1)
    assert np.abs(norms[-1] / norms[0] - 1).max() < 1e-5
    power = np.sum(run.filters[0] ** 2, axis=-1)
    np.testing.assert_allclose(power[-1], power[0], rtol=1e-5)


def test_weight_decay_ends_at_the_angle_of_its_equilibrium():
    """Noise from small batches turns filters for ever, by arccos(1 − ημ) a step in the mean."""
    rate, decay, steps = 0.1, 0.1, 3000
    run = trained(
        Regression(power_law(12, 0.5), noise=2.0), steps=steps, batch=4, learning_rate=rate,
        weight_decay=decay, train_readout=False, records=range(1000, steps + 1),
    )  # fmt: skip
    w = run.filters[0]
    cosine = np.sum(w[:-1] * w[1:], axis=-1)
    cosine /= np.linalg.norm(w[:-1], axis=-1) * np.linalg.norm(w[1:], axis=-1)
    angle = np.sqrt(np.mean(np.arccos(np.clip(cosine, -1, 1)) ** 2))
    expected = np.arccos(catalogue()["decay_equilibrium_cosine"](eta=rate, mu=decay))
    assert angle == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        ({"norm": True, "depth": 3}, {}, "norm needs two linear layers"),
        ({"norm": True, "nonlinearity": "relu"}, {}, "norm needs two linear layers"),
        ({"norm": True, "coupling": 0.9}, {}, "norm needs two linear layers"),
        ({"norm": True}, {"learning_rate": None}, "learning_rate must be given"),
        ({}, {"momentum": 0.9}, "must be 0 without a norm"),
        ({"norm": True}, {"momentum": 1.0}, r"momentum must be in \[0, 1\)"),
        ({"norm": True}, {"weight_decay": -1.0}, "weight_decay must be >= 0"),
    ],
)
def test_what_is_not_defined_is_refused(network, options, message):
    with pytest.raises(ValueError, match=message):
        simulate(TASK, Network(**network), steps=5, seeds=1, **{"learning_rate": 0.1} | options)
