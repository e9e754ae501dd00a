"""Lesions where modules are hooked or patched, or work in place on what is read elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from empirical import lesion, replace
from empirical.measuring.damage_readings import activation_after
from empirical.reading.layers import find_layers
from empirical.reading.points import taps
from tests.empirical.test_lesion_fast import ROUNDING, data, prepared

SCALES = torch.tensor([1.0, 1.0, 0.0, 5.0, 1.0, -2.0, 1.0, 1.0])[:, None, None]


def before(module: nn.Module) -> None:
    module.register_forward_pre_hook(lambda _, given: (given[0] * SCALES,))


def after(module: nn.Module) -> None:
    module.register_forward_hook(lambda _, given, made: made * SCALES)


def patched(module: nn.Module) -> None:
    whole = module.forward
    module.forward = lambda given: whole(given * SCALES)  # type: ignore[method-assign]


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip


@pytest.mark.parametrize("change", [before, after, patched])
@pytest.mark.parametrize("name", [1, 2, 3, 4, 6])
def test_hooks_and_patches_are_run(change: Callable[[nn.Module], None], name: int) -> None:
    model = prepared(network)
    change(model[name])
    fast, naive = (
        lesion(model, data(9, 2), layers=["0"], kinds=["zero"], method=method)
        for method in ("fast", "naive")
    )
    assert fast.fallback == {}
    for damage, values in naive.damage.items():
        np.testing.assert_allclose(fast.damage[damage], values, **ROUNDING)


def test_weight_norm_is_read_as_it_is() -> None:
    model = prepared(network)
    with pytest.warns(FutureWarning, match="weight_norm"):
        nn.utils.weight_norm(model[3])
    fast, naive = (
        lesion(model, data(9, 2), layers=["0"], kinds=["zero"], method=method)
        for method in ("fast", "naive")
    )
    for damage, values in naive.damage.items():
        np.testing.assert_allclose(fast.damage[damage], values, **ROUNDING)


class InPlace(nn.Module):
    """The shortcut adds what a ReLU in place made of it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.relu, self.inner, self.out = nn.ReLU(inplace=True), nn.ReLU(), nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.a(images)
        inside = self.inner(self.b(self.relu(maps)))
        return self.out((inside + maps).mean((2, 3)))


def test_what_works_in_place_on_what_is_read_elsewhere_is_no_graph() -> None:
    model = prepared(InPlace)
    with pytest.warns(RuntimeWarning, match="in place changes what something else reads"):
        fast = lesion(model, data(9, 2), kinds=["zero"])
    naive = lesion(model, data(9, 2), kinds=["zero"], method="naive")
    for damage, values in naive.damage.items():
        np.testing.assert_allclose(fast.damage[damage], values, **ROUNDING)
    for method in ("fast", "naive"):
        with pytest.raises(ValueError, match=r"in place changes .* Use point='pre_norm'\."):
            replace(model, data(9, 2), data(40, 1), point="post_activation", method=method)


def test_the_law_of_damage_takes_slopes_where_a_norm_is_hooked() -> None:
    model = prepared(network)
    (tap,), _ = taps(find_layers(model, torch.zeros(2, 3, 8, 8), ["0"]), "pre_norm", strict=True)
    assert activation_after(model, tap) is not None
    before(model[1])
    assert activation_after(model, tap) is None
