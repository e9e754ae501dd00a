"""How aligned the axes are across the channels of each layer, over training and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from empirical.analysis.seeds import over_seeds
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
    def names(self) -> tuple[str, str]:
        """Both quantities."""
        return self.first, self.second

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
    table: AxisTable, *, pairs: Sequence[Pair] = PAIRS, permutations: int = 1000, seed: int = 0
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
    for name in (name for pair in pairs for name in pair.names):
        one_of("pairs", name, QUANTITIES)
    rows = []
    depth = np.linspace(0, 1, len(table.layers))
    for where, name in zip(depth, table.layers, strict=True):
        values = table[name].as_dict()
        for pair in pairs:
            ranked = (values[quantity] for quantity in pair.names)
            found = coupling(*ranked, permutations=permutations, seed=seed)
            rows.append(
                {
                    "layer": name,
                    "depth": where,
                    **vars(pair),
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
    return pd.concat(frames).set_index(["seed", "step"]).reset_index()


def mean_couplings(couplings: pd.DataFrame) -> pd.DataFrame:
    """Mean over layers, then over seeds, with a 95 % t-interval over seeds.

    `null_low` to `null_high` holds 95 % of such means when channels are paired at random: layers
    and seeds are independent draws, so their null variances add.

    Returns
    -------
    Columns first, second, kind, step, seeds, coupling, low, high, null_low, null_high.
    With one seed the interval is NaN: one seed cannot say how seeds differ.
    """
    keys = ["first", "second", "kind", "step"]
    variance = ((couplings["null_high"] - couplings["null_low"]) / 2) ** 2
    grouped = couplings.assign(variance=variance).groupby(keys, sort=False)["variance"]
    width = (grouped.sum() ** 0.5 / grouped.size()).to_numpy()
    return over_seeds(couplings, keys, "coupling").assign(null_low=-width, null_high=width)


def separation_step(means: pd.DataFrame, pair: Pair) -> int | None:
    """First recorded step from which the coupling stays nearer its end than its start.

    None where start and end do not differ by more than the null of random pairing.
    """
    chosen = of_pair(means, pair).sort_values("step")
    values = chosen["coupling"].to_numpy()
    if abs(values[0] - values[-1]) <= chosen["null_high"].iloc[0]:
        return None
    nearer_end = np.abs(values - values[-1]) <= np.abs(values - values[0])
    stays = np.logical_and.accumulate(nearer_end[::-1])[::-1]
    return int(chosen["step"].to_numpy()[np.argmax(stays)])


def of_pair(frame: pd.DataFrame, pair: Pair) -> pd.DataFrame:
    """The rows of a table with columns first and second that belong to `pair`."""
    return frame[frame["first"].eq(pair.first) & frame["second"].eq(pair.second)]


def _standard_error(table: AxisTable, layer: str, pair: Pair) -> float:
    if layer not in table.replicates:
        return np.nan
    values = table.replicates[layer]
    return float(jackknife_standard_error(spearman(values[pair.first], values[pair.second])))
