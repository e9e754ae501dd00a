"""What explains lesion damage: peer support beyond input capture and task information (claim C4).

Three views of one question, each within layers: matched bins, partial rank correlation, nested
regression. Then which score predicts damage best, and how both change with depth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from empirical.analysis.matched_bins import matched_bins
from empirical.analysis.missing import NoDataError
from empirical.analysis.predictors import compare_predictors
from empirical.analysis.statistics import (
    LEAST_CHANNELS,
    PartialTest,
    Stratum,
    bootstrap_pooled,
    interval_of,
    partial_test,
    stratum_of,
)
from theory.shared.validation import count, one_of

TESTED = "peer_predictability"
CONTROLS = ("input_capture", "task_information")
PREDICTORS = (
    "peer_predictability",
    "hull_score",
    "peer_overlap",
    "conditional_task_information",
    "input_capture",
    "task_information",
)


@dataclass(frozen=True, eq=False)
class LesionAnalysis:
    """Tables of the analysis; intervals are 95 % by resampling the channels of each layer.

    Parameters
    ----------
    partial : one row per layer: partial rank correlation of E_i with damage given the controls,
        its permutation p, Holm's p over layers, and the R² that E_i adds; last row "pooled".
    bins : one row per layer: damage of channels with much and with little peer support, matched in
        both controls; last row "pooled".
    prediction : one row per score: pooled rank correlation with damage, |correlation|, and how far
        it is behind the best, with Holm's p.
    depth : one row per layer: mean damage and its error, mean E_i, and the partial correlation.
    skipped : layer -> why it was left out.
    settings : damage, kind, tested score, controls, permutations, seed.
    """

    partial: pd.DataFrame
    bins: pd.DataFrame
    prediction: pd.DataFrame
    depth: pd.DataFrame
    skipped: Mapping[str, str]
    settings: Mapping[str, Any]


def analyze_lesions(
    frame: pd.DataFrame,
    *,
    damage: str = "loss_increase",
    kind: str = "mean",
    tested: str = TESTED,
    controls: Sequence[str] = CONTROLS,
    predictors: Sequence[str] | None = None,
    permutations: int = 2000,
    draws: int = 1000,
    seed: int = 0,
) -> LesionAnalysis:
    """Analyse damages of single-channel lesions beside the scores of the channels.

    Parameters
    ----------
    frame : one row per channel and kind: columns layer, channel, kind, `damage`, and the scores;
        with a column seed, the layers of each network are strata of their own.
    damage : column of the damage.
    kind : which lesions: "mean", "zero", "resample".
    tested, controls : does the first explain damage beyond the others?
    predictors : scores that compete for the best prediction; None means those of `PREDICTORS` that
        the frame has.
    permutations, draws : for p-values, and for intervals.
    seed : of both.

    Raises
    ------
    ValueError
        A missing column or kind; as `NoDataError`, no layer with enough channels.
    """
    scores = [name for name in PREDICTORS if name in frame] if predictors is None else predictors
    for column in ["layer", "channel", "kind", damage, tested, *controls, *scores]:
        one_of("column of frame", column, [str(name) for name in frame.columns])
    one_of("kind", kind, sorted(set(frame["kind"])))
    count("permutations", permutations, least=19)
    count("draws", draws, least=20)
    rng = np.random.default_rng(seed)
    layers, skipped = _usable(frame[frame["kind"] == kind], [damage, tested, *controls])
    strata = [stratum_of(name, rows, damage, tested, controls) for name, rows in layers.items()]
    test = partial_test(strata, permutations=permutations, rng=rng)
    interval = interval_of(bootstrap_pooled(strata, draws=draws, rng=rng))
    partial = _partial_table(test, interval, strata)
    return LesionAnalysis(
        partial=partial,
        bins=matched_bins(layers, damage, tested, controls, permutations, rng),
        prediction=compare_predictors(layers, damage, scores, draws, rng),
        depth=_depth(layers, damage, tested, partial),
        skipped=skipped,
        settings={
            "damage": damage,
            "kind": kind,
            "tested": tested,
            "controls": list(controls),
            "permutations": permutations,
            "draws": draws,
            "seed": seed,
        },
    )


def _usable(
    frame: pd.DataFrame, columns: Sequence[str]
) -> tuple[dict[str, pd.DataFrame], dict[str, str]]:
    """Split by layer (and network); leave out channels without scores and layers too small."""
    keys = ["seed", "layer"] if "seed" in frame and frame["seed"].nunique() > 1 else ["layer"]
    kept, skipped = {}, {}
    for key, rows in frame.groupby(keys, sort=False):
        name = str(key[-1]) if len(keys) == 1 else f"{key[-1]} (seed {key[0]})"
        known = rows.dropna(subset=list(columns))
        if len(known) < LEAST_CHANNELS:
            skipped[name] = f"{len(known)} usable channels, fewer than {LEAST_CHANNELS}"
        elif known[columns[0]].nunique() < 2 or known[columns[1]].nunique() < 2:
            skipped[name] = "constant damage or score"
        else:
            kept[name] = known
    if not kept:
        raise NoDataError(
            f"frame must have a layer with at least {LEAST_CHANNELS} channels whose damage and "
            f"scores are known; got {skipped or 'no rows'}. Lesion wider layers."
        )
    return kept, skipped


def _partial_table(
    test: PartialTest, interval: tuple[float, float], strata: Sequence[Stratum]
) -> pd.DataFrame:
    channels = [len(stratum.outcome) for stratum in strata]
    unknown = [np.nan] * len(strata)
    return pd.DataFrame(
        {
            "layer": [*test.names, "pooled"],
            "channels": [*channels, sum(channels)],
            "partial": [*test.correlation, test.pooled],
            "p": [*test.p_value, test.pooled_p],
            "p_holm": [*test.p_holm, test.pooled_p],
            "r2_gain": [*test.gain, test.pooled_gain],
            "low": [*unknown, interval[0]],
            "high": [*unknown, interval[1]],
        }
    )


def _depth(
    layers: Mapping[str, pd.DataFrame], damage: str, tested: str, partial: pd.DataFrame
) -> pd.DataFrame:
    by_layer = partial.set_index("layer")
    rows = []
    for position, (name, frame) in enumerate(layers.items()):
        values = frame[damage].to_numpy()
        rows.append(
            {
                "layer": name,
                "position": position,
                "channels": len(frame),
                "mean_damage": float(values.mean()),
                "mean_damage_se": float(values.std(ddof=1) / np.sqrt(len(values))),
                "median_damage": float(np.median(values)),
                f"mean_{tested}": float(frame[tested].mean()),
                "partial": float(by_layer["partial"][name]),
                "p_holm": float(by_layer["p_holm"][name]),
            }
        )
    return pd.DataFrame(rows)
