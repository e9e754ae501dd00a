"""Reliability from halves, couplings without attenuation, and families of near-copies."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from empirical.analysis.reliability import (
    LEAST_LEFT,
    RELIABLE,
    after_passing,
    channel_scores,
    corrected_coupling,
    families,
)
from empirical.measuring.measurement import measure
from theory import spearman
from theory.rank_coupling import split_half


def halves(truth: np.ndarray, error: float, rng: np.random.Generator) -> np.ndarray:
    return truth + error * rng.standard_normal((2, truth.size))


def test_the_reliability_of_the_whole_is_spearman_and_browns() -> None:
    rng = np.random.default_rng(0)
    truth = rng.standard_normal(20_000)
    one, other = halves(truth, 1.0, rng)
    again = halves(truth, 1.0, rng).mean(axis=0)
    # reliability is the correlation with a second measurement as long as the whole
    whole = float(spearman((one + other) / 2, again))
    assert float(split_half(one, other)) == pytest.approx(whole, abs=0.02)
    assert float(split_half(np.arange(5.0), -np.arange(5.0))) == -1


def test_the_corrected_coupling_is_that_of_the_truth_even_where_errors_are_shared() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((2, 20_000))
    b = 0.5 * a + np.sqrt(0.75) * b
    shared = rng.standard_normal((2, a.size))
    first, second = a + 0.5 * shared, b + 0.8 * shared + halves(0 * a, 0.3, rng)
    found = corrected_coupling(first, second)
    assert found.mean == pytest.approx(float(spearman(a, b)), abs=0.03)
    raw = spearman(first.mean(axis=0), second.mean(axis=0))
    assert abs(raw - spearman(a, b)) > 0.05
    assert np.isnan(found.low)


def test_below_the_stated_reliability_nothing_is_said() -> None:
    rng = np.random.default_rng(2)
    truth = rng.standard_normal(20_000)
    for error, known in ((1.0, True), (1.3, False)):
        noisy = halves(truth, error, rng)
        assert (float(split_half(*noisy)) >= RELIABLE) is known
        found = corrected_coupling(noisy, halves(truth, 0.1, rng))
        assert np.isfinite(found.mean) is np.bool_(known)


def test_families_are_channels_that_correlate_either_way() -> None:
    rng = np.random.default_rng(3)
    base = rng.standard_normal((500, 3))
    y = np.column_stack([base, -base[:, 0] + 0.1 * rng.standard_normal(500), base[:, 1]])
    found = families(np.corrcoef(y.T))
    assert found[0] == found[3]
    assert found[1] == found[4]
    assert len(set(found.tolist())) == 3
    dead = np.full((2, 2), np.nan)
    assert len(set(families(dead).tolist())) == 2
    assert families(np.ones((1, 1))).tolist() == [0]


def test_scores_of_channels_come_with_their_halves_and_families() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 6, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(216, 3)
    )
    images, labels = torch.randn(200, 1, 8, 8), torch.randint(3, (200,))
    table = measure(model, [(images, labels)])
    scores = channel_scores(table)
    assert scores["channel"].tolist() == [*range(6), *range(3)][: len(scores)]
    own = scores[scores["layer"] == "0"]
    # groups are images modulo 10, so the even groups are the even images
    for half in (0, 1):
        part = measure(model, [(images[half::2], labels[half::2])], groups=1, standard_errors=False)
        np.testing.assert_allclose(
            own[f"task_information_half{half}"], part["0"].task_information, rtol=0.3, atol=2e-3
        )
    np.testing.assert_allclose(
        own[["input_capture_half0", "input_capture_half1"]].mean(axis=1),
        own["input_capture"],
        atol=0.02,
    )
    assert {"family", "peer_predictability_half0"} <= set(own)


def test_what_passing_leaves_of_a_correlation_halves_those_that_passed() -> None:
    rng = np.random.default_rng(4)
    channels, seen = 64, 0.5
    (left,) = after_passing(np.array([seen]), channels)
    assert LEAST_LEFT < left < seen
    error = np.sqrt(1.06 / (channels - 3))
    drawn = np.tanh(np.arctanh(left) + error * rng.standard_normal(400_000))
    passed = drawn[2 * drawn / (1 + drawn) >= RELIABLE]
    assert (passed > seen).mean() == pytest.approx(0.5, abs=0.01)
    far, at = after_passing(np.array([0.95, RELIABLE / (2 - RELIABLE)]), channels)
    assert far == pytest.approx(0.95, abs=1e-4)
    assert at == pytest.approx(LEAST_LEFT)


@pytest.mark.parametrize("information", [2e-3, 1e-2])
def test_intervals_of_layers_that_pass_hold_the_truth(information: float) -> None:
    rng, groups = np.random.default_rng(5), 10
    held = []
    for _ in range(150):
        a, b = rng.standard_normal((2, 64))
        t = information * np.exp(0.6 * a + 0.8 * b)
        errors = rng.standard_normal((2, groups, 64)) / 10  # of 100 images each
        power, r = a + np.sqrt(2) * errors[0], np.sqrt(2 * t) + errors[1]
        of = [
            np.array([values[rows].mean(axis=0) ** square for rows in parts])
            for parts in (
                [slice(0, None, 2), slice(1, None, 2)],
                [np.arange(10) != g for g in range(10)],
            )
            for values, square in ((power, 1), (r, 2))
        ]
        found = corrected_coupling(of[0], of[1], (of[2], of[3]))
        if np.isfinite(found.low):
            held.append(found.low <= spearman(a, t) <= found.high)
    assert len(held) > 15
    assert np.mean(held) > 0.9


def test_the_interval_of_a_corrected_coupling_has_ordered_ends_that_are_correlations() -> None:
    """What is correlated across halves more than within lies beyond 1, its interval with it."""
    rng = np.random.default_rng(11)
    truth = rng.standard_normal(200)
    first = truth + 0.3 * rng.standard_normal((2, 200))
    for sign in (-1, 1):
        for second in (sign * first[::-1], first):
            alike = np.stack([first[0]] * 6), np.stack([second[0]] * 6)
            found = corrected_coupling(first, second, alike)
            assert -1 <= found.low <= found.high <= 1
