"""Figures of the pruning factorial: curves, axis against axis, agreement of criteria."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from theory.shared.style import MARKERS, label, sheet, styled

SHARES = {
    "share": "share of multiply-accumulates",
    "latency_share": "share of the dense network's latency",
}


@styled
def accuracy_curves(
    rows: pd.DataFrame, criteria: Sequence[str], allocation: str, *, against: str = "share"
) -> Figure:
    """Accuracy against a share of the dense network; a row per network, a column per recovery.

    Lines are means over seeds and draws, bars the range over seeds. `against` is "share", of the
    multiply-accumulates as requested, or "latency_share", as measured.
    """
    pruned = rows[(rows["allocation"] == allocation) & rows["criterion"].isin(criteria)]
    pruned = pruned.dropna(subset=["accuracy"])
    networks, recoveries = (list(dict.fromkeys(pruned[c])) for c in ("network", "recovery"))
    figure, axes = sheet(
        len(networks), len(recoveries), width=3.4 * len(recoveries) + 2.2, sharex=True, sharey="row"
    )
    for row, (panels, network) in enumerate(zip(axes, networks, strict=True)):
        dense = rows[(rows["network"] == network) & (rows["criterion"] == "dense")]["accuracy"]
        for panel, recovery in zip(panels, recoveries, strict=True):
            cell = pruned[(pruned["network"] == network) & (pruned["recovery"] == recovery)]
            for i, name in enumerate(criteria):
                _curve(panel, cell[cell["criterion"] == name], name, i, against)
            panel.axhline(dense.mean(), color="0.5", linestyle=":", linewidth=1.0)
            label(
                panel,
                SHARES[against] if row == len(networks) - 1 else "",
                "accuracy" if recovery == recoveries[0] else "",
                f"{network}, {recovery}",
            )
    axes[0, -1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure


def _curve(panel, rows: pd.DataFrame, name: str, i: int, against: str) -> None:
    if rows.empty:
        return
    by_seed = rows.groupby(["share", "seed"])["accuracy"].mean().groupby("share")
    place = rows.groupby("share")[against].mean() if against != "share" else by_seed.mean().index
    mean = by_seed.mean()
    # a mean of equal values may leave their range by a rounding
    spread = np.maximum([mean - by_seed.min(), by_seed.max() - mean], 0.0)
    style = ("-", "--", "-.", ":")[i % 4]
    panel.errorbar(
        place, mean, yerr=spread, marker=MARKERS[i % len(MARKERS)], color=f"C{i % 6}",
        linestyle=style, markersize=4, capsize=2, linewidth=1.3, label=name.replace("_", " "),
    )  # fmt: skip


@styled
def axis_differences(table: pd.DataFrame) -> Figure:
    """Local axis minus target axis with its interval, a line per setting of `axis_against_axis`."""
    figure, axes = sheet(1, 1, width=7.5, height=0.32 * len(table) + 1.3)
    panel = axes[0, 0]
    place = np.arange(len(table))[::-1]
    for i, network in enumerate(dict.fromkeys(table["network"])):
        mine = (table["network"] == network).to_numpy()
        part = table[mine]
        error = np.array([part["difference"] - part["low"], part["high"] - part["difference"]])
        panel.errorbar(
            part["difference"], place[mine], xerr=np.nan_to_num(error), color=f"C{i % 6}",
            fmt=MARKERS[i % len(MARKERS)], markersize=5, capsize=3, label=network,
        )  # fmt: skip
    panel.axvline(0, color="0.4", linewidth=0.8, linestyle="-")
    panel.set_yticks(place, [f"{r.allocation}, {r.recovery}" for r in table.itertuples()])
    label(panel, "mean accuracy, local axis minus target axis (95 % interval over seeds)", "")
    panel.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure


@styled
def agreement_map(table: pd.DataFrame) -> Figure:
    """Spearman between criteria within layers, as a square map with its numbers."""
    size = len(table)
    figure, axes = sheet(1, 1, width=0.42 * size + 3.4, height=0.42 * size + 2.6)
    panel = axes[0, 0]
    image = panel.imshow(table, cmap="PuOr", vmin=-1, vmax=1)
    names = [str(name).replace("_", " ") for name in table.index]
    panel.set_xticks(range(size), names, rotation=90)
    panel.set_yticks(range(size), names)
    panel.grid(visible=False)
    for (i, j), value in np.ndenumerate(table.to_numpy()):
        if np.isfinite(value):
            shade = "white" if abs(value) > 0.7 else "black"
            shown = round(float(value), 1) + 0.0  # no minus zero
            panel.text(j, i, f"{shown:.1f}", ha="center", va="center", fontsize=6, color=shade)
    figure.colorbar(image, ax=panel, shrink=0.7, label="Spearman rank correlation, mean of layers")
    return figure
