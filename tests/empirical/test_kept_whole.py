"""What a user keeps whole, what verification keeps whole, and what reports say of it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import VisionTransformer

from empirical import Calibration, prune
from empirical.pruning import choosing
from empirical.pruning.label_rules import label_channels
from empirical.pruning.tracing import matching, trace_channels
from empirical.reading.hooks import evaluating
from tests.empirical.pruning_networks import network, plain
from tests.empirical.test_tracing import Mixed, images


def test_skip_takes_layers_stages_and_patterns() -> None:
    layers = ["stem", "layer1.0.conv1", "layer1.0.conv2", "layer2.0.conv1"]
    assert matching(["layer1"], layers) == layers[1:3]
    assert matching(["layer?.*.conv1"], layers) == [layers[1], layers[3]]
    assert matching(["stem", "layer2.0"], layers) == [layers[0], layers[3]]
    with pytest.raises(ValueError, match=r"skip must be one of .*'layer1'.*'stem'.*got 'layer3'"):
        matching(["layer3"], layers)
    with pytest.raises(TypeError, match=r"skip must be a sequence of names; got the text 'stem'"):
        matching("stem", layers)


class Numbered(nn.Module):
    """Channels by number in the forward, and a class that is never predicted."""

    def __init__(self, never: float) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Conv2d(3, 12, 3), nn.Conv2d(12, 10, 3), nn.Linear(10, 4)
        self.never = never

    def forward(self, images: Tensor) -> Tensor:
        maps = self.a(images).relu().clone()
        maps[:, :4] = maps[:, :4] * 3
        logits = self.out(self.b(maps).relu().mean((2, 3)))
        return logits.masked_fill(torch.arange(4) == 3, self.never)


@pytest.mark.parametrize("never", [0.0, -1e4, -torch.inf, torch.nan])
@pytest.mark.parametrize(
    ("dtype", "bias"), [(torch.float32, 0.0), (torch.float32, 300.0), (torch.bfloat16, 1.0)]
)
def test_large_and_infinite_outputs_hide_no_difference(
    never: float, dtype: torch.dtype, bias: float
) -> None:
    torch.manual_seed(0)
    model = Numbered(never).eval()
    with torch.no_grad():
        model.out.bias[2] += bias
    graph = trace_channels(model.to(dtype), torch.randn(4, 3, 8, 8, dtype=dtype))
    assert [group.name for group in graph.groups] == ["b"]
    assert "removed and masked outputs differ by" in graph.kept_whole["a"]


def test_a_depthwise_layer_in_skip_keeps_what_it_hands_on() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 12, 3), nn.ReLU(), nn.Conv2d(12, 12, 3, groups=12), nn.ReLU(),
        nn.Conv2d(12, 16, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4),
    ).eval()  # fmt: skip
    graph = trace_channels(model, torch.randn(2, 3, 8, 8), skip=["2"])
    assert [group.name for group in graph.groups] == ["4"]
    assert graph.kept_whole["0"] == "'2' hands its channels on: named in skip"


def test_skip_works_on_a_calibration_and_leaves_it_as_it_was() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 12, 3), nn.Flatten(), nn.Linear(192, 4)
    )
    batch = (images(16), torch.arange(16) % 4)
    known = Calibration(model, [batch])
    by_loader = prune(model, [batch], macs=0.8, skip=("0",)).report
    by_calibration = prune(model, known, macs=0.8, skip=("0",)).report
    assert by_loader.channels == by_calibration.channels
    assert "0" not in by_loader.channels
    assert by_calibration.kept_whole["0"] == "named in skip"
    assert "0" in prune(model, known, macs=0.8).report.channels
    with pytest.raises(ValueError, match="skip must be one of"):
        prune(model, known, macs=0.8, skip=("no such layer",))


def test_counts_of_a_layer_that_is_kept_whole_are_refused_with_the_reason() -> None:
    model = Mixed(lambda a, b: torch.roll(a + b, 3, 1), 8).eval()
    batch = (images(16), torch.arange(16) % 4)
    with pytest.raises(ValueError, match=r"counts asks for 4 channels of 'one'.*fixed numbers"):
        prune(model, [batch], counts={"one": 4}, criterion="l2", recovery="none")


def test_a_fault_that_only_the_chosen_channels_show_keeps_that_group_whole() -> None:
    """A forward that works for some numbers of channels: the chosen ones are tried as well."""

    class Wrong(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            hidden = self[0](x).relu()
            if hidden.shape[1] == 2:
                hidden = hidden.flip(1)
            return self[2](self[1](hidden).relu().mean((2, 3)))

    torch.manual_seed(0)
    model = Wrong(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 12, 3), nn.Linear(12, 4)).eval()
    batch = (images(16), torch.arange(16) % 4)
    known = Calibration(model, [batch])
    assert known.graph.group("0").units == 8
    pruned = prune(model, known, counts={"0": 5}, criterion="l2", recovery="none")
    assert pruned.report.channels["0"] == (8, 5)
    with pytest.raises(ValueError, match=r"'0', which is kept whole: .*fixed numbers"):
        prune(model, known, counts={"0": 2, "1": 6}, criterion="l2", recovery="none")


def test_a_choice_is_tried_once_whatever_recoveries_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    real = choosing.refusals
    monkeypatch.setattr(choosing, "refusals", lambda *a: tried.append(a) or real(*a))
    known = Calibration(plain(size=8), [(images(16), torch.arange(16) % 4)])
    for count, recovery, times in ((4, "none", 1), (4, "merge", 1), (5, "merge", 2)):
        prune(known.model, known, counts={"0": count}, criterion="l2", recovery=recovery)
        assert len(tried) == times
    fewer = known.keeping(skip=["3"])
    prune(known.model, fewer, counts={"0": 4}, criterion="l2", recovery="none")
    assert len(tried) == 3  # of another graph


def test_tracing_leaves_the_model_and_its_settings_as_they_were() -> None:
    model = network("resnet18").train()
    fast = torch.backends.mha.get_fastpath_enabled()
    label_channels(model, images(1, 16))
    assert torch.backends.mha.get_fastpath_enabled() is fast
    assert model.training
    assert not any(hasattr(p, "_atom_labels") for p in model.parameters())
    with evaluating(model):
        assert not model(images(1, 16)).is_inference()


def test_the_share_that_is_reported_is_the_one_that_an_independent_counter_finds() -> None:
    def recount(network: nn.Module, image: Tensor) -> int:
        network = copy.deepcopy(network).requires_grad_(True)  # off attention's uncounted path
        with FlopCounterMode(display=False) as counter:
            network(image)
        return int(counter.get_total_flops() // 2)

    torch.manual_seed(0)
    model = VisionTransformer(16, 8, 2, 4, 32, 64, num_classes=4).eval()
    batch = (images(16, 16), torch.arange(16) % 4)
    small = prune(model, [batch], macs=0.8, criterion="l2", recovery="none")
    before, after = recount(model, batch[0][:1]), recount(small.model, batch[0][:1])
    assert small.report.macs_before == before
    assert small.report.macs_after == after
    assert abs(after / before - 0.8) < 0.01
    with pytest.raises(ValueError, match=r"leaves 0\.65\d\d .*0\.62\d\d depend on no channel"):
        prune(model, [batch], macs=0.6, criterion="l2", recovery="none")


class Parts(nn.Module):
    """Rows of an image folded into the first dimension, and a scale made from fixed numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.read, self.out = nn.Linear(8, 10), nn.Linear(10, 6), nn.Linear(6, 4)
        self.hidden, self.scale = nn.Linear(2, 12), nn.Linear(12, 6)
        self.register_buffer("places", torch.tensor([[0.5, -1.0], [2.0, 1.0]]))

    def forward(self, x: Tensor) -> Tensor:
        n = len(x)
        rows = self.read(self.one(x.flatten(0, 1)).relu()).relu()
        scale = self.scale(self.hidden(self.places).relu()).sigmoid().mean(0)
        return self.out((rows * scale.detach()).unflatten(0, (n, -1)).mean((1, 2)))


def test_parts_of_an_image_are_read_image_by_image_and_what_is_of_none_is_kept_whole() -> None:
    torch.manual_seed(0)
    model, batch = Parts().eval(), (images(40), torch.arange(40) % 4)
    known = Calibration(model, [batch])
    assert "'scale', which reads its channels, does not keep" in known.graph.kept_whole["hidden"]
    assert "one" in {group.name for group in known.graph.groups}
    rows = model.one(images(40)).relu().detach().double().flatten(0, 2).numpy()
    moments = known.input_moments["one", "read"]
    assert moments.n == len(rows) == 40 * 24  # three channels of eight rows
    np.testing.assert_allclose(moments.cov[0], np.cov(rows.T), rtol=1e-5, atol=1e-9)
    (products,) = known.pulled_products["one", "read"]
    assert products.shape == (2 * 40, 10, 10)  # two draws of each image, not of each row
    for recovery in ("merge", "reconstruct", "fold"):
        small = prune(model, known, macs=0.8, criterion="replaceability", recovery=recovery)
        assert small.report.channels["one"][1] < 10


class Switched(nn.Module):
    """Some channels are switched off, by a buffer of truth values."""

    def __init__(self, off: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Conv2d(3, 12, 3), nn.Conv2d(12, 10, 3), nn.Linear(10, 4)
        self.register_buffer("on", (torch.arange(12) % 3 > 0).view(1, -1, 1, 1))
        self._off = [off]

    def forward(self, images: Tensor) -> Tensor:
        maps = self._off[0](self.a(images), self.on)
        return self.out(self.b(maps.relu()).relu().mean((2, 3)))


@pytest.mark.parametrize(
    "off",
    [
        lambda x, on: x * on,
        lambda x, on: x.masked_fill(~on, 0.0),
        lambda x, on: torch.where(on, x, torch.zeros_like(x)),
    ],
    ids=["times", "filled", "where"],
)
def test_a_mask_of_truth_values_is_cut_with_its_channels(
    off: Callable[[Tensor, Tensor], Tensor],
) -> None:
    torch.manual_seed(0)
    model, batch = Switched(off).eval(), (torch.randn(32, 3, 8, 8), torch.arange(32) % 4)
    small, masked = (
        prune(model, [batch], counts={"a": 5}, criterion="l2", recovery="none", path=path)
        for path in ("removed", "masked")
    )
    assert small.model.on.shape == (1, 5, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(small.model(batch[0]), masked.model(batch[0]))
