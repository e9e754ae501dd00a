"""Kernels against their naive twins. Runs with compilation on, and off (NUMBA_DISABLE_JIT=1)."""

import numpy as np
import pytest
import torch

from sim import _kernels, _products, _random, _rectified, _sources
from tests.sim import naive
from tests.tolerances import NAIVE

DIFFERENCES = 1e-8
"""Central differences of step 1e-6 of a loss of order 1: rounding of 1e-16 / 1e-6 and some."""
KEY = np.uint64(0x0123456789ABCDEF)

# Random123 1.14, kat_vectors: counter, key, result of philox4x32 with 10 rounds.
KNOWN_ANSWERS = [
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_philox_gives_the_published_answers(counter, key, answer):
    words = np.array(counter, dtype=np.uint64)
    _random.philox(words, np.uint64(key[0]), np.uint64(key[1]))
    assert words.tolist() == answer
    assert naive.philox(counter, key) == answer


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_normals_equal_naive_ones(count):
    out = np.empty(count)
    _random.draw_normals(KEY, np.uint64(2**40 + 3), np.zeros(4, np.uint64), out)
    np.testing.assert_allclose(out, naive.normals(int(KEY), 2**40 + 3, count), rtol=NAIVE)


def test_indices_equal_naive_ones_and_stay_in_range():
    words = np.zeros(4, np.uint64)
    drawn = [_random.draw_index(KEY, np.uint64(n), 7, words) for n in range(200)]
    assert drawn == [naive.index(int(KEY), n, 7) for n in range(200)]
    assert set(drawn) == set(range(7))


@pytest.mark.parametrize(
    ("K", "n", "m"), [(1, 1, 1), (1, 8, 16), (2, 7, 5), (5, 12, 9), (8, 17, 3)]
)
def test_products_equal_numpy(K, n, m):
    rng = np.random.default_rng(K + n + m)
    tall, wide, flat = (rng.standard_normal(s) for s in ((K, n), (n, m), (K, m)))
    out = np.full((K, m), np.nan)
    _products.forward(tall, wide, out)
    np.testing.assert_allclose(out, tall @ wide, rtol=NAIVE)
    out = np.full((K, n), np.nan)
    _products.backward(flat, wide, out)
    np.testing.assert_allclose(out, flat @ wide.T, rtol=NAIVE)
    after = wide.copy()
    _products.descend(tall, flat, 0.3, after)
    np.testing.assert_allclose(after, wide - 0.3 * tall.T @ flat, rtol=NAIVE, atol=1e-14)


def make_task(rng, d, K, classes=0, noise=0.2):
    """(spectrum, means, teacher, noise) in the eigenbasis; `classes` makes it a mixture."""
    means = rng.standard_normal((classes, d))
    means -= means.mean(axis=0) if classes else 0
    return rng.uniform(0.2, 2, d), means, rng.standard_normal((K, d)), noise


def make_source(task, batch=0, samples=0, dtype=np.float64, cross_entropy=False):
    spectrum, means, teacher, noise = task
    arrays = (a.astype(dtype) for a in (spectrum, np.sqrt(spectrum), means, teacher))
    return _sources.Source(*arrays, noise, batch, samples, KEY, cross_entropy)


def make_scratch(d, K, C, hidden=1, relu=False, dtype=np.float64, held=None):
    rows = C if relu else 0
    shapes = [(K, d), (K, d), (hidden, K, C), (hidden, K, C), (rows, d), (hidden - 1, rows, rows)]
    shapes += [(hidden, rows), (hidden, rows)]
    arrays = [np.full(shape, np.nan, dtype) for shape in shapes]
    directions = np.zeros((0, 0), dtype) if held is None else held
    last = [np.full(shape, np.nan, dtype) for shape in (C, d + K, K)]
    return _sources.Scratch(*arrays, directions, *last, np.zeros(4, np.uint64))


def train_naively(layers, task, rates, steps, drawn=lambda step: None):
    for step in range(steps):
        gradients = naive.linear_gradients(layers, task, drawn(step))
        layers = [w - r * g for w, r, g in zip(layers, rates, gradients, strict=True)]
    return layers


@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize(("K", "classes"), [(1, 0), (3, 0), (6, 6)])
@pytest.mark.parametrize("train_readout", [True, False])
@pytest.mark.parametrize(("batch", "samples"), [(0, 0), (3, 0), (3, 5)])
def test_linear_training_equals_the_chain_rule(depth, K, classes, train_readout, batch, samples):
    rng = np.random.default_rng(depth + K)
    d, C, steps = 5, 9, 3
    task = make_task(rng, d, K, classes)
    filters, inner = rng.standard_normal((C, d)), rng.standard_normal((depth - 2, C, C)) / 3
    readout = rng.standard_normal((K, C)) / 3
    rates = np.array([0.02, 0.02 * train_readout])
    state = [filters.T.copy(), inner.copy(), readout.copy()]
    scratch = make_scratch(d, K, C, depth - 1)
    source = make_source(task, batch, samples)
    made = _kernels.train_linear(*state, source, rates, (4, 4 + steps), np.inf, scratch)
    assert made == 4 + steps

    def drawn(step):
        return naive.batch(task, int(KEY), 4 + step, batch, samples) if batch else None

    layer_rates = [rates[0]] * (depth - 1) + [rates[1]]
    expected = train_naively([filters, *inner, readout], task, layer_rates, steps, drawn)
    found = [state[0].T, *state[1], state[2]]
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=NAIVE, atol=1e-13)


def test_a_finite_data_set_repeats_its_samples_and_fresh_ones_do_not():
    task = make_task(np.random.default_rng(0), 3, 1)
    few, _ = naive.batch(task, int(KEY), 0, 50, 4)
    fresh, _ = naive.batch(task, int(KEY), 0, 50, 0)
    assert len(np.unique(few, axis=0)) == 4
    assert len(np.unique(fresh, axis=0)) == 50


def test_relu_gradient_is_that_of_the_population_loss():
    rng = np.random.default_rng(3)
    d, C, K = 3, 4, 2
    task = make_task(rng, d, K, noise=0.0)
    spectrum, _, teacher, _ = task
    filters, readout = rng.standard_normal((C, d)), rng.standard_normal((K, C))
    scratch = make_scratch(d, K, C, relu=True)
    loss = _rectified.relu_population_gradient(filters, readout, make_source(task), scratch)
    assert np.isclose(loss, naive.relu_loss(filters, readout, spectrum, teacher), rtol=NAIVE)
    by_filters = naive.numerical_gradient(
        lambda w: naive.relu_loss(w, readout, spectrum, teacher), filters
    )
    by_readout = naive.numerical_gradient(
        lambda a: naive.relu_loss(filters, a, spectrum, teacher), readout
    )
    np.testing.assert_allclose(scratch.filters, by_filters, atol=DIFFERENCES)
    np.testing.assert_allclose(scratch.suffix[0], by_readout, atol=DIFFERENCES)


def test_relu_gradient_of_dead_equal_and_opposite_channels_is_finite():
    task = make_task(np.random.default_rng(1), 3, 1)
    w = np.array([1.0, -0.5, 0.2])
    filters = np.array([w, w, -w, 0 * w])
    scratch = make_scratch(3, 1, 4, relu=True)
    _rectified.relu_population_gradient(filters, np.ones((1, 4)), make_source(task), scratch)
    assert np.isfinite(scratch.filters).all()
    np.testing.assert_allclose(scratch.filters[0], scratch.filters[1], rtol=NAIVE)


LOSSES = pytest.mark.parametrize(
    ("classes", "cross_entropy"),
    [(0, False), (3, False), (3, True)],
    ids=["regression", "squared", "cross-entropy"],
)


@pytest.mark.parametrize("depth", [2, 3, 4])
@LOSSES
def test_relu_batch_training_equals_the_chain_rule(depth, classes, cross_entropy):
    rng = np.random.default_rng(5)
    d, C, K = 4, 6, 3
    task = make_task(rng, d, K, classes)
    inner = rng.standard_normal((depth - 2, C, C))
    layers = [rng.standard_normal((C, d)), *inner, rng.standard_normal((K, C))]
    state = [layers[0].copy(), inner.copy(), layers[-1].copy()]
    scratch = make_scratch(d, K, C, depth - 1, relu=True)
    source = make_source(task, 4, cross_entropy=cross_entropy)
    rates = np.array([0.05, 0.03])
    _rectified.train_relu(*state, source, rates, (0, 3), np.inf, scratch)
    for step in range(3):
        drawn = naive.batch(task, int(KEY), step, 4, 0)
        gradients = naive.relu_batch_gradients(layers, drawn, cross_entropy)
        speeds = [0.05] * (depth - 1) + [0.03]
        layers = [w - r * g for w, r, g in zip(layers, speeds, gradients, strict=True)]
    for mine, theirs in zip([state[0], *state[1], state[2]], layers, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=NAIVE, atol=1e-13)


@pytest.mark.parametrize("nonlinearity", ["linear", "relu"])
@LOSSES
def test_naive_gradients_are_those_of_automatic_differentiation(
    nonlinearity, classes, cross_entropy
):
    rng = np.random.default_rng(7)
    sizes = [(6, 4), (6, 6), (3, 6)]
    layers = [rng.standard_normal(size) for size in sizes]
    task = make_task(rng, 4, 3, classes)
    drawn = naive.batch(task, int(KEY), 0, 5, 0)
    weights = [torch.tensor(layer, requires_grad=True) for layer in layers]
    output, target = (torch.tensor(part) for part in drawn)
    for number, layer in enumerate(weights):
        output = output @ layer.T
        if nonlinearity == "relu" and number < 2:
            output = output.relu()
    if cross_entropy:
        loss = torch.nn.functional.cross_entropy(output, target.argmax(1))
    else:
        loss = 0.5 * (output - target).square().sum(1).mean()
    loss.backward()
    if nonlinearity == "relu":
        found = naive.relu_batch_gradients(layers, drawn, cross_entropy)
    else:
        found = naive.linear_gradients(layers, task, drawn, cross_entropy)
    for mine, layer in zip(found, weights, strict=True):
        np.testing.assert_allclose(mine, layer.grad.numpy(), rtol=NAIVE, atol=1e-13)


def test_cross_entropy_is_that_of_torch_also_far_out():
    outputs = np.array([[0.3, -1.0, 2.0], [900.0, -900.0, 0.0], [-800.0, -801.0, -800.5]])
    for output, label in zip(outputs, (2, 1, 0), strict=True):
        error = output.copy()
        loss = _sources.softmax_error(error, label, error)
        logits = torch.tensor(output, requires_grad=True)
        exact = torch.nn.functional.cross_entropy(logits, torch.tensor(label))
        exact.backward()
        assert loss == pytest.approx(exact.item(), rel=NAIVE)
        np.testing.assert_allclose(error, logits.grad.numpy(), atol=1e-15)


@pytest.mark.parametrize("depth", [2, 3])
def test_linear_training_by_cross_entropy_equals_the_chain_rule(depth):
    rng = np.random.default_rng(8)
    d, C, K = 5, 7, 3
    task = make_task(rng, d, K, K)
    layers = [rng.standard_normal((C, d)), *rng.standard_normal((depth - 2, C, C)) / 3]
    layers.append(rng.standard_normal((K, C)) / 3)
    state = [layers[0].T.copy(), np.array(layers[1:-1]).reshape(-1, C, C), layers[-1].copy()]
    source = make_source(task, 4, cross_entropy=True)
    scratch, rates = make_scratch(d, K, C, depth - 1), np.array([0.05, 0.05])
    _kernels.train_linear(*state, source, rates, (0, 3), np.inf, scratch)
    for step in range(3):
        drawn = naive.batch(task, int(KEY), step, 4, 0)
        gradients = naive.linear_gradients(layers, task, drawn, cross_entropy=True)
        layers = [w - 0.05 * g for w, g in zip(layers, gradients, strict=True)]
    np.testing.assert_allclose(state[0].T, layers[0], rtol=NAIVE, atol=1e-13)
    np.testing.assert_allclose(state[2], layers[-1], rtol=NAIVE, atol=1e-13)


@pytest.mark.parametrize("relu", [False, True])
def test_held_filters_take_only_the_part_of_a_step_along_themselves(relu):
    rng = np.random.default_rng(9)
    d, C, K = 4, 6, 3
    task = make_task(rng, d, K)
    filters, readout = rng.standard_normal((C, d)), rng.standard_normal((K, C))
    unit = filters / np.linalg.norm(filters, axis=1, keepdims=True)
    state, held = (filters.copy(), unit) if relu else (filters.T.copy(), unit.T.copy())
    inner = np.empty((0, C, C))
    train = _rectified.train_relu if relu else _kernels.train_linear
    scratch = make_scratch(d, K, C, relu=relu, held=held)
    above = readout.copy()
    train(state, inner, above, make_source(task, 4), np.array([0.05, 0.05]), (0, 3), 1e9, scratch)
    for step in range(3):
        drawn = naive.batch(task, int(KEY), step, 4, 0)
        layers = [filters, readout]
        if relu:
            by_filters, by_readout = naive.relu_batch_gradients(layers, drawn)
        else:
            by_filters, by_readout = naive.linear_gradients(layers, task, drawn)
        along = np.sum(by_filters * filters, axis=1) / np.sum(filters**2, axis=1)
        filters = filters - 0.05 * along[:, None] * filters
        readout = readout - 0.05 * by_readout
    np.testing.assert_allclose(state if relu else state.T, filters, rtol=NAIVE)
    np.testing.assert_allclose(above, readout, rtol=NAIVE)


@pytest.mark.parametrize("relu", [False, True])
def test_training_stops_before_the_weights_leave_the_limit(relu):
    rng = np.random.default_rng(2)
    d, C, K = 3, 4, 1
    source = make_source(make_task(rng, d, K))
    scratch = make_scratch(d, K, C, relu=relu)
    filters, readout = rng.standard_normal((d, C)), rng.standard_normal((K, C))
    filters = filters.T.copy() if relu else filters
    train = _rectified.train_relu if relu else _kernels.train_linear
    inner, rates = np.empty((0, C, C)), np.array([5.0, 5.0])
    made = train(filters, inner, readout, source, rates, (0, 99), 1e6, scratch)
    assert 0 < made < 99
    assert np.isfinite(filters).all()


def test_single_precision_follows_double_precision():
    rng = np.random.default_rng(6)
    d, C, K = 4, 8, 2
    task = make_task(rng, d, K)
    start = rng.standard_normal((d, C)), np.empty((0, C, C)), rng.standard_normal((K, C)) / 3
    ends = []
    for dtype in (np.float64, np.float32):
        state = [w.astype(dtype) for w in start]
        scratch = make_scratch(d, K, C, dtype=dtype)
        rates = np.array([0.01, 0.01], dtype)
        source = make_source(task, dtype=dtype)
        _kernels.train_linear(*state, source, rates, (0, 20), np.inf, scratch)
        assert state[0].dtype == dtype
        ends.append(state)
    # Twenty steps of float32, each with a rounding of 6e-8 of weights of order 1.
    np.testing.assert_allclose(ends[0][0], ends[1][0], atol=1e-5)
    assert not np.array_equal(ends[0][0], ends[1][0])
