"""What replacing channels by their peers recovers of the damage of losing them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from empirical.lesions.table import LesionTable
from theory.shared.validation import Float, one_of

CLEAR = 2.0
"""A mean lesion whose damage is below this many standard errors has no fraction to recover."""


@dataclass(frozen=True, eq=False)
class ReplacementTable(LesionTable):
    """What `replace` measured: rows of kind "mean", and one kind for each peer set.

    Parameters
    ----------
    predicted : (R,) share of the channel's variance that the regression recovers, T5's prediction
        of the recovered fraction: on samples that it was not fitted on where calibration keeps
        groups of images, otherwise on its own (E_i for all peers without ridge). 0 for "mean".
    n_peers : (R,)
    draw : (R,) number of the random draw; 0 elsewhere
    """

    predicted: Float
    n_peers: NDArray[np.intp]
    draw: NDArray[np.intp]

    per_row: ClassVar[tuple[str, ...]] = ("predicted", "n_peers", "draw")

    def to_frame(self) -> pd.DataFrame:
        """One row per layer, channel and kind, as `LesionTable.to_frame`, and what was recovered.

        `recovered` is 1 - loss_increase / loss_increase of the channel's mean lesion, and
        `recovered_se` its standard error over images (delta method). Both are NaN where the mean
        lesion does not clearly hurt (its damage is within two standard errors of 0).
        """
        frame = super().to_frame()
        frame["n_peers"], frame["draw"], frame["predicted"] = (
            self.n_peers,
            self.draw,
            self.predicted,
        )
        frame["recovered"], frame["recovered_se"] = self.recovered()
        return frame

    def recovered(self, name: str = "loss_increase") -> tuple[Float, Float]:
        """Return (R,) recovered fraction of the mean lesion's damage and its standard error."""
        damage = self.per_image(name)
        found = [_recovered(damage[i], damage[j]) for i, j in enumerate(self._mean_rows())]
        fraction, spread = np.array(found).T
        return fraction, spread

    def pooled(self, kind: str, name: str = "loss_increase") -> tuple[float, float]:
        """Return the recovered fraction of the summed damage of all channels, and its error.

        Layers weigh by the damage of their channels. NaN where that is within `CLEAR` standard
        errors of 0.
        """
        return _recovered(*self._summed(kind, name))

    def pooled_difference(
        self, kind: str, other: str, name: str = "loss_increase"
    ) -> tuple[float, float]:
        """Return how much more of the summed damage `kind` recovers than `other`, and its error.

        Paired, image by image: both replace the same channels on the same images.
        """
        replaced, lesioned = self._summed(kind, name)
        fraction, error = _recovered(lesioned + replaced - self._summed(other, name)[0], lesioned)
        return fraction, error

    def by_layer(self, name: str = "loss_increase") -> pd.DataFrame:
        """One row per layer and peer set: recovered fraction of the layer's summed damage.

        `predicted` is the share of variance that the peers supply, channels weighted by the damage
        of their mean lesion, as they are in `recovered`; those whose lesion helps weigh 0.
        """
        rows = []
        average, _ = self.mean_and_error(name)
        for layer in dict.fromkeys(self.layer):
            part = self.select(self.layer == layer)
            weight = average[self.layer == layer][part._mean_rows()]
            for kind in dict.fromkeys(part.kind[part.kind != "mean"]):
                chosen = part.kind == kind
                known = chosen & ~np.isnan(part.predicted) & (weight > 0)
                recovered, error = part.pooled(kind, name)
                rows.append(
                    {
                        "layer": layer,
                        "peers": kind,
                        "channels": len(
                            {m for m, c in zip(part.channels, chosen, strict=True) if c}
                        ),
                        "mean_lesion": float(weight[chosen].mean()),
                        "recovered": recovered,
                        "recovered_se": error,
                        "predicted": float(np.average(part.predicted[known], weights=weight[known]))
                        if known.any()
                        else np.nan,
                    }
                )
        return pd.DataFrame(rows)

    def summed_mean_lesions(self, name: str = "loss_increase") -> tuple[float, float]:
        """Return the damage of all mean lesions, summed over channels, and its standard error."""
        total = self.per_image(name)[self.kind == "mean"].sum(axis=0, dtype=np.float64)
        return float(total.mean()), float(total.std(ddof=1) / np.sqrt(len(total)))

    def _summed(self, kind: str, name: str) -> tuple[Float, Float]:
        """(N,) damage of the replacements and of their mean lesions, summed over channels."""
        rows = np.flatnonzero(self.kind == one_of("kind", kind, sorted(set(self.kind))))
        draws = int(self.draw[rows].max()) + 1
        damage = self.per_image(name).astype(np.float64)
        lesioned = damage[self._mean_rows()[rows]].sum(axis=0)
        return damage[rows].sum(axis=0) / draws, lesioned / draws

    def _mean_rows(self) -> NDArray[np.intp]:
        """(R,) the row of each row's own mean lesion."""
        keys = list(zip(self.layer, self.channels, strict=True))
        where = {key: i for i, key in enumerate(keys) if self.kind[i] == "mean"}
        return np.array([where[key] for key in keys])


def _recovered(replaced: NDArray[Any], lesioned: NDArray[Any]) -> tuple[float, float]:
    """1 - mean(replaced) / mean(lesioned), paired by image, with its delta-method error.

    NaN where the lesion does not clearly hurt: there is nothing to recover a share of.
    """
    a, b = replaced.astype(np.float64), lesioned.astype(np.float64)
    n = len(b)
    if n < 2 or b.mean() <= CLEAR * b.std(ddof=1) / np.sqrt(n):
        return np.nan, np.nan
    ratio = a.mean() / b.mean()
    spread = (a - ratio * b).std(ddof=1) / np.sqrt(n) / b.mean()
    return float(1 - ratio), float(spread)
