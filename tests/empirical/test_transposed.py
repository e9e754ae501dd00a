"""Transposed convolutions against the convolutions that compute the same, and cut on both sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from empirical import Calibration, criterion_names, measure, prune
from empirical.pruning.compensation import merge
from empirical.pruning.criteria_compensated import outgoing_gram
from empirical.pruning.layer_times import MeasuredTimes
from empirical.pruning.macs import count_macs
from empirical.pruning.pruned_file import load_pruned, save_pruned
from empirical.pruning.recovery import RECOVERIES
from empirical.pruning.removal import mask, remove
from empirical.pruning.tracing import trace_channels
from empirical.reading.layers import phases, weight_of
from tests.empirical.planted import PLANTED_TOLERANCE, largest_change
from tests.empirical.pruning_networks import awakened, batches
from tests.empirical.test_removal import assert_same, some_units
from tests.zoo.hand_written import Decoder

KINDS = {
    1: (nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d),
    2: (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d),
    3: (nn.Conv3d, nn.ConvTranspose3d, nn.BatchNorm3d),
}


class Up(nn.Module):
    """A convolution, a layer that may enlarge its maps, another one and a classifier."""

    def __init__(self, middle: nn.Module, dims: int = 2) -> None:
        super().__init__()
        conv, _, norm = KINDS[dims]
        self.one, self.up, self.norm = conv(3, 8, 1), middle, norm(6)
        self.read, self.out = conv(6, 10, 1), nn.Linear(10, 10)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.norm(self.up(self.one(images).relu())).relu()
        return self.out(self.read(maps).relu().flatten(2).mean(2))


def enlarging(dims: int = 2, groups: int = 1) -> nn.Module:
    torch.manual_seed(0)
    middle = KINDS[dims][1](8, 6, 3, stride=2, padding=1, output_padding=1, groups=groups)
    return awakened(Up(middle, dims))


def twins() -> tuple[nn.Module, nn.Module]:
    """At stride 1 a transposed convolution is one with its kernel turned around."""
    torch.manual_seed(0)
    model = awakened(Up(nn.ConvTranspose2d(8, 6, 3, padding=1)))
    plain = awakened(Up(nn.Conv2d(8, 6, 3, padding=1)))
    state = model.state_dict()
    state["up.weight"] = state["up.weight"].transpose(0, 1).flip(2, 3)
    plain.load_state_dict(state)
    return model.eval(), plain.eval()


@pytest.mark.parametrize("dims", KINDS)
def test_planted_silence_and_removed_as_masked(dims: int) -> None:
    model = enlarging(dims)
    images = torch.randn(4, 3, *[6] * dims, generator=torch.Generator().manual_seed(0))
    graph = trace_channels(model, images[:1])
    assert [(group.name, group.units) for group in graph.groups] == [
        ("one", 8), ("up", 6), ("read", 10)
    ]  # fmt: skip
    assert largest_change(model, graph, images) <= PLANTED_TOLERANCE
    kept = some_units(graph, 0.5)
    removed = remove(model, graph, kept, images[:1])
    assert (removed.up.in_channels, removed.up.out_channels) == (4, 3)
    with torch.no_grad():
        assert_same(removed(images), mask(model, graph.groups, kept)(images))
        assert float((removed(images) - model(images)).abs().max()) > 1e-3


def test_a_decoder_is_pruned_throughout() -> None:
    torch.manual_seed(0)
    model = awakened(Decoder(10, width=4))
    images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    graph = trace_channels(model, images[:1])
    assert set(graph.kept_whole) == {"head"}
    assert {"up.0", "up.1"} <= {group.name for group in graph.groups}
    assert largest_change(model, graph, images) <= PLANTED_TOLERANCE


def test_several_groups_keep_it_whole_and_the_rest_is_pruned() -> None:
    model = enlarging(groups=2)
    images = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    graph = trace_channels(model, images[:1])
    assert [group.name for group in graph.groups] == ["read"]
    assert "several groups" in graph.kept_whole["one"]
    assert "several groups" in graph.kept_whole["up"]
    assert graph.macs() == count_macs(model, images)


def test_every_quantity_is_that_of_the_convolution_that_computes_the_same() -> None:
    model, plain = twins()
    loader = batches(3, 6, each=64)
    one, other = (measure(m, loader).to_frame() for m in (model, plain))
    assert set(one.layer) == {"one", "up", "read"}
    numbers = one.select_dtypes("number").columns
    np.testing.assert_allclose(one[numbers], other[numbers], rtol=1e-3, atol=1e-5)


def test_every_criterion_scores_it_as_that_convolution() -> None:
    known = [Calibration(m, batches(3, 6, each=64)) for m in twins()]
    kernels = {"replaceability_kernels", "task_replaceability_kernels", "osscar"}
    # not all of the groups have norms, and a transposed convolution multiplies no patches
    for name in set(criterion_names()) - kernels - {"bn_scale"}:
        one, other = (k.scores(name) for k in known)
        for group in ("one", "up", "read"):
            np.testing.assert_allclose(one[group], other[group], rtol=1e-3, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("recovery", ["none", "recalibrate", "merge", "compensate", "fold"])
def test_every_recovery_makes_of_it_what_it_makes_of_that_convolution(recovery: str) -> None:
    loader = batches(3, 6, each=64)
    one, other = (prune(m, loader, macs=0.6, criterion="l2", recovery=recovery) for m in twins())
    assert one.report.channels == other.report.channels
    assert one.report.macs_after == other.report.macs_after
    assert one.report.parameters_after == other.report.parameters_after
    with torch.no_grad():
        assert_same(one.model(loader[0][0]), other.model(loader[0][0]))


@pytest.mark.parametrize("resource", ["parameters", "latency"])
def test_other_budgets_know_its_shape(resource: str) -> None:
    model, loader = enlarging(), batches(3, 6, each=16)
    graph = trace_channels(model, loader[0][0])
    counting = MeasuredTimes.of(model, graph, loader[0][0], repeats=1, clock=count_macs)
    known = Calibration(model, loader, times=counting)
    budget = known.budget(resource)
    half = np.maximum(known.graph.sizes // 2, 1)
    amounts = budget.amounts(np.stack([known.graph.sizes, half]))
    assert 0 < amounts[1] < amounts[0]
    kept = {g.name: np.arange(n) for g, n in zip(known.graph.groups, half, strict=True)}
    smaller = remove(model, known.graph, kept, known.example)
    found = [
        sum(p.numel() for p in m.parameters())
        if resource == "parameters"
        else count_macs(m, loader[0][0])
        for m in (model, smaller)
    ]
    assert amounts.tolist() == found


def test_refitting_leaves_it_and_a_file_holds_it(tmp_path: Path) -> None:
    model, loader = enlarging(), batches(3, 6, each=64)
    small = prune(model, loader, macs=0.6, criterion="l2", recovery="reconstruct")
    assert "reconstruct" in RECOVERIES
    kept = [torch.from_numpy(small.kept[name]) for name in ("up", "one")]
    expected = weight_of(model.up)[kept[0]][:, kept[1]]
    assert torch.equal(weight_of(small.model.up), expected)
    loaded = load_pruned(save_pruned(tmp_path / "up.safetensors", small), model).model
    with torch.no_grad():
        assert torch.equal(loaded(loader[0][0]), small.model(loader[0][0]))


@pytest.mark.parametrize("groups", [1, 2])
def test_its_weight_is_turned_and_written_where_it_is_stored(groups: int) -> None:
    layer = nn.ConvTranspose2d(4, 6, 1, groups=groups, bias=False)
    images = torch.randn(2, 4, 3, 3)
    rows = weight_of(layer)[:, :, 0, 0].reshape(groups, 6 // groups, -1)
    expected = torch.einsum("goi,ngihw->ngohw", rows, images.unflatten(1, (groups, -1)))
    torch.testing.assert_close(layer(images), expected.flatten(1, 2))
    if groups == 1:
        with torch.no_grad():
            weight_of(layer)[2, 1] = 7.0
        assert float(layer.weight[1, 2].detach()) == 7.0


def test_what_reads_a_unit_is_counted_where_its_taps_meet() -> None:
    """With a kernel of the stride each output position reads one tap: Σ z² = tr(A E x xᵀ)."""
    torch.manual_seed(0)
    model = awakened(Up(nn.ConvTranspose2d(8, 6, 2, stride=2, bias=False))).double()
    reader = trace_channels(model, torch.zeros(1, 3, 6, 6).double()).group("one").consumers[0]
    maps = torch.randn(50, 8, 4, 4, dtype=torch.float64)
    rows = maps.movedim(1, -1).flatten(0, 2)
    with torch.no_grad():
        power = float(model.up(maps).square().sum(1).mean())
    (gram,) = outgoing_gram(model.up, reader)
    second = (rows.T @ rows / len(rows)).numpy()
    assert phases(model.up) == 4
    np.testing.assert_allclose(np.trace(gram @ second), power)


def test_a_constant_that_goes_is_merged_into_the_bias_as_its_mean_over_positions() -> None:
    torch.manual_seed(0)
    model = awakened(Up(nn.ConvTranspose2d(8, 6, 2, stride=2)))
    with torch.no_grad():
        model.one.weight[5], model.one.bias[5] = 0.0, 2.0
    known = Calibration(model, batches(3, 6, each=64))
    kept = {g.name: np.arange(g.units) for g in known.graph.groups}
    kept["one"] = np.delete(kept["one"], 5)
    before = model.up.bias.detach().clone()
    lost = 2.0 * weight_of(model.up)[:, 5].mean((1, 2))
    merge(model, known.graph, kept, known.input_moments)
    torch.testing.assert_close(model.up.bias - before, lost)
