"""Damage of every lesion, image by image, with the dense network on the same images as control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from empirical.measuring.shares import SHARE, check_alike, check_apart
from theory.shared import files
from theory.shared.foreign import parse_json, read_arrays
from theory.shared.validation import instance, path_of

FORMAT = "twoaxis.LesionTable/1"

Float = NDArray[np.float64]

DAMAGES = ("loss_increase", "accuracy_drop", "margin_drop", "divergence")
"""All positive where the lesion hurts. Loss in nats, accuracy as a share, margin in logits; the
divergence of the prediction from the intact one, in nats, which reads no labels."""


@dataclass(frozen=True, eq=False)
class LesionTable:
    """What `lesion` measured. Rows are lesions.

    Parameters
    ----------
    layer, kind, point : (R,) names, one per row
    channels : R tuples of the lesioned channels
    damage : `DAMAGES` name -> float32 (R, N), lesioned against dense on each of the N images
    dense : "loss", "accuracy", "margin" -> float64 (N,) of the dense network
    fallback : layers whose lesions were run by whole forward passes, with the reason
    sums : where damages are not kept image by image, `DAMAGES` name -> float64 (R, 2), their sum
        over images and that of their squares; `damage` is then empty
    image_digests : 16 bytes per image, so that no image is counted twice
    network : fingerprint of the network, so that no other one's lesions are merged with its own
    settings : what else the lesions follow from, so that only alike ones are merged

    Examples
    --------
    >>> table = LesionTable(
    ...     np.array(["conv"]), np.array(["mean"]), np.array(["pre_norm"]), ((3,),),
    ...     {name: np.array([[0.0, 2.0]], dtype=np.float32) for name in DAMAGES},
    ...     {"loss": np.zeros(2)}, {})
    >>> table.to_frame()[["layer", "channel", "kind", "loss_increase", "loss_increase_se"]]
      layer  channel  kind  loss_increase  loss_increase_se
    0  conv        3  mean            1.0               1.0
    """

    layer: NDArray[np.str_]
    kind: NDArray[np.str_]
    point: NDArray[np.str_]
    channels: tuple[tuple[int, ...], ...]
    damage: dict[str, NDArray[np.float32]]
    dense: dict[str, Float]
    fallback: dict[str, str]
    sums: dict[str, Float] = field(default_factory=dict, kw_only=True)
    image_digests: frozenset[bytes] = field(default=frozenset(), kw_only=True)
    network: str = field(default="", kw_only=True)
    settings: Mapping[str, Any] = field(default_factory=dict, kw_only=True)

    per_row: ClassVar[tuple[str, ...]] = ()
    """Further arrays (R, ...), of kinds of this table, that a file holds too."""

    @property
    def n_images(self) -> int:
        """Number of evaluation images N."""
        if self.damage:
            return int(self.damage["loss_increase"].shape[1])
        return len(self.dense["loss"])

    def mean_and_error(self, name: str) -> tuple[Float, Float]:
        """Return (R,) mean damage over images and its standard error; paired, image by image."""
        n = self.n_images
        if name in self.sums:
            total, squares = self.sums[name].T
            scatter = np.maximum(squares - total**2 / n, 0)
            return total / n, np.sqrt(scatter / (n - 1) / n) if n > 1 else np.full_like(
                total, np.nan
            )
        values = self.per_image(name).astype(np.float64)
        if n < 2:
            return values.mean(axis=1), np.full(len(values), np.nan)
        return values.mean(axis=1), values.std(axis=1, ddof=1) / np.sqrt(n)

    def per_image(self, name: str) -> NDArray[np.float32]:
        """Return (R, N) damages of each image.

        Raises
        ------
        ValueError
            only their sums were kept
        """
        if not self.damage:
            raise ValueError(
                "damages must be kept image by image for this; only their sums were. Call "
                "lesion(..., per_image=True), or with a folder."
            )
        return self.damage[name]

    def to_frame(self) -> pd.DataFrame:
        """One row per layer, channel and kind: each damage and its standard error over images.

        `channel` is a number, or "3+7" for a set.
        """
        singles = all(len(members) == 1 for members in self.channels)
        columns: dict[str, object] = {
            "layer": self.layer,
            "channel": [m[0] if singles else "+".join(map(str, m)) for m in self.channels],
            "kind": self.kind,
            "point": self.point,
        }
        for name in DAMAGES:
            columns[name], columns[f"{name}_se"] = self.mean_and_error(name)
        columns["n_images"] = self.n_images
        return pd.DataFrame(columns)

    def select(self, rows: NDArray[np.bool_] | Sequence[int]) -> Self:
        """Return the table of some rows, by mask or by index."""
        index = np.arange(len(self.layer))[rows]
        chosen: dict[str, Any] = {
            "channels": tuple(self.channels[i] for i in index),
            "damage": {name: values[index] for name, values in self.damage.items()},
            "sums": {name: values[index] for name, values in self.sums.items()},
        }
        for item in fields(self):
            if isinstance(getattr(self, item.name), np.ndarray):
                chosen[item.name] = getattr(self, item.name)[index]
        return replace(self, **chosen)

    def save(self, path: str | PathLike[str]) -> None:
        """Write damages, or their sums, to one .npz file, atomically, without pickles."""
        arrays: dict[str, NDArray[Any]] = {f"damage/{n}": v for n, v in self.damage.items()}
        arrays |= {f"sums/{name}": values for name, values in self.sums.items()}
        arrays |= {f"dense/{name}": values for name, values in self.dense.items()}
        arrays |= {f"rows/{name}": getattr(self, name) for name in self.per_row}
        header = {
            "format": FORMAT,
            "rows": [
                [*map(str, row), list(members)]
                for *row, members in zip(
                    self.layer, self.kind, self.point, self.channels, strict=True
                )
            ],
            "fallback": self.fallback,
            "network": self.network,
            "settings": dict(self.settings),
        }
        digests = b"".join(sorted(self.image_digests))
        arrays["image_digests"] = np.frombuffer(digests, dtype=np.uint8).reshape(-1, 16)
        files.write_archive(path, header, arrays)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Read what `save`, or a folder of `lesion`, holds; of the latter damages are mapped.

        Raises
        ------
        FileNotFoundError, ValueError
            no such file; a file that is damaged or no LesionTable
        """
        path = path_of("path", path)
        arrays = read_arrays(path)
        said = f"header of {str(path)!r}"
        header = parse_json(bytes(arrays.pop("header", np.empty(0, np.uint8))), said)
        if header.get("format") != FORMAT:
            raise ValueError(f"{said} must be that of a {FORMAT}; got {header.get('format')!r}.")
        try:
            layer, kind, point, channels = zip(*header["rows"], strict=True)
            table = cls(
                np.array(layer, dtype=np.str_),
                np.array(kind, dtype=np.str_),
                np.array(point, dtype=np.str_),
                tuple(tuple(int(i) for i in members) for members in channels),
                {name: arrays[f"damage/{name}"] for name in DAMAGES if f"damage/{name}" in arrays},
                {name: arrays[f"dense/{name}"] for name in ("loss", "accuracy", "margin")},
                dict(header["fallback"]),
                sums={name: arrays[f"sums/{name}"] for name in DAMAGES if f"sums/{name}" in arrays},
                image_digests=frozenset(row.tobytes() for row in arrays["image_digests"]),
                network=str(header.get("network", "")),
                settings=dict(header.get("settings", {})),
                **{name: arrays[f"rows/{name}"] for name in cls.per_row},
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{str(path)!r} is damaged: {error!r}. Make it again.") from error
        if not table.damage and images_of(path).exists():
            mapped = np.memmap(images_of(path), dtype=np.float32, mode="r")
            by_image = mapped.reshape(-1, len(DAMAGES), len(table.layer))
            table.damage.update(zip(DAMAGES, by_image.transpose(1, 2, 0), strict=True))
        shape = (len(table.layer), len(table.dense["loss"]))
        if {*table.damage, *table.sums} != {*DAMAGES} or any(
            values.shape != shape for values in table.damage.values()
        ):
            raise ValueError(f"{str(path)!r} is damaged: damages must be {shape}. Make it again.")
        return table


def images_of(path: Path) -> Path:
    """Return the file with the images' damages beside that of a table with their sums."""
    return path.with_name(f"{path.name.removesuffix('.npz')}.f32")


def joined(tables: Sequence[LesionTable]) -> LesionTable:
    """Return the sums of the lesions of all tables, which are of the same images."""
    return replace(
        tables[0],
        layer=np.concatenate([table.layer for table in tables]),
        kind=np.concatenate([table.kind for table in tables]),
        point=np.concatenate([table.point for table in tables]),
        channels=tuple(members for table in tables for members in table.channels),
        damage={},
        sums={name: np.concatenate([table.sums[name] for table in tables]) for name in DAMAGES},
        fallback={key: value for table in tables for key, value in table.fallback.items()},
    )


def merge_lesions(tables: Sequence[LesionTable]) -> LesionTable:
    """Return the lesions on all images together, from tables of disjoint shares of them.

    Equal, image by image, to one run over the same batches one after another, and sums to it up to
    float64's rounding. Where batches were cut differently, logits in single precision differ by
    about a millionth, and lesions of kind "resample" have other donors.

    Raises
    ------
    TypeError, ValueError
        no tables; tables of other lesions, or by another calibration; damages of some and sums of
        others; an image that is in two of them
    """
    instance("tables", tables, Sequence, "Pass a list of LesionTables.")
    for table in tables:
        instance("tables", table, LesionTable, "Pass what lesion returned.")
    if not tables:
        raise ValueError("tables must hold at least one LesionTable; got none.")
    first = tables[0]
    for table in tables[1:]:
        same = (table.layer, table.kind, table.point), (first.layer, first.kind, first.point)
        if table.channels != first.channels or any(
            not np.array_equal(mine, its) for mine, its in zip(*same, strict=True)
        ):
            raise ValueError(
                "tables to merge must hold the same lesions; layers, kinds or channels differ. "
                "Run the shares with the same arguments."
            )
    if len({table.network for table in tables}) > 1:
        raise ValueError(
            "tables to merge must be of one network; their weights differ. Run all shares with the "
            "same weights."
        )
    if len({(bool(table.damage), bool(table.sums)) for table in tables}) > 1:
        raise ValueError(
            "tables to merge must all hold the damages of images, or all their sums; they differ. "
            "Run the shares with the same per_image."
        )
    check_alike(tables)
    check_apart(tables)
    return replace(
        first,
        damage={
            name: np.concatenate([t.damage[name] for t in tables], axis=1) for name in first.damage
        },
        sums={name: np.sum([t.sums[name] for t in tables], axis=0) for name in first.sums},
        dense={name: np.concatenate([t.dense[name] for t in tables]) for name in first.dense},
        fallback={key: value for table in tables for key, value in table.fallback.items()},
        image_digests=frozenset[bytes]().union(*(table.image_digests for table in tables)),
        settings={key: value for key, value in first.settings.items() if key != SHARE},
    )
