"""What holds for every layer, whatever its channels, targets, samples and scales.

1. Nothing is infinite; NaN stands only where `ChannelAxes` says so, with the channel in `affected`.
2. E is in [0, 1]; no quantity is negative, and none leaves its declared range.
3. All peers say at least what one of them says: the mean overlap is at most `peer_information`;
   redundancy and unique part are nonnegative and add to `task_information`.
4. Chain rule: I(Y_i; T | Y_-i) is at most I(T; all) and is 0 where peers determine the channel.
5. Permuting and rescaling channels changes nothing but order and power.
6. Merging the parts gives the whole.

`affected` may differ between two orders only where rounding decides: a channel "undecided", or one
that another order makes so. Every layer is checked for 1 to 3; every fifth of each
kind for 4, every twenty-fifth for 5 and 6, every fourth with its hull.
"""

import numpy as np
import pytest

from tests.fuzz.layers import KINDS, samples
from theory import QUANTITIES, Moments, channel_axes, merge, quantities

ROUNDING = 1e-9
"""Of a quantity of a layer that is no worse conditioned than 1e7."""

ILL = 1e-3
"""What `undecided` promises of a conditional information in a worse conditioned layer."""

WHERE_NAN = {
    "peer_overlap": {"copies"},
    "peer_information": {"collinear", "few_samples"},
    "peer_predictability": {"dead", "few_samples"},
    "hull_score": {"dead", "few_samples"},
    "task_information": {"target_determined"},
    "target_excess": {"target_determined", "undecided"},
    "conditional_task_information": {"target_determined", "undecided", "few_samples"},
    "task_redundancy": {"target_determined"},
    "task_unique": {"target_determined"},
}
CHECKED = [name for name in QUANTITIES if name != "rayleigh_quotient"]
HULL = [k for k, name in enumerate(CHECKED) if name.startswith("hull")]
MAY_BE_NAN = {
    kind: [k for k, name in enumerate(CHECKED) if kind in WHERE_NAN.get(name, ())]
    for kind in ("dead", "copies", "collinear", "target_determined", "undecided", "few_samples")
}
LOW = np.array([[quantities()[name].low - 1e-12] for name in CHECKED])
HIGH = np.array([[quantities()[name].high + 1e-12] for name in CHECKED])


def check_values(axes, c, hull):
    values = np.stack([getattr(axes, name) for name in CHECKED])
    assert values.shape == (len(CHECKED), c)
    allowed = np.zeros(values.shape, dtype=bool)
    for kind, channels in axes.affected.items():
        allowed[np.ix_(MAY_BE_NAN[kind], list(channels))] = True
    if not hull:
        allowed[HULL] = True
    wrong = np.isinf(values) | (np.isnan(values) & ~allowed) | (values < LOW) | (values > HIGH)
    assert not wrong.any(), [(CHECKED[k], values[k], axes.affected) for k in np.where(wrong)[0]]


def check_bounds(axes):
    beyond = axes.peer_overlap - axes.peer_information
    assert not (beyond > ROUNDING + 1e-4 * axes.peer_information).any(), beyond
    parts = axes.task_redundancy + axes.task_unique - axes.task_information
    assert not (np.abs(parts) > ROUNDING).any()
    collinear = list(axes.affected.get("collinear", ()))
    assert (axes.conditional_task_information[collinear] == 0).all()


def check_chain_rule(axes, y, t):
    """I(T; all) of the correlation's eigenvectors; where T is determined it bounds nothing."""
    live = np.ptp(y, axis=0) > 0
    y = y[:, live]
    basis = np.linalg.svd((y - y.mean(0)) / y.std(0), full_matrices=False)[0]
    target = np.linalg.svd(t - t.mean(0), full_matrices=False)
    target = target[0][:, target[1] > 1e-6 * target[1][0]]
    rank = min(len(y) - 1, y.shape[1])
    shares = np.linalg.svd(basis[:, :rank].T @ target, compute_uv=False)
    whole = -0.5 * np.log1p(-(np.minimum(shares, 1 - 1e-15) ** 2)).sum()
    assert not (axes.conditional_task_information > whole * (1 + ILL) + 1e-6).any()


def check_symmetries(axes, y, t, seed):
    rng = np.random.default_rng(seed)
    order = rng.permutation(y.shape[1])
    scale = 2.0 ** rng.integers(-30, 30, y.shape[1])
    moved = channel_axes(Moments.from_samples(y[:, order] * scale, t))
    parts = np.array_split(np.arange(len(y)), 3)
    merged = channel_axes(merge([Moments.from_samples(y[p], t[p]) for p in parts if p.size]))
    for other, at in ((moved, order), (merged, np.arange(y.shape[1]))):
        for kind in ("copies", "collinear"):
            back = tuple(sorted(int(at[k]) for k in other.affected.get(kind, ())))
            assert back == axes.affected.get(kind, ()), kind
        for name in set(QUANTITIES) - {"signal_power", "input_capture", "rayleigh_quotient"}:
            if name.startswith("hull"):  # greedy: equal gains are taken in the order of channels
                continue
            one, two = getattr(axes, name)[at], getattr(other, name)
            both = np.isfinite(one) & np.isfinite(two)
            if "undecided" not in axes.affected | other.affected:
                assert (np.isnan(one) == np.isnan(two)).all(), (name, one, two)
            np.testing.assert_allclose(two[both], one[both], rtol=2 * ILL, atol=1e-8, err_msg=name)


def check(seed):
    kind, y, t = samples(seed)
    often = seed // len(KINDS)
    axes = channel_axes(Moments.from_samples(y, t), noise=1.0, hull=often % 4 == 0)
    check_values(axes, y.shape[1], hull=often % 4 == 0)
    check_bounds(axes)
    if often % 5 == 0 and kind != "scales":
        check_chain_rule(axes, y, t)
    if often % 25 == 0:
        check_symmetries(axes, y, t, seed)


def violations(seeds):
    found = []
    for seed in seeds:
        try:
            check(seed)
        except AssertionError as error:
            found.append(f"seed {seed}, {samples(seed)[0]}: {str(error)[:300]}")
    return found


def test_twenty_thousand_layers():
    assert violations(range(20_000)) == []


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_two_hundred_thousand_layers(part):
    assert violations(range(20_000 * part, 20_000 * (part + 1))) == []
