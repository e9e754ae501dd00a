"""Damage of single channels beside their scores, and what peers win back, per seed and layer."""

from __future__ import annotations

import pandas as pd

from theory import spearman

SCORES = (
    "input_capture",
    "task_information",
    "peer_predictability",
    "conditional_task_information",
)


def damage_correlations(lesions: pd.DataFrame) -> pd.DataFrame:
    """Spearman of each score with the damage of each lesion kind, per seed and layer.

    Parameters
    ----------
    lesions : rows seed, layer, channel, kind, loss_increase and the scores.
    """
    rows = [
        {
            "seed": seed,
            "layer": layer,
            "kind": kind,
            "score": score,
            "spearman": float(spearman(group[score], group["loss_increase"])),
        }
        for (seed, layer, kind), group in lesions.groupby(["seed", "layer", "kind"], sort=False)
        for score in SCORES
    ]
    return pd.DataFrame(rows)


def pooled_recovery(recovered: pd.DataFrame) -> pd.DataFrame:
    """Recovered share per seed, layer and peer set, of the summed damage of all channels.

    `predicted` weighs each channel's prediction by the damage of its mean lesion, as the pooled
    share does.
    """
    weighted = recovered["predicted"] * recovered["mean_lesion"]
    keys = ["seed", "layer", "kind"]
    columns = ["mean_lesion", "loss_increase", "weighted"]
    summed = recovered.assign(weighted=weighted).groupby(keys, sort=False)[columns].sum()
    summed = summed.reset_index().rename(columns={"kind": "peers", "loss_increase": "replaced"})
    summed["recovered"] = 1 - summed["replaced"] / summed["mean_lesion"]
    summed["predicted"] = summed.pop("weighted") / summed["mean_lesion"]
    return summed
