"""Where images come from: scikit-learn, torchvision's CIFAR, or a folder of one's own."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.error import URLError

import numpy as np
import torch
from torch import Tensor

from empirical.data.folders import DEFAULT_CACHE, read_folder
from empirical.data.images import ImageLoader, ImageSet, channel_statistics, image_loader
from empirical.data.photographs import photograph_tiles
from empirical.seeding import checked_seed, folded
from theory.shared.validation import count, path_of, truth

__all__ = ["NAMED", "ImageLoader", "ImageSet", "image_loader", "load_data"]

NAMED = ("photographs", "digits", "cifar10", "cifar100")
"""Data sets known by name; everything else is the path of a folder."""


def load_data(
    source: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] = "data",
    download: bool = False,
    image_size: int | None = None,
    images: tuple[int | None, int | None] = (None, None),
    draw: int = 0,
    seed: int = 0,
    cache: str | os.PathLike[str] | None = DEFAULT_CACHE,
) -> tuple[ImageSet, ImageSet]:
    """Return the training set and the test set.

    Parameters
    ----------
    source
        ``"photographs"`` (2,080 tiles of 16 × 16 pixels from ten strips of the two photographs that
        scikit-learn ships; which strip is the class), ``"digits"`` (its 1,797 digits of 8 × 8
        pixels, a stratified third of them for testing), ``"cifar10"`` or ``"cifar100"``
        (torchvision's files under `root`), or the path of a folder ``train/<class>/*`` and
        ``test/<class>/*`` (or ``val``). The layouts in which Tiny-ImageNet and ImageNet-100 are
        distributed are read as they are.
    root, download
        Where torchvision's data sets lie, and whether they may be downloaded into it.
    image_size
        Resize the shorter side to this many pixels and crop the centre. Needed where a folder's
        images differ in size.
    images, draw
        How many training and test images of a folder to use, drawn by class with seed `draw` from
        the list of its files: the others are not read, and the mean and standard deviation are
        those of the training images that are. None for all; data sets by name always come whole.
    seed
        Which third of the digits is the test set.
    cache
        Folder of decoded images, so that a folder is decoded once. They are decoded into it, and
        read from it as they are used: memory need not hold them. None keeps none, and memory must.

    Raises
    ------
    FileNotFoundError
        If the folder, its ``train`` or its ``test`` is missing, or torchvision's files are.
    ValueError
        If images differ in size, a file is no image, or the two parts' classes differ.
    MemoryError
        If the decoded images fit neither into the cache nor into memory; it says how much they
        take.

    Examples
    --------
    >>> train, test = load_data("digits")
    >>> len(train), len(test), train.classes, tuple(train.images.shape[1:])
    (1198, 599, 10, (1, 8, 8))
    """
    path_of("data", source)
    name = os.fspath(source)
    truth("download", download)
    if not isinstance(images, tuple) or len(images) != 2:
        raise TypeError(
            f"images must be two numbers, of training and of test images; got {images!r}. Pass "
            "(None, None) for all."
        )
    checked_seed("seed", seed)
    if name == "photographs":
        tiles, strips = photograph_tiles()
        return _pair(name, tiles["train"], tiles["test"], strips)
    if name == "digits":
        return _digits(seed)
    if name in ("cifar10", "cifar100"):
        return _cifar(name, Path(root), download)
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(
            f"data must be one of {', '.join(NAMED)} or an existing folder; got {name!r}. Unpack "
            "the images to train/<class>/* and test/<class>/* and name the folder that holds both."
        )
    size = None if image_size is None else count("image_size", image_size)
    wanted = tuple(None if number is None else count("images", number) for number in images)
    parts, class_names = read_folder(
        folder, image_size=size, cache=cache, images=(wanted[0], wanted[1]), draw=draw
    )
    label = folder.resolve().name
    return _pair(label, parts["train"], parts["test"], class_names)


def _pair(
    name: str,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    class_names: tuple[str, ...],
) -> tuple[ImageSet, ImageSet]:
    mean, std = channel_statistics(train[0])
    return (
        ImageSet(f"{name}/train", *train, class_names, mean, std),
        ImageSet(f"{name}/test", *test, class_names, mean, std),
    )


def _digits(seed: int) -> tuple[ImageSet, ImageSet]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    # Values 0 .. 16 become 0 .. 255.
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = bunch.target.astype(np.int64)
    fit, held_out = train_test_split(
        np.arange(len(labels)), test_size=1 / 3, stratify=labels, random_state=folded(seed)
    )
    parts = [
        (torch.from_numpy(pixels[rows]), torch.from_numpy(labels[rows]))
        for rows in (np.sort(fit), np.sort(held_out))
    ]
    return _pair("digits", parts[0], parts[1], tuple(str(digit) for digit in range(10)))


def _cifar(name: str, root: Path, download: bool) -> tuple[ImageSet, ImageSet]:
    from torchvision.datasets import CIFAR10, CIFAR100

    kind = {"cifar10": CIFAR10, "cifar100": CIFAR100}[name]
    try:
        # torchvision unpickles these files, after it has compared their checksums with its own.
        sets = [kind(str(root), train=train, download=download) for train in (True, False)]
    except URLError as error:
        raise ConnectionError(
            f"{name} could not be downloaded into root={str(root)!r} ({error.reason}). Check the "
            "network and start again; a part that arrived is checked and replaced."
        ) from error
    except RuntimeError as error:
        raise FileNotFoundError(
            f"{name} was not found, or is incomplete, under root={str(root)!r} ({error}). Pass "
            "download=True (--download) where there is a network, or name an image folder."
        ) from error
    parts = [
        (
            torch.from_numpy(np.ascontiguousarray(part.data.transpose(0, 3, 1, 2))),
            torch.tensor(part.targets, dtype=torch.int64),
        )
        for part in sets
    ]
    return _pair(name, parts[0], parts[1], tuple(sets[0].classes))
