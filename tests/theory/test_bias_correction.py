"""The bias correction of `channel_axes`: how many degrees of freedom each quantity loses.

Two kinds of test. Exactly: what is subtracted is the mean that the plug-in estimate has at
independence, integrated over its law, 1 - R² ~ Beta((n - 1 - m - p)/2, p/2) for p variables given
m others. And by sampling: that law is the one of estimates, and its mean their bias at any
dependence, from so few samples that one degree of freedom is many standard errors.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from theory import Moments, channel_axes, gaussian_information_bias

EXACT = 1e-9
"""Relative, of a quadrature of a smooth logarithm."""


def law(n: int, p: int, given: int) -> stats.rv_continuous:
    """Of 1 - R² between one variable and p others, given some more, all independent."""
    return stats.beta((n - 1 - given - p) / 2, p / 2)


def mean_information(n: int, p: int, given: int = 0) -> float:
    return float(law(n, p, given).expect(lambda unexplained: -0.5 * np.log(unexplained)))


def moments(n: int, channels: int, targets: int, dead: int = 0) -> Moments:
    rng = np.random.default_rng(n + channels)
    y = rng.standard_normal((n, channels)) @ rng.standard_normal((channels, channels))
    y = np.column_stack([y, np.ones((n, dead))])
    return Moments.from_samples(y, y[:, :targets] + rng.standard_normal((n, targets)))


@pytest.mark.parametrize(("n", "channels", "targets"), [(9, 3, 1), (12, 4, 2), (40, 5, 3)])
@pytest.mark.parametrize("dead", [0, 2])
def test_what_is_subtracted_is_the_mean_at_independence(
    n: int, channels: int, targets: int, dead: int
) -> None:
    found = moments(n, channels, targets, dead)
    plain, corrected = (channel_axes(found, bias_correction=b) for b in (False, True))
    others, live = channels - 1, slice(0, channels)
    alone = mean_information(n, targets)
    expected = {
        "signal_power": 0.0,
        "input_capture": 0.0,
        # a dead peer has no overlap to correct, and counts in the mean
        "peer_overlap": mean_information(n, 1) * others / (others + dead),
        "peer_information": mean_information(n, others),
        "hull_size": 0.0,
        "task_information": alone,
        "target_excess": mean_information(n, targets, given=1),
        "conditional_task_information": mean_information(n, targets, given=others),
        "task_redundancy": alone,
        "task_unique": 0.0,
    }
    for name, bias in expected.items():
        difference = getattr(plain, name)[live] - getattr(corrected, name)[live]
        np.testing.assert_allclose(difference, bias, rtol=EXACT, atol=1e-12, err_msg=name)
    # the unexplained share is too small by its mean at independence
    unexplained = 1 - plain.peer_predictability[live]
    adjusted = 1 - unexplained / law(n, others, 0).mean()
    np.testing.assert_allclose(corrected.peer_predictability[live], adjusted, rtol=EXACT)
    score = adjusted / np.maximum(1, plain.hull_size[live])
    np.testing.assert_allclose(corrected.hull_score[live], score, rtol=EXACT)


@pytest.mark.parametrize(("n", "p", "q"), [(9, 1, 3), (12, 4, 2), (30, 3, 5)])
def test_the_bias_of_several_targets_adds_up_by_the_chain_rule(n: int, p: int, q: int) -> None:
    """I(X; T_1 .. T_q) is the sum of I(X; T_k | T_1 .. T_k-1)."""
    expected = sum(mean_information(n, p, given=k) for k in range(q))
    assert gaussian_information_bias(n, p, q) == pytest.approx(expected, rel=EXACT)


@pytest.mark.parametrize("name", ["peer_overlap", "task_information", "peer_predictability"])
def test_dead_channels_are_not_corrected(name: str) -> None:
    found = moments(12, 4, 1, dead=1)
    plain, corrected = (channel_axes(found, bias_correction=b) for b in (False, True))
    np.testing.assert_array_equal(getattr(plain, name)[4], getattr(corrected, name)[4])


def test_the_only_live_channel_has_no_peers_to_correct_for() -> None:
    rng = np.random.default_rng(0)
    y = np.column_stack([rng.standard_normal(12), np.ones((12, 2))])
    found = Moments.from_samples(y, y[:, 0] + rng.standard_normal(12))
    plain, corrected = (channel_axes(found, bias_correction=b) for b in (False, True))
    whole = ("task_information", "conditional_task_information", "task_unique")
    for name, values in plain.as_dict().items():
        expected = values - np.array([mean_information(12, 1) if name in whole else 0.0, 0, 0])
        np.testing.assert_allclose(getattr(corrected, name), expected, rtol=EXACT, err_msg=name)


@pytest.mark.parametrize(("targets", "given"), [(1, 0), (2, 0), (1, 1), (1, 3), (2, 2)])
def test_the_law_is_that_of_estimates_and_its_mean_their_bias(targets: int, given: int) -> None:
    """20,000 sets of 9 samples: one degree of freedom is 10 to 30 of their standard errors.

    Of a channel and targets that depend on each other and on what is given.
    """
    n, sets = 9, 20_000
    rng = np.random.default_rng(10 * targets + given)
    data = rng.standard_normal((sets, n, 1 + targets + given))
    mixing = np.eye(1 + targets + given) + 0.4 * np.tri(1 + targets + given)
    data = data @ mixing
    cov = mixing.T @ mixing

    def information(scatter: np.ndarray) -> np.ndarray:
        """I(Y; T | Z) with Y first, then T, then Z."""
        y, t = [0], list(range(1, 1 + targets))
        z = list(range(1 + targets, 1 + targets + given))
        parts = [(1, y + z), (1, t + z), (-1, y + t + z), (-1, z)]
        return 0.5 * sum(
            sign * np.linalg.slogdet(scatter[..., index, :][..., index])[1] for sign, index in parts
        )

    centered = data - data.mean(axis=1, keepdims=True)
    estimates = information(np.swapaxes(centered, 1, 2) @ centered) - information(cov)
    error = estimates.std() / np.sqrt(sets)
    assert abs(estimates.mean() - mean_information(n, targets, given)) < 4 * error
    for wrong in (-1, 1):
        assert abs(estimates.mean() - mean_information(n + wrong, targets, given)) > 6 * error


@pytest.mark.parametrize(
    ("n", "targets", "enough"),
    [(8, 0, True), (7, 0, False), (8, 1, True), (7, 1, False), (10, 3, True), (9, 3, False)],
)
def test_degrees_of_freedom_that_peers_leave(n: int, targets: int, enough: bool) -> None:
    """Four peers leave n - 5: three at least, and two more than there are targets."""
    rng = np.random.default_rng(n)
    t = rng.standard_normal((n, targets)) if targets else None
    found = Moments.from_samples(rng.standard_normal((n, 5)), t)
    axes = channel_axes(found, bias_correction=True, hull=False)
    assert (np.isfinite(axes.peer_predictability) == enough).all()
