"""Training against the closed forms, reproducibility, and what is refused."""

import dataclasses
import tracemalloc
import warnings

import numpy as np
import psutil
import pytest

from sim import (
    DivergenceError,
    DivergenceWarning,
    Mixture,
    Network,
    Regression,
    Trajectory,
    power_law,
    simulate,
    stable_rate,
)
from sim._memory import foretold_bytes
from sim.outputs import _drawn
from sim.simulation import record_steps
from theory import QUANTITIES, balanced_mode, layer_gap, trained_readout_flow, two_layer_mode
from theory.dynamics import fixed_readout_flow

FLOW = 1e-6
"""Relative. Descent follows the flow to about 0.2 · step size · λ_max, here 4e-6 · 0.2."""
STEPS = 2_000_000

TASK = Regression(power_law(6, 1.0), outputs=2, alignment=0.5)


def small_step_run(network, task=TASK, seeds=2):
    rate = 2e-6 * stable_rate(task, network, range(seeds))
    return simulate(
        task, network, steps=STEPS, seeds=seeds, learning_rate=rate, records=8, quantities=False
    )


def relative(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


def test_fixed_readout_follows_the_closed_form():
    run = small_step_run(Network(width=5, train_readout=False))
    population = TASK.population
    for member in range(2):
        flow = fixed_readout_flow(
            population.sigma,
            population.cross,
            run.readout[member, 0].T,
            run.filters[member, 0],
            target_cov=population.target_cov,
        )
        for record, time in enumerate(run.time):
            found = run.filters[member, record]
            assert relative(found, flow.weights(time)) < FLOW
            assert np.isclose(run.loss[member, record], flow.loss(time), rtol=1e-5)
    moved = relative(run.filters[:, -1], run.filters[:, 0])
    assert moved > 0.1  # the trajectory goes somewhere


def test_trained_readout_follows_the_ordinary_differential_equation():
    run = small_step_run(Network(width=5))
    population = TASK.population
    for member in range(2):
        path = trained_readout_flow(
            population.sigma,
            population.cross,
            run.readout[member, 0].T,
            run.filters[member, 0],
            run.time,
            rtol=1e-10,
        )
        assert relative(run.filters[member], path.weights) < FLOW
        assert relative(run.readout[member], np.swapaxes(path.readout, 1, 2)) < FLOW
    # WWᵀ - AᵀA is conserved by the flow; descent changes it in second order of the step.
    assert run.drift.max() < FLOW


def test_balanced_mode_grows_as_the_sigmoid():
    task = Regression(np.array([1.0]), teacher=np.array([[2.0]]))
    run = small_step_run(Network(width=3, scale=0.3, balance="exact"), task, seeds=1)
    strength = (run.readout[0] @ run.filters[0])[:, 0, 0]
    assert strength[0] > 0  # this seed starts on the side of its target
    assert relative(strength, balanced_mode(run.time, 2.0, 1.0, strength[0])) < FLOW


@pytest.mark.parametrize(
    ("task", "network", "options"),
    [
        (TASK, Network(width=12), {}),
        (TASK, Network(width=12, depth=3), {}),
        (TASK, Network(width=12, nonlinearity="relu"), {}),
        (TASK, Network(width=12, nonlinearity="relu"), {"batch": 4, "samples": 20}),
        (Mixture(power_law(6, 1.0), classes=3), Network(width=12), {"batch": 8}),
        (
            Mixture(power_law(6, 1.0), classes=3, loss="cross_entropy"),
            Network(width=12, depth=3, nonlinearity="relu"),
            {"batch": 8, "learning_rate": 0.02},
        ),
    ],
)
def test_results_are_equal_bit_by_bit_at_any_number_of_threads(task, network, options):
    runs = [
        simulate(task, network, steps=60, seeds=5, threads=threads, hull=False, **options)
        for threads in (1, 2, 4)
    ]
    assert runs[0] == runs[1] == runs[2]
    alone = simulate(
        task,
        network,
        steps=60,
        seeds=[3],
        quantities=False,
        **options | {"learning_rate": runs[0].config["training"]["learning_rate"]},
    )
    assert np.array_equal(alone.filters[0], runs[0].filters[3])


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_default_learning_rate_learns_at_any_depth_and_scale(depth):
    for scale in (0.3, 1.0):
        run = simulate(
            Regression(power_law(8, 1.0), alignment=0.0),
            Network(width=8, depth=depth, scale=scale),
            steps=30_000,
            seeds=2,
            quantities=False,
        )
        assert (run.loss[:, -1] < 0.01 * run.loss[:, 0]).all()


def test_single_precision_stays_near_double_precision():
    runs = [
        simulate(TASK, Network(width=8), steps=50, seeds=2, quantities=False, dtype=dtype)
        for dtype in ("float64", "float32")
    ]
    # 50 steps, each with float32's rounding of 6e-8.
    assert 0 < np.abs(runs[0].filters - runs[1].filters).max() < 1e-5


def test_minibatch_descent_on_a_finite_data_set_can_fit_below_the_noise():
    task = Regression(power_law(20, 0.5), noise=1.0)
    options = {"steps": 20_000, "seeds": 2, "batch": 4, "learning_rate": 0.005, "quantities": False}
    few = simulate(task, Network(width=8), samples=10, **options)
    fresh = simulate(task, Network(width=8), **options)
    floor = task.population.floor
    assert (few.loss[:, -1] > fresh.loss[:, -1] + 0.2 * floor).all()  # it overfits
    assert (np.abs(fresh.loss[:, -1] / floor - 1) < 0.2).all()


def test_trajectory_is_saved_and_loaded_as_it_is(tmp_path):
    run = simulate(TASK, Network(width=6), steps=20, seeds=2, records=4)
    run.save(tmp_path / "run.npz")
    again = Trajectory.load(tmp_path / "run.npz")
    assert again == run
    assert again.task.config() == TASK.config()
    assert again.network == run.network
    assert set(run.quantities) == {f"{t}/{q}" for t in ("label", "output") for q in QUANTITIES}
    changed = dataclasses.replace(run, loss=run.loss + 1e-16)
    assert changed != run or np.array_equal(changed.loss, run.loss)
    assert dataclasses.replace(run, loss=run.loss * 2) != run
    assert [p.name for p in tmp_path.iterdir()] == ["run.npz"]


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut short"])
def test_a_damaged_file_is_refused(tmp_path, content):
    path = tmp_path / "run.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="path must be a saved trajectory"):
        Trajectory.load(path)


def test_another_format_is_refused(tmp_path):
    with open(tmp_path / "x.npz", "wb") as stream:
        np.savez(stream, header=np.array('{"format": "other"}'))
    with pytest.raises(ValueError, match="'other'"):
        Trajectory.load(tmp_path / "x.npz")


def test_divergence_of_some_members_stops_these_and_names_the_limit():
    network = Network(width=4, train_readout=False)
    limits = [stable_rate(TASK, network, [seed]) for seed in range(6)]
    between = float(np.median(limits))
    with pytest.warns(DivergenceWarning, match=r"at step \d+.*2/λ_max = ") as caught:
        run = simulate(TASK, network, steps=5000, seeds=6, learning_rate=between, quantities=False)
    assert len(caught) == 1
    lost = run.diverged >= 0
    assert lost.tolist() == [limit < between for limit in limits]
    assert np.isnan(run.loss[lost, -1]).all()
    assert np.isfinite(run.loss[~lost]).all()
    assert np.isnan(run.coupling()[lost, -1]).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept = [s for s in range(6) if not lost[s]]
        alone = simulate(
            TASK, network, steps=5000, seeds=kept, learning_rate=between, quantities=False
        )
    assert np.array_equal(alone.filters, run.filters[~lost])


def test_divergence_of_all_members_is_an_error():
    with pytest.raises(DivergenceError, match=r"3 of 3 seeds.*Pass a smaller learning_rate"):
        simulate(TASK, Network(width=4), steps=1000, seeds=3, learning_rate=50.0)


@pytest.mark.parametrize(
    ("task", "network", "options"),
    [
        (Regression(power_law(32, 2.0)), Network(width=256), {"seeds": 4}),
        (Regression(power_law(64, 2.0), outputs=10), Network(width=128), {"seeds": 8}),
        (Regression(power_law(200, 2.0)), Network(width=20), {"seeds": 16}),
        (Regression(power_law(8, 2.0)), Network(width=32), {"seeds": 8, "quantities": True}),
        (Regression(power_law(32, 2.0)), Network(width=128, depth=3), {"seeds": 4}),
        (
            Mixture(power_law(16, 1.0)),
            Network(width=48, depth=3, nonlinearity="relu"),
            {"seeds": 2, "batch": 8, "learning_rate": 0.02},
        ),
        (
            Mixture(power_law(16, 1.0)),
            Network(width=48, norm=True),
            {"seeds": 4, "batch": 64, "learning_rate": 0.02, "quantities": True},
        ),
    ],
)
def test_memory_is_foretold_within_a_half(task, network, options):
    """Against what NumPy and Python allocate at most; kernels allocate nothing."""
    options = {"steps": 40, "records": 12, "hull": False, "threads": 1} | options
    quantities = options.setdefault("quantities", False)
    simulate(task, network, **options | {"seeds": 1, "records": 2})
    _drawn.cache_clear()
    tracemalloc.start()
    run = simulate(task, network, **options)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    foretold = foretold_bytes(
        task.population, network, options["seeds"], run.steps.size, quantities=quantities,
        batch=options.get("batch", 0),
    )  # fmt: skip
    assert 1 / 1.5 < foretold / peak < 1.5


def test_memory_that_is_not_there_is_refused_before_starting(monkeypatch):
    class Free:
        available = 10_000_000

    monkeypatch.setattr(psutil, "virtual_memory", Free)
    with pytest.raises(MemoryError, match=r"needs .* GB for 100 seeds.*Pass fewer records"):
        simulate(TASK, Network(width=64), steps=1000, seeds=100)


CLASSES = Mixture(power_law(6, 1.0), classes=3, loss="cross_entropy")


@pytest.mark.parametrize(("scale", "balance"), [(0.1, 1.0), (1.0, 1.0), (1.0, 9.0)])
def test_one_input_is_learned_as_its_closed_form_from_lazy_to_rich(scale, balance):
    task = Regression(np.array([1.0]), teacher=np.array([[2.0]]))
    run = small_step_run(Network(width=12, scale=scale, balance=balance), task)
    for member in range(2):
        w, a = run.filters[member, 0, :, 0], run.readout[member, 0, 0]
        exact = two_layer_mode(run.time, 2.0, 1.0, float(a @ w), layer_gap(w, a))
        assert relative((run.readout[member] @ run.filters[member])[:, 0, 0], exact) < FLOW


@pytest.mark.parametrize(
    ("task", "network"),
    [
        (Mixture(np.ones(3)), Network(nonlinearity="relu")),
        (TASK, Network(nonlinearity="relu", depth=3)),
        (Mixture(np.ones(3)), Network(norm=True)),
        (CLASSES, Network()),
    ],
)
def test_a_population_gradient_that_is_not_known_is_refused(task, network):
    with pytest.raises(ValueError, match=r"batch must be above 0 .*Pass batch=64"):
        simulate(task, network, steps=1, seeds=1, learning_rate=0.1)
    with pytest.raises(ValueError, match=r"learning_rate must be given .*Pass a number"):
        simulate(task, network, steps=1, seeds=1, batch=8)
    if not network.norm:
        with pytest.raises(ValueError, match="population gradient in closed form"):
            stable_rate(task, network)


def test_layers_that_are_not_linear_in_the_inputs_are_not_measured():
    with pytest.raises(ValueError, match=r"one of 1\.\.1, those whose channels are linear"):
        simulate(TASK, Network(depth=3, nonlinearity="relu"), steps=1, seeds=1, layer=2, batch=4)


@pytest.mark.parametrize("nonlinearity", ["linear", "relu"])
def test_a_cross_entropy_falls_to_that_of_the_best_classifier(nonlinearity, tmp_path):
    """Two classes of Gaussians: the least loss is that of the log odds, 2 μᵀΣ⁻¹x."""
    task = Mixture(np.ones(2), classes=2, separation=1.0, loss="cross_entropy")
    network = Network(width=8, depth=3 if nonlinearity == "relu" else 2, nonlinearity=nonlinearity)
    run = simulate(
        task, network, steps=3000, seeds=2, batch=32, learning_rate=0.05, records=4, hull=False
    )
    rng, mean = np.random.default_rng(0), task.population.means[0]
    odds = 2 * (rng.standard_normal((400_000, 2)) + mean) @ mean
    best = np.log1p(np.exp(-odds)).mean()
    assert (run.loss[:, 0] > best + 0.1).all()
    assert np.abs(run.loss[:, -1] - best).max() < 0.02
    assert {name.split("/")[0] for name in run.quantities} == {"label", "output", "margin"}
    # Of two classes the margin is ± the difference of outputs, about which the label decides.
    assert np.isfinite(run.coupling(target="margin")).all()
    run.save(tmp_path / "run.npz")
    again = Trajectory.load(tmp_path / "run.npz")
    assert again == run
    np.testing.assert_array_equal(again.coupling(), run.coupling())


def test_held_filters_keep_their_directions():
    for network in (Network(width=6), Network(width=6, nonlinearity="relu")):
        run = simulate(TASK, network, steps=200, seeds=2, turning=False, quantities=False)
        first, last = (
            w / np.linalg.norm(w, axis=-1, keepdims=True)
            for w in (run.filters[:, 0], run.filters[:, -1])
        )
        np.testing.assert_allclose(np.abs(last), np.abs(first), rtol=1e-9)
        assert (run.loss[:, -1] < run.loss[:, 0]).all()


def test_record_steps_start_at_zero_and_end_at_the_last():
    assert record_steps(1, 24).tolist() == [0, 1]
    marks = record_steps(1000, 10)
    assert marks[0] == 0
    assert marks[-1] == 1000
    assert len(marks) == 10
    assert record_steps(10, [3, 0, 3]).tolist() == [0, 3]


def test_progress_reaches_the_end():
    seen = []
    simulate(
        TASK,
        Network(width=4),
        steps=30,
        seeds=1,
        quantities=False,
        progress=lambda made, total: seen.append((made, total)),
    )
    assert seen[0] == (0, 30)
    assert seen[-1] == (30, 30)
