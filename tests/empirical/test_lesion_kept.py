"""Damages as sums, in memory and in a folder: the same numbers, and nothing computed twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from empirical import lesion, merge_lesions
from empirical.lesions.foretold import agreement
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
