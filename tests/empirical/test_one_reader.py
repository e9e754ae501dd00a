"""Every consumer of the reader: the same sums from batches of any size, in few operations."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from empirical import measure
from empirical.analysis.patches import patch_covariance
from empirical.analysis.sampled_information import draw_samples
from empirical.measuring.calibration import calibrate
from empirical.measuring.gradients import gradient_cosines
from empirical.pruning.input_moments import input_moments
from empirical.pruning.output_fisher import output_fisher
from empirical.pruning.reconstruction import reconstruct, references
from empirical.pruning.tracing import trace_channels
from empirical.reading.batches import batches, image_digests
from empirical.reading.layers import find_layers
from empirical.reading.readings import WITH_TARGET
from empirical.reading.sums import Sums

N = 130
IMAGES = torch.randn(N, 3, 9, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LABELS = torch.arange(N) % 4
SIZES = (1, 7, 32, 128, N)

REORDERED = 1e-10
"""Sums of some hundred thousand float64 terms in another order."""


def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return (
            nn.Sequential(
                nn.Conv2d(3, 8, 3, padding=1),
                nn.BatchNorm2d(8),
                nn.ReLU(),
                nn.Conv2d(8, 12, 3, groups=2),
                nn.ReLU(),
                nn.Conv2d(12, 40, 1),
                nn.Flatten(),
                nn.Linear(40 * 49, 6),
                nn.Tanh(),
                nn.Linear(6, 4),
            )
            .double()
            .eval()
        )


def cut(size):
    return [
        (IMAGES[start : start + size], LABELS[start : start + size]) for start in range(0, N, size)
    ]


def axes(model, loader):
    table = measure(model, loader, positions=5, null=2, seed=3)
    return [
        value
        for name in table.layers
        for value in (
            table.moments[name].cov,
            *(part.cov for part in table.groups[name]),
            table.null[name]["task_information"],
        )
    ]


def gradients(model, loader):
    return list(gradient_cosines(model, loader, positions=5).cosines.values())


def prune_moments(model, loader):
    graph = trace_channels(model, IMAGES[:1])
    found = input_moments(model, graph, batches(loader), positions=5)
    return [value for moments in found.values() for value in (moments.mean, moments.cov)]


def fisher(model, loader):
    return list(output_fisher(model, ["0", "3", "9"], batches(loader), images=100).values())


def refitted(model, loader):
    known = references(model, batches(loader), positions=5)
    smaller = net()
    with torch.no_grad():
        smaller[3].weight.mul_(0.5)
    reconstruct(smaller, IMAGES, known, {})
    return [
        *(value.numpy() for value in known.outputs.values()),
        smaller[3].weight.numpy(force=True),
    ]


def lesion_calibration(model, loader):
    layers = find_layers(model, IMAGES[:1])
    return [m.cov for m in calibrate(model, loader, layers, positions=5).moments.values()]


def kept_samples(model, loader):
    drawn = draw_samples(model, loader, images=100)
    return [drawn.target, *drawn.layers.values()]


def spectrum(_model, loader):
    return [patch_covariance(torch.cat([images for images, _ in loader]))]


CONSUMERS = (
    axes,
    gradients,
    prune_moments,
    fisher,
    refitted,
    lesion_calibration,
    kept_samples,
    spectrum,
)


@pytest.mark.parametrize("consumer", CONSUMERS, ids=lambda function: function.__name__)
def test_batches_of_any_size_give_the_same_sums(consumer):
    whole = consumer(net(), cut(N))
    assert all(np.isfinite(value).all() for value in whole)
    for size in SIZES[:-1]:
        for value, expected in zip(consumer(net(), cut(size)), whole, strict=True):
            scale = np.abs(expected).max()
            assert np.abs(value - expected).max() <= REORDERED * scale, size


class Operations(TorchDispatchMode):
    """Counts the operations that a device would be given: all but views and looks at metadata."""

    FREE = ("view", "reshape", "permute", "transpose", "unsqueeze", "squeeze", "expand", "slice")
    FREE += ("select", "detach", "alias", "t", "split", "_unsafe_view", "as_strided", "unbind")

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name not in self.FREE:
            self.names.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("groups", [1, 3, 10, 60])
@pytest.mark.parametrize("channels", [8, 700])
@pytest.mark.parametrize("images", [60, 64])
def test_the_device_path_launches_few_operations_whatever_the_groups(groups, channels, images):
    # float32 sums take the path of a device on the CPU too
    sums = Sums(WITH_TARGET, groups=groups, precision=torch.float32)
    y, t = torch.randn(images, 3, 1, channels), torch.randn(images, 1, dtype=torch.float64)
    per_group = np.bincount(np.arange(images) % groups, minlength=groups).tolist()
    sums.add({"y": y, "t": t}, per_group)
    with Operations() as counted:
        sums.add({"y": y, "t": t}, per_group)
    # 25 per layer and batch, of which sampling takes 2 and the look at the extremes 3
    assert len(counted.names) <= 20, counted.names


def launched(groups):
    model = net().float()
    loader = [(IMAGES.float(), LABELS)]
    with Operations() as plain, torch.no_grad():
        model(loader[0][0])
    with Operations() as one:
        measure(model, loader, groups=groups, precision="float32", hull=False)
    with Operations() as two:
        measure(model, loader * 2, groups=groups, precision="float32", hull=False)
    # the second batch alone: what is done once per measurement falls out
    layers = len(find_layers(model, loader[0][0]))
    return (len(two.names) - len(one.names) - len(plain.names)) / layers


def test_a_batch_costs_at_most_25_operations_per_layer():
    counts = [launched(groups) for groups in (2, 13, 40)]
    assert max(counts) <= 25, counts
    assert max(counts) - min(counts) <= 1


def test_digests_are_of_the_images_as_the_loader_gave_them(monkeypatch):
    uploads = []

    def upload(tensor, *args, **kwargs):
        uploads.append(tensor.shape)
        return torch.full_like(tensor, 7) if tensor.is_floating_point() else tensor

    monkeypatch.setattr(torch.Tensor, "to", upload)
    (batch,) = batches([(IMAGES[:4], LABELS[:4])], "cpu")
    monkeypatch.undo()
    assert IMAGES[:4].shape in uploads
    assert (batch.images == 7).all()
    assert batch.digests() == image_digests(IMAGES[:4])
