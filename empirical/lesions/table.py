"""Damage of every lesion, image by image, with the dense network on the same images as control."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

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

    @property
    def n_images(self) -> int:
        """Number of evaluation images N."""
        return int(self.damage["loss_increase"].shape[1])

    def mean_and_error(self, name: str) -> tuple[Float, Float]:
        """Return (R,) mean damage over images and its standard error; paired, image by image."""
        values = self.damage[name].astype(np.float64)
        if self.n_images < 2:
            return values.mean(axis=1), np.full(len(values), np.nan)
        return values.mean(axis=1), values.std(axis=1, ddof=1) / np.sqrt(self.n_images)

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
        }
        for field in fields(self):
            if isinstance(getattr(self, field.name), np.ndarray):
                chosen[field.name] = getattr(self, field.name)[index]
        return replace(self, **chosen)
