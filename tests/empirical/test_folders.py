"""Folders of images: which files are decoded, into what, and what is refused."""

import tempfile

import numpy as np
import pytest
import torch
from PIL import Image

from empirical.data import folders, images
from empirical.data.loading import load_data
from tests.empirical.test_data import paint


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "pictures"
    paint(root, "train", ("cat", "dog", "eel"), per_class=100, size=(8, 8))
    paint(root, "test", ("cat", "dog", "eel"), per_class=20, size=(8, 8))
    return root


@pytest.fixture
def decoded(monkeypatch):
    """The files that are opened while the test runs."""
    seen = set()
    header = folders._header

    def counted(path):
        seen.add(path)
        return header(path)

    monkeypatch.setattr(folders, "_header", counted)
    return seen


@pytest.mark.parametrize("cached", [False, True])
def test_only_the_chosen_files_are_opened_and_every_class_has_its_share(
    folder, tmp_path, decoded, cached
):
    cache = tmp_path / "cache" if cached else None
    train, test = load_data(folder, cache=cache, images=(10, 6))
    assert len(decoded) == 10 + 6
    assert (len(train), len(test), train.class_names) == (10, 6, ("cat", "dog", "eel"))
    assert sorted(torch.bincount(train.labels).tolist()) == [3, 3, 4]
    whole, _ = load_data(folder, cache=None)
    every = {
        (image.numpy().tobytes(), int(label))
        for image, label in zip(whole.images, whole.labels, strict=True)
    }
    mine = {
        (image.numpy().tobytes(), int(label))
        for image, label in zip(train.images, train.labels, strict=True)
    }
    assert mine < every
    again, other = (load_data(folder, cache=cache, images=(10, 6), draw=d)[0] for d in (0, 1))
    assert again.fingerprint == train.fingerprint != other.fingerprint


def test_a_cache_is_filled_without_memory_and_gives_the_same_images(folder, tmp_path, monkeypatch):
    expected, _ = load_data(folder, cache=None)
    monkeypatch.setattr(folders, "_in_memory", lambda *_: pytest.fail("in memory"))
    for _ in range(2):  # decoded, and from the cache
        train, _ = load_data(folder, cache=tmp_path / "cache")
        assert train.fingerprint == expected.fingerprint


def test_a_damaged_cache_is_not_trusted(folder, tmp_path):
    expected, _ = load_data(folder, cache=tmp_path / "cache")
    (entry,) = (tmp_path / "cache").iterdir()
    for content in (b"", b"no array", np.zeros(3).tobytes()):
        (entry / "train.npy").unlink()
        (entry / "train.npy").write_bytes(content)
        assert load_data(folder, cache=tmp_path / "cache")[0].fingerprint == expected.fingerprint
    (entry / "train.npy").unlink()
    np.save(entry / "train.npy", np.array([{}]), allow_pickle=True)
    assert load_data(folder, cache=tmp_path / "cache")[0].fingerprint == expected.fingerprint


def test_what_fits_nowhere_is_refused_with_its_size(folder, tmp_path, monkeypatch):
    class Memory:
        available = 1000

    class Room:
        free = 1000

    monkeypatch.setattr(images.psutil, "virtual_memory", lambda: Memory)
    with pytest.raises(MemoryError, match=r"300 decoded images take .* GiB of memory, and .* free"):
        load_data(folder, cache=None)
    train, _ = load_data(folder, cache=tmp_path / "cache")
    assert len(train) == 300
    monkeypatch.setattr(images.shutil, "disk_usage", lambda _: Room)
    with pytest.raises(MemoryError, match=r"299 images of pictures/train take .* TMPDIR"):
        train.subset(range(299))
    assert len(train.subset([5])) == 1


def test_a_part_beyond_memory_is_read_from_an_unnamed_file(folder, tmp_path, monkeypatch):
    train, _ = load_data(folder, cache=tmp_path / "cache")
    rows = np.random.default_rng(0).permutation(300)[:299]
    expected = train.subset(rows)
    monkeypatch.setattr(images, "BLOCK", 64)
    monkeypatch.setattr(images.psutil, "virtual_memory", lambda: type("", (), {"available": 1000}))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before, made, maps = set(tmp_path.iterdir()), [], np.memmap
    monkeypatch.setattr(np, "memmap", lambda *a, **k: made.append(maps(*a, **k)) or made[-1])
    kept = train.subset(rows)
    assert kept.images.data_ptr() == made[0].ctypes.data
    assert torch.equal(kept.images, expected.images)
    assert kept.fingerprint == expected.fingerprint
    assert set(tmp_path.iterdir()) == before


def test_a_disk_without_room_is_said_before_anything_is_decoded(folder, tmp_path, monkeypatch):
    class Disk:
        free = 1000

    monkeypatch.setattr(folders.shutil, "disk_usage", lambda _: Disk)
    with pytest.warns(
        UserWarning, match=r"not kept .* GiB are needed and .* are free.*decoded again"
    ):
        train, _ = load_data(folder, cache=tmp_path / "cache")
    assert len(train) == 300
    assert not list((tmp_path / "cache").iterdir())


# --- files that are no images -----------------------------------------------------------------


def test_a_picture_that_would_fill_memory_is_named(folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ValueError, match=r"png cannot be read as an image \(.*pixels"):
        load_data(folder, cache=None)


def test_a_program_in_the_place_of_a_picture_does_not_run(folder):
    """Pillow hands EPS to Ghostscript, whatever the file is called."""
    file = folder / "train" / "cat" / "evil.png"
    file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    with pytest.raises(ValueError, match=r"evil\.png cannot be read as an image"):
        load_data(folder, cache=None)


@pytest.mark.parametrize(
    "text", [b"../../../secret.png\tcat\n", b"/etc/hostname\tcat\n", b"0.png\n", b"\xff\t\xff\n"]
)
def test_annotations_name_files_of_their_own_folder(folder, text):
    (folder / "val").mkdir()
    (folder / "val" / "val_annotations.txt").write_bytes(text)
    with pytest.raises(ValueError, match=r"val_annotations\.txt (must hold|is not text)"):
        load_data(folder, cache=None)
