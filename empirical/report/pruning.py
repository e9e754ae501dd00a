"""Half of a network gone, at what price: a few recipes of pruning, and one score of each axis (C5).

The short form, for the demo; `factorial` has the long one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from empirical.analysis.pruning import against_reference, areas
from empirical.analysis.seeds import mean_difference, over_networks
from empirical.pruning.recovery import AUTO
from empirical.report.page import Section
from empirical.report.wording import estimate_of, words
from theory.shared.findings import Estimate, Finding, verdict
from theory.shared.style import label, mark, sheet, styled

TITLE = "Half of the network gone: at what price?"
DEFAULT = ("task_replaceability", AUTO)
"""Criterion and recovery that `prune` takes unless told otherwise."""
HALF = 0.5
RECOVERED = {AUTO: "recovered", "recalibrate": "recalibrated", "none": "as it is left"}
"""Recovery -> what has become of the network, in words."""


def pruning_section(curves: pd.DataFrame, local: str, target: str) -> Section:
    """Word and draw accuracy against multiply-accumulates for a few recipes.

    Parameters
    ----------
    curves : rows seed, criterion, recovery, draw, macs_requested, macs_share, accuracy,
        accuracy_se, with the unpruned networks as criterion "dense", recovery "none".
    local : the criterion of the local axis; target: that of the target axis. Both are compared
        with the default recovery.
    """
    pruned = curves[curves["criterion"] != "dense"]
    recovered = areas(
        pruned[pruned["recovery"] == AUTO], ["seed", "criterion"], share="macs_requested"
    )
    half = recipes_at(curves, HALF)
    spread = pruned["macs_share"] / pruned["macs_requested"] - 1
    return Section(
        title=TITLE,
        note="Channels physically removed at equal multiply-accumulates; no fine-tuning. The "
        "default recipe removes what the rest can replace at the least loss to the prediction, in "
        "whichever layers that is, the others as much of every layer; the rest is refitted to the "
        "unpruned network's activations on calibration images, without labels. Recalibrated "
        "means that batch norms alone are taken anew, as pruning libraries do. Accuracy on "
        "held-out images.",
        findings=[
            *_half_findings(half),
            _axis_finding(recovered, local, target),
            _against_random(against_reference(recovered, "random")),
            Finding(
                "Multiply-accumulates lie between {least:+.1%} and {most:+.1%} of the request.",
                {"least": float(spread.min()), "most": float(spread.max())},
            ),
        ],
        figures={
            "pruning_curves": (
                pruning_curves(curves),
                "Accuracy on held-out images against the share of multiply-accumulates that is "
                "left; mean over seeds, bars: standard deviation over seeds.",
            )
        },
        tables={"pruning_curves": curves, "pruning_half": half, "pruning_areas": recovered},
        shown={"pruning_half": "Before and after: accuracy at half of the multiply-accumulates"},
    )


def recipe_words(criterion: object, recovery: object) -> str:
    """A recipe as a reader would say it.

    >>> recipe_words("-peer_predictability", "recalibrate")
    'peer predictability, recalibrated'
    """
    chosen = words(str(criterion).lstrip("-"))
    if criterion == "dense":
        return "unpruned"
    return f"{chosen}, {RECOVERED.get(str(recovery), words(recovery))}"


def recipes_at(curves: pd.DataFrame, share: float) -> pd.DataFrame:
    """One row per recipe at the requested share that is nearest to `share`, the default first.

    Returns
    -------
    Columns recipe, before, after (mean accuracies), low, high (of after, over networks), default
    minus it as difference, difference_low, difference_high (paired by network), networks.
    """
    pruned = curves[curves["criterion"] != "dense"]
    before = curves[curves["criterion"] == "dense"].groupby("seed")["accuracy"].mean()
    requests = pruned["macs_requested"].unique()
    nearest = requests[np.abs(requests - share).argmin()]
    there = pruned[pruned["macs_requested"] == nearest]
    wide = there.pivot_table("accuracy", "seed", ["criterion", "recovery"])
    rows = []
    for recipe in [DEFAULT, *(name for name in _recipes(pruned) if name != DEFAULT)]:
        after = over_networks(wide[recipe])
        against = mean_difference(wide[DEFAULT] - wide[recipe])
        rows.append(
            {
                "recipe": recipe_words(*recipe),
                "left": nearest,
                "before": before.mean(),
                "after": after.mean,
                "low": after.low,
                "high": after.high,
                "difference": against["difference"],
                "difference_low": against["low"],
                "difference_high": against["high"],
                "networks": len(wide),
            }
        )
    return pd.DataFrame(rows)


def _recipes(pruned: pd.DataFrame) -> Sequence[tuple[str, str]]:
    names = pruned[["criterion", "recovery"]].drop_duplicates()
    return list(names.itertuples(index=False, name=None))


def _half_findings(half: pd.DataFrame) -> list[Finding]:
    default, others = half.iloc[0], half.iloc[1:]
    named = {f"c{index}": row for index, (_, row) in enumerate(others.iterrows())}
    listed = "; ".join(f"{row['recipe']} {{{name}:.1%}}" for name, row in named.items())
    ahead = "; ".join(
        f"{row['recipe']} {{{name}:+.1%}} ({_lead(row)})" for name, row in named.items()
    )
    return [
        Finding(
            "With {left:.0%} of the multiply-accumulates left, accuracy goes from {before:.1%} to "
            "{after:.1%} by the default recipe; by the others to: " + listed + ".",
            {
                "left": float(default["left"]),
                "before": float(default["before"]),
                "after": estimate_of(default, "after"),
                **{name: float(row["after"]) for name, row in named.items()},
            },
        ),
        Finding(
            "That the default recipe is ahead, paired by network: " + ahead + ".",
            {name: _difference(row) for name, row in named.items()},
        ),
    ]


def _difference(row: pd.Series) -> Estimate:
    return estimate_of(row, "difference", "difference_low", "difference_high")


def _lead(row: pd.Series) -> str:
    return verdict(_difference(row))


def _axis_finding(table: pd.DataFrame, local: str, target: str) -> Finding:
    wide = table.pivot(index="seed", columns="criterion", values="area")
    compared = mean_difference(wide[local] - wide[target])
    difference = estimate_of(compared, "difference")
    return Finding(
        f"That keeping the channels with least {words(local.lstrip('-'))} (local axis) is better "
        f"than keeping those with most {words(target.lstrip('-'))} (target axis), with the default "
        "recovery: {word} ({difference:+.1%} mean accuracy over the curve, paired over {seeds} "
        "seeds).",
        {"word": verdict(difference), "difference": difference, "seeds": compared["seeds"]},
    )


def _against_random(differences: pd.DataFrame) -> Finding:
    others = differences[differences["criterion"] != "random"]
    parts: list[str] = []
    values = {}
    for index, (_, row) in enumerate(others.iterrows()):
        values[f"c{index}"] = estimate_of(row, "difference")
        parts.append(f"{words(row['criterion'].lstrip('-'))} {{c{index}:+.1%}}")
    listed = "; ".join(parts)
    return Finding(f"With the default recovery, against removing at random: {listed}.", values)


@styled()
def pruning_curves(curves: pd.DataFrame) -> Figure:
    """Accuracy against the share of multiply-accumulates left, one line per recipe."""
    figure, axes = sheet(1, 1, width=7.6, height=4.2)
    panel = axes[0, 0]
    dense = curves[curves["criterion"] == "dense"]
    pruned = curves[curves["criterion"] != "dense"]
    for index, recipe in enumerate(_recipes(pruned)):
        own = pruned[(pruned["criterion"] == recipe[0]) & (pruned["recovery"] == recipe[1])]
        by_seed = pd.concat([dense, own]).groupby(["macs_requested", "seed"])["accuracy"].mean()
        by_share = 100 * by_seed.groupby("macs_requested").agg(["mean", "std"]).fillna(0)
        look = mark(index, markersize=5, capsize=2, label=recipe_words(*recipe))
        panel.errorbar(by_share.index * 100, by_share["mean"], yerr=by_share["std"], **look)
    panel.invert_xaxis()
    panel.legend(title="what goes, and then", loc="center left", bbox_to_anchor=(1.0, 0.5))
    label(panel, "multiply-accumulates left (%)", "accuracy (%)")
    return figure
