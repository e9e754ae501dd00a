"""Which share of the images a table is of, so that only tables of one whole are joined."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from empirical.reading.batches import check_disjoint

SHARE = "share"
"""The setting of a table that says which rows of which images it is of."""


class Shared(Protocol):
    """A table that may be of a share: both kinds are."""

    @property
    def settings(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def image_digests(self) -> frozenset[bytes]: ...  # noqa: D102


def share_setting(whole: str, images: int, rows: range) -> dict[str, Any]:
    """Return the setting of the table of `rows` of so many images, whose fingerprint is `whole`."""
    return {SHARE: {"whole": whole, "images": images, "rows": [rows.start, rows.stop]}}


def check_alike(tables: Sequence[Shared], apart: Collection[str] = ()) -> None:
    """Refuse tables of which a setting differs that is not among those `apart`.

    Raises
    ------
    ValueError
        naming the setting and both values
    """
    first = tables[0].settings
    for table in tables[1:]:
        for key in dict.fromkeys((*first, *table.settings)):
            one, other = first.get(key), table.settings.get(key)
            if key not in (*apart, SHARE) and one != other:
                raise ValueError(
                    f"tables to merge must be measured alike; {key} is {one!r} in one and "
                    f"{other!r} in another. Run all shares with the same."
                )


def check_apart(tables: Sequence[Shared]) -> None:
    """Refuse tables that count an image twice.

    Where all are of known shares, these must be of the same images and have no row in common; an
    image that the whole holds twice may then be in two of them. Of others, no image may.

    Raises
    ------
    ValueError
        shares of different images, or with rows in common, by `first_image` where they are not
        known; an image in two tables
    """
    shares = [table.settings.get(SHARE) for table in tables]
    known = [share for share in shares if share is not None]
    if len(known) < len(tables):
        check_disjoint([table.image_digests for table in tables])
        own = [table.settings for table in tables if "first_image" in table.settings]
        _check_rows(
            [(s["first_image"], s["first_image"] + s["n_images"]) for s in own],
            "Pass measure(..., first_image=), the index of each share's first image in the whole.",
        )
        return
    if len({(share["whole"], share["images"]) for share in known}) > 1:
        numbers = " and ".join(map(str, sorted({share["images"] for share in known})))
        raise ValueError(
            f"tables to merge must be shares of the same images; these are of different draws, of "
            f"{numbers} images. Run all shares with the same data, --images and --seed."
        )
    _check_rows(
        [(start, stop) for start, stop in (share["rows"] for share in known)],
        "Run all shares with the same --batch-size, each once.",
    )


def _check_rows(shares: Sequence[tuple[int, int]], remedy: str) -> None:
    """Refuse shares, from a first row to before a last one, that have rows in common."""
    for (_, stop), (start, last) in itertools.pairwise(sorted(shares)):
        if start < stop:
            raise ValueError(
                f"tables to merge must share no image; rows {start} to {min(stop, last) - 1} are "
                f"in two of them. {remedy}"
            )


def check_complete(tables: Sequence[Shared]) -> None:
    """Refuse tables that are not, together, of all images of one whole, each counted once.

    Raises
    ------
    ValueError
        as `check_apart`; naming how many images are in none; a table that does not say which share
        it is of
    """
    if any(SHARE not in table.settings for table in tables):
        raise ValueError(
            "tables to merge must say which share of the images they are of; one does not. Make "
            "it again with --shard."
        )
    check_apart(tables)
    shares = [table.settings[SHARE] for table in tables]
    covered = {row for share in shares for row in range(*share["rows"])}
    missing = [row for row in range(shares[0]["images"]) if row not in covered]
    if missing:
        raise ValueError(
            f"tables to merge must be of all {shares[0]['images']} images; {len(missing)} of them, "
            f"from row {missing[0]} on, are in no share. Run all shares with the same --batch-size."
        )
