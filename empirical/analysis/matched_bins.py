"""Matched bins: channels alike in the controls, with much and with little of the tested score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from empirical.analysis.statistics import LEVEL, holm, permutation_p, ranks
from theory.shared.validation import Float


def matched_bins(
    layers: Mapping[str, pd.DataFrame],
    damage: str,
    tested: str,
    controls: Sequence[str],
    permutations: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Compare channels above and below the median of `tested` within bins of all controls.

    Bins split each control at its quantiles, 2 to 4 a control so that a bin holds some eight
    channels. The effect is the mean rank of damage above minus below (-1 .. 1), bins weighted by
    their channels; its p-value permutes `tested` within bins. `high` and `low` are the damages
    themselves.
    """
    rows: list[dict[str, object]] = []
    nulls = []
    for name, frame in layers.items():
        outcome = frame[damage].to_numpy()
        rank = ranks(outcome)
        bins = list(_bins([frame[control].to_numpy() for control in controls], len(frame)))
        score = frame[tested].to_numpy()
        upper = np.concatenate([_upper_half(score[members]) for members in bins])
        members = np.concatenate(bins)
        size = [len(group) for group in bins]
        effect = _contrast(rank[members], upper[None], size)[0]
        drawn = np.concatenate(
            [
                rng.permuted(np.tile(part, (permutations, 1)), axis=1)
                for part in np.split(upper, np.cumsum(size)[:-1])
            ],
            axis=1,
        )
        null = _contrast(rank[members], drawn, size)
        nulls.append(null)
        rows.append(
            {
                "layer": name,
                "bins": len(bins),
                "channels": len(members),
                "damage_high": float(outcome[members][upper > 0].mean()),
                "damage_low": float(outcome[members][upper < 0].mean()),
                "effect": float(effect),
                "p": float(permutation_p(effect, null)),
                "p_holm": np.nan,
                "null_high": float(np.quantile(np.abs(null), LEVEL)),
            }
        )
    table = pd.DataFrame(rows)
    table["p_holm"] = holm(table["p"].to_numpy())
    share = (table["channels"] / table["channels"].sum()).to_numpy()
    null = share @ np.array(nulls)
    last = {"layer": "pooled"} | {name: table[name].sum() for name in ("bins", "channels")}
    last |= {name: share @ table[name] for name in ("damage_high", "damage_low", "effect")}
    last["p"] = last["p_holm"] = float(permutation_p(last["effect"], null))
    last["null_high"] = float(np.quantile(np.abs(null), LEVEL))
    return pd.concat([table, pd.DataFrame([last])], ignore_index=True)


def _bins(controls: Sequence[Float], n: int) -> Iterator[np.ndarray]:
    """Index sets of at least two channels, equal in every control up to a quantile."""
    per_control = int(np.clip(np.sqrt(n / 8), 2, 4))
    codes = np.zeros(n, dtype=int)
    for control in controls:
        codes = codes * per_control + (ranks(control) * per_control).astype(int)
    for code in np.unique(codes):
        members = np.flatnonzero(codes == code)
        if len(members) >= 2:
            yield members


def _upper_half(score: Float) -> Float:
    """+1 for the upper half of a bin, -1 for the lower, 0 for the middle of an odd one."""
    result: Float = np.sign(rankdata(score, "ordinal") - (len(score) + 1) / 2)
    return result


def _contrast(rank: Float, halves: Float, sizes: Sequence[int]) -> Float:
    """(P,) mean over bins, weighted by channels, of mean rank above minus mean rank below."""
    edges = np.cumsum([0, *sizes[:-1]])
    half_sizes = np.array([size // 2 for size in sizes])
    sums = np.add.reduceat(halves * rank, edges, axis=1) / half_sizes
    result: Float = sums @ (np.array(sizes) / np.sum(sizes))
    return result
