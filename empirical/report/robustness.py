"""How the coupling depends on the choices of its measurement: the chapter and its figure."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from empirical.analysis.couplings import BETWEEN, of_pair
from empirical.report.page import Section
from theory.shared.findings import Finding
from theory.shared.style import label, sheet, styled

TITLE = "Does the coupling depend on how it is measured?"


def robustness_section(variations: pd.DataFrame, counts: pd.DataFrame) -> Section:
    """Word and draw the coupling under each variation, and from ever more images.

    Parameters
    ----------
    variations : rows of `coupling_robustness`, with a column seed.
    counts : rows of `sample_count_robustness`, with a column seed.
    """
    return Section(
        title=TITLE,
        note="The trained networks measured again with one choice changed at a time.",
        findings=robustness_findings(variations, counts),
        figures={
            "coupling_robustness": (
                robustness_bars(variations, counts),
                "Coupling of input capture and task information, mean of layers, under each "
                "variation (points: seeds), and from ever more of the calibration images.",
            )
        },
        tables={"coupling_robustness": variations, "coupling_sample_count": counts},
    )


def robustness_findings(variations: pd.DataFrame, counts: pd.DataFrame) -> list[Finding]:
    """The range over variations, the variation that differs most, and the effect of images."""
    means = of_pair(variations, BETWEEN).groupby("variation", sort=False)["coupling"].mean()
    base = float(means.iloc[0])
    # a rank correlation does not see another reference noise, nor a correction of the same size
    wide = of_pair(variations, BETWEEN).pivot(index="seed", columns="variation", values="coupling")
    moved = wide.sub(wide[means.index[0]], axis=0).abs().max() > 1e-9
    means = means[[name == means.index[0] or bool(moved[name]) for name in means.index]]
    farthest = str((means - base).abs().idxmax())
    growing = of_pair(counts, BETWEEN)
    by_count = growing.groupby("groups")["coupling"].mean()
    return [
        Finding(
            f"{BETWEEN.label.capitalize()} after training is {{base:+.2f}} as measured, and "
            "between {least:+.2f} and {most:+.2f} over the {variations} variations that change it "
            "({rest} others cannot move ranks and do not); the farthest is "
            f"“{farthest}”, {{farthest:+.2f}}.",
            {
                "base": base,
                "least": float(means.min()),
                "most": float(means.max()),
                "variations": len(means) - 1,
                "rest": int((~moved).sum()) - 1,
                "farthest": float(means[farthest]),
            },
        ),
        Finding(
            "From {tenth:.0%} of the images it is {few:+.2f}, from half {half:+.2f}, from all "
            "{all:+.2f}.",
            {
                "tenth": float(growing["images"].min()),
                "few": float(by_count.iloc[0]),
                "half": float(by_count.iloc[(len(by_count) - 1) // 2]),
                "all": float(by_count.iloc[-1]),
            },
        ),
    ]


@styled()
def robustness_bars(variations: pd.DataFrame, counts: pd.DataFrame) -> Figure:
    """Left: coupling per variation, a point per seed. Right: coupling against share of images."""
    figure, axes = sheet(1, 2, width=10.0, height=3.6)
    left, right = axes[0]
    chosen = of_pair(variations, BETWEEN)
    names = list(dict.fromkeys(chosen["variation"]))
    left.plot(chosen["coupling"], chosen["variation"].map(names.index), "o", color="C0", ms=4)
    base = chosen.loc[chosen["variation"] == names[0], "coupling"].mean()
    left.axvline(base, color="0.5", linestyle=":")
    left.set_yticks(np.arange(len(names)), names)
    left.invert_yaxis()
    left.set_xlim(-1, 1)
    label(left, "Spearman rank correlation", "")
    for _, lines in of_pair(counts, BETWEEN).groupby("seed"):
        right.plot(lines["images"] * 100, lines["coupling"], "o-", color="C0", markersize=3)
    right.set_ylim(-1, 1)
    label(right, "calibration images used (%)", "Spearman rank correlation")
    return figure
