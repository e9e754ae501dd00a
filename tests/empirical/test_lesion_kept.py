"""Damages as sums, in memory and in a folder: the same numbers, and nothing computed twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from empirical import lesion, measure, merge_lesions, replace
from empirical.lesions.foretold import agreement
from empirical.lesions.replacement_table import ReplacementTable
from empirical.lesions.scores import cross_entropy
from empirical.lesions.table import DAMAGES, LesionTable, images_of
from empirical.measuring.damage_law import damage
from tests.empirical.test_lesion_fast import MODELS, data, prepared

SUMMED = {"rtol": 1e-6, "atol": 1e-12}
"""A variance from sums of squares, of damages of like size as their mean."""


def options(**more: object) -> dict:
    return {"kinds": ["mean", "zero"], "calibration": data(12, 1), **more}


@pytest.fixture(scope="module")
def model():
    return prepared(MODELS["residual"])


@pytest.fixture(scope="module")
def whole(model) -> LesionTable:
    return lesion(model, data(13, 2), **options())


def assert_same_means(table: LesionTable, whole: LesionTable) -> None:
    for name in DAMAGES:
        for mine, its in zip(table.mean_and_error(name), whole.mean_and_error(name), strict=True):
            np.testing.assert_allclose(mine, its, **SUMMED)


def test_sums_give_the_means_and_errors_of_all_images(model, whole, tmp_path) -> None:
    table = lesion(model, data(13, 2), **options(per_image=False))
    assert not table.damage
    assert_same_means(table, whole)
    chosen = whole.layer == "first"
    assert_same_means(table.select(chosen), whole.select(chosen))
    table.save(tmp_path / "sums.npz")
    read = LesionTable.load(tmp_path / "sums.npz")
    assert read.to_frame().equals(table.to_frame())
    assert (tmp_path / "sums.npz").stat().st_size < 20_000


def test_what_needs_every_image_says_so(model) -> None:
    table = lesion(model, data(13, 2), **options(per_image=False))
    with pytest.raises(ValueError, match=r"lesion\(..., per_image=True\)"):
        agreement(table, damage(model, data(40, 1)))


def test_sums_of_shares_merge(model, whole) -> None:
    shares = [lesion(model, [part], **options(per_image=False)) for part in data(13, 2)]
    assert_same_means(merge_lesions(shares), whole)
    mixed = [shares[0], lesion(model, data(13, 2)[1:], **options())]
    with pytest.raises(ValueError, match="the same per_image"):
        merge_lesions(mixed)


def test_a_folder_holds_every_image_of_each_layer(model, whole, tmp_path) -> None:
    table = lesion(model, data(13, 2), **options(per_image=tmp_path))
    assert_same_means(table, whole)
    assert list(dict.fromkeys(table.layer)) == list(dict.fromkeys(whole.layer))
    for layer in dict.fromkeys(whole.layer):
        read, expected = (
            LesionTable.load(tmp_path / f"{layer}.npz"),
            whole.select(whole.layer == layer),
        )
        assert read.channels == expected.channels
        for name in DAMAGES:
            mapped = read.per_image(name)
            assert isinstance(mapped, np.memmap)
            np.testing.assert_allclose(mapped, expected.damage[name], rtol=1e-5, atol=1e-6)


def test_layers_that_a_folder_has_are_not_run_again(model, tmp_path) -> None:
    def times() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in tmp_path.glob("[!.]*")}

    lesion(model, data(13, 2), **options(per_image=tmp_path))
    before = times()
    assert len(before) == 3 * 4  # table, images and record of four layers
    lesion(model, data(13, 2), **options(per_image=tmp_path, memory=1 << 28))
    assert times() == before
    images_of(tmp_path / "stem.npz").write_bytes(b"cut short")
    lesion(model, data(13, 2), **options(per_image=tmp_path))
    changed = {path.name for path, time in times().items() if time != before[path]}
    assert changed == {"stem.npz", "stem.f32", "stem.npz.made-from.json"}
    for other in (
        lambda: lesion(model, data(13, 3), **options(per_image=tmp_path)),
        lambda: lesion(prepared(MODELS["residual"], 1), data(13, 3), **options(per_image=tmp_path)),
        lambda: lesion(model, data(13, 2), **options(per_image=tmp_path, kinds=["zero"])),
        lambda: lesion(model, data(13, 2), **options(per_image=tmp_path, loss=doubled(2))),
        lambda: lesion(model, data(13, 2), **options(per_image=tmp_path, loss=doubled(3))),
    ):
        before = times()
        other()
        assert all(time != before[path] for path, time in times().items())


def test_a_layer_of_any_name_has_its_file_in_the_folder(tmp_path) -> None:
    """torch takes every character but the dot in a module's name."""
    conv, rest = nn.Conv2d(1, 3, 3), nn.Sequential(nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))
    model = nn.Sequential()
    for name, module in (("/up/conv:1", conv), ("rest", rest)):
        model.add_module(name, module)
    images = torch.randn(9, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    model(images)
    kept = lesion(
        model, [(images, torch.arange(9) % 3)], kinds=["zero"], per_image=tmp_path / "kept"
    )
    assert set(kept.layer) == {"/up/conv:1"}
    own = LesionTable.load(tmp_path / "kept" / "%2Fup%2Fconv%3A1.npz")
    np.testing.assert_array_equal(own.layer, kept.layer)


def test_memory_that_damages_would_take_is_foretold(model, monkeypatch) -> None:
    monkeypatch.setattr("empirical.data.images.psutil.virtual_memory", lambda: Free(1000))
    loader = data(13, 2)
    with pytest.raises(MemoryError, match=r"Pass per_image=False"):
        lesion(model, loader, **options())
    assert lesion(model, loader, **options(per_image=False)).n_images == 13


def doubled(factor: int):
    """A loss that differs by what it has closed over."""
    return lambda logits, labels: factor * cross_entropy(logits, labels)


class Free:
    """What psutil says."""

    def __init__(self, available: int) -> None:
        self.available = available


class Plain(nn.Module):
    """What it computes hangs on a number, a function and a hook that no state dict holds."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3), nn.Linear(5, 4)
        self.factor, self.act = 1.0, functional.relu

    def forward(self, images: Tensor) -> Tensor:
        maps = self.b(self.act(self.a(images)) * self.factor)
        return self.out(self.act(maps).mean((2, 3)))


def scaled(factor: float):
    def loss(outputs, labels, factor=factor):
        return functional.cross_entropy(outputs * factor, labels, reduction="none")

    return loss


@pytest.mark.parametrize("what", ["nothing", "number", "function", "hook", "labels", "loss"])
def test_what_changes_damages_runs_layers_anew(tmp_path, what: str) -> None:
    torch.manual_seed(0)
    model, images, labels = Plain(), torch.randn(24, 3, 8, 8), torch.arange(24) % 4
    calls: list[tuple[int, int]] = []

    def run(folder=None, factor: float = 1.0) -> LesionTable:
        own = {} if folder is None else {"per_image": folder}
        return lesion(
            model, [(images, labels)], kinds=["zero"], loss=scaled(factor),
            progress=lambda done, total: calls.append((done, total)), **own,
        )  # fmt: skip

    before, factor = run(tmp_path), 1.0
    match what:
        case "number":
            model.factor = 5.0
        case "function":
            model.act = functional.gelu
        case "hook":
            model.a.register_forward_hook(lambda _, given, made: 2 * made)
        case "labels":
            labels = (labels + 1) % 4
        case "loss":
            factor = 5.0
    calls.clear()
    again = run(tmp_path, factor)
    assert bool(calls) == (what != "nothing")
    found = run(factor=factor)
    for mine, its in zip(
        again.mean_and_error("loss_increase"), found.mean_and_error("loss_increase"), strict=True
    ):
        np.testing.assert_allclose(mine, its, **SUMMED)
    if what != "nothing":
        assert not np.allclose(before.mean_and_error("loss_increase")[0], its)


def test_replacements_are_kept_whole_in_a_file(model, tmp_path) -> None:
    table = replace(model, data(13, 2), data(40, 1), peers=["all", "random"], draws=2)
    table.save(tmp_path / "replaced.npz")
    pd.testing.assert_frame_equal(
        ReplacementTable.load(tmp_path / "replaced.npz").to_frame(), table.to_frame()
    )
    lesions = LesionTable.load(tmp_path / "replaced.npz")
    assert type(lesions) is LesionTable
    lesions.save(tmp_path / "lesions.npz")
    with pytest.raises(ValueError, match="is damaged"):
        ReplacementTable.load(tmp_path / "lesions.npz")


class Gated(nn.Module):
    """A gate of one channel, which has no peers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.gate, self.out = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 1, 1), nn.Linear(4, 5)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.a(images).relu()
        return self.out((maps * self.gate(maps).sigmoid()).mean((2, 3)))


@pytest.mark.parametrize("kept", ["table", "loader"])
def test_a_layer_of_one_channel_is_set_to_zero_alone(kept: str) -> None:
    torch.manual_seed(0)
    model = Gated()
    known = measure(model, data(40, 1)) if kept == "table" else data(40, 1)
    frame = lesion(model, data(13, 2), calibration=known).to_frame()
    rows = frame.groupby(["layer", "kind"], sort=False).size().to_dict()
    assert rows == {("a", "mean"): 4, ("a", "zero"): 4, ("gate", "zero"): 1}
