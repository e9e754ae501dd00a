"""A forecast as a figure: accuracy, agreement and divergence against the share kept."""

from __future__ import annotations

from matplotlib.figure import Figure

from empirical.pruning.forecasting import Forecast
from theory.shared.style import label, mark, sheet, styled

PANELS = {"accuracy": "accuracy", "agreement": "agreement with dense", "kl": "KL (nats)"}


@styled()
def forecast_figure(found: Forecast) -> Figure:
    """Three panels: foretold with its 95 % interval, and the shares that were measured."""
    figure, axes = sheet(1, len(PANELS), width=10.0)
    rows = found.table.sort_values("share")
    for panel, (name, title) in zip(axes[0], PANELS.items(), strict=True):
        line = mark(0, marker="none")
        panel.plot(rows["share"], rows[name], label="foretold", **line)
        panel.fill_between(
            rows["share"], rows[f"{name}_low"], rows[f"{name}_high"], color=line["color"],
            alpha=0.2, linewidth=0,
        )  # fmt: skip
        if len(found.measured):
            panel.plot(
                found.measured["share"], found.measured[name], label="measured",
                **mark(1, linestyle="none"),
            )  # fmt: skip
        label(panel, f"share of {found.resource} kept", title)
    axes[0][0].axhline(found.dense_accuracy, color="gray", linewidth=0.8)
    axes[0][0].legend()
    return figure
