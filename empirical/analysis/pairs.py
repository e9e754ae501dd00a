"""Do pairs of channels that say more together do more damage together, as claim C4 says?

Pairs of a layer share channels, so that a layer counts as one family.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from empirical.analysis.missing import NoDataError
from empirical.analysis.statistics import effect, mean_over_families, stratum_of

RELATIONS = ("excess", "overlap")


@dataclass(frozen=True, eq=False)
class PairAnalysis:
    """Pair lesions beside S_ij.

    Parameters
    ----------
    pairs : what `lesion_pairs` returned.
    contrast : one row: mean interaction of high pairs minus that of their controls, its 95 %
        interval and p; the same for single damage, which the matching makes small.
    relation : one row per relation (S_ij, |R_ij|): slope of the interaction within layers, beyond
        the summed single damage, with interval and p.
    """

    pairs: pd.DataFrame
    contrast: pd.DataFrame
    relation: pd.DataFrame


def analyze_pairs(pairs: pd.DataFrame) -> PairAnalysis:
    """Compare pairs of high excess with their controls, and relate excess to interaction.

    Parameters
    ----------
    pairs : what `lesion_pairs` returned.
    """
    return PairAnalysis(pairs, contrast(pairs), relation(pairs))


def contrast(pairs: pd.DataFrame) -> pd.DataFrame:
    """Compare high pairs with their controls: paired difference, interval, p."""
    wide = pairs.set_index(["layer", "match", "group"])[["interaction", "single_sum"]]
    cells = pd.MultiIndex.from_product([wide.columns, ["high", "control"]])
    tables = pd.DataFrame(wide.unstack("group")).reindex(columns=cells).dropna()
    if tables.empty:
        raise NoDataError("no pair has both damages and a control. Lesion pairs of both groups.")
    row: dict[str, object] = {"pairs": len(tables)}
    for column in ("interaction", "single_sum"):
        table = tables[column]
        difference = (table["high"] - table["control"]).to_numpy()
        layers = np.asarray(pd.factorize(table.index.get_level_values("layer"))[0])
        found, p = mean_over_families(difference, layers)
        row |= {
            f"{column}_high": float(table["high"].mean()),
            f"{column}_control": float(table["control"].mean()),
            f"{column}_difference": found.mean,
            f"{column}_low": found.low,
            f"{column}_upper": found.high,
            f"{column}_p": p,
        }
    return pd.DataFrame([row])


def relation(pairs: pd.DataFrame) -> pd.DataFrame:
    """Slope of the interaction on each relation within layers, beyond summed single damage."""
    rows = []
    frame = pairs.assign(family=0).dropna(subset=["interaction", "single_sum"])
    for name in RELATIONS:
        every = [
            stratum_of(str(layer), group, "interaction", name, ["single_sum"])
            for layer, group in frame.dropna(subset=[name]).groupby("layer", sort=False)
            if group[name].nunique() > 1
        ]
        strata = [stratum for stratum in every if stratum.usable]
        if len(strata) < 3:
            continue
        found = effect(strata)
        rows.append(
            {
                "relation": name,
                "layers": len(strata),
                "pairs": sum(len(stratum.outcome) for stratum in strata),
                "slope": float(found.slope),
                "low": float(found.low),
                "high": float(found.high),
                "p": float(found.p),
            }
        )
    return pd.DataFrame(rows)
