"""Lesion identities against removing channels from a data set and fitting again."""

from __future__ import annotations

import numpy as np
import pytest

from theory import (
    Moments,
    channel_axes,
    least_squares_readout,
    lesion_damage,
    readout_error,
    set_lesion_damage,
)
from theory.formulas import _points

EXACT = 1e-9


@pytest.fixture(params=[1, 3], ids=["one target", "three targets"])
def layer(request: pytest.FixtureRequest) -> tuple[np.ndarray, ...]:
    """Centered data (Y, T) with their second moments: n = 200, five channels."""
    rng = np.random.default_rng(request.param)
    y = rng.standard_normal((200, 5)) @ rng.standard_normal((5, 5))
    t = y @ rng.standard_normal((5, request.param)) + rng.standard_normal((200, request.param))
    y, t = y - y.mean(0), t - t.mean(0)
    return y, t, y.T @ y / 200, y.T @ t / 200


def error(y: np.ndarray, t: np.ndarray, a: np.ndarray) -> float:
    return float(np.sum((t - y @ a) ** 2) / len(y))


@pytest.mark.parametrize("optimal", [True, False])
def test_single_lesions_by_removal(layer: tuple[np.ndarray, ...], optimal: bool) -> None:
    y, t, k, c = layer
    best = np.linalg.lstsq(y, t, rcond=None)[0]
    a = best if optimal else np.random.default_rng(0).standard_normal(best.shape)
    damage = lesion_damage(k, c, None if optimal else a)
    for i in range(5):
        rest = np.delete(np.arange(5), i)
        held, regressed = y.copy(), y.copy()
        held[:, i] = 0
        regressed[:, i] = y[:, rest] @ np.linalg.lstsq(y[:, rest], y[:, i], rcond=None)[0]
        fit = np.linalg.lstsq(y[:, rest], t, rcond=None)[0]
        before = error(y, t, a)
        assert damage.mean[i] == pytest.approx(error(held, t, a) - before, rel=EXACT)
        assert damage.replacement[i] == pytest.approx(error(regressed, t, a) - before, rel=EXACT)
        refit = error(y[:, rest], t, fit) - error(y, t, best)
        assert damage.refit[i] == pytest.approx(refit, rel=EXACT)


def test_zero_ablation_with_means(layer: tuple[np.ndarray, ...]) -> None:
    y, t, k, c = layer
    a = np.random.default_rng(1).standard_normal(c.shape)
    mu, bias = np.arange(5.0) - 2, np.full(t.shape[1], 0.3)
    shifted, output = y + mu, y @ a + bias
    damage = lesion_damage(k, c, a, mean=mu, mean_error=bias)
    for i in range(5):
        without = output - np.outer(shifted[:, i], a[i])
        rise = np.sum((t - without) ** 2) - np.sum((t - output) ** 2)
        assert damage.zero[i] == pytest.approx(float(rise) / len(y), rel=EXACT)


def test_sets_by_removal(layer: tuple[np.ndarray, ...]) -> None:
    y, t, k, c = layer
    gone, rest = [1, 3], [0, 2, 4]
    a = np.random.default_rng(2).standard_normal(c.shape)
    damage = set_lesion_damage(k, c, gone, a)
    held, regressed = y.copy(), y.copy()
    held[:, gone] = 0
    regressed[:, gone] = y[:, rest] @ np.linalg.lstsq(y[:, rest], y[:, gone], rcond=None)[0]
    assert damage["mean"] == pytest.approx(error(held, t, a) - error(y, t, a), rel=EXACT)
    assert damage["replacement"] == pytest.approx(
        error(regressed, t, a) - error(y, t, a), rel=EXACT
    )
    fits = [np.linalg.lstsq(part, t, rcond=None)[0] for part in (y[:, rest], y)]
    refit = error(y[:, rest], t, fits[0]) - error(y, t, fits[1])
    assert damage["refit"] == pytest.approx(refit, rel=EXACT)
    assert set_lesion_damage(k, c, gone)["replacement"] == pytest.approx(damage["refit"])


def test_ratio_is_one_minus_predictability_and_error_ratio_is_information() -> None:
    joint = _points.covariance(np.random.default_rng(3), 7)
    k, c, tau2 = joint[:6, :6], joint[:6, 6], joint[6, 6]
    axes = channel_axes(Moments.from_covariance(joint))
    damage = lesion_damage(k, c)
    np.testing.assert_allclose(damage.replacement / damage.mean, 1 - axes.peer_predictability)
    least = readout_error(k, c, tau2, least_squares_readout(k, c))
    np.testing.assert_allclose(
        (least + damage.refit) / least, np.exp(2 * axes.conditional_task_information)
    )
