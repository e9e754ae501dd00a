"""Damage curves set right by measurement: where positions add up, and counts by such curves."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from empirical.pruning.calibration import Calibration
from empirical.pruning.choosing import Request
from empirical.pruning.forecast_law import Answers
from empirical.pruning.measured_damage import measured_curves
from empirical.pruning.recovering import apply
from tests.empirical.pruning_networks import batches, plain

SIDE = 4
NAME = "task_replaceability"


@lru_cache(maxsize=1)
def pooled() -> tuple[Calibration, tuple[str, ...]]:
    """A linear network that pools, on images of one colour each, and its groups' names.

    What goes of the first layer is missed at SIDE² positions, in the same way at each; what goes of
    the others is read once. Logits are small, so that the second order is all there is.
    """
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 8), nn.Linear(8, 5),
    ).double()  # fmt: skip
    colours = torch.randn(1000, 8, 1, 1, dtype=torch.float64).expand(-1, -1, SIDE, SIDE)
    loader: list[tuple[Tensor, Tensor]] = [(colours, torch.randint(5, (1000,)))]
    known = Calibration(model, loader)
    return known, tuple(group.name for group in known.graph.groups)


def test_where_errors_of_all_positions_add_up_the_curve_grows_by_their_number() -> None:
    known, names = pooled()
    foretold = known.damage_curves(NAME)
    found = known.damage_curves(NAME, measured=True)
    factors = [found[name][4] / foretold[name][4] for name in names]
    assert factors[0] == pytest.approx(SIDE**2, rel=0.2)
    assert factors[1:] == pytest.approx([1.0, 1.0], abs=0.2)


def test_the_layer_in_front_of_the_pooling_keeps_more_than_by_the_second_order() -> None:
    known, _ = pooled()
    by = {a: Request(0.5, NAME, a).counted(known) for a in ("damage", "measured_damage")}
    assert by["measured_damage"][0] > by["damage"][0]


def test_half_of_a_group_costs_what_the_network_without_it_was_found_to_lose() -> None:
    """By removal on the same images, where curves are found by masks."""
    known = Calibration(plain((3, 12, 16)), batches(3, 6, count=4))
    foretold, found = (known.damage_curves(NAME, measured=m) for m in (False, True))
    dense = Answers.of(known.model, known.loader)
    everything = {g.name: np.arange(g.units) for g in known.graph.groups}
    for group in known.graph.groups:
        half = np.sort(np.argsort(-known.scores(NAME)[group.name])[: group.units // 2])
        cut = apply(known, everything | {group.name: half}, "merge")
        lost = dense.distance(Answers.of(cut, known.loader))
        expected = max(lost, foretold[group.name][group.units // 2])
        assert found[group.name][group.units // 2] == pytest.approx(expected, rel=1e-4)
        assert found[group.name][-1] == 0


def test_a_group_that_is_foretold_to_lose_nothing_has_the_others_mean_factor() -> None:
    known, names = pooled()
    foretold = known.damage_curves(NAME)
    late = np.where(np.arange(9) < 4, 1.0, 0.0)
    found = measured_curves(known, known.scores(NAME), foretold | {names[1]: late})
    factors = [found[name][1] / foretold[name][1] for name in (names[0], names[2])]
    assert found[names[1]][0] == pytest.approx(np.sqrt(np.prod(factors)))
    assert (found[names[1]][4:] == 0).all()
