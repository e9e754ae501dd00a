"""How aligned the axes are across the channels of each layer, over training and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from empirical.measuring.table import AxisTable
from theory import QUANTITIES, coupling, jackknife_standard_error, spearman
from theory.shared.validation import one_of


@dataclass(frozen=True)
class Pair:
    """Two quantities whose ranks are compared; `kind` is "between" axes or "within" one."""

    first: str
    second: str
    kind: str

    @property
    def label(self) -> str:
        """The pair in words."""
        return f"{self.first} ~ {self.second}".replace("_", " ")


BETWEEN = Pair("input_capture", "task_information", "between")
WITHIN = Pair("input_capture", "peer_overlap", "within")
PAIRS: tuple[Pair, ...] = (
    BETWEEN,
    Pair("peer_overlap", "target_excess", "between"),
    WITHIN,
    Pair("task_information", "target_excess", "within"),
)
"""The published comparison first; the others show whether it depends on the representatives."""


def layer_couplings(
    table: AxisTable,
    *,
    pairs: Sequence[Pair] = PAIRS,
    permutations: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """One row per layer and pair: coupling, jackknife standard error over images, null, p-value.

    Parameters
    ----------
    table : a measurement.
    pairs : which quantities to compare.
    permutations : draws of the null in which channels are paired at random.
    seed : of the draws.

    Returns
    -------
    Columns layer, depth (0 to 1), first, second, kind, channels, coupling, se, null_low,
    null_high, p_value. Where the measurement has no jackknife, se is NaN.
    """
    for pair in pairs:
        one_of("pairs", pair.first, QUANTITIES)
        one_of("pairs", pair.second, QUANTITIES)
    rows = []
    depth = np.linspace(0, 1, len(table.layers)) if len(table.layers) > 1 else [0.0]
    for where, name in zip(depth, table.layers, strict=True):
        values = table[name].as_dict()
        for pair in pairs:
            found = coupling(
                values[pair.first], values[pair.second], permutations=permutations, seed=seed
            )
            rows.append(
                {
                    "layer": name,
                    "depth": where,
                    "first": pair.first,
                    "second": pair.second,
                    "kind": pair.kind,
                    "channels": found.channels,
                    "coupling": found.value,
                    "se": _standard_error(table, name, pair),
                    "null_low": found.null_low,
                    "null_high": found.null_high,
                    "p_value": found.p_value,
                }
            )
    return pd.DataFrame(rows)


def training_couplings(
    tables: Mapping[tuple[int, int], AxisTable],
    *,
    pairs: Sequence[Pair] = PAIRS,
    permutations: int = 1000,
) -> pd.DataFrame:
    """`layer_couplings` of every (seed, step), with these two as first columns."""
    frames = [
        layer_couplings(table, pairs=pairs, permutations=permutations, seed=step).assign(
            seed=seed, step=step
        )
        for (seed, step), table in sorted(tables.items())
    ]
    joined = pd.concat(frames, ignore_index=True)
    return joined[["seed", "step", *(name for name in joined if name not in ("seed", "step"))]]


def mean_couplings(couplings: pd.DataFrame) -> pd.DataFrame:
    """Mean over layers, then over seeds, with a 95 % t-interval over seeds.

    `null` is the half-width that 95 % of such means have when channels are paired at random:
    layers and seeds are independent draws, so their null variances add.

    Returns
    -------
    Columns first, second, kind, step, seeds, coupling, low, high, null_low, null_high.
    With one seed the interval is NaN: one seed cannot say how seeds differ.
    """
    rows = []
    for (first, second, kind, step), group in couplings.groupby(
        ["first", "second", "kind", "step"], sort=False
    ):
        by_seed = group.groupby("seed")["coupling"].mean()
        low, high = t_interval(by_seed.to_numpy())
        sigma = (group["null_high"] - group["null_low"]) / (2 * 1.96)
        width = 1.96 * float(np.sqrt((sigma**2).sum())) / len(group)
        rows.append(
            {
                "first": first,
                "second": second,
                "kind": kind,
                "step": step,
                "seeds": len(by_seed),
                "coupling": by_seed.mean(),
                "low": low,
                "high": high,
                "null_low": -width,
                "null_high": width,
            }
        )
    return pd.DataFrame(rows)


def of_pair(frame: pd.DataFrame, pair: Pair) -> pd.DataFrame:
    """The rows of a table with columns first and second that belong to `pair`."""
    return frame[frame["first"].eq(pair.first) & frame["second"].eq(pair.second)]


def t_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Student interval of the mean; NaN for fewer than two values.

    >>> low, high = t_interval([1.0, 2.0, 3.0])
    >>> round(low, 3), round(high, 3)
    (-0.484, 4.484)
    """
    sample = np.asarray(values, dtype=np.float64)
    sample = sample[~np.isnan(sample)]
    if sample.size < 2:
        return np.nan, np.nan
    half = stats.t.ppf((1 + level) / 2, sample.size - 1) * sample.std(ddof=1) / sample.size**0.5
    return float(sample.mean() - half), float(sample.mean() + half)


def _standard_error(table: AxisTable, layer: str, pair: Pair) -> float:
    if layer not in table.replicates:
        return np.nan
    values = table.replicates[layer]
    return float(jackknife_standard_error(spearman(values[pair.first], values[pair.second])))
