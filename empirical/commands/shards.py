"""Shares of the images of one command, computed by processes of their own, and merged by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from empirical.data.images import ImageSet

SHARD = typer.Option(
    help="Only this share of the images, such as 3/8; `twoaxis merge OUT` then joins all of them."
)
NAME = re.compile(r"(?P<what>axes|lesions)-(?P<number>\d+)-of-(?P<total>\d+)\.npz")


@dataclass(frozen=True)
class Shard:
    """One of `total` contiguous shares of images, counted from 1.

    >>> Shard.read("2/3"), Shard(2, 3).rows(8, batch=2), Shard(2, 3).name("axes")
    (Shard(number=2, total=3), range(2, 4), 'axes-2-of-3.npz')
    """

    number: int
    total: int

    @classmethod
    def read(cls, text: str) -> Shard:
        """Read "3/8"; ValueError for anything else."""
        found = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", text)
        if found is None or int(found[1]) > int(found[2]):
            raise ValueError(
                f"--shard must be K/N with 1 <= K <= N, such as 3/8; got {text!r}. Run every K."
            )
        return cls(int(found[1]), int(found[2]))

    def rows(self, images: int, batch: int) -> range:
        """Which of so many images, read in batches of `batch`, are in this share.

        Shares are of whole batches, which one process runs as well: what a network makes of an
        image in single precision depends on the images beside it, by about a millionth, and who
        stands in for it in a lesion of kind "resample" is one of them. With fewer batches than
        shares they are cut within batches, and merge to the whole up to that: a smaller batch
        size, for the whole as well, is the remedy.
        """
        if images < self.total:
            raise ValueError(
                f"--shard must have at most one share per image; got {self.number}/{self.total} "
                f"of {images} images. Ask for fewer shares."
            )
        blocks = -(-images // batch)
        if blocks < self.total:
            blocks, batch = images, 1
        start, stop = (k * blocks // self.total * batch for k in (self.number - 1, self.number))
        return range(start, min(stop, images))

    def of(self, images: ImageSet, batch: int) -> tuple[ImageSet, range, dict[str, Any]]:
        """Return the images of this share, their rows in the whole, and what says so in a table."""
        from empirical.measuring.shares import share_setting

        rows = self.rows(len(images), batch)
        return images.subset(rows), rows, share_setting(images.fingerprint, len(images), rows)

    def name(self, what: str) -> str:
        """Return the file name of this share of `what`, "axes" or "lesions"."""
        return f"{what}-{self.number}-of-{self.total}.npz"


def complete(folder: Path) -> dict[str, Sequence[Path]]:
    """What is shared in a folder -> the files of all its shares, in order.

    Raises
    ------
    FileNotFoundError, ValueError
        no shares; a share is missing; shares of two divisions of the same images
    """
    found: dict[str, dict[int, Path]] = {}
    totals: dict[str, set[int]] = {}
    for path in sorted(folder.glob("*.npz")):
        if (match := NAME.fullmatch(path.name)) is not None:
            found.setdefault(match["what"], {})[int(match["number"])] = path
            totals.setdefault(match["what"], set()).add(int(match["total"]))
    if not found:
        raise FileNotFoundError(
            f"{folder} holds no shares (axes-1-of-8.npz, ...). Name the folder that `twoaxis "
            "measure --shard` or `twoaxis lesion --shard` wrote to."
        )
    for what, parts in found.items():
        if len(totals[what]) > 1:
            raise ValueError(
                f"{folder} holds {what} divided into {sorted(totals[what])} shares. Remove those "
                "that do not belong."
            )
        (total,) = totals[what]
        missing = [f"{k}/{total}" for k in range(1, total + 1) if k not in parts]
        if missing:
            raise FileNotFoundError(
                f"{folder} lacks the shares {', '.join(missing)} of {what}. Run them with --shard."
            )
    return {what: [parts[k] for k in sorted(parts)] for what, parts in found.items()}
