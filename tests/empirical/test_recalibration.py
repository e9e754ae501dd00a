"""Batch norms taken anew: the statistics of all images, however they come in batches."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
from torch import Tensor, nn

from empirical.pruning.recovery import recalibrate


def batched(images: Tensor, *sizes: int) -> list[tuple[Tensor, Tensor]]:
    """The images in batches of these sizes; no label is read."""
    assert sum(sizes) == len(images)
    return [(part, torch.zeros(len(part))) for part in images.split(sizes)]


def per_channel(values: Tensor) -> Tensor:
    return values.movedim(1, -1).reshape(-1, values.shape[1])


def statistics(model: nn.Module) -> list[Tensor]:
    return [value.clone() for name, value in model.named_buffers() if "running" in name]


def taken(model: nn.Module, loader: Iterable[tuple[Tensor, Tensor]]) -> list[Tensor]:
    assert recalibrate(model, loader) > 0
    return statistics(model)


def drifting(*shape: int) -> Tensor:
    """Images whose mean and scale change from the first to the last."""
    torch.manual_seed(0)
    along = torch.linspace(0.5, 3, shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    return along * torch.randn(shape) + along


NORMS = {
    "1d": (nn.BatchNorm1d(3), (65, 3)),
    "1d, sequences": (nn.BatchNorm1d(3), (65, 3, 4)),
    "2d": (nn.BatchNorm2d(3), (65, 3, 4, 2)),
    "3d": (nn.BatchNorm3d(3), (65, 3, 2, 2, 2)),
    "synchronized": (nn.SyncBatchNorm(3), (65, 3, 4, 2)),
    "no affine": (nn.BatchNorm2d(3, affine=False), (65, 3, 4, 2)),
    "cumulative": (nn.BatchNorm2d(3, momentum=None), (65, 3, 4, 2)),
}


@pytest.mark.parametrize("sizes", [(65,), (64, 1), (1, 64), (32, 33), (40, 15, 10), (13,) * 5])
@pytest.mark.parametrize("kind", NORMS)
def test_the_statistics_of_all_images_pooled(kind: str, sizes: tuple[int, ...]) -> None:
    """Mean and unbiased variance of every value of a channel, to rounding."""
    norm, shape = NORMS[kind]
    momentum, images = norm.momentum, drifting(*shape)
    mean, variance = taken(norm, batched(images, *sizes))
    torch.testing.assert_close(mean, per_channel(images).mean(0))
    torch.testing.assert_close(variance, per_channel(images).var(0))
    assert norm.momentum == momentum


def two_norms() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        *(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5), nn.BatchNorm1d(5)),
    )


@pytest.mark.parametrize("sizes", [(64, 1), (1, 64), (50, 15)], ids=str)
def test_a_small_batch_changes_nothing_in_later_norms(sizes: tuple[int, ...]) -> None:
    """It is normalized together with its neighbour, as one batch of all."""
    images = drifting(65, 3, 6, 6)
    whole = taken(two_norms(), batched(images, 65))
    for found, expected in zip(taken(two_norms(), batched(images, *sizes)), whole, strict=True):
        torch.testing.assert_close(found, expected)


def test_each_batch_is_normalized_by_its_own_statistics() -> None:
    """The later norm's input is that of training; its statistics are pooled over all images."""
    images, model = drifting(60, 3, 6, 6), two_norms()
    found = taken(model, batched(images, 25, 35))
    model.train()
    with torch.no_grad():
        inputs = torch.cat([model[:-1](part) for part in images.split((25, 35))])
    torch.testing.assert_close(found[2], inputs.mean(0))
    torch.testing.assert_close(found[3], inputs.var(0))


def test_a_norm_that_serves_twice_takes_all_its_inputs() -> None:
    norm = nn.BatchNorm2d(3)
    images = drifting(65, 3, 4, 4)
    model = nn.Sequential(norm, nn.Hardtanh(-1, 0.5), norm)
    mean, variance = taken(model, batched(images, 65))
    with torch.no_grad():
        first = nn.functional.batch_norm(images, None, None, training=True)
        inputs = per_channel(torch.cat([images, model[1](first)]))
    torch.testing.assert_close(mean, inputs.mean(0))
    torch.testing.assert_close(variance, inputs.var(0))
    assert int(norm.num_batches_tracked) == 2


class HalfUsed(nn.Module):
    """One norm that the forward calls, one that it does not."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.idle = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, images: Tensor) -> Tensor:
        return self.used(images)


def test_what_the_forward_does_not_call_is_left_alone() -> None:
    model = HalfUsed()
    model.idle.running_mean.fill_(7.0)
    images = drifting(8, 3, 2, 2)
    assert recalibrate(model, batched(images, 4, 4)) == 2
    assert model.idle.running_mean.tolist() == [7.0] * 3
    torch.testing.assert_close(model.used.running_mean, per_channel(images).mean(0))
    assert recalibrate(nn.BatchNorm2d(3, track_running_stats=False), batched(images, 8)) == 0


def test_a_single_value_has_no_variance() -> None:
    model = two_norms()
    with pytest.raises(ValueError, match=r"loader gives the batch norm '6' a single value.*two im"):
        recalibrate(model, batched(drifting(1, 3, 6, 6), 1))
    assert model[1].momentum == model[6].momentum == 0.1


@pytest.mark.parametrize("shared", ["running_mean", "running_var"])
def test_statistics_that_two_norms_have_are_written_by_neither(shared: str) -> None:
    """Each would write its own over the other's; a norm of its own is taken anew."""
    first, second, own = (nn.BatchNorm2d(3) for _ in range(3))
    setattr(second, shared, getattr(first, shared))
    model = nn.Sequential(first, nn.Conv2d(3, 3, 1), second, own)
    before = statistics(nn.Sequential(first, second))
    assert recalibrate(model, batched(drifting(20, 3, 4, 2), 20)) == 1
    assert all(map(torch.equal, before, statistics(nn.Sequential(first, second))))
    assert not torch.equal(own.running_mean, torch.zeros(3))
