"""Do pairs of channels that say more together do more damage together, as claim C4 says?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from empirical.analysis.statistics import effect, mean_over_families, stratum_of

RELATIONS = ("excess", "overlap")


@dataclass(frozen=True, eq=False)
class PairAnalysis:
    """Pair lesions beside S_ij.

    Parameters
    ----------
    pairs : what `lesion_pairs` returned.
    contrast : one row: mean interaction of high pairs minus that of their controls, its 95 %
        interval and p, matches that share a channel being counted as one; the same for single
        damage, which the matching makes small.
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
    keys = ["layer", "match"]
    wide = pairs.set_index([*keys, "group"])
    tables = {column: wide[column].unstack("group") for column in ("interaction", "single_sum")}
    family = pd.Series(_sharing(pairs), index=pairs.set_index(keys).index)
    shared = family[~family.index.duplicated()].reindex(tables["interaction"].index)
    row: dict[str, object] = {"pairs": int((pairs["group"] == "high").sum())}
    for column, table in tables.items():
        difference = (table["high"] - table["control"]).to_numpy()
        found, p = mean_over_families(difference, pd.factorize(shared)[0])
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
    frame = pairs.assign(family=_sharing(pairs))
    for name in RELATIONS:
        every = [
            stratum_of(str(layer), group, "interaction", name, ["single_sum"])
            for layer, group in frame.groupby("layer", sort=False)
        ]
        strata = [stratum for stratum in every if stratum.usable]
        if not strata:
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


def _sharing(pairs: pd.DataFrame) -> NDArray[np.intp]:
    """(pairs,) number of the set of pairs of one layer that channels or a match tie together."""
    layer = pairs["layer"].astype(str)
    ties = [layer + f" {kind} " + pairs[c].astype(str) for kind, c in
            (("channel", "first"), ("channel", "second"), ("match", "match"))]  # fmt: skip
    codes = pd.factorize(pd.concat(ties))[0]
    n = len(pairs)
    rows = np.tile(np.arange(n), len(ties))
    size = n + int(codes.max()) + 1
    graph = coo_array((np.ones(len(codes)), (rows, codes + n)), shape=(size, size))
    return np.asarray(connected_components(graph, directed=False)[1][:n])
