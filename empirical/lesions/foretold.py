"""What the law of damage foretold, beside what lesions measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from empirical.lesions.table import DAMAGES, LesionTable
from empirical.measuring.damage_table import ALONE, CLEAR, WITH_PEERS, DamageTable
from empirical.seeding import checked_seed
from theory.rank_coupling import spearman, split_half
from theory.shared.validation import Float, one_of

QUANTITY = {"mean": ALONE, "all": WITH_PEERS}
"""Kind of a lesion or replacement -> what the law foretells of it."""

RESAMPLES = 1000
"""Of a layer's channels, for the interval of their rank correlation."""


@dataclass(frozen=True, eq=False)
class Agreement:
    """Foretold and measured damages of the same channels at the same point.

    Attributes
    ----------
    channels : one row per layer, channel and kind: `foretold`, `measured`, and each one's standard
        error `<name>_se`, over images
    layers : one row per layer and kind: `channels`, how many of them are `resolved` (damage above
        zero by 1.96 standard errors on either side), their rank correlation `spearman` with its
        95 % interval over resampled channels and the `attainable` one, √(product of both sides'
        split-half reliabilities), which sampling would leave of an exact law; the correlation of
        their logarithms `log_pearson` and the `ceiling` that the two sampling errors put on it;
        and `ratio`, summed measured over summed foretold damage, with `ratio_se`
    """

    channels: pd.DataFrame
    layers: pd.DataFrame


def agreement(
    measured: LesionTable, foretold: DamageTable, *, name: str = "divergence", seed: int = 0
) -> Agreement:
    """Set foretold damages beside measured ones: "mean" lesions, and replacements by "all" peers.

    Parameters
    ----------
    measured : from `lesion` or `replace`
    foretold : from `damage`, of the same channels or sets at the same point
    name : of the measured damage. With a loss of your own in `damage`, "loss_increase"
    seed : of the resamples

    Raises
    ------
    ValueError
        no row of `measured` at the point of `foretold`, or of a kind that it foretells
    """
    one_of("name", name, DAMAGES)
    checked_seed("seed", seed)
    point = foretold.settings["point"]
    rng = np.random.default_rng(seed)
    average, error = measured.mean_and_error(name)
    rows, layers = [], []
    halves = _halves(measured.per_image(name).astype(np.float64))
    for layer, own in foretold.layers.items():
        place = {members: index for index, members in enumerate(foretold.channels[layer])}
        replicates, found, errors = own.replicates(), own.values(), own.standard_errors()
        parts = own.halves()
        for kind, quantity in QUANTITY.items():
            chosen = np.flatnonzero(
                (measured.layer == layer) & (measured.kind == kind) & (measured.point == point)
            )
            chosen = np.array([r for r in chosen if measured.channels[r] in place], dtype=np.intp)
            if not chosen.size:
                continue
            at = [place[measured.channels[row]] for row in chosen]
            rows.append(
                pd.DataFrame(
                    {
                        "layer": layer,
                        "channel": ["+".join(map(str, measured.channels[r])) for r in chosen],
                        "kind": kind,
                        "foretold": found[quantity][at],
                        "foretold_se": errors[quantity][at],
                        "measured": average[chosen],
                        "measured_se": error[chosen],
                    }
                )
            )
            per_image = measured.per_image(name)[chosen].sum(axis=0, dtype=np.float64)
            layers.append(
                {
                    "layer": layer,
                    "kind": kind,
                    "channels": len(chosen),
                    **_ranks(rows[-1], (parts[quantity][:, at], halves[:, chosen]), rng),
                    **_ratio(
                        per_image,
                        replicates[quantity][:, at].sum(axis=1),
                        found[quantity][at].sum(),
                    ),
                }
            )
    if not rows:
        raise ValueError(
            f"measured must hold lesions of kind {' or '.join(map(repr, QUANTITY))} at point "
            f"{point!r}, of the channels that were foretold; it holds kinds "
            f"{sorted(set(measured.kind))} at {sorted(set(measured.point))}."
        )
    return Agreement(pd.concat(rows, ignore_index=True), pd.DataFrame(layers))


def _halves(per_image: NDArray[np.float32]) -> Float:
    """(2, R) means over the even and over the odd images of (R, N); NaN of a single image."""
    if per_image.shape[1] < 2:
        return np.full((2, len(per_image)), np.nan)
    return np.stack([per_image[:, half::2].mean(axis=1, dtype=np.float64) for half in (0, 1)])


def _ranks(
    frame: pd.DataFrame, halves: tuple[Float, Float], rng: np.random.Generator
) -> dict[str, float]:
    clear = np.zeros(len(frame), dtype=bool)
    for side in ("foretold", "measured"):
        clear |= (frame[side] > CLEAR * frame[f"{side}_se"]).to_numpy()
    a, b = (frame.loc[clear, side].to_numpy() for side in ("foretold", "measured"))
    low = high = np.nan
    if len(a) >= 3:
        drawn = rng.integers(len(a), size=(RESAMPLES, len(a)))
        low, high = np.nanquantile(spearman(a[drawn], b[drawn]), [0.025, 0.975])
    reliable = [np.maximum(split_half(*side[:, clear]), 0) for side in halves]
    return {
        "resolved": int(clear.sum()),
        "spearman": float(spearman(a, b)),
        "spearman_low": float(low),
        "spearman_high": float(high),
        "attainable": float(np.sqrt(np.prod(reliable))),
        "log_pearson": _log_pearson(a, b),
        "ceiling": ceiling(frame[clear]),
    }


def _log_pearson(a: Float, b: Float) -> float:
    known = (a > 0) & (b > 0)
    if known.sum() < 3:
        return np.nan
    return float(np.corrcoef(np.log(a[known]), np.log(b[known]))[0, 1])


def ceiling(frame: pd.DataFrame) -> float:
    """Correlation of log damages that sampling would leave of an exact law, from the errors alone.

    √(Π_s (1 - mean (error_s / damage_s)² / Var log damage_s)) over the two sides s, the delta
    method's share of each side's spread over channels that is not sampling; 0 where sampling is
    all of it.

    >>> columns = {name: np.array([1.0, 2.0, 4.0]) for name in ("foretold", "measured")}
    >>> ceiling(pd.DataFrame(columns).assign(foretold_se=0.0, measured_se=0.0))
    1.0
    """
    product = 1.0
    for side in ("foretold", "measured"):
        values, errors = frame[side].to_numpy(), frame[f"{side}_se"].to_numpy()
        known = values > 0
        if known.sum() < 3:
            return np.nan
        spread = np.log(values[known]).var(ddof=1)
        noise = ((errors[known] / values[known]) ** 2).mean()
        product *= max(0.0, 1 - noise / spread) if spread > 0 else 0.0
    return float(np.sqrt(product))


def _ratio(per_image: Float, replicates: Float, foretold: float) -> dict[str, float]:
    """Summed damage measured over foretold; the two are of different images."""
    g, n = len(replicates), len(per_image)
    spread = np.sqrt((g - 1) / g * ((replicates - replicates.mean()) ** 2).sum()) / foretold
    own = per_image.std(ddof=1) / np.sqrt(n) / per_image.mean() if n > 1 else np.nan
    ratio = float(per_image.mean() / foretold)
    return {"ratio": ratio, "ratio_se": float(ratio * np.hypot(spread, own))}
