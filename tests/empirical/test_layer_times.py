"""What a network takes by the widths of its layers: planted clocks, never the wall's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.prune import random_unstructured

from empirical.pruning.allocation import amount
from empirical.pruning.budgets import LatencyBudget
from empirical.pruning.layer_times import MeasuredTimes
from empirical.pruning.macs import COUNTED
from empirical.pruning.removal import remove
from empirical.pruning.tracing import trace_channels
from tests.empirical.pruning_networks import SIZES, network, plain


def of_macs(module: nn.Module, images: Tensor) -> float:
    """A clock that counts: a microsecond for every multiply-accumulate of a layer."""
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        out = module(images)
        channels = out.shape[-1] if isinstance(module, nn.Linear) else out.shape[1]
        return 1e-6 * out.numel() / channels * module.weight.numel()
    return sum(of_macs_of_children(module, images)) + 1e-3 * len(images)


def of_macs_of_children(module: nn.Module, images: Tensor) -> list[float]:
    found = []
    handles = [
        child.register_forward_hook(lambda m, x, _: found.append((m, x[0])))
        for child in module.modules()
        if isinstance(child, (nn.Conv2d, nn.Linear))
    ]
    module(images)
    for handle in handles:
        handle.remove()
    return [of_macs(child, x) for child, x in found]


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2"])
def test_a_table_of_multiply_accumulates_is_exact_at_every_width(name: str) -> None:
    """A product of two widths is bilinear, so that interpolating it is exact."""
    model, images = network(name), torch.randn(2, 3, SIZES[name], SIZES[name])
    graph = trace_channels(model, images[:1])
    times = MeasuredTimes.of(model, graph, images, repeats=1, clock=of_macs)
    budget = LatencyBudget(graph, times)
    assert amount(budget) == pytest.approx(of_macs(model, images))
    counts = np.random.default_rng(0).integers(1, graph.sizes + 1)
    kept = {g.name: np.arange(k) for g, k in zip(graph.groups, counts, strict=True)}
    smaller = remove(model, graph, kept, images[:1])
    layers = 1e-6 * 2 * graph.macs(counts)
    assert sum(of_macs_of_children(smaller, images)) == pytest.approx(layers)
    assert amount(budget, counts) == pytest.approx(layers + 2e-3)


def test_what_is_beyond_the_layers_is_fixed_or_goes_by_their_elements() -> None:
    """A second for the call, and a millisecond for every element that a layer computes."""
    model, images = plain((3, 16, 24)), torch.randn(2, 3, 6, 6)
    positions = {nn.Conv2d: 2 * 36, nn.Linear: 2}

    def clock(module: nn.Module, images: Tensor) -> float:
        layers = [m for m in module.modules() if type(m) in positions]
        if type(module) in positions:
            return 0.0
        return 1.0 + 1e-3 * sum(positions[type(m)] * len(m.weight) for m in layers)

    graph = trace_channels(model, images[:1])
    times = MeasuredTimes.of(model, graph, images, repeats=1, clock=clock)
    assert times.rest == pytest.approx(1.0)
    assert amount(LatencyBudget(graph, times), np.array([5, 7])) == pytest.approx(
        1.0 + 1e-3 * (72 * (5 + 7) + 2 * 10)
    )


def elements(model: nn.Module, images: Tensor) -> int:
    """Numbers that all convolutions and linear layers compute."""
    found = []
    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    layers = [m for m in model.modules() if isinstance(m, kinds)]
    hooks = [m.register_forward_hook(lambda m, x, out: found.append(out.numel())) for m in layers]
    model(images)
    for hook in hooks:
        hook.remove()
    return sum(found)


class Tokens(nn.Module):
    """Linear layers over places (n, 50, 12), and one on what is left of them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(12, 32), nn.Linear(32, 12), nn.Linear(12, 8)
        self.last = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.b(self.a(x).relu())
        return self.last(self.c(x.mean(1)).relu())


def resized() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, stride=2), nn.ReLU(),
        nn.ConvTranspose2d(16, 12, 2, stride=2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4),
    )  # fmt: skip


@pytest.mark.parametrize(("make", "shape"), [(resized, (3, 8, 8)), (Tokens, (50, 12))])
def test_elements_are_those_that_layers_compute(
    make: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    """Not those that they read, nor places taken for channels."""
    model, images = make().eval(), torch.randn(4, *shape)
    clock = lambda m, x: 0.0 if isinstance(m, COUNTED) else 1 + 1e-3 * elements(m, x)  # noqa: E731
    graph = trace_channels(model, images[:1])
    times = MeasuredTimes.of(model, graph, images, repeats=1, clock=clock)
    counts = np.maximum(1, graph.sizes // 3)
    kept = {g.name: np.arange(k) for g, k in zip(graph.groups, counts, strict=True)}
    smaller = remove(model, graph, kept, images[:1])
    assert amount(LatencyBudget(graph, times), counts) == pytest.approx(clock(smaller, images))


class Standardized(nn.Conv2d):
    """A convolution that standardizes each filter, with a gain for each."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 1)
        self.gain = nn.Parameter(torch.ones(channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return nn.functional.conv2d(x, self.gain * weight, self.bias)


@pytest.mark.parametrize(
    "kept_whole",
    [
        lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(16, 16, 1)),
        lambda: random_unstructured(nn.Conv2d(16, 16, 1), "weight", 0.3),
        lambda: Standardized(16),
    ],
)
def test_layers_that_are_kept_whole_are_timed_as_they_are(
    kept_whole: Callable[[], nn.Module],
) -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 16, 1), kept_whole(), nn.ReLU(), nn.Conv2d(16, 16, 1), nn.Flatten(),
        nn.Linear(16 * 16, 4),
    ).eval()  # fmt: skip
    images = torch.randn(4, 3, 4, 4)
    graph = trace_channels(model, images[:1])
    times = MeasuredTimes.of(model, graph, images, repeats=1, clock=lambda m, x: 1.0)
    assert times.grids["1"].seconds.shape == (1, 1)
    assert times.grids["3"].seconds.shape[1] > 1


def test_times_are_of_images_and_of_the_network_that_is_wrapped() -> None:
    model, images = plain(), torch.randn(4, 3, 6, 6)
    graph = trace_channels(model, images)
    wrapped = MeasuredTimes.of(nn.DataParallel(model), graph, images, repeats=1, clock=of_macs)
    assert wrapped.grids.keys() == set(graph.layers)
    for wrong, message in ((images[:0], "at least one"), (images[:, :1], "images must be images")):
        with pytest.raises(ValueError, match=message):
            MeasuredTimes.of(model, graph, wrong)
    with pytest.raises(ValueError, match="repeats must be"):
        MeasuredTimes.of(model, graph, images, repeats=0)
