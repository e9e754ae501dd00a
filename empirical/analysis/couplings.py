"""How aligned the axes are across the channels of each layer, over training and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from empirical.analysis.reliability import (
    corrected_coupling,
    layer_reliability,
)
from empirical.analysis.seeds import CORRELATION, over_seeds
from empirical.measuring.damage_table import FORETOLD
from empirical.measuring.table import AxisTable
from theory import QUANTITIES, coupling, differentiation, settled_record
from theory.shared.findings import Estimate
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
OF_INTERVENTION = (
    Pair("damage_alone", "recovered", "between"),
    Pair("peer_predictability", "recovered", "within"),
    Pair("input_capture", "damage_alone", "between"),
    Pair("task_information", "damage_alone", "within"),
)
"""What an intervention defines: relevance, damage alone; replaceability, the share that peers
recover. Both, and each beside the quantities that stand for its axis."""

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
    """One row per layer and pair: coupling, null, p-value, reliability, correction.

    Parameters
    ----------
    table : a measurement.
    pairs : which quantities to compare; foretold damages too, where the table has them.
    permutations : draws of the null in which channels are paired at random.
    seed : of the draws.

    Returns
    -------
    Columns layer, depth (0 to 1), first, second, kind, channels, coupling, null_low,
    null_high, p_value, first_reliability, second_reliability (split halves), corrected (for
    attenuation), low, high (its 95 % over images). Where a reliability is below `RELIABLE`, or
    unknown for lack of halves, these three are NaN: the coupling is not resolved. And of the layer,
    the same in all its rows: residual_spread and predictability_with_power, the spread of J(1 - E)
    across its channels and Spearman(E, J) (`theory.differentiation`).
    """
    names = sorted({name for pair in pairs for name in pair.names})
    for name in names:
        one_of("pairs", name, [*QUANTITIES, *(FORETOLD if table.damage else ())])
    rows = []
    depth = np.linspace(0, 1, len(table.layers))
    reliable = layer_reliability(table, names)
    for where, name in zip(depth, table.layers, strict=True):
        values = table.values(name)
        own_layer = differentiation(values["signal_power"], values["peer_predictability"])
        for pair in pairs:
            ranked = (values[quantity] for quantity in pair.names)
            found = coupling(*ranked, permutations=permutations, seed=seed)
            own = [reliable.get(name, {}).get(quantity, np.nan) for quantity in pair.names]
            corrected = _corrected(table, name, pair)
            rows.append(
                {
                    "layer": name,
                    "depth": where,
                    **vars(pair),
                    "channels": found.channels,
                    "coupling": found.value,
                    "null_low": found.null_low,
                    "null_high": found.null_high,
                    "p_value": found.p_value,
                    "first_reliability": own[0],
                    "second_reliability": own[1],
                    "corrected": corrected.mean,
                    "low": corrected.low,
                    "high": corrected.high,
                    "residual_spread": own_layer.spread,
                    "predictability_with_power": own_layer.rank_correlation,
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
    """Mean over layers, then over seeds, with a 95 % interval over seeds by Fisher's z.

    `null_low` to `null_high` holds 95 % of such means when channels are paired at random: layers
    and seeds are independent draws, so their null variances add.

    Returns
    -------
    Columns first, second, kind, step, seeds, coupling, low, high, null_low, null_high, corrected,
    corrected_low, corrected_high (over the layers where it is known), resolved (their share). With
    fewer than three seeds the intervals are NaN.
    """
    keys = ["first", "second", "kind", "step"]
    variance = ((couplings["null_high"] - couplings["null_low"]) / 2) ** 2
    grouped = couplings.assign(variance=variance).groupby(keys, sort=False)["variance"]
    width = (grouped.sum() ** 0.5 / grouped.size()).to_numpy()
    corrected = over_seeds(couplings, keys, "corrected", CORRELATION)
    known = couplings["corrected"].notna().groupby([couplings[key] for key in keys], sort=False)
    return over_seeds(couplings, keys, "coupling", CORRELATION).assign(
        null_low=-width,
        null_high=width,
        corrected=corrected["corrected"],
        corrected_low=corrected["low"],
        corrected_high=corrected["high"],
        resolved=known.mean().to_numpy(),
    )


def separation_steps(means: pd.DataFrame, pair: Pair) -> tuple[int, int] | None:
    """Records between which the coupling comes to stay nearer its end than its start.

    The first record from which it does (`theory.settled_record`), and the one before. None where
    start and end do not differ by more than the null of random pairing.
    """
    chosen = of_pair(means, pair).sort_values("step")
    values, steps = chosen["coupling"].to_numpy(), chosen["step"].to_numpy()
    first = settled_record(values, apart=float(chosen["null_high"].iloc[0]))
    return None if first is None else (int(steps[first - 1]), int(steps[first]))


def of_pair(frame: pd.DataFrame, pair: Pair) -> pd.DataFrame:
    """The rows of a table with columns first and second that belong to `pair`."""
    return frame[frame["first"].eq(pair.first) & frame["second"].eq(pair.second)]


def _corrected(table: AxisTable, layer: str, pair: Pair) -> Estimate:
    halves, parts = table.in_halves(layer), table.without_groups(layer)
    if not halves:
        return Estimate(np.nan, np.nan, np.nan)
    first, second = pair.names
    return corrected_coupling(halves[first], halves[second], (parts[first], parts[second]))
