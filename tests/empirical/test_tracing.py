"""Layouts that tie channels in ways a layer-by-layer reading gets wrong: right, or kept whole."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import prune as masks
from torchvision.models import VisionTransformer
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.ops import FrozenBatchNorm2d

from empirical import prune
from empirical.pruning.operations import is_elementwise
from empirical.pruning.tracing import trace_channels
from tests.empirical.planted import PLANTED_TOLERANCE, largest_change
from tests.empirical.pruning_networks import SIZES, awakened, network


class Mixed(nn.Module):
    """Two convolutions, some arrangement of their channels, a reader and a classifier."""

    def __init__(self, mix: Callable[..., Tensor], inputs: int, channels: int = 8) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, channels, 3), nn.Conv2d(3, channels, 3)
        self.read, self.out = nn.Conv2d(inputs, 12, 3), nn.Linear(12, 4)
        self._mix = [mix]

    def forward(self, images: Tensor) -> Tensor:
        maps = self._mix[0](self.one(images).relu(), self.two(images).relu())
        return self.out(self.read(maps).relu().mean((2, 3)))


def images(n: int = 4, size: int = 8) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0))


def written_norm(x: Tensor) -> Tensor:
    mean = x.mean(1, keepdim=True)
    return (x - mean) / ((x - mean).pow(2).mean(1, keepdim=True) + 1e-6).sqrt()


def assembled(a: Tensor, b: Tensor) -> Tensor:
    out = torch.zeros_like(torch.cat([a, b], 1))
    out[:, : a.shape[1]] = a
    out[:, a.shape[1] :] = b
    return out


FOLLOWED = {
    "sum": (lambda a, b: a + b, 8),
    "concatenation": (lambda a, b: torch.cat([a, b], 1), 16),
    "assembled in place": (assembled, 16),
    "interleaved": (lambda a, b: torch.stack([a, a * b], 2).flatten(1, 2), 16),
    "channels last and back": (lambda a, b: (a + b).permute(0, 2, 3, 1).permute(0, 3, 1, 2), 8),
    "space to depth": (lambda a, b: functional.pixel_unshuffle(a + b, 2), 32),
    "depth to space": (lambda a, b: functional.pixel_shuffle(a + b, 2), 2),
    "gated by the other half": (lambda a, b: functional.glu(torch.cat([a, b], 1), 1), 8),
    "flip of one": (lambda a, b: a + b.flip(1), 8),
    "pooled and resized": (
        lambda a, b: functional.interpolate(functional.max_pool2d(a + b, 2), size=6), 8,
    ),
}  # fmt: skip
WHOLE = {
    "roll": (lambda a, b: torch.roll(a + b, 3, 1), 8, "fixed numbers"),
    "swapped halves": (lambda a, b: torch.cat((a + b).chunk(2, 1)[::-1], 1), 8, "fixed numbers"),
    "stack of two": (lambda a, b: torch.stack([a, b], 1).flatten(1, 2), 16, "fails without some"),
    "written norm": (lambda a, b: written_norm(a + b), 8, "mixes its channels"),
    "normalize": (lambda a, b: functional.normalize(a + b, dim=1), 8, "mixes its channels"),
    "softmax": (lambda a, b: (a + b).softmax(1), 8, "mixes its channels"),
    "functional convolution": (
        lambda a, b: functional.conv2d(a + b, torch.ones(8, a.shape[1], 1, 1)), 8,
        "fails without some|functional layer",
    ),
    "gate of all": (lambda a, b: (a + b) * b.mean(1, keepdim=True), 8, "mixes its channels"),
    "fixed pad": (
        lambda a, b: (a + b)[:, :8] + functional.pad(b[:, :4], (0, 0, 0, 0, 2, 2)), 8,
        "single unit|not alike|fails|fixed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLLOWED)
def test_what_moves_channels_is_followed(name: str) -> None:
    torch.manual_seed(0)
    mix, inputs = FOLLOWED[name]
    model = Mixed(mix, inputs).eval()
    graph = trace_channels(model, images(1))
    assert {"one", "two"} & {m.module for group in graph.groups for m in group.producers}
    assert largest_change(model, graph, images()) <= PLANTED_TOLERANCE


@pytest.mark.parametrize("name", WHOLE)
def test_what_mixes_channels_keeps_them_whole_and_the_rest_is_pruned(name: str) -> None:
    torch.manual_seed(0)
    mix, inputs, reason = WHOLE[name]
    model = Mixed(mix, inputs).eval()
    graph = trace_channels(model, images(1))
    assert "one" in graph.kept_whole
    assert any(part in graph.kept_whole["one"] for part in reason.split("|"))
    assert [group.name for group in graph.groups] == ["read"]
    assert largest_change(model, graph, images()) <= PLANTED_TOLERANCE


@pytest.mark.parametrize("name", SIZES)
def test_planted_silence_on_every_architecture(name: str) -> None:
    model = network(name)
    batch = images(2, SIZES[name])
    graph = trace_channels(model, batch[:1])
    assert largest_change(model, graph, batch) <= PLANTED_TOLERANCE


def test_channels_last_flattening_cuts_the_columns_of_the_channels() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3, padding=1)
            self.hidden, self.out = nn.Linear(8 * 16, 16), nn.Linear(16, 4)

        def forward(self, x: Tensor) -> Tensor:
            maps = torch.max_pool2d(self.conv(x).relu(), 2)
            return self.out(self.hidden(maps.permute(0, 2, 3, 1).flatten(1)).relu())

    model = Net().eval()
    graph = trace_channels(model, images(1))
    reader = graph.group("conv").consumers[0]
    assert reader.index[3].tolist() == list(range(3, 128, 8))
    assert largest_change(model, graph, images()) <= PLANTED_TOLERANCE


class Padded(nn.Module):
    """A residual block whose shortcut is padded with zero channels."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.one, self.norm1 = nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs)
        self.two, self.norm2 = nn.Conv2d(outputs, outputs, 3, 1, 1), nn.BatchNorm2d(outputs)
        self.extra = (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        z = self.norm2(self.two(self.norm1(self.one(x)).relu()))
        if self.extra:
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.extra, self.extra))
        return (z + x).relu()


@pytest.mark.parametrize("coupled", [True, False])
def test_padded_shortcuts_keep_the_stream_and_prune_inside_the_blocks(coupled: bool) -> None:
    model = awakened(
        nn.Sequential(
            nn.Conv2d(3, 8, 3, 1, 1), Padded(8, 8, 1), Padded(8, 16, 2), Padded(16, 32, 2),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 4),
        )
    )  # fmt: skip
    graph = trace_channels(model, images(1, 16), coupled=coupled)
    assert [group.name for group in graph.groups] == ["1.one", "2.one", "3.one"]
    assert set(graph.kept_whole) == {"0", "1.two", "2.two", "3.two", "6"}
    assert largest_change(model, graph, images(4, 16)) <= PLANTED_TOLERANCE


class Scale(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.rand(channels, 1, 1) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


@pytest.mark.parametrize("make", [nn.BatchNorm2d, FrozenBatchNorm2d, Scale, nn.InstanceNorm2d])
def test_norms_and_buffers_by_channel_are_cut(make: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), make(8), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(12, 4),
    ).eval()  # fmt: skip
    graph = trace_channels(model, images(1))
    assert [group.name for group in graph.groups] == ["0", "3"]
    pruned = prune(model, [(images(16), torch.arange(16) % 4)], macs=0.6, criterion="l2")
    assert pruned.report.channels["0"][1] < 8
    tensors = [*pruned.model[1].parameters(), *pruned.model[1].buffers()]
    assert all(t.numel() in (1, pruned.report.channels["0"][1]) for t in tensors)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.c, self.d = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 6, 1)
        self.out = nn.Linear(6, 4)
        self.c.weight = self.b.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.c(self.b(self.a(x).relu()).relu()).relu()
        return self.out(self.d(x).relu().mean((2, 3)))


def test_tied_weights_are_not_cut() -> None:
    graph = trace_channels(Tied().eval(), images(1))
    assert [group.name for group in graph.groups] == ["d"]
    why = "'b.weight' and 'c.weight' are one tensor; give each its own copy"
    assert {name: graph.kept_whole[name] for name in "abc"} == dict.fromkeys("abc", why)


class Parts(nn.Module):
    """Two layers, each with a norm and slopes, before one without."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 6, 1), nn.Linear(6, 4)]
        self.a, self.b, self.c, self.out = layers
        self.norm, self.again = nn.BatchNorm2d(8), nn.BatchNorm2d(8)
        self.slope, self.steeper = nn.PReLU(8), nn.PReLU(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.steeper(self.again(self.b(self.slope(self.norm(self.a(x))))))
        return self.out(self.c(x).relu().mean((2, 3)))


@pytest.mark.parametrize(
    "shared",
    [["a.bias", "b.bias"], ["a.bias", "b.bias", "norm.bias"],
     ["norm.weight", "again.weight"], ["slope.weight", "steeper.weight"]],
    ids="+".join,
)  # fmt: skip
def test_layers_whose_biases_norms_or_slopes_are_shared_are_not_cut(shared: list[str]) -> None:
    torch.manual_seed(0)
    model = awakened(Parts())
    for name in shared:
        owner, own = name.split(".")
        setattr(model.get_submodule(owner), own, model.get_parameter(shared[0]))
    graph = trace_channels(model, images(1))
    assert [group.name for group in graph.groups] == ["c"]
    for name in ("a", "b"):
        assert re.findall("'(.+?)'", graph.kept_whole[name]) == shared
    assert largest_change(model, graph, images()) <= PLANTED_TOLERANCE


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: nn.utils.parametrizations.weight_norm(layer),
        lambda layer: nn.utils.parametrizations.spectral_norm(layer),
        lambda layer: masks.l1_unstructured(layer, "weight", amount=0.5),
    ],
    ids=["weight norm", "spectral norm", "pruning mask"],
)
def test_weights_that_are_computed_are_not_cut(change: Callable[[nn.Module], object]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2),
    ).eval()  # fmt: skip
    change(model[1])
    graph = trace_channels(model, images(1))
    assert [group.name for group in graph.groups] == ["2", "3"]
    for name in ("0", "1"):  # the reader of layer 0 is what cannot be cut
        assert "the weight of '1' is computed" in graph.kept_whole[name]
        assert "make it permanent" in graph.kept_whole[name]
    assert largest_change(model, graph, images()) <= PLANTED_TOLERANCE


class Read(nn.Sequential):
    """Reads a parameter of its first layer outside of that layer."""

    def forward(self, x: Tensor) -> Tensor:
        hidden = self[0](x).relu() - self[0].bias[:, None, None]
        return self[3](self[2](self[1](hidden).relu()).relu().mean((2, 3)))


class Scaled(nn.Conv2d):
    """Scales its outputs by the mean of its weight."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.weight.abs().mean()


@pytest.mark.parametrize("kind", [nn.Conv2d, Scaled])
def test_layers_whose_parameters_are_read_elsewhere_are_not_cut(kind: type[nn.Conv2d]) -> None:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 1), kind(8, 8, 1), nn.Conv2d(8, 6, 1), nn.Linear(6, 4)
    model = Read(*layers).eval()
    graph = trace_channels(model, images(1))
    assert "'0.bias' is read outside of the layer" in graph.kept_whole["0"]
    assert ("1" in graph.kept_whole) is (kind is Scaled)
    assert largest_change(model, graph, images()) <= PLANTED_TOLERANCE


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1.0])
def test_a_fault_behind_a_scale_that_is_still_zero_is_seen(scale: float) -> None:
    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(scale))
            self.one, self.two = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 12, 1)
            self.three, self.out = nn.Conv2d(12, 8, 1), nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.one(x)
            hidden = self.two(x).relu()
            x = x + self.scale * self.three(hidden / hidden.shape[1] ** 0.5)
            return self.out(x.relu().mean((2, 3)))

    torch.manual_seed(0)
    graph = trace_channels(Branch().eval(), images(1))
    assert [group.name for group in graph.groups] == ["one"]
    assert "removed and masked outputs differ" in graph.kept_whole["two"]


def test_neurons_of_transformers_are_groups_and_the_stream_is_kept_whole() -> None:
    torch.manual_seed(0)
    vit = VisionTransformer(16, 8, 2, 4, 32, 64, num_classes=4).eval()
    nn.init.normal_(vit.heads.head.weight)
    swin = SwinTransformer([2, 2], 16, [1, 1], [2, 2], [2, 2], num_classes=4).eval()
    for model, size, inner in ((vit, 16, "mlp.0"), (swin, 16, "mlp.0")):
        graph = trace_channels(model, images(1, size))
        assert len(graph.groups) == 2
        assert all(group.name.endswith(inner) for group in graph.groups)
        assert any("ttention" in reason for reason in graph.kept_whole.values())
        assert largest_change(model, graph, images(2, size)) <= PLANTED_TOLERANCE


@pytest.mark.parametrize("name", ["hardtanh", "celu", "masked_fill.Scalar", "cumsum", "index_add"])
def test_an_operation_in_place_without_a_tag_is_what_its_other_form_is(name: str) -> None:
    base, _, form = name.partition(".")
    schema = SimpleNamespace(name=f"aten::{base}_", overload_name=form)
    untagged = SimpleNamespace(_schema=schema, tags=())
    assert is_elementwise(untagged) == (base not in ("cumsum", "index_add"))
