"""The only place that reads a data loader: every batch is checked before anything uses it."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from empirical.reading.layout import channels_last
from empirical.reading.networks import AdaptedLoader
from empirical.reading.repeated import Repeated
from theory.shared.validation import count


@dataclass(frozen=True, eq=False)
class Batch:
    """Images and labels where they are computed on; unpacks as this pair.

    Attributes
    ----------
    images, labels : (n, ...) and (n,) on the device; labels that are no class numbers (n, ...)
    first : index of its first image in the data
    number : of the batch, from 0
    largest_label : known before the upload, so that no one waits for the device to learn it; None
        where the labels are no class numbers
    host_images : the images as the loader gave them
    """

    images: Tensor
    labels: Tensor
    first: int
    number: int
    largest_label: int | None
    host_images: Tensor

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self.images, self.labels))

    def part(self, rows: slice) -> Batch:
        """Return some of the images, next to each other, as a batch."""
        return replace(
            self,
            images=self.images[rows],
            labels=self.labels[rows],
            host_images=self.host_images[rows],
            first=self.first + rows.indices(len(self.images))[0],
        )

    def channels_last(self) -> Batch:
        """Return it with images (n, C, H, W) that lie with their channels last in memory."""
        return replace(self, images=channels_last(self.images))

    def digests(self) -> list[bytes]:
        """Return one digest per image, taken from the images as the loader gave them."""
        return image_digests(self.host_images)


def batches(
    loader: Iterable[object],
    device: torch.device | str | None = None,
    *,
    first_image: int = 0,
    classes: bool = True,
) -> Iterator[Batch]:
    """Yield a `Batch` of (images, labels) on `device`, each checked before it is uploaded.

    Parameters
    ----------
    loader : iterable of pairs (images, labels), or of what this function yielded
        images (n, ...) of a floating type and finite; labels (n,) whole numbers >= 0
    device : where the tensors go; None leaves them where they are
    first_image : index of the loader's first image in the data
    classes : whether labels must be class numbers; False takes any tensor (n, ...)

    Raises
    ------
    TypeError, ValueError
        naming the batch (counted from 0), what it holds, and the remedy; a batch of images that
        another worker's copy of an IterableDataset has given already

    Examples
    --------
    >>> loader = [(torch.zeros(4, 3, 8, 8), torch.tensor([0, 1, 1, 0]))]
    >>> [tuple(images.shape) for images, labels in batches(loader)]
    [(4, 3, 8, 8)]
    """
    if not isinstance(loader, Iterable):
        raise TypeError(
            f"loader must be an iterable of (images, labels), such as a DataLoader; got "
            f"{type(loader).__name__}."
        )
    index, seen = -1, _Copies.of(loader)
    for index, batch in enumerate(loader):
        if isinstance(batch, Batch):  # from this function, and so checked
            if classes and batch.largest_label is None:
                _checked_labels(batch.number, batch.labels, len(batch.images))
            yield batch
            continue
        images, labels = _pair(index, batch)
        _check_images(index, images)
        if seen is not None:
            seen.refuse(index, images)
        largest = None
        if classes or _are_classes(labels, len(images)):
            labels = _checked_labels(index, labels, len(images))
            largest = int(labels.max())
        elif labels.ndim == 0 or len(labels) != len(images):
            raise ValueError(_labels_missing(index, labels, len(images)))
        yield Batch(
            images.detach().to(device, non_blocking=True),
            labels.to(device, non_blocking=True),
            first_image,
            index,
            largest,
            images,
        )
        first_image += len(images)
    if index < 0:
        raise ValueError("loader must yield at least one batch of (images, labels); it is empty.")


def length(loader: object) -> int | None:
    """Return the number of batches of a loader; None where it does not know.

    >>> length([1, 2]), length(iter([1, 2]))
    (2, None)
    """
    try:
        return len(loader) if isinstance(loader, Sized) else None
    except TypeError:  # a DataLoader of an IterableDataset has the method, and no answer
        return None


def leading(batches: Iterable[Batch], images: int) -> Iterator[Batch]:
    """Yield batches up to the first `images` images, the last of them cut; read no further.

    Examples
    --------
    >>> loader = [(torch.zeros(4, 1), torch.zeros(4, dtype=torch.long))] * 3
    >>> [len(batch.images) for batch in leading(batches(loader), 6)]
    [4, 2]
    """
    left = count("images", images)
    for batch in batches:
        yield batch.part(slice(left))
        left -= len(batch.images)
        if left <= 0:
            return


def joined(batches: Iterable[Batch]) -> Tensor:
    """Return the images of all batches, (n, ...).

    Raises
    ------
    ValueError
        images of more than one size
    """
    images = [batch.images for batch in batches]
    sizes = {tuple(part.shape[1:]) for part in images}
    if len(sizes) > 1:
        raise ValueError(
            "loader must yield images of one size for recoveries that refit or train; got "
            f"{' and '.join(map(str, sorted(sizes)))}. Resize them, or pass recovery='compensate'."
        )
    return torch.cat(images)


def _pair(index: int, batch: object) -> tuple[Tensor, Tensor]:
    if isinstance(batch, (tuple, list)) and len(batch) == 2:
        images, labels = batch
        if isinstance(images, Tensor) and isinstance(labels, Tensor):
            return images, labels
        got = f"a pair of {type(images).__name__} and {type(labels).__name__}"
    elif isinstance(batch, (tuple, list)):
        got = f"a {type(batch).__name__} of {len(batch)}"
    elif isinstance(batch, dict):
        got = f"a dict with keys {', '.join(map(repr, batch))}"
    else:
        got = type(batch).__name__
    raise TypeError(
        f"loader must yield pairs of tensors (images, labels); batch {index} is {got}. "
        "Give the loader a collate_fn that returns such pairs, or pass adapt=Adapter(batch=...)."
    )


def _check_images(index: int, images: Tensor) -> None:
    if not images.is_floating_point():
        raise TypeError(
            f"loader must yield images of a floating type; batch {index} has {images.dtype}. "
            "Scale them, for example by images.float() / 255."
        )
    if images.ndim < 2 or images.shape[0] == 0:
        raise ValueError(
            f"loader must yield images of shape (n, ...) with n >= 1; batch {index} has shape "
            f"{tuple(images.shape)}."
        )
    # the extremes are finite only if everything between them is; a NaN is its own extreme
    if not all(torch.isfinite(extreme) for extreme in images.aminmax()):
        finite = torch.isfinite(images)
        bad = (~finite).flatten(1).any(1).nonzero()[0].item()
        raise ValueError(
            f"loader must yield finite images; batch {index} holds {int((~finite).sum())} NaN or "
            f"infinite values, the first in its image {bad}. Remove or repair these images."
        )


def _checked_labels(index: int, labels: Tensor, n_images: int) -> Tensor:
    if labels.dtype.is_floating_point or labels.dtype.is_complex or labels.dtype is torch.bool:
        raise TypeError(
            f"loader must yield labels that are class numbers of an integer type; batch {index} "
            f"has {labels.dtype}. For one-hot labels, pass labels.argmax(1); other labels go with "
            "a target= or loss= function of your own."
        )
    if tuple(labels.shape) != (n_images,):
        raise ValueError(_labels_missing(index, labels, n_images))
    smallest = int(labels.min())
    if smallest < 0:
        raise ValueError(
            f"loader must yield labels >= 0; batch {index} has {smallest}. "
            "Leave out unlabelled images."
        )
    return labels.long()


def _are_classes(labels: Tensor, n_images: int) -> bool:
    whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype is torch.bool)
    return whole and tuple(labels.shape) == (n_images,) and int(labels.min()) >= 0


def _labels_missing(index: int, labels: Tensor, n_images: int) -> str:
    return (
        f"loader must yield one label per image; batch {index} has {n_images} images and labels "
        f"of shape {tuple(labels.shape)}. Labels of another form, (n, ...), go with a target= or "
        "loss= function of your own."
    )


def warn_of_copies(distinct: int, images: int) -> None:
    """Warn where half of what was read, or more, had been read before."""
    if images > 1 and 2 * distinct <= images:
        warnings.warn(
            f"loader yields {images} images of which only {distinct} differ: each counts more than "
            "once, and standard errors are too small. Give each image once (workers of an "
            "IterableDataset must divide it).",
            RuntimeWarning,
            stacklevel=3,
        )


class _Copies:
    """Finds the batches that a second worker's copy of an IterableDataset gives again."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.seen: set[bytes] = set()

    @classmethod
    def of(cls, loader: Iterable[object]) -> _Copies | None:
        """Return one for a loader whose workers may each read the whole data, else None."""
        while isinstance(loader, AdaptedLoader | Repeated):
            loader = loader.loader
        if not isinstance(loader, DataLoader) or not isinstance(loader.dataset, IterableDataset):
            return None
        return cls(loader.num_workers) if loader.num_workers > 1 else None

    def refuse(self, index: int, images: Tensor) -> None:
        """Raise where all images of a batch have been there before."""
        digests = set(image_digests(images))
        if digests <= self.seen:
            raise ValueError(
                f"loader must yield each image once; all images of batch {index} came before. Each "
                f"of its {self.workers} workers reads the whole IterableDataset: divide the data "
                "by torch.utils.data.get_worker_info() in its __iter__, or pass num_workers=0."
            )
        self.seen |= digests


def image_digests(images: Tensor) -> list[bytes]:
    """Return one digest of 16 bytes per image, of its values as float32.

    >>> a, b = image_digests(torch.zeros(2, 1, 2, 2))
    >>> a == b
    True
    """
    array = images.detach().float().cpu().contiguous().numpy()
    return [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in array]


def check_disjoint(shares: Sequence[frozenset[bytes]]) -> None:
    """Refuse shares of images of which one holds an image of another.

    Raises
    ------
    ValueError
        how many images are in two shares
    """
    seen: set[bytes] = set()
    for number, share in enumerate(shares):
        twice = len(share & seen)
        if twice:
            raise ValueError(
                f"tables to merge must share no image; {twice} of the {len(share)} images of table "
                f"{number} are in an earlier one. Give each share its own images, once."
            )
        seen |= share
