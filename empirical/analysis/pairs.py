"""Do pairs of channels that say more together do more damage together, as claim C4 says?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from empirical.analysis.statistics import (
    LEAST_CHANNELS,
    bootstrap_pooled,
    interval_of,
    partial_test,
    permutation_p,
    stratum_of,
)

RELATIONS = ("excess", "overlap")


@dataclass(frozen=True, eq=False)
class PairAnalysis:
    """Pair lesions beside S_ij.

    Parameters
    ----------
    pairs : what `lesion_pairs` returned.
    contrast : one row: mean interaction of high pairs minus that of their controls, its 95 %
        interval over pairs, and a sign-flip p-value; the same for single damage, which the
        matching makes small.
    relation : one row per relation (S_ij, |R_ij|): rank correlation with the interaction within
        layers, beyond the summed single damage, with interval and permutation p-value.
    """

    pairs: pd.DataFrame
    contrast: pd.DataFrame
    relation: pd.DataFrame


def analyze_pairs(pairs: pd.DataFrame, *, permutations: int = 2000, seed: int = 0) -> PairAnalysis:
    """Compare pairs of high excess with their controls, and relate excess to interaction.

    Parameters
    ----------
    pairs : what `lesion_pairs` returned.
    permutations : draws of p-values and intervals.
    seed : of both.
    """
    rng = np.random.default_rng(seed)
    return PairAnalysis(
        pairs, contrast(pairs, permutations, rng), relation(pairs, permutations, rng)
    )


def contrast(pairs: pd.DataFrame, permutations: int, rng: np.random.Generator) -> pd.DataFrame:
    """Compare high pairs with their controls: paired difference, interval, sign-flip p."""
    wide = pairs.set_index(["layer", "match", "group"])
    row: dict[str, object] = {"pairs": int((pairs["group"] == "high").sum())}
    for column in ("interaction", "single_sum"):
        table = wide[column].unstack("group")
        difference = (table["high"] - table["control"]).to_numpy()
        signs = rng.choice([-1.0, 1.0], size=(permutations, len(difference)))
        null = (signs * difference).mean(axis=1)
        index = rng.integers(len(difference), size=(permutations, len(difference)))
        low, high = interval_of(difference[index].mean(axis=1))
        row |= {
            f"{column}_high": float(table["high"].mean()),
            f"{column}_control": float(table["control"].mean()),
            f"{column}_difference": float(difference.mean()),
            f"{column}_low": low,
            f"{column}_upper": high,
            f"{column}_p": float(permutation_p(difference.mean(), null, tolerance=1e-15)),
        }
    return pd.DataFrame([row])


def relation(pairs: pd.DataFrame, permutations: int, rng: np.random.Generator) -> pd.DataFrame:
    """Correlate each relation with the interaction within layers, beyond summed single damage."""
    rows = []
    for name in RELATIONS:
        strata = [
            stratum_of(str(layer), group, "interaction", name, ["single_sum"])
            for layer, group in pairs.groupby("layer", sort=False)
            if len(group) >= LEAST_CHANNELS
        ]
        if not strata:
            continue
        test = partial_test(strata, permutations=permutations, rng=rng)
        low, high = interval_of(bootstrap_pooled(strata, draws=permutations, rng=rng))
        rows.append(
            {
                "relation": name,
                "layers": len(strata),
                "pairs": len(pairs),
                "partial": test.pooled,
                "low": low,
                "high": high,
                "p": test.pooled_p,
            }
        )
    return pd.DataFrame(rows)
