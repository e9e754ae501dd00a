"""Matched bins against a naive twin, and by hand where a hand suffices."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from empirical.analysis.matched_bins import matched_bins
from empirical.analysis.statistics import holm
from tests.tolerances import EXACT

PERMUTATIONS = 40


def layer(rng: np.random.Generator, n: int) -> pd.DataFrame:
    a, b, noise = rng.standard_normal((3, n))
    tested = a + rng.standard_normal(n)
    return pd.DataFrame({"a": a, "b": b, "tested": tested, "damage": a - 0.5 * tested + noise})


def naive_bins(frame: pd.DataFrame, controls: list[str], parts: int) -> list[pd.DataFrame]:
    """Channels by the quantile class of each control; a channel alone has nothing to be matched."""
    position = [(stats.rankdata(frame[c]) - 0.5) / len(frame) for c in controls]
    classes = list(zip(*[np.floor(p * parts) for p in position], strict=True))
    members = [[i for i, c in enumerate(classes) if c == one] for one in sorted(set(classes))]
    return [frame.iloc[m] for m in members if len(m) > 1]


def halves(bin_: pd.DataFrame) -> np.ndarray:
    order = bin_["tested"].argsort().argsort().to_numpy()
    size = len(bin_)
    return np.where(order < size // 2, -1, np.where(order >= size - size // 2, 1, 0))


def contrast(bins: list[pd.DataFrame], sides: list[np.ndarray]) -> float:
    effects = [
        b["rank"][s > 0].mean() - b["rank"][s < 0].mean() for b, s in zip(bins, sides, strict=True)
    ]
    return float(np.average(effects, weights=[len(b) for b in bins]))


def test_layers_and_their_pool_are_those_of_the_naive_twin() -> None:
    rng = np.random.default_rng(0)
    layers = {"small": layer(rng, 17), "wide": layer(rng, 50)}
    found = matched_bins(
        layers, "damage", "tested", ["a", "b"], PERMUTATIONS, np.random.default_rng(2)
    )
    assert found["layer"].tolist() == ["small", "wide", "pooled"]
    draw, nulls, rows = np.random.default_rng(2), [], []
    for frame in layers.values():
        ranked = frame.assign(rank=(stats.rankdata(frame["damage"]) - 0.5) / len(frame))
        bins = naive_bins(ranked, ["a", "b"], 2)
        sides = [halves(b) for b in bins]
        drawn = [draw.permuted(np.tile(s, (PERMUTATIONS, 1)), axis=1) for s in sides]
        nulls.append([contrast(bins, [d[k] for d in drawn]) for k in range(PERMUTATIONS)])
        every, side = pd.concat(bins), np.concatenate(sides)
        effect = contrast(bins, sides)
        as_far = np.sum(np.abs(nulls[-1]) >= abs(effect) - 1e-12)
        rows.append(
            {
                "bins": len(bins),
                "channels": len(every),
                "damage_high": every["damage"][side > 0].mean(),
                "damage_low": every["damage"][side < 0].mean(),
                "effect": effect,
                "p": (1 + as_far) / (1 + PERMUTATIONS),
                "null_high": np.quantile(np.abs(nulls[-1]), 0.95),
            }
        )
    expected = pd.DataFrame(rows)
    pd.testing.assert_frame_equal(
        found.iloc[:2][list(expected)], expected, rtol=EXACT, check_dtype=False
    )
    np.testing.assert_allclose(found["p_holm"][:2], holm(expected["p"].to_numpy()))

    pooled = found.iloc[2]
    share = expected["channels"] / expected["channels"].sum()
    assert (pooled["bins"], pooled["channels"]) == tuple(expected[["bins", "channels"]].sum())
    for name in ("damage_high", "damage_low", "effect"):
        assert pooled[name] == pytest.approx(share @ expected[name], abs=EXACT)
    signed = share.to_numpy() @ np.array(nulls)
    for values in (*nulls, signed):  # the lower tail is the heavier of one, at least
        assert np.quantile(values, 0.95) < np.quantile(np.abs(values), 0.95)
    null = np.abs(signed)
    p = (1 + np.sum(null >= abs(pooled["effect"]) - 1e-12)) / (1 + PERMUTATIONS)
    assert pooled["p"] == pooled["p_holm"] == p
    assert pooled["null_high"] == pytest.approx(np.quantile(null, 0.95), abs=EXACT)


def test_one_bin_of_five_by_hand() -> None:
    frame = pd.DataFrame({"damage": [1.0, 2, 3, 4, 9], "tested": [5.0, 4, 3, 2, 1]})
    row = matched_bins({"x": frame}, "damage", "tested", [], 19, np.random.default_rng(2)).iloc[0]
    # ranks 0.1 .. 0.9: the upper two are at 0.1 and 0.3, the lower at 0.7 and 0.9, one is between
    assert row["effect"] == pytest.approx(-0.6)
    assert (row["damage_high"], row["damage_low"]) == (1.5, 6.5)


@pytest.mark.parametrize(
    ("parts", "channels"), [(2, 16), (2, 68), (3, 72), (3, 124), (4, 128), (4, 200), (4, 800)]
)
def test_a_control_is_split_in_two_to_four_for_bins_of_some_eight(
    parts: int, channels: int
) -> None:
    """Controls on a grid, so that every combination of classes holds channels."""
    grid = np.arange(channels)
    crossed = (grid % 4) * channels + grid
    frame = pd.DataFrame({"a": grid, "b": crossed, "tested": grid, "damage": grid})
    found = matched_bins({"x": frame}, "damage", "tested", ["a", "b"], 19, np.random.default_rng(3))
    assert (found["bins"][0], found["channels"][0]) == (parts**2, channels)


@pytest.mark.parametrize(
    ("b", "bins", "channels"),
    [
        ([0, 1, 6, 7, 2, 3, 8, 9], 4, 8),  # two in each of 2 x 2 classes
        ([0, 1, 2, 3, 9, 4, 10, 11, 12, 13], 2, 8),  # four and one, one and four
    ],
)
def test_two_alike_are_a_bin_and_one_alone_is_none(b: list[int], bins: int, channels: int) -> None:
    grid = np.arange(len(b))
    frame = pd.DataFrame({"a": grid, "b": b, "tested": grid, "damage": grid})
    found = matched_bins({"x": frame}, "damage", "tested", ["a", "b"], 19, np.random.default_rng(4))
    assert (found["bins"][0], found["channels"][0]) == (bins, channels)
