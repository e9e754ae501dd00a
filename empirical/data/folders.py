"""Image folders: which file has which class, and their pixels, decoded once and kept as bytes."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import math
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from empirical.data.images import check_memory, gib
from empirical.data.splits import stratified_draw

Shape = tuple[int, int, int, int]
Files = list[tuple[Path, str]]
"""(file, class name) pairs, sorted."""

DEFAULT_CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "twoaxis"
_EXTENSIONS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".gif"}
_CACHE_FORMAT = 1
_UNREADABLE = (
    UnidentifiedImageError,
    OSError,
    ValueError,
    SyntaxError,  # what PIL calls a broken PNG
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "PPM", "TIFF", "GIF")
"""What is decoded: formats that hold pixels and no programs (an EPS would be run)."""

_LOG = logging.getLogger("twoaxis")


def read_folder(
    folder: Path,
    *,
    image_size: int | None,
    cache: str | os.PathLike[str] | None,
    images: tuple[int | None, int | None] = (None, None),
    draw: int = 0,
) -> tuple[dict[str, tuple[Tensor, Tensor]], tuple[str, ...]]:
    """Return {"train", "test"} → (uint8 images, labels), and the class names in label order.

    `images` are how many of each part to use, drawn by class with seed `draw`; the others stay
    unread.
    """
    files = {"train": _train_files(folder), "test": _test_files(folder)}
    class_names = tuple(sorted({name for _, name in files["train"]}))
    _check_classes(folder, set(class_names), {name for _, name in files["test"]})
    files = {
        part: _drawn(pairs, number, draw)
        for (part, pairs), number in zip(files.items(), images, strict=True)
    }
    key = _cache_key(folder, files, image_size)
    entry = None if cache is None else Path(cache).expanduser() / f"{folder.resolve().name}-{key}"
    pixels = None
    if entry is not None:
        if not (entry / "classes.json").is_file():
            _store(entry, files, image_size, class_names)
        pixels = _mapped(entry, files)
    if pixels is None:
        pixels = _decode_parts(files, image_size, _in_memory)
    index = {name: label for label, name in enumerate(class_names)}
    labels = {part: torch.tensor([index[name] for _, name in files[part]]) for part in files}
    return {part: (torch.from_numpy(pixels[part]), labels[part]) for part in files}, class_names


def _drawn(pairs: Files, number: int | None, seed: int) -> Files:
    if number is None or number >= len(pairs):
        return pairs
    _, labels = np.unique([name for _, name in pairs], return_inverse=True)
    rows = stratified_draw(labels, number, np.random.default_rng(seed))
    return [pairs[row] for row in np.sort(rows)]


def _mapped(entry: Path, files: dict[str, Files]) -> dict[str, NDArray[np.uint8]] | None:
    """Return the kept images; None where there are none, or others than the files say."""
    try:
        # Copy-on-write: nothing is read before it is used, and the file cannot change.
        pixels = {
            part: np.load(entry / f"{part}.npy", mmap_mode="c", allow_pickle=False)
            for part in files
        }
    except (OSError, ValueError, EOFError):
        return None
    fits = all(
        array.dtype == np.uint8 and array.ndim == 4 and len(array) == len(files[part])
        for part, array in pixels.items()
    )
    return pixels if fits else None


def _train_files(folder: Path) -> Files:
    # ImageNet-100 is distributed in pieces: train.X1 .. train.X4 and val.X.
    parts = [folder / "train"] if (folder / "train").is_dir() else sorted(folder.glob("train.X*"))
    found = [pair for part in parts for pair in _class_files(part)]
    if not found:
        raise FileNotFoundError(
            f"data folder {str(folder)!r} has no images in train/<class>/. It must hold "
            "train/<class>/* and test/<class>/* (or val/<class>/*)."
        )
    return sorted(found)


def _test_files(folder: Path) -> Files:
    # Tiny-ImageNet's own test images have no labels; its validation images do, in a text file.
    annotations = folder / "val" / "val_annotations.txt"
    if annotations.is_file():
        return _annotated(annotations)
    for name in ("test", "val", "validation", "val.X"):
        if (folder / name).is_dir() and (found := _class_files(folder / name)):
            return sorted(found)
    raise FileNotFoundError(
        f"data folder {str(folder)!r} has no images in test/<class>/ or val/<class>/. Add one of "
        "them: accuracy is reported on images that training did not see."
    )


def _annotated(annotations: Path) -> Files:
    try:
        rows = [line.split("\t") for line in annotations.read_text("utf-8").splitlines() if line]
    except UnicodeDecodeError as error:
        raise ValueError(f"{annotations} is not text ({error}). Unpack it again.") from error
    for number, row in enumerate(rows, start=1):
        if len(row) < 2 or Path(row[0]).name != row[0]:
            raise ValueError(
                f"{annotations} must hold a file of val/images and its class in each line, with a "
                f"tab between; line {number} does not. Unpack it again."
            )
    return sorted((annotations.parent / "images" / row[0], row[1]) for row in rows)


def _class_files(part: Path) -> Files:
    return [
        (Path(root, name), entry.name)
        for entry in part.iterdir()
        if entry.is_dir()
        for root, _, names in os.walk(entry)
        for name in names
        if os.path.splitext(name)[1].lower() in _EXTENSIONS
    ]


def _check_classes(folder: Path, train: set[str], test: set[str]) -> None:
    if train == test:
        return
    raise ValueError(
        f"data folder {str(folder)!r} must have the same classes in both parts; only in training: "
        f"{_some(train - test)}; only in testing: {_some(test - train)}."
    )


def _some(names: set[str]) -> str:
    listed = sorted(names)
    return (
        ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")
    ) or "none"


def _cache_key(folder: Path, files: dict[str, Files], image_size: int | None) -> str:
    digest = hashlib.sha256(repr((_CACHE_FORMAT, image_size)).encode())
    start = len(str(folder)) + 1
    for part, pairs in files.items():
        for path, name in pairs:
            status = os.stat(path)
            row = (part, name, str(path)[start:], status.st_size, status.st_mtime_ns)
            digest.update(repr(row).encode())
    return digest.hexdigest()[:16]


def _decode_parts(
    files: dict[str, Files],
    image_size: int | None,
    allocate: Callable[[str, Shape], NDArray[np.uint8]],
) -> dict[str, NDArray[np.uint8]]:
    """Decode every file into what `allocate` returns for a part and the shape of its images."""
    paths = {part: [path for path, _ in pairs] for part, pairs in files.items()}
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        every = [path for part in paths.values() for path in part]
        headers = list(pool.map(_header, every, chunksize=256))
        mode = "L" if all(kind in ("L", "1") for kind, _ in headers) else "RGB"
        size = image_size or _common_size(every, [shape for _, shape in headers])
        _LOG.info("decoding %d images: %s", len(every), gib(len(every) * len(mode) * size**2))
        decoded = {}
        for part, part_paths in paths.items():
            pixels = allocate(part, (len(part_paths), len(mode), size, size))

            def fill(
                row: int, out: NDArray[np.uint8] = pixels, source: Sequence[Path] = part_paths
            ) -> None:
                out[row] = _pixels(source[row], mode, size)

            list(pool.map(fill, range(len(part_paths)), chunksize=256))
            decoded[part] = pixels
    return decoded


def _in_memory(_: str, shape: Shape) -> NDArray[np.uint8]:
    check_memory(
        math.prod(shape),
        f"{shape[0]} decoded images",
        "Use fewer images or a smaller image_size, or name a cache folder with room for them: "
        "images are then read from there.",
    )
    return np.empty(shape, dtype=np.uint8)


def _header(path: Path) -> tuple[str, tuple[int, int]]:
    try:
        with Image.open(path, formats=FORMATS) as image:
            return image.mode, image.size
    except _UNREADABLE as error:
        raise ValueError(f"{path} cannot be read as an image ({error}). Remove it.") from error


def _common_size(paths: list[Path], sizes: list[tuple[int, int]]) -> int:
    different = next((i for i, size in enumerate(sizes) if size != sizes[0]), None)
    if different is not None:
        raise ValueError(
            f"images must have one size; {paths[0]} is {_shape(sizes[0])} and {paths[different]} "
            f"is {_shape(sizes[different])}. Pass image_size to resize and crop them."
        )
    if sizes[0][0] != sizes[0][1]:
        raise ValueError(
            f"images must be square; they are {_shape(sizes[0])}. Pass image_size to resize and "
            "crop them."
        )
    return sizes[0][0]


def _shape(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"


def _pixels(path: Path, mode: str, size: int) -> NDArray[np.uint8]:
    try:
        with Image.open(path, formats=FORMATS) as image:
            converted = image.convert(mode)
    except _UNREADABLE as error:
        raise ValueError(f"{path} cannot be decoded ({error}). Replace or remove it.") from error
    if converted.size != (size, size):
        converted = _resize_and_crop(converted, size)
    array = np.asarray(converted, dtype=np.uint8)
    return array[None] if mode == "L" else array.transpose(2, 0, 1)


def _resize_and_crop(image: Image.Image, size: int) -> Image.Image:
    width, height = image.size
    scale = size / min(width, height)
    shape = (max(size, round(width * scale)), max(size, round(height * scale)))
    image = image.resize(shape, Image.Resampling.BILINEAR)
    left, top = (shape[0] - size) // 2, (shape[1] - size) // 2
    return image.crop((left, top, left + size, top + size))


def _store(
    entry: Path, files: dict[str, Files], image_size: int | None, class_names: tuple[str, ...]
) -> None:
    """Decode into a folder that appears complete or not at all; memory holds an image a thread."""
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=entry.parent, prefix=".decoding-") as scratch:
            part = Path(scratch) / "part"
            part.mkdir()

            def on_disk(name: str, shape: Shape) -> NDArray[np.uint8]:
                needed, free = math.prod(shape), shutil.disk_usage(part).free
                if needed > free:  # before, since writing to a mapped file on a full disk kills
                    raise OSError(
                        errno.ENOSPC, f"{gib(needed)} are needed and {gib(free)} are free"
                    )
                file = part / f"{name}.npy"
                return np.lib.format.open_memmap(file, "w+", dtype=np.uint8, shape=shape)

            for array in _decode_parts(files, image_size, on_disk).values():
                array.flush()  # type: ignore[attr-defined]
            (part / "classes.json").write_text(json.dumps(class_names), encoding="utf-8")
            if entry.exists():
                shutil.rmtree(entry)
            part.rename(entry)
    except OSError as error:
        warnings.warn(
            f"decoded images were not kept in {str(entry)!r} ({error}); they will be decoded again "
            "next time. Free some space, or name another cache folder.",
            stacklevel=4,
        )
