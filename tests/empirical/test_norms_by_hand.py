"""Norms written by hand take the means of the channels that are left; depthwise layers of one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from empirical import Calibration, prune
from empirical.pruning.channel_graph import is_norm_by_hand
from empirical.reading.hooks import evaluating


class ResponseNorm(nn.Module):
    """Global response norm (Woo et al. 2023, arXiv:2301.00808), channels last."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(channels) + 0.5)
        self.bias = nn.Parameter(torch.randn(channels))

    def forward(self, x: Tensor) -> Tensor:
        power = x.norm(p=2, dim=(1, 2), keepdim=True)
        return x + self.bias + self.weight * x * power / (power.mean(-1, keepdim=True) + 1e-6)


class ChannelNorm(nn.Module):
    """Layer norm over the channels of a map, its scale laid out as the map is."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(channels, 1, 1) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        return self.scale * centred / (centred.pow(2).mean(1, keepdim=True) + 1e-6).sqrt()


class Block(nn.Module):
    """A hidden layer, a norm, a reader and a classifier."""

    def __init__(self, norm: type[nn.Module], last: bool) -> None:
        super().__init__()
        self.one = nn.Linear(3, 8) if last else nn.Conv2d(3, 8, 1)
        self.two = nn.Linear(8, 6) if last else nn.Conv2d(8, 6, 1)
        self.norm, self.out, self.last = norm(8), nn.Linear(6, 4), last

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1) if self.last else x
        x = self.two(self.norm(self.one(x).relu())).relu()
        return self.out(x.mean((1, 2) if self.last else (2, 3)))


def batch() -> tuple[Tensor, Tensor]:
    images = torch.randn(16, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    return images, torch.arange(16) % 4


@pytest.mark.parametrize(("norm", "last"), [(ResponseNorm, True), (ChannelNorm, False)])
def test_a_norm_by_hand_is_cut_and_masked_alike(norm: type[nn.Module], last: bool) -> None:
    torch.manual_seed(0)
    model = Block(norm, last).eval()
    known = Calibration(model, [batch()])
    assert [group.name for group in known.graph.groups] == ["one", "two"]
    both = {
        path: prune(
            model, known, counts={"one": 3}, criterion="l2", recovery="none", path=path
        ).model
        for path in ("removed", "masked")
    }
    images = batch()[0]
    with evaluating(both["removed"]), evaluating(both["masked"]), evaluating(model):
        removed, masked, dense = both["removed"](images), both["masked"](images), model(images)
    assert sum(p.numel() for p in both["removed"].norm.parameters()) % 3 == 0
    torch.testing.assert_close(removed, masked, rtol=1e-5, atol=1e-5)
    assert float((removed - dense).abs().max()) > 1e-3


def test_a_response_norm_is_the_one_of_the_channels_that_stay() -> None:
    torch.manual_seed(0)
    model = Block(ResponseNorm, last=True).eval()
    pruned = prune(model, [batch()], counts={"one": 3}, criterion="l2", recovery="none")
    kept = torch.as_tensor(pruned.kept["one"])
    with evaluating(model), evaluating(pruned.model):
        hidden = model.one(batch()[0].permute(0, 2, 3, 1)).relu()[..., kept]
        power = hidden.norm(p=2, dim=(1, 2), keepdim=True)
        share = power / (power.mean(-1, keepdim=True) + 1e-6)
        expected = hidden + model.norm.bias[kept] + model.norm.weight[kept] * hidden * share
        torch.testing.assert_close(pruned.model.norm(hidden), expected)


@pytest.mark.parametrize(
    ("module", "by_hand"),
    [
        (ResponseNorm(4), True),
        (ChannelNorm(4), True),
        (nn.LayerNorm(4), False),
        (nn.Sequential(), False),
        (Block(ChannelNorm, last=False), False),
    ],
    ids=["response", "channel", "library", "empty", "with children"],
)
def test_what_counts_as_a_norm_by_hand(module: nn.Module, by_hand: bool) -> None:
    assert is_norm_by_hand(module) is by_hand


@pytest.mark.parametrize("left", [1, 2])
def test_a_depthwise_layer_may_be_left_with_one_channel(left: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=4), nn.ReLU(),
        nn.Conv2d(4, 6, 1), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4),
    ).eval()  # fmt: skip
    pruned = prune(model, [batch()], counts={"0": left}, criterion="l2", recovery="none")
    assert pruned.report.channels["0"] == (4, left)
    assert pruned.model[2].weight.shape == (left, 1, 3, 3)
