"""Both axes of blocks of channels against regressions and determinants written out."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tolerances import NAIVE, STANDARD_ERRORS
from theory import (
    Moments,
    block_axes,
    block_axes_of_groups,
    blocks_recovered_outside,
    channel_axes,
    merge,
    regress_on_other_blocks,
    set_lesion_damage,
)
from theory.formulas import _points

BLOCKS = ([0, 3], [1, 4], [5])
"""Channel 2 is in none."""


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = rng.standard_normal((300, 6)) @ rng.standard_normal((6, 6)) + 3
    return y, y @ rng.standard_normal((6, 2)) + 4 * rng.standard_normal((300, 2))


def left_by(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Residuals of a regression with an intercept."""
    design = np.column_stack([np.ones(len(x)), x])
    return y - design @ np.linalg.lstsq(design, y, rcond=None)[0]


def logdet(y: np.ndarray) -> float:
    return float(np.linalg.slogdet(np.atleast_2d(np.cov(y.T)))[1])


def test_every_quantity_by_regression_on_the_samples(data: tuple[np.ndarray, np.ndarray]) -> None:
    y, t = data
    readout = np.random.default_rng(1).standard_normal((4, 6))
    axes = block_axes(Moments.from_samples(y, t), BLOCKS, readout=readout, noise=2.0)
    for b, block in enumerate(BLOCKS):
        own, others = y[:, block], np.delete(y, block, axis=1)
        centered, rest = own - own.mean(0), left_by(own, others)
        covariance = np.atleast_2d(np.cov(own.T))
        peers = 0.5 * (logdet(own) - logdet(rest))
        overlap = [
            0.5 * (logdet(own) - logdet(left_by(own, y[:, other])))
            for other in BLOCKS
            if other is not block
        ]
        weights = readout[:, block]
        recovered = 1 - np.sum((rest @ weights.T) ** 2) / np.sum((centered @ weights.T) ** 2)
        expected = {
            "signal_power": np.trace(covariance),
            "input_capture": 0.5 * np.linalg.slogdet(np.eye(len(block)) + covariance / 2)[1],
            "peer_overlap": np.mean(overlap),
            "peer_information": peers,
            "peer_predictability": 1 - np.exp(-2 * peers / len(block)),
            "recoverable": recovered,
            "task_information": 0.5 * (logdet(t) - logdet(left_by(t, own))),
            "conditional_task_information": 0.5
            * (logdet(left_by(t, others)) - logdet(left_by(t, y))),
        }
        for name, value in expected.items():
            assert getattr(axes, name)[b] == pytest.approx(value, rel=NAIVE), (name, b)


def test_blocks_of_one_channel_are_channels() -> None:
    moments = Moments.from_covariance(_points.covariance(np.random.default_rng(2), 6), n_targets=1)
    blocks, channels = block_axes(moments, [[i] for i in range(5)]), channel_axes(moments)
    for name in (
        "signal_power", "input_capture", "peer_overlap", "peer_information",
        "peer_predictability", "task_information", "conditional_task_information",
    ):  # fmt: skip
        np.testing.assert_allclose(getattr(blocks, name), getattr(channels, name), rtol=NAIVE)
    np.testing.assert_allclose(blocks.recoverable, channels.peer_predictability, rtol=NAIVE)


def test_recoverable_is_the_share_of_the_damage_at_the_least_squares_readout() -> None:
    joint = _points.covariance(np.random.default_rng(3), 9)
    k, cross = joint[:6, :6], joint[:6, 6:]
    readout = np.linalg.solve(k, cross).T
    axes = block_axes(Moments.from_covariance(joint, n_targets=3), BLOCKS, readout=readout)
    for b, block in enumerate(BLOCKS):
        damage = set_lesion_damage(k, cross, block)
        assert axes.recoverable[b] == pytest.approx(1 - damage["replacement"] / damage["mean"])


def test_quantities_do_not_depend_on_a_basis_within_a_block() -> None:
    rng = np.random.default_rng(4)
    moments = Moments.from_covariance(_points.covariance(rng, 7), n_targets=1)
    mixing = np.eye(6)
    mixing[np.ix_([0, 3], [0, 3])] = rng.standard_normal((2, 2))
    before, after = (block_axes(m, BLOCKS) for m in (moments, moments.transform_channels(mixing)))
    for name in (
        "peer_overlap", "peer_information", "peer_predictability",
        "task_information", "conditional_task_information",
    ):  # fmt: skip
        np.testing.assert_allclose(getattr(after, name), getattr(before, name), rtol=1e-9)


def test_dead_channels_copies_and_functions_of_others() -> None:
    rng = np.random.default_rng(5)
    a, b = rng.standard_normal((200, 2)), rng.standard_normal((200, 2))
    y = np.column_stack([a, b, np.zeros(200), a @ [1.0, 2.0]])
    target = a[:, 0] + b[:, 0] + rng.standard_normal(200)
    axes = block_axes(Moments.from_samples(y, target), [[0, 1], [2, 3], [4, 5]])
    assert np.isnan(axes.peer_information[[0, 2]]).all(), "the third says a direction of the first"
    assert axes.peer_predictability[[0, 2]].tolist() == [1.0, 1.0]
    assert axes.recoverable[2] == pytest.approx(1.0)
    assert 0 < axes.recoverable[0] < 1
    assert axes.peer_information[1] < 0.1, "nothing of the second, but for chance"
    assert axes.conditional_task_information[2] == pytest.approx(0.0, abs=1e-9)
    dead = block_axes(Moments.from_samples(y), [[4], [0, 1, 2, 3, 5]])
    assert dead.peer_information[0] == 0
    assert np.isnan(dead.recoverable[0])


def test_groups_take_the_bias_of_few_samples_away() -> None:
    rng, draws = np.random.default_rng(6), 60
    blocks = [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    mixing = np.eye(10) + 0.15 * rng.standard_normal((10, 10))
    true = block_axes(Moments.from_covariance(mixing @ mixing.T), blocks)
    found: dict[str, list[float]] = {
        "peer_information": [], "peer_overlap": [], "recoverable": [], "task_information": [],
    }  # fmt: skip
    plug_in: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(draws):
        parts = []
        for _ in range(10):
            joint = rng.standard_normal((9, 10)) @ mixing.T
            parts.append(Moments.from_samples(joint[:, :9], joint[:, 9]))
        axes, _ = block_axes_of_groups(parts, blocks)
        raw = block_axes(merge(parts), blocks)
        for name in found:
            found[name].append(getattr(axes, name)[0])
            plug_in[name].append(getattr(raw, name)[0])
    for name, values in found.items():
        error = np.std(values, ddof=1) / np.sqrt(draws)
        bias, raw_bias = (abs(np.mean(v) - getattr(true, name)[0]) for v in (values, plug_in[name]))
        assert bias < max(STANDARD_ERRORS * error, 0.25 * raw_bias), name
        if name != "task_information":  # of one target the bias is small
            assert raw_bias > 2 * bias, name


def test_what_is_left_outside_of_groups_by_regression(
    data: tuple[np.ndarray, np.ndarray],
) -> None:
    y, t = data
    parts = [
        Moments.from_samples(a, b) for a, b in zip(np.split(y, 5), np.split(t, 5), strict=True)
    ]
    axes, without = block_axes_of_groups(parts, BLOCKS)
    block, others = BLOCKS[0], [1, 2, 4, 5]
    inside, outside = [], []
    for part in np.split(y, 5):
        rest = np.array([row for row in y if not (row == part).all(axis=1).any()])
        design = np.column_stack([np.ones(len(rest)), rest[:, others]])
        slopes = np.linalg.lstsq(design, rest[:, block], rcond=None)[0]
        error = part[:, block] - np.column_stack([np.ones(len(part)), part[:, others]]) @ slopes
        inside.append(np.cov(left_by(rest[:, block], rest[:, others]).T))
        outside.append(error.T @ error / len(part))
    own = logdet(y[:, block])
    left = [np.linalg.slogdet(np.mean(side, axis=0))[1] for side in (inside, outside)]
    assert axes.peer_information[0] == pytest.approx(0.5 * (own - np.mean(left)), rel=NAIVE)
    rest = np.concatenate(np.split(y, 5)[1:])[:, block]
    left = [np.linalg.slogdet(inside[0])[1], np.linalg.slogdet(np.mean(outside[1:], axis=0))[1]]
    expected = 0.5 * (logdet(rest) - np.mean(left))
    assert without[0].peer_information[0] == pytest.approx(expected, rel=NAIVE)
    assert len(without) == 5
    few, _ = block_axes_of_groups([Moments.from_samples(p) for p in np.split(y[:12], 2)], BLOCKS)
    assert np.isnan([few.peer_information, few.peer_predictability, few.recoverable]).all()


def test_regression_on_other_blocks_is_least_squares(data: tuple[np.ndarray, np.ndarray]) -> None:
    y, _ = data
    fit = regress_on_other_blocks(Moments.from_samples(y), BLOCKS, ridge=0)
    for block in BLOCKS:
        residual = left_by(y[:, block], np.delete(y, block, axis=1))
        predicted = y @ fit.coefficients[block].T + fit.intercepts[block]
        np.testing.assert_allclose(y[:, block] - predicted, residual, atol=1e-10)
    assert not fit.coefficients[np.ix_([0, 3], [0, 3])].any()
    assert not fit.coefficients[2].any()


def test_what_is_recovered_outside_by_leaving_groups_out(
    data: tuple[np.ndarray, np.ndarray],
) -> None:
    y, _ = data
    groups = np.split(y, 5)
    readout = np.random.default_rng(7).standard_normal((4, 6))
    found = blocks_recovered_outside(
        [Moments.from_samples(part) for part in groups], BLOCKS, readout=readout, ridge=0
    )
    for b, block in enumerate(BLOCKS):
        left = whole = 0.0
        for g, part in enumerate(groups):
            rest = np.concatenate(groups[:g] + groups[g + 1 :])
            design = np.column_stack([np.ones(len(rest)), np.delete(rest, block, axis=1)])
            slopes = np.linalg.lstsq(design, rest[:, block], rcond=None)[0]
            inputs = np.column_stack([np.ones(len(part)), np.delete(part, block, axis=1)])
            weights = readout[:, block].T
            left += np.sum(((part[:, block] - inputs @ slopes) @ weights) ** 2)
            whole += np.sum(((part[:, block] - rest[:, block].mean(0)) @ weights) ** 2)
        assert found[b] == pytest.approx(1 - left / whole, rel=1e-9)


def test_bad_blocks_are_named() -> None:
    moments = Moments.from_covariance(np.eye(4), n_targets=0)
    with pytest.raises(ValueError, match=r"blocks must be at least two.*got 1"):
        block_axes(moments, [[0, 1]])
    with pytest.raises(ValueError, match="blocks must be disjoint; channel 1 is in more than one"):
        block_axes(moments, [[0, 1], [1, 2]])
    with pytest.raises(ValueError, match=r"blocks\[1\] must be distinct indices below 4"):
        regress_on_other_blocks(moments, [[0], [4]])
    with pytest.raises(ValueError, match="readout must have 4 columns"):
        block_axes(moments, [[0], [1]], readout=np.eye(3))
    with pytest.raises(ValueError, match="at least 2 groups of samples; got 1"):
        blocks_recovered_outside([Moments.from_samples(np.eye(4))], [[0], [1]])
    with pytest.raises(ValueError, match="no live channel"):
        block_axes(Moments.from_covariance(np.zeros((2, 2)), n_targets=0), [[0], [1]])
