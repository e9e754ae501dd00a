"""The report's chapter on the angle between the two gradient directions (claim C8)."""

from __future__ import annotations

import pandas as pd

from empirical.couplings import t_interval
from empirical.figures.geometry import cosine_profile
from empirical.report import Section
from theory.finding import Finding


def geometry_section(cosines: pd.DataFrame) -> Section:
    """Word and draw the mean absolute cosine of the two gradients of each layer.

    Args:
        cosines: rows of `GradientGeometry.by_layer`, with columns seed and moment ("before" or
            "after" training).
    """
    return Section(
        title="Do the axes pull the weights in different directions?",
        note="Cosine, per channel, of the gradients of input capture and of task information with "
        "respect to the channel's weights, from the covariance of input patches; mean of absolute "
        "values over the channels of a layer. Random directions in as many dimensions have the "
        "mean absolute cosine √(2/(πd)).",
        findings=geometry_findings(cosines),
        figures={
            "gradient_cosines": (
                cosine_profile(cosines),
                "Mean absolute cosine per layer, before and after training (mean over seeds, bars: "
                "standard deviation), against random directions.",
            )
        },
        tables={"gradient_cosines": cosines},
    )


def geometry_findings(cosines: pd.DataFrame) -> list[Finding]:
    """First layer and hidden layers after training, and the change since initialization."""
    value = "mean_absolute_cosine"
    first = cosines["layer"].iloc[0]
    after = cosines[cosines["moment"] == "after"]
    hidden = after[after["layer"] != first].groupby(["seed", "layer"])[value].mean()
    by_seed = hidden.groupby("seed").mean()
    low, high = t_interval(by_seed.to_numpy())
    by_layer = hidden.groupby("layer").mean()
    outer = after[after["layer"] == first].groupby("seed")[value].mean()
    outer_low, outer_high = t_interval(outer.to_numpy())
    return [
        Finding(
            "In trained hidden layers the mean absolute cosine is {hidden:.2f} [{low:.2f}, "
            "{high:.2f}] over {seeds} seeds (lowest layer {least:.2f}, highest {most:.2f}; random "
            "directions {chance:.2f} on average); in the first layer {first:.2f} "
            "[{first_low:.2f}, {first_high:.2f}]. The published ranges, for other networks and "
            "data, are {published_low:.2f} to {published_high:.2f} and about "
            "{published_first:.1f}.",
            {
                "hidden": float(by_seed.mean()),
                "low": low,
                "high": high,
                "seeds": len(by_seed),
                "least": float(by_layer.min()),
                "most": float(by_layer.max()),
                "chance": float(after[after["layer"] != first]["random_directions"].mean()),
                "first": float(outer.mean()),
                "first_low": outer_low,
                "first_high": outer_high,
                "published_low": 0.05,
                "published_high": 0.18,
                "published_first": 0.5,
            },
        )
    ]
