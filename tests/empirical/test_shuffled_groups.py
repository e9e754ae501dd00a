"""Units of several inputs in each block of a grouped convolution, as channel shuffles make them."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from empirical import Calibration, prune
from empirical.pruning.tracing import trace_channels
from tests.empirical.pruning_networks import batches


class Shuffled(nn.Module):
    """Two grouped convolutions of one input twice, a channel shuffle between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.a, self.b = nn.Conv2d(8, 24, 1, groups=2), nn.Conv2d(24, 10, 3, padding=1, groups=2)
        self.out = nn.Linear(10, 10)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.first(images)
        maps = self.a(torch.cat([maps, maps], dim=1)).relu()
        maps = maps.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)
        return self.out(self.b(maps).relu().mean((2, 3)))


@cache
def copied() -> Calibration:
    """All four channels of the first two units are one, the others are what chance made them."""
    torch.manual_seed(0)
    model, loader = Shuffled().eval(), batches(3, 6, each=64)
    (unit,) = trace_channels(model, loader[0][0]).group("a").producers
    assert unit.index.shape == (6, 4)
    same = torch.as_tensor(unit.index[:2].ravel())
    with torch.no_grad():
        model.a.weight[same] = model.a.weight[same[0]].clone()
        model.a.bias[same] = 0.5
    return Calibration(model, loader)


def test_the_inputs_of_its_units_are_kept_apart_by_block() -> None:
    known = copied()
    (reader,) = known.graph.group("a").consumers
    parts = reader.of_blocks(known.model.get_submodule("b"))
    assert parts.shape == (6, 2, 2)
    np.testing.assert_array_equal(parts[:, 1], parts[:, 0] + 12)
    np.testing.assert_array_equal(np.sort(parts[:, 0].ravel()), np.arange(12))
    moments = known.input_moments["a", "b"]
    assert moments.cov.shape == (2, 6, 6)
    np.testing.assert_allclose(moments.cov[:, 0, 1], moments.cov[:, 0, 0], rtol=1e-12)


@pytest.mark.parametrize(
    "criterion",
    ["replaceability", "task_replaceability", "replaceability_kernels", "osscar",
     "damage_with_peers", "damage_of_sets", "lindeps", "auto"],
)  # fmt: skip
def test_one_of_two_copies_goes_first(criterion: str) -> None:
    known = copied()
    small = prune(known.model, known, counts={"a": 5}, criterion=criterion, recovery="none")
    (gone,) = set(range(6)) - set(small.kept["a"].tolist())
    assert gone in (0, 1)


@pytest.mark.parametrize("recovery", ["merge", "compensate", "fold", "reconstruct"])
def test_the_other_one_stands_in(recovery: str) -> None:
    """But for a ridge: 1.5e-4 of what is lost without, .3 % refitted; folding is exact."""
    known, images = copied(), batches(3, 6, each=64)[0][0]
    options = {"counts": {"a": 5}, "criterion": "replaceability"}
    bare, mended = (
        prune(known.model, known, recovery=own, **options).model for own in ("none", recovery)
    )
    with torch.no_grad():
        whole = known.model(images)
        lost, left = ((m(images) - whole).abs().max() for m in (bare, mended))
    assert left < 0.01 * lost
