"""Closed-form flows against numerical integration written from the equations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate

from theory import (
    FixedReadoutFlow,
    Moments,
    balanced_mode,
    channel_axes,
    fixed_readout_flow,
    initial_coupling,
    layer_gap,
    output_coupling,
    separation_time,
    spearman,
    trained_readout_flow,
    two_layer_mode,
)
from theory.formulas import _points

SOLVER = 1e-7


def problem(outputs: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "sigma": _points.covariance(rng, 4),
        "cross": rng.standard_normal((4, outputs)),
        "readout": rng.standard_normal((5, outputs)),
        "weights": rng.standard_normal((5, 4)),
    }


def integrated(p: dict[str, np.ndarray], t: float, train_readout: bool = False) -> tuple:
    """dW/dt = a rᵀ (and da/dt = W r), r = c − ΣWᵀa, by a Runge-Kutta method."""
    w, a = p["weights"], p["readout"]

    def velocity(_: float, state: np.ndarray) -> np.ndarray:
        now, out = state[: w.size].reshape(w.shape), state[w.size :].reshape(a.shape)
        r = p["cross"] - p["sigma"] @ now.T @ out
        speed = now @ r if train_readout else np.zeros_like(a)
        return np.concatenate([(out @ r.T).ravel(), speed.ravel()])

    start = np.concatenate([w.ravel(), a.ravel()])
    end = integrate.solve_ivp(velocity, (0, t), start, rtol=1e-11, atol=1e-13).y[:, -1]
    return end[: w.size].reshape(w.shape), end[w.size :].reshape(a.shape)


@pytest.mark.parametrize("outputs", [1, 2, 7])
@pytest.mark.parametrize("t", [0.0, 0.05, 0.7])
def test_weights_along_training(outputs: int, t: float) -> None:
    """Also with more outputs than channels, where aᵀa is singular."""
    p = problem(outputs)
    flow = fixed_readout_flow(**p)
    expected = integrated(p, t)[0] if t else p["weights"]
    np.testing.assert_allclose(flow.weights(t), expected, rtol=SOLVER, atol=SOLVER)
    np.testing.assert_allclose(
        flow.residual(t), p["cross"] - p["sigma"] @ flow.output(t), rtol=1e-9, atol=1e-9
    )


def test_a_zero_readout_moves_nothing() -> None:
    p = problem(1) | {"readout": np.zeros((5, 1))}
    flow = fixed_readout_flow(**p)
    np.testing.assert_array_equal(flow.weights(3.0), p["weights"])
    assert np.isnan(separation_time(flow))


@pytest.mark.parametrize("target", ["label", "output"])
def test_moments_along_training(target: str) -> None:
    p = problem(2)
    flow = fixed_readout_flow(**p, target_cov=50 * np.eye(2))
    w, m = flow.weights(0.3), flow.output(0.3)
    moments = flow.moments(0.3, target)
    projection = p["cross"] if target == "label" else p["sigma"] @ m
    np.testing.assert_allclose(moments.cov[:5, 5:], w @ projection, rtol=1e-12)
    assert isinstance(moments, Moments)
    assert np.isfinite(channel_axes(moments).conditional_task_information).all()


def test_loss_falls_and_ends_at_the_regression() -> None:
    p = problem(1)
    flow = fixed_readout_flow(**p)
    losses = [flow.loss(t) for t in (0.0, 0.1, 1.0, 1000.0)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] == pytest.approx(0.0, abs=1e-9)


def test_coupling_along_training_runs_from_output_to_label() -> None:
    p = problem(1)
    flow = fixed_readout_flow(**p)
    start = output_coupling(p["sigma"], p["weights"].T @ p["readout"][:, 0])
    assert flow.coupling(0.0) == pytest.approx(start)
    assert flow.coupling(1e4) == pytest.approx(initial_coupling(p["sigma"], p["cross"][:, 0]))
    assert flow.coupling(0.0, "label") == flow.coupling(9.0, "label")


@pytest.mark.parametrize("target", ["label", "output"])
def test_layer_coupling_agrees_with_a_wide_layer(target: str) -> None:
    rng = np.random.default_rng(5)
    channels, scale = 200_000, 0.4
    sigma = np.diag([3.0, 1.0, 0.4, 0.2])
    cross = np.array([0.2, 0.3, 0.3, 0.3])
    readout = rng.standard_normal(channels) / np.sqrt(channels)
    weights = scale * rng.standard_normal((channels, 4))
    flow = fixed_readout_flow(sigma, cross, readout, weights)
    w, t = flow.weights(1.5), 1.5
    c = cross if target == "label" else (sigma @ flow.output(t))[:, 0]
    power, squared = np.einsum("ni,ij,nj->n", w, sigma, w), (w @ c) ** 2
    predicted = flow.layer_coupling(t, scale, target)
    assert predicted == pytest.approx(np.corrcoef(power, squared)[0, 1], abs=0.02)


def wide_flow(alignment: float, start: int = 0) -> FixedReadoutFlow:
    """200 channels on 12 inputs, output on one of them; the label's variance is as λ^alignment."""
    rng = np.random.default_rng(3)
    values = np.arange(1.0, 13) ** -2
    beta = np.sqrt(values**alignment / values)
    cross = np.diag(values) @ (beta / np.sqrt(np.sum(values * beta**2)))
    readout, weights = rng.standard_normal(200) / 14, rng.standard_normal((200, 12))
    weights += np.outer(readout, 3.0 * np.eye(12)[start] - readout @ weights) / (readout @ readout)
    return fixed_readout_flow(np.diag(values), cross, readout, weights)


@pytest.mark.parametrize("target", ["label", "output"])
def test_rank_coupling_is_that_of_the_flows_axes(target: str) -> None:
    flow = wide_flow(0.0)
    axes = channel_axes(flow.moments(2.0, target), hull=False)
    expected = spearman(axes.input_capture, axes.task_information)
    assert flow.rank_coupling(2.0, target) == pytest.approx(float(expected), abs=1e-9)


def test_separation_time_is_half_the_fall_for_good() -> None:
    flow = wide_flow(0.0)
    t = separation_time(flow)
    begin, end = flow.rank_coupling(0.0), flow.rank_coupling(1e6)
    assert end < begin - 0.2
    later = [flow.rank_coupling(float(s)) for s in np.geomspace(1.1 * t, 1e4 * t, 80)]
    assert max(later) <= (begin + end) / 2 + 0.02
    assert separation_time(flow, 0.2) <= t <= separation_time(flow, 0.8)


def test_no_separation_is_nan() -> None:
    assert np.isnan(separation_time(wide_flow(2.0, start=11)))
    alone = fixed_readout_flow(np.diag([4.0, 1.0]), [1.0, 0.0], [1.0], [[0.1, 1.0]])
    assert np.isnan(separation_time(alone))


@pytest.mark.parametrize("outputs", [1, 3])
def test_trained_readout(outputs: int) -> None:
    p = {name: 0.5 * value for name, value in problem(outputs, 2).items()}
    path = trained_readout_flow(**p, times=[0.0, 0.4, 2.0])
    w, a = integrated(p, 2.0, train_readout=True)
    np.testing.assert_allclose(path.weights[-1], w, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(path.readout[-1], a, rtol=1e-6, atol=1e-7)
    assert path.drift.max() < 1e-7


def test_a_loose_integration_shows_in_the_drift() -> None:
    p = problem(1, 3)
    assert trained_readout_flow(**p, times=[3.0], rtol=1e-2).drift[-1] > 1e-7


def test_balanced_mode_is_the_flow() -> None:
    t = np.linspace(0.0, 6.0, 20)
    path = trained_readout_flow([[1.3]], [0.9], [0.1], [[0.1]], t, rtol=1e-10)
    np.testing.assert_allclose(balanced_mode(t, 0.9, 1.3, 0.01), path.output[:, 0, 0], rtol=1e-7)
    assert balanced_mode(2.0, 0.0, 1.0, 0.5) == pytest.approx(0.5 / 3)
    assert balanced_mode(1e5, 1.0, 2.0, 1e-12) == pytest.approx(0.5)


@pytest.mark.parametrize("scale", [0.05, 1.0, 5.0])
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_mode_of_many_channels_is_the_flow_from_rich_to_lazy(scale: float, sign: int) -> None:
    rng = np.random.default_rng(3)
    w, a = scale * rng.standard_normal(5) / 2, scale * rng.standard_normal(5)
    a *= sign * np.sign(a @ w)
    t = np.linspace(0.0, 4.0, 9)
    path = trained_readout_flow([[1.3]], [0.9], a, w[:, None], t, rtol=1e-11)
    found = two_layer_mode(t, 0.9, 1.3, float(a @ w), layer_gap(w, a))
    np.testing.assert_allclose(found, path.output[:, 0, 0], rtol=1e-7, atol=1e-9)


def test_a_mode_has_the_sigmoid_and_the_exponential_as_limits() -> None:
    t = np.linspace(0.0, 3.0, 7)
    rich = two_layer_mode(t, 0.9, 1.3, 0.01, 1e-7)
    np.testing.assert_allclose(rich, balanced_mode(t, 0.9, 1.3, 0.01), rtol=1e-6)
    lazy = two_layer_mode(t / 1e4, 0.9, 1.3, 0.01, 1e4)
    limit = 0.9 / 1.3
    np.testing.assert_allclose(lazy, limit + (0.01 - limit) * np.exp(-1.3 * t), atol=1e-7)
    values = np.linalg.eigvalsh(np.outer([3.0, 1.0], [3.0, 1.0]) - np.outer([1.0, 2.0], [1.0, 2.0]))
    assert layer_gap([1.0, 2.0], [3.0, 1.0]) == pytest.approx(values[1] - values[0])


def test_the_coupling_of_a_layer_is_for_one_output() -> None:
    with pytest.raises(ValueError, match="layer_coupling is for one output"):
        fixed_readout_flow(**problem(2)).layer_coupling(1.0, 1.0)
