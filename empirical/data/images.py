"""Labelled images as bytes, in memory or mapped from a file, and their batches in stored order."""

from __future__ import annotations

import hashlib
import math
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import psutil
import torch
from torch import Tensor

from theory.shared.validation import count, finite_array, instance, positive, real_array

BLOCK = 4096
"""Images that are hashed, or moved to a file, at a time."""


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
        instance("name", self.name, str, "Pass text.")
        for name in ("images", "labels"):
            instance(name, getattr(self, name), Tensor, "Pass torch.as_tensor of it.")
        for name, kind in (("class_names", str), ("mean", float), ("std", float)):
            instance(name, getattr(self, name), (tuple, list), f"Pass a tuple of {kind.__name__}.")
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
        finite_array("mean", self.mean, ndim=1)
        for value in self.std:
            positive("std", value)
        if len(set(self.class_names)) < self.classes:
            raise ValueError(
                f"class_names must differ; got {tuple(self.class_names)}. Pass one per class."
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
        digest.update(self.labels.numpy().data)
        for block in self.images.split(BLOCK):
            digest.update(block.contiguous().numpy().data)
        return digest.hexdigest()[:16]

    def subset(self, indices: Sequence[int] | Tensor, *, name: str | None = None) -> ImageSet:
        """Return the images at `indices`, in that order, with the same statistics.

        What memory does not hold lies in an unnamed temporary file and is read as it is used.
        """
        chosen = _checked_indices(indices, len(self))
        return ImageSet(
            name or self.name,
            _gathered(self.images, chosen, self.name),
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
    >>> from empirical.data.loading import load_data
    >>> train, test = load_data("digits")
    >>> images, labels = next(iter(image_loader(test, batch_size=32)))
    >>> images.shape, images.dtype, labels.dtype
    (torch.Size([32, 1, 8, 8]), torch.float32, torch.int64)
    """
    instance("image_set", image_set, ImageSet, "Pass what load_data returns.")
    size = count("batch_size", batch_size)
    chosen = None
    if indices is not None:
        chosen = _checked_indices(indices, len(image_set))
    return ImageLoader(image_set, chosen, size)


def _gathered(images: Tensor, rows: Tensor, name: str) -> Tensor:
    shape = (len(rows), *images.shape[1:])
    needed = math.prod(shape)
    if needed <= psutil.virtual_memory().available:
        return images[rows]
    room = shutil.disk_usage(tempfile.gettempdir()).free
    if needed > room:
        raise MemoryError(
            f"{len(rows)} images of {name} take {gib(needed)}; neither memory nor "
            f"{tempfile.gettempdir()}, with {gib(room)}, has room for them. Use fewer images or a "
            "smaller image_size, or let TMPDIR name a folder with more."
        )
    with tempfile.TemporaryFile() as file:  # its bytes live until the array is gone
        kept = np.memmap(file, dtype=np.uint8, mode="w+", shape=shape)
    for start in range(0, len(rows), BLOCK):
        kept[start : start + BLOCK] = images[rows[start : start + BLOCK]].numpy()
    return torch.from_numpy(kept)


def check_memory(needed: int, what: str, remedy: str) -> None:
    """Refuse what does not fit, with the `remedy`, instead of being killed for it half-way.

    Raises
    ------
    MemoryError
        `what` takes `needed` bytes, and fewer are free.
    """
    free = psutil.virtual_memory().available
    if needed > free:
        raise MemoryError(
            f"{what} take {gib(needed)} of memory, and {gib(free)} are free. {remedy}"
        )


def gib(size: int) -> str:
    """Return a number of bytes for people.

    >>> gib(3 * 2**29)
    '1.50 GiB'
    """
    return f"{size / 2**30:.2f} GiB"


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


def _checked_indices(indices: Sequence[int] | Tensor, n_images: int) -> Tensor:
    whole = real_array("indices", indices) % 1 == 0
    if not whole.all():
        raise ValueError(
            f"indices must be whole numbers; {int((~whole).sum())} are not. Pass 0 .. "
            f"{n_images - 1}."
        )
    chosen = torch.as_tensor(indices, dtype=torch.int64)
    if len(chosen) and (int(chosen.min()) < 0 or int(chosen.max()) >= n_images):
        raise ValueError(
            f"indices must be in 0 .. {n_images - 1}; got "
            f"{int(chosen.min())} .. {int(chosen.max())}."
        )
    return chosen
