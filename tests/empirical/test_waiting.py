"""On a device the host runs ahead: it waits once or twice a batch, never inside of a layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from empirical import lesion, measure, replace
from empirical.reading.batches import Batch
from empirical.reading.hooks import capture
from empirical.reading.layers import find_layers
from tests.empirical.test_lesion_fast import MODELS, ROUNDING, data, prepared
from tests.empirical.test_one_reader import LABELS, Operations

LOOKS = ("item", "tolist", "cpu", "numpy", "__bool__", "__int__", "__float__", "__index__")
COUNTED = ("nonzero", "masked_select", "unique", "_unique2")
"""Operations on whose values the size of the result depends."""


class Waits(TorchDispatchMode):
    """Notes what a host would wait for: looks at values, and sizes that depend on them."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        masks = name == "index" and any(i is not None and i.dtype is torch.bool for i in args[1])
        if name in COUNTED or masks:
            self.names.append(name)
        return func(*args, **(kwargs or {}))


@contextmanager
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of the waits in the block; methods of tensors that dispatch nothing on a CPU too."""
    with Waits() as waits, monkeypatch.context() as patched:
        for name in LOOKS:
            method = getattr(torch.Tensor, name)

            def look(self, *args, method=method, name=name, **kwargs):
                waits.names.append(name)
                return method(self, *args, **kwargs)

            patched.setattr(torch.Tensor, name, look)
        yield waits.names


@pytest.fixture
def device_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lesions take the path of a device on the CPU too."""
    for module in ("plan", "suffix"):
        monkeypatch.setattr(f"empirical.lesions.{module}.queued", lambda _: True)
    monkeypatch.setattr("empirical.reading.ahead.queued", lambda _: True)


@pytest.mark.usefixtures("device_path")
@pytest.mark.parametrize("name", MODELS)
def test_the_device_path_gives_the_naive_numbers(name: str) -> None:
    model = prepared(MODELS[name])
    options = {"kinds": ["mean", "zero"], "calibration": data(12, 1)}
    fast = lesion(model, data(13, 2), **options)
    naive = lesion(model, data(13, 2), method="naive", **options)
    for damage, values in naive.damage.items():
        np.testing.assert_allclose(fast.damage[damage], values, **ROUNDING)


@pytest.mark.usefixtures("device_path")
def test_silent_channels_cost_exactly_nothing_on_a_device_too() -> None:
    model = prepared(MODELS["residual"])
    with torch.no_grad():
        model.norm.bias.copy_(torch.tensor([-50.0, 0, 0, 0, 0, 0]))
    table = lesion(model, data(9, 2), layers=["stem"], kinds=["zero"])
    silent = np.array([channels == (0,) for channels in table.channels])
    assert not table.damage["loss_increase"][silent].any()
    assert table.damage["loss_increase"][~silent].any()


def uploaded(count: int, size: int = 8) -> list[Batch]:
    """Batches that were checked and hashed before: what is left to wait for is the device's."""
    images, labels = data(size + 3, 2)[0]
    return [Batch(images, labels, size * i, i, int(labels.max()), images) for i in range(count)]


def waits_of_a_batch(call: Callable[[list[Batch]], object], patch: pytest.MonkeyPatch) -> list[str]:
    """What waits more often in three batches than in two."""
    found = []
    for count in (2, 3):
        loader = uploaded(count)
        with watched(patch) as names, patch.context() as patched:
            patched.setattr(Batch, "digests", lambda _: [])
            call(loader)
        found.append(Counter(names))
    return sorted((found[1] - found[0]).elements())


ONCE = ["__bool__", "__bool__", "cpu", "cpu", "numpy", "numpy"]
"""Are logits finite, of the intact and of the lesioned network; then both networks' scores."""


@pytest.mark.usefixtures("device_path")
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("channels", [1, 4])
def test_lesions_wait_as_often_whatever_the_channels(name, channels, monkeypatch) -> None:
    model = prepared(MODELS[name])
    sets = {layer.name: range(channels) for layer in find_layers(model, data(4, 2)[0][0])}

    def call(loader: list[Batch]) -> object:
        return lesion(model, loader, channels=sets, kinds=["zero"])

    assert waits_of_a_batch(call, monkeypatch) == ONCE


@pytest.mark.usefixtures("device_path")
@pytest.mark.parametrize("channels", [1, 4])
def test_replacements_wait_as_often_whatever_the_channels(channels, monkeypatch) -> None:
    model = prepared(MODELS["residual"])
    calibration = measure(model, data(40, 1))
    sets = {"stem": range(channels), "first": range(channels)}

    def call(loader: list[Batch]) -> object:
        return replace(model, loader, calibration, channels=sets, peers=["all", "hull"])

    assert waits_of_a_batch(call, monkeypatch) == ONCE


@pytest.mark.parametrize("name", MODELS)
def test_a_measured_batch_waits_for_the_device_once(name, monkeypatch) -> None:
    """One look at what is finite; everything else stays where it is until the end."""
    model = prepared(MODELS[name])
    # float32 sums take the path of a device on the CPU too
    options = {"precision": "float32", "hull": False, "groups": 3}
    waits = waits_of_a_batch(lambda loader: measure(model, loader, **options), monkeypatch)
    assert waits == ["tolist"]


@pytest.mark.usefixtures("device_path")
@pytest.mark.parametrize("name", ["residual", "small_convnet"])
def test_a_chunk_of_lesions_launches_few_operations(name, monkeypatch) -> None:
    """At most 40 beyond those of the network itself, however many pairs the chunk holds."""
    model, images = prepared(MODELS[name]), data(11, 2)[0][0]
    names = [layer.name for layer in find_layers(model, images)]
    monkeypatch.setattr("empirical.lesions.plan._divide", lambda *_: (8, [16]))

    def launched(layer: str, channels: int) -> int:
        with Operations() as counted:
            sets = {layer: range(channels)}
            lesion(model, [(images, LABELS[:8])], channels=sets, kinds=["zero"])
        return len(counted.names)

    before = dict.fromkeys(names, 0)
    with Operations() as plain, torch.no_grad():
        count = {
            name: lambda _, name=name: before.update({name: len(plain.names)}) for name in names
        }
        with capture(model, count):
            model(images)
    for layer in names:  # a chunk holds two lesions of eight images: there is one more of them
        of_chunk = launched(layer, 4) - launched(layer, 2)
        assert of_chunk <= 40 + len(plain.names) - before[layer], layer
