"""Damage beside the peers as a product: what the prediction minds, times what peers cannot supply.

With A the damage alone and 1 - R the share of it that peers do not recover, both foretold on other
images than damage M is measured on, every channel has

    log M = log A + log(1 - R) + e,

and the spread of log M over a layer's channels is the sum of its covariances with the three. The
errors of A and R are independent of those of M and move no covariance in the mean; sampling of M
itself is in the last one, and is taken out by the standard errors of M (delta method).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from empirical.analysis.lesions import reliabilities, usable_layers
from empirical.analysis.missing import NoDataError
from empirical.analysis.statistics import HALVES, effect, holm, interval_of, stratum_of
from empirical.lesions.foretold import Agreement
from empirical.measuring.damage_table import ALONE, CLEAR, RECOVERED
from theory.shared.validation import Float, count

SCORES = (
    "input_capture",
    "task_information",
    "peer_predictability",
    "peer_overlap",
    "hull_score",
)
"""What may add to the two factors."""

PARTS = ("alone", "peers", "sampling", "beyond")
"""Covariances of log M with log A, log(1 - R), and e, this one in two: sampling, and the rest."""

FEWEST = 8
"""Channels of a layer from which its spread is divided."""


@dataclass(frozen=True, eq=False)
class FactorAnalysis:
    """Tables of the analysis; intervals are 95 %.

    Attributes
    ----------
    layers : one row per layer: `depth` (0 to 1), `channels`, `spread` (standard deviation of log
        damage free of sampling), the shares `PARTS` of the variance of log damage, each with the
        ends `<part>_low`, `<part>_high` over resampled families of channels; `ratio`, the geometric
        mean of measured over foretold, and `law_error`, the standard deviation of its logarithm
        free of sampling on either side
    pooled : the same over all layers, and over the first and the second half of them
    added : one row per score: slope of damage on it beyond both factors, layers added up, with
        interval, p and Holm's p over scores; `reliability`; `halves`, whether errors of measurement
        are accounted for
    skipped : layer -> why it was left out
    """

    layers: pd.DataFrame
    pooled: pd.DataFrame
    added: pd.DataFrame
    skipped: Mapping[str, str]


def analyze_factors(
    law: Agreement,
    scores: pd.DataFrame,
    *,
    tested: Sequence[str] = SCORES,
    draws: int = 1000,
    seed: int = 0,
) -> FactorAnalysis:
    """Divide the spread of log damage beside the peers, and say what scores add to the factors.

    Parameters
    ----------
    law : foretold and measured damages, with replacements by all peers
    scores : of the same channels, by `channel_scores(table, [*tested, ALONE, RECOVERED])`
    tested : columns of `scores` that may add to the factors
    draws, seed : resamples of families of channels, for the intervals of the shares

    Raises
    ------
    NoDataError
        no replacement by all peers; no layer with enough channels whose damage is resolved
    """
    count("draws", draws, least=20)
    frame, skipped = _rows(law, scores)
    groups = list(frame.groupby("layer", sort=False))
    rng = np.random.default_rng(seed)
    parts = [_Parts.of(rows, rng, draws) for _, rows in groups]
    depth = np.linspace(0, 1, len(groups))
    layers = [
        {"layer": name, "depth": where, **_row([part])}
        for (name, _), where, part in zip(groups, depth, parts, strict=True)
    ]
    middle = (len(parts) + 1) // 2
    wide = {"all": parts, "first half": parts[:middle], "second half": parts[middle:]}
    return FactorAnalysis(
        pd.DataFrame(layers),
        pd.DataFrame({"layers": name, **_row(some)} for name, some in wide.items() if some),
        _added(frame, tested),
        skipped,
    )


def _rows(law: Agreement, scores: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """Channels whose damage beside the peers is clear on both sides, with both factors."""
    both = law.channels.assign(channel=law.channels["channel"].astype(str))
    keys = ["layer", "channel"]
    alone = both[both["kind"] == "mean"].set_index(keys)["foretold"].rename("foretold_alone")
    rows = both[both["kind"] == "all"].join(alone, on=keys)
    if rows.empty:
        raise NoDataError("no channel was replaced by all of its peers. Pass peers='all'.")
    rows = rows.merge(scores.assign(channel=scores["channel"].astype(str)), on=keys)
    clear = rows["foretold_alone"] > 0
    for side in ("foretold", "measured"):
        clear &= (rows[side] > 0) & (rows[side] > CLEAR * rows[f"{side}_se"])
    enough = clear.groupby(rows["layer"], sort=False).transform("sum") >= FEWEST
    left_out = rows.loc[~enough, "layer"].unique()
    if not enough.any():
        raise NoDataError(
            f"no layer has {FEWEST} channels whose damage beside their peers is clear of zero. "
            "Measure more images, or wider layers."
        )
    reason = f"fewer than {FEWEST} channels whose damage is clear of zero"
    return rows[clear & enough], {str(name): reason for name in left_out}


@dataclass(frozen=True)
class _Parts:
    """One layer, as measured first and then of each resample: (1 + draws,) each.

    Attributes
    ----------
    shares : (1 + draws, 4) `PARTS`, not yet divided by `variance`
    variance : of log M
    bias : mean of e
    error : variance of e less sampling on either side
    channels : how many
    """

    shares: Float
    variance: Float
    bias: Float
    error: Float
    channels: int

    @classmethod
    def of(cls, rows: pd.DataFrame, rng: np.random.Generator, draws: int) -> _Parts:
        """Resample the families of a layer's channels."""
        family = pd.factorize(rows["family"])[0] if "family" in rows else np.arange(len(rows))
        families = int(family.max()) + 1
        times = rng.multinomial(families, np.full(families, 1 / families), draws)[:, family]
        weights = np.vstack([np.ones(len(rows)), times.astype(np.float64)])
        weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1)
        log = {name: np.log(rows[name].to_numpy()) for name in ("measured", "foretold")}
        alone = np.log(rows["foretold_alone"].to_numpy())
        noise = {
            name: weights @ ((rows[f"{name}_se"] / rows[name]).to_numpy() ** 2) for name in log
        }

        def covariance(x: Float, y: Float) -> Float:
            return np.asarray(weights @ (x * y) - (weights @ x) * (weights @ y))

        m, e = log["measured"], log["measured"] - log["foretold"]
        sampling = noise["measured"]
        shares = [
            covariance(m, alone),
            covariance(m, log["foretold"] - alone),
            sampling,
            covariance(m, e) - sampling,
        ]
        error = covariance(e, e) - sampling - noise["foretold"]
        return cls(np.stack(shares, axis=1), covariance(m, m), weights @ e, error, len(rows))


def _row(parts: Sequence[_Parts]) -> dict[str, float]:
    """Layers added up, each with the weight of its channels."""
    weights = np.array([part.channels for part in parts], dtype=np.float64)
    weights /= weights.sum()

    def total(values: Sequence[Float]) -> Float:
        return np.asarray(sum(w * v for w, v in zip(weights, values, strict=True)))

    variance = total([part.variance for part in parts])
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = total([part.shares for part in parts]) / variance[:, None]
    free = variance[0] - total([part.shares for part in parts])[0, PARTS.index("sampling")]
    row: dict[str, Any] = {
        "channels": sum(part.channels for part in parts),
        "spread": float(np.sqrt(max(free, 0.0))),
    }
    columns = dict(zip(PARTS, shares.T, strict=True))
    columns["both"] = columns["alone"] + columns["peers"]
    for name, values in columns.items():
        low, high = interval_of(values[1:][np.isfinite(values[1:])])
        row |= {name: float(values[0]), f"{name}_low": low, f"{name}_high": high}
    bias, error = (total([getattr(p, name) for p in parts])[0] for name in ("bias", "error"))
    return row | {"ratio": float(np.exp(bias)), "law_error": float(np.sqrt(max(error, 0.0)))}


def _added(frame: pd.DataFrame, tested: Sequence[str]) -> pd.DataFrame:
    """Slope of measured damage on each score beyond both factors."""
    rows: list[dict[str, Any]] = []
    factors = [ALONE, RECOVERED]
    for score in tested:
        columns = frame.copy()
        halves = [f"{score}{half}" for half in HALVES[1:]]
        if not set(halves) <= set(columns) or columns[halves].isna().all(axis=None):
            columns = columns.drop(columns=[c for c in columns if str(c).endswith(HALVES[1:])])
        try:
            layers, _ = usable_layers(columns, "measured", [score, *factors])
        except NoDataError:
            continue
        strata = [stratum_of(n, own, "measured", score, factors) for n, own in layers.items()]
        found = effect(strata)
        reliable = np.mean([reliabilities(stratum)[0] for stratum in strata])
        rows.append(
            {
                "score": score,
                **{name: float(getattr(found, name)) for name in ("slope", "low", "high", "p")},
                "layers": len(strata),
                "channels": sum(len(stratum.outcome) for stratum in strata),
                "reliability": float(reliable),
                "halves": len(strata[0].readings) == len(HALVES),
            }
        )
    table = pd.DataFrame(rows)
    if rows:
        table["p_holm"] = holm(table["p"].where(table["halves"]).to_numpy(dtype=np.float64))
    return table
