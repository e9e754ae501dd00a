"""Layouts that users of pruning libraries report: cut to 70 % as masked, or kept whole by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import prune as masks

from empirical import Calibration, prune
from empirical.pruning.removal import mask
from empirical.pruning.tracing import covering, trace_channels
from tests.empirical.planted import PLANTED_TOLERANCE, largest_change
from tests.empirical.pruning_networks import awakened
from tests.zoo.checks import difference

Forward = Callable[["Written", Tensor], Tensor]


class Written(nn.Module):
    """Layers by name, and a forward as a function of them; `c` and `out` come last."""

    def __init__(self, forward: Forward, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self._forward = [forward]

    def forward(self, images: Tensor) -> Tensor:
        maps = self.c(self._forward[0](self, images)).relu()
        return self.out(maps.mean((2, 3)))


def conv(inputs: int, outputs: int, size: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, padding=size // 2)


def written(forward: Forward, inputs: int = 16, **layers: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return awakened(Written(forward, **layers, c=conv(inputs, 12), out=nn.Linear(12, 4)))


def batch(n: int = 48) -> tuple[Tensor, Tensor]:
    images = torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return images, torch.arange(n) % 4


def selected(m: Written, x: Tensor) -> Tensor:
    """Two kernels' maps, weighted by a softmax over the two (selective kernels)."""
    maps = torch.stack([m.a(x).relu(), m.b(x).relu()], 1)
    hidden = m.squeeze(maps.sum(1).mean((2, 3))).relu()
    weights = torch.stack([m.first(hidden), m.second(hidden)], 1).softmax(1)
    return (maps * weights[..., None, None]).sum(1)


def split(m: Written, x: Tensor) -> Tensor:
    """Both halves of a grouped convolution, weighted by a softmax over them (split attention)."""
    maps = m.b(m.a(x).relu()).relu().unflatten(1, (2, -1))
    hidden = m.squeeze(maps.sum(1).mean((2, 3))).relu()
    weights = m.both(hidden).unflatten(1, (2, -1)).softmax(1)
    return (maps * weights[..., None, None]).sum(1)


def unpooled(m: Written, x: Tensor) -> Tensor:
    maps, places = functional.max_pool2d(m.a(x).relu(), 2, return_indices=True)
    return functional.max_unpool2d(m.b(maps).relu(), places, 2)


def turned(m: Written, x: Tensor) -> Tensor:
    """A spatial transformer."""
    maps = m.a(x).relu()
    theta = m.b(functional.adaptive_avg_pool2d(maps, 2).flatten(1)).unflatten(1, (2, 3))
    grid = functional.affine_grid(theta, list(maps.shape), align_corners=False)
    return functional.grid_sample(maps, grid, align_corners=False)


class FixedNorm(nn.Module):
    """A batch norm of buffers, as detection networks freeze it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.rand(channels) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.running_mean, self.running_var, self.weight, self.bias
        return functional.batch_norm(x, *parts, training=False)


def normed_by_another(m: Written, x: Tensor) -> Tensor:
    norm = m.norm
    return functional.batch_norm(
        m.a(x), norm.running_mean, norm.running_var, norm.weight, norm.bias
    ).relu()


class RootMeanSquare(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(channels) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x * (x.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt() * self.weight


def twice(m: Written, x: Tensor) -> Tensor:
    """An image and its mirror image side by side in the batch."""
    one, other = m.b(m.a(torch.cat([x, x.flip(-1)])).relu()).relu().chunk(2)
    return torch.cat([one, other, one * other], 1)


def squeezed(m: Written, x: Tensor) -> Tensor:
    """`squeeze` takes the dimension of a single image, too."""
    hidden = m.b(m.a(x).relu().mean((2, 3), keepdim=True).squeeze()).relu()
    return hidden.reshape(len(x), -1, 1, 1)


LINEAR = nn.Linear
FOLLOWED: dict[str, tuple[Callable[[], nn.Module], dict[str, int]]] = {
    "selective kernels": (
        lambda: written(
            selected, a=conv(3, 16), b=conv(3, 16, 5), squeeze=LINEAR(16, 8), first=LINEAR(8, 16),
            second=LINEAR(8, 16),
        ),
        {"a": 16, "squeeze": 8},
    ),
    "split attention": (
        lambda: written(
            split, 12, a=conv(3, 16), b=nn.Conv2d(16, 24, 3, padding=1, groups=2),
            squeeze=LINEAR(12, 8), both=LINEAR(8, 24),
        ),
        {"a": 8, "b": 12, "squeeze": 8},
    ),
    "mean of branches": (
        lambda: written(
            lambda m, x: torch.stack([m.a(x), m.b(x).relu()]).mean(0), a=conv(3, 16), b=conv(3, 16)
        ),
        {"a": 16},
    ),
    "maxout": (
        lambda: written(lambda m, x: m.a(x).unflatten(1, (-1, 2)).amax(2), 8, a=conv(3, 16)),
        {"a": 8},
    ),
    "unpooling": (lambda: written(unpooled, a=conv(3, 16), b=conv(16, 16)), {"a": 16}),
    "spatial transformer": (
        lambda: written(turned, a=conv(3, 16), b=LINEAR(64, 6)), {"a": 16},
    ),
    "norm of buffers": (
        lambda: written(lambda m, x: m.n(m.a(x)).relu(), a=conv(3, 16), n=FixedNorm(16)),
        {"a": 16},
    ),
    "root mean square": (
        lambda: written(
            lambda m, x: m.n(m.a(x).movedim(1, -1)).movedim(-1, 1), a=conv(3, 16),
            n=RootMeanSquare(16),
        ),
        {"a": 16},
    ),
    "squeezed": (lambda: written(squeezed, a=conv(3, 16), b=LINEAR(16, 16)), {"a": 16, "b": 16}),
}  # fmt: skip


def trace_and_prune(model: nn.Module, images: Tensor, labels: Tensor) -> Calibration:
    """Trace, plant silence, and prune to 70 %: removed is masked, on all images."""
    known = Calibration(model, [(images, labels)])
    assert not largest_change(model, known.graph, images[:8]) > PLANTED_TOLERANCE
    small = prune(model, known, macs=0.7, criterion="l2", recovery="none")
    assert small.report.macs_share == pytest.approx(0.7, abs=0.08)
    masked = mask(model, known.graph.groups, small.kept)
    assert difference(small.model, masked, images) <= 1e-5
    return known


@pytest.mark.parametrize("name", FOLLOWED)
def test_what_goes_together_is_one_group(name: str) -> None:
    make, groups = FOLLOWED[name]
    known = trace_and_prune(make(), *batch())
    assert {g.name: g.units for g in known.graph.groups} == groups | {"c": 12}


@pytest.mark.parametrize(
    ("forward", "inputs", "layers", "reason"),
    [
        (twice, 24, {"a": conv(3, 16), "b": conv(16, 8)}, "does not keep images apart"),
        (
            normed_by_another, 16, {"a": conv(3, 16), "norm": nn.BatchNorm2d(16)},
            "batch_norm in forward",
        ),
        (
            lambda m, x: m.a(x) * m.a(x).relu().mean(1, keepdim=True), 16, {"a": conv(3, 16)},
            "mean in forward",
        ),
    ],
    ids=["mirror images in the batch", "another module's norm", "gate of all"],
)  # fmt: skip
def test_what_cannot_go_is_kept_whole(
    forward: Forward, inputs: int, layers: dict[str, nn.Module], reason: str
) -> None:
    known = trace_and_prune(written(forward, inputs, **layers), *batch())
    assert reason in known.graph.kept_whole["a"]


ACTIVATIONS = [
    nn.ReLU, nn.RReLU, nn.Hardtanh, nn.ReLU6, nn.Sigmoid, nn.Hardsigmoid, nn.Tanh, nn.SiLU,
    nn.Mish, nn.Hardswish, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.Hardshrink, nn.LeakyReLU,
    nn.LogSigmoid, nn.Softplus, nn.Softshrink, nn.PReLU, nn.Softsign, nn.Tanhshrink,
]  # fmt: skip


def test_every_activation_hands_channels_on() -> None:
    chain = [make() for make in ACTIVATIONS] + [
        nn.Threshold(0.1, 0.2),
        nn.Dropout2d(),
        nn.Identity(),
    ]
    for activation in chain:
        model = written(lambda m, x: m.n(m.a(x)), a=conv(3, 16), n=activation)
        graph = trace_channels(model, batch(2)[0])
        assert [group.name for group in graph.groups] == ["a", "c"], activation


def by_path(m: Written, x: Tensor) -> Tensor:
    """Each image through the layer that its mean chooses."""
    maps = m.a(x).relu()
    out = maps.new_zeros(len(x), 16, *maps.shape[2:])
    for layer, chosen in ((m.b, x.mean((1, 2, 3)) > 0), (m.d, x.mean((1, 2, 3)) <= 0)):
        if bool(chosen.any()):
            out[chosen] = layer(maps[chosen])
    return out


def test_layers_that_only_some_images_run_are_traced() -> None:
    model = written(by_path, a=conv(3, 16), b=conv(16, 16), d=conv(16, 16))
    images, labels = batch()
    traced = covering(model, images)
    assert sorted((traced.mean((1, 2, 3)) > 0).tolist()) == [False, True]
    assert torch.equal(traced[0], images[0])
    known = trace_and_prune(model, images, labels)
    assert "does not keep images apart" in known.graph.kept_whole["a"]
    one_way = trace_channels(model, images[:1])
    assert len({"b", "d"} & set(one_way.kept_whole)) == 2
    idle = next(name for name in ("b", "d") if "no image" in one_way.kept_whole[name])
    assert (idle == "d") == bool(images[0].mean() > 0)


def test_a_head_of_training_is_named() -> None:
    def with_head(m: Written, x: Tensor) -> Tensor:
        maps = m.a(x).relu()
        return maps + m.head(maps) if m.training else maps

    model = written(with_head, a=conv(3, 16), head=conv(16, 16))
    known = trace_and_prune(model, *batch())
    assert known.graph.kept_whole["head"].startswith("no image that was traced runs it")


@pytest.mark.parametrize(
    "compute",
    [
        lambda layer: nn.utils.spectral_norm(layer),
        lambda layer: masks.l1_unstructured(layer, "weight", amount=0.5),
    ],
    ids=["spectral norm", "pruning mask"],
)
def test_a_weight_that_a_hook_computes_is_copied_behind_a_pass_with_gradients(
    compute: Callable[[nn.Module], nn.Module],
) -> None:
    torch.manual_seed(0)
    layers = conv(3, 16), nn.ReLU(), compute(conv(16, 16)), nn.ReLU(), conv(16, 12), conv(12, 6)
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)).eval()
    images, labels = batch()
    known = Calibration(model, [(images, labels)])
    assert not model(images).isnan().any()
    assert not model[2].weight.is_leaf
    for criterion, recovery in (("taylor", "none"), ("l2", "compensate"), ("l2", "reconstruct")):
        small = prune(model, known, macs=0.7, criterion=criterion, recovery=recovery)
        assert "make it permanent" in small.report.kept_whole["2"]
