"""Labelled images in memory: what training, measurement, lesions and pruning all read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from empirical.folders import DEFAULT_CACHE, read_folder
from theory._validation import count

NAMED = ("digits", "cifar10", "cifar100")
"""Data sets known by name; everything else is the path of a folder."""


@dataclass(frozen=True)
class ImageSet:
    """Images as bytes, their labels, and the statistics that normalize them.

    Parameters
    ----------
    name
        What the set is called in reports, for instance ``"cifar10/train"``.
    images
        uint8 tensor of shape (n, C, H, W). It may be a memory-mapped file.
    labels
        int64 tensor of shape (n,), values 0 .. K-1.
    class_names
        K names, in the order of the labels.
    mean, std
        Per channel, for pixel values in [0, 1]. Test images carry the statistics of the training
        images: nothing is learned from what is reported on.

    Examples
    --------
    >>> images = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    >>> tiny = ImageSet("tiny", images, torch.tensor([0, 1, 0, 1]), ("a", "b"), (0.5,), (0.25,))
    >>> len(tiny), tiny.classes, tiny.image_size
    (4, 2, 2)
    >>> tiny.normalize(images).unique()
    tensor([-2.])
    """

    name: str
    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise ValueError(
                "images must be uint8 of shape (n, C, H, W); got "
                f"{self.images.dtype} of shape {tuple(self.images.shape)}."
            )
        if self.labels.shape != (len(self.images),) or self.labels.dtype != torch.int64:
            raise ValueError(
                f"labels must be int64, one per image ({len(self.images)}); got "
                f"{self.labels.dtype} of shape {tuple(self.labels.shape)}."
            )
        if not (len(self.mean) == len(self.std) == self.channels):
            raise ValueError(
                f"mean and std must have one value per channel ({self.channels}); "
                f"got {self.mean} and {self.std}."
            )
        wrong = (self.labels < 0) | (self.labels >= self.classes)
        if wrong.any():
            first = int(wrong.nonzero()[0, 0])
            raise ValueError(
                f"labels must be in 0 .. {self.classes - 1}, one per class name; label {first} is "
                f"{int(self.labels[first])}. Check class_names or the labels."
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def channels(self) -> int:
        """Colour channels of an image."""
        return int(self.images.shape[1])

    @property
    def image_size(self) -> int:
        """Height of an image in pixels; images that `load_data` returns are square."""
        return int(self.images.shape[2])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of pixels, labels, class names and statistics: 16 hexadecimal digits."""
        digest = hashlib.sha256(repr((self.class_names, self.mean, self.std)).encode())
        digest.update(repr(tuple(self.images.shape)).encode())
        digest.update(self.labels.numpy())
        for block in self.images.split(4096):
            digest.update(block.contiguous().numpy())
        return digest.hexdigest()[:16]

    def subset(self, indices: Sequence[int] | Tensor, *, name: str | None = None) -> ImageSet:
        """Return the images at `indices`, in that order, with the same statistics."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        if len(chosen) and (int(chosen.min()) < 0 or int(chosen.max()) >= len(self)):
            raise ValueError(
                f"indices must be in 0 .. {len(self) - 1}; got "
                f"{int(chosen.min())} .. {int(chosen.max())}."
            )
        return ImageSet(
            name or self.name,
            self.images[chosen],
            self.labels[chosen],
            self.class_names,
            self.mean,
            self.std,
        )

    def normalize(self, images: Tensor) -> Tensor:
        """Return uint8 `images` as float32, (value / 255 - mean) / std, on their own device."""
        mean = torch.tensor(self.mean, device=images.device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(1, -1, 1, 1)
        return images.float().div_(255.0).sub_(mean).div_(std)


class ImageLoader:
    """Batches of (normalized float32 images, int64 labels), the same at every pass.

    Nothing is shuffled and nothing is augmented: this is what measurement, lesions and pruning
    read. `train` draws its own batches.
    """

    def __init__(self, image_set: ImageSet, indices: Tensor | None, batch_size: int) -> None:
        self.image_set = image_set
        self.indices = indices
        self.batch_size = batch_size

    @property
    def n_images(self) -> int:
        """Number of images in one pass."""
        return len(self.image_set) if self.indices is None else len(self.indices)

    def __len__(self) -> int:
        return -(-self.n_images // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, self.n_images, self.batch_size):
            stop = min(start + self.batch_size, self.n_images)
            where = slice(start, stop) if self.indices is None else self.indices[start:stop]
            images, labels = self.image_set.images[where], self.image_set.labels[where]
            yield self.image_set.normalize(images), labels


def image_loader(
    image_set: ImageSet, indices: Sequence[int] | Tensor | None = None, *, batch_size: int = 250
) -> ImageLoader:
    """Return a loader over `image_set`, or over the images at `indices`, in that order.

    Examples
    --------
    >>> train, test = load_data("digits")
    >>> images, labels = next(iter(image_loader(test, batch_size=32)))
    >>> images.shape, images.dtype, labels.dtype
    (torch.Size([32, 1, 8, 8]), torch.float32, torch.int64)
    """
    size = count("batch_size", batch_size)
    chosen = None
    if indices is not None:
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        image_set.subset(chosen[:0])
        if len(chosen) and (int(chosen.min()) < 0 or int(chosen.max()) >= len(image_set)):
            raise ValueError(
                f"indices must be in 0 .. {len(image_set) - 1}; got "
                f"{int(chosen.min())} .. {int(chosen.max())}."
            )
    return ImageLoader(image_set, chosen, size)


def load_data(
    source: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] = "data",
    download: bool = False,
    image_size: int | None = None,
    seed: int = 0,
    cache: str | os.PathLike[str] | None = DEFAULT_CACHE,
) -> tuple[ImageSet, ImageSet]:
    """Return the training set and the test set.

    Parameters
    ----------
    source
        ``"digits"`` (scikit-learn's 1,797 digits of 8 × 8 pixels, a stratified third of them for
        testing), ``"cifar10"`` or ``"cifar100"`` (torchvision's files under `root`), or the path
        of a folder ``train/<class>/*`` and ``test/<class>/*`` (or ``val``). The layouts in which
        Tiny-ImageNet and ImageNet-100 are distributed are read as they are.
    root, download
        Where torchvision's data sets lie, and whether they may be downloaded into it.
    image_size
        Resize the shorter side to this many pixels and crop the centre. Needed where a folder's
        images differ in size.
    seed
        Which third of the digits is the test set. Nothing else is random.
    cache
        Folder of decoded images, so that a folder is decoded once. None keeps none.

    Raises
    ------
    FileNotFoundError
        If the folder, its ``train`` or its ``test`` is missing, or torchvision's files are.
    ValueError
        If images differ in size, a file is no image, or the two parts' classes differ.

    Examples
    --------
    >>> train, test = load_data("digits")
    >>> len(train), len(test), train.classes, tuple(train.images.shape[1:])
    (1198, 599, 10, (1, 8, 8))
    """
    name = os.fspath(source)
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
    parts, class_names = read_folder(folder, image_size=size, cache=cache)
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


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return per-channel mean and standard deviation of uint8 images, for values in [0, 1].

    Exact: from the histogram of each channel's 256 values.
    """
    levels = np.arange(256) / 255.0
    means, deviations = [], []
    for channel in range(images.shape[1]):
        counts = np.zeros(256, dtype=np.int64)
        for block in images[:, channel].split(8192):
            counts += np.bincount(block.reshape(-1).numpy(), minlength=256)
        weights = counts / counts.sum()
        mean = float(weights @ levels)
        deviation = float(np.sqrt(weights @ (levels - mean) ** 2))
        means.append(round(mean, 6))
        # A constant channel carries nothing; dividing by 1 leaves it at zero after centring.
        deviations.append(round(deviation, 6) if deviation > 1e-6 else 1.0)
    return tuple(means), tuple(deviations)


def _digits(seed: int) -> tuple[ImageSet, ImageSet]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    # Values 0 .. 16 become 0 .. 255.
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = bunch.target.astype(np.int64)
    fit, held_out = train_test_split(
        np.arange(len(labels)), test_size=1 / 3, stratify=labels, random_state=seed
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
