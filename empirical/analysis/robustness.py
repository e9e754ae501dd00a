"""How much a coupling depends on choices of the measurement: one choice changed at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import nn

from empirical.analysis.couplings import BETWEEN, WITHIN, Pair
from empirical.analysis.sampled_information import ESTIMATORS, draw_samples, task_information
from empirical.measuring.estimation import OPTIONS
from empirical.measuring.measurement import measure
from empirical.measuring.table import AxisTable
from empirical.reading.points import MissingPointError
from theory import ChannelAxes, channel_axes, merge, spearman

VARIATIONS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("noise: mean", {"noise": "mean"}),
    ("noise: lower quartile", {"noise": "quantile:0.25"}),
    ("bias corrected", {"bias_correction": True}),
    ("target: true logit", {"target": "true_logit"}),
    ("target: first logit component", {"target": "logit_pc1"}),
    ("target: label", {"target": "label"}),
    ("sampling: pooled maps", {"sampling": "pooled"}),
    ("point: after the norm", {"point": "post_norm"}),
    ("point: after the activation", {"point": "post_activation"}),
)
"""Name -> arguments of `measure` that differ from the base settings."""

BASE = "as measured"

FAST: Mapping[str, Any] = {"hull": False, "standard_errors": False, "damage": False}
"""What a repeated measurement can do without."""


def coupling_robustness(
    model: nn.Module,
    loader: Iterable[object],
    base: AxisTable,
    *,
    variations: Sequence[tuple[str, Mapping[str, Any]]] = VARIATIONS,
    pairs: Sequence[Pair] = (BETWEEN, WITHIN),
    **settings: Any,
) -> pd.DataFrame:
    """One row per variation and pair, the base first.

    A variation of the estimator alone is evaluated on the moments of `base`; one of the target or
    the sampling measures again.

    Parameters
    ----------
    model, loader : as for `measure`.
    base : their measurement with `settings`.
    variations : name and changed arguments of `measure`.
    pairs : whose coupling is reported.
    **settings : arguments of `measure`.

    Returns
    -------
    Columns variation, first, second, coupling (mean over layers), lowest, highest (over
    layers). A point that no layer has is left out.
    """
    estimator = {name: base.settings[name] for name in OPTIONS} | {"hull": False}
    frames = [_summary(base.axes, pairs, variation=BASE)]
    for name, changed in variations:
        axes: Mapping[str, ChannelAxes]
        if set(changed) <= set(OPTIONS):
            axes = {
                layer: channel_axes(moments, **{**estimator, **changed})
                for layer, moments in base.moments.items()
            }
        else:
            try:
                axes = measure(
                    model, loader, **{**settings, **FAST, "groups": None, **changed}
                ).axes
            except MissingPointError:
                continue
        frames.append(_summary(axes, pairs, variation=name))
    return pd.concat(frames, ignore_index=True)


def estimator_robustness(
    model: nn.Module,
    loader: Iterable[object],
    base: AxisTable,
    *,
    target: str,
    images: int = 1000,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> pd.DataFrame:
    """Coupling of input capture with task information by three estimators on the same samples.

    Input capture is that of `base`: it is about variance, which a copula does not know. One
    position of each of `images` images is used. Columns as in `coupling_robustness`.
    """
    drawn = draw_samples(model, loader, target=target, images=images, seed=seed, device=device)
    rows = []
    for estimator in ESTIMATORS:
        values = []
        for layer in filter(base.axes.__contains__, drawn.layers):
            found = task_information(drawn.layers[layer], drawn.target, estimator)
            values.append(float(spearman(base.axes[layer].input_capture, found)))
        rows.append(_row(BETWEEN, values, variation=f"estimator: {estimator}, one position"))
    return pd.DataFrame(rows)


def sample_count_robustness(
    table: AxisTable, *, pairs: Sequence[Pair] = (BETWEEN, WITHIN)
) -> pd.DataFrame:
    """The coupling from ever more groups of images: 1, 2, ... of the G that were measured.

    Parameters
    ----------
    table : a measurement that kept its groups.

    Returns
    -------
    Columns groups, images (share), first, second, coupling (mean over layers).

    Raises
    ------
    ValueError
        the table holds no groups.
    """
    if not table.groups:
        raise ValueError(
            "table must hold moments per group of images; this one does not. Measure again, or "
            "save with moments='groups'."
        )
    number = len(next(iter(table.groups.values())))
    frames = []
    for used in range(1, number + 1):
        axes = {
            layer: channel_axes(merge(parts[:used]), hull=False)
            for layer, parts in table.groups.items()
        }
        frames.append(_summary(axes, pairs, groups=used, images=used / number))
    return pd.concat(frames, ignore_index=True).drop(columns=["lowest", "highest"])


def _summary(
    axes: Mapping[str, ChannelAxes], pairs: Sequence[Pair], **labels: object
) -> pd.DataFrame:
    """One row per pair, with labels: its coupling over layers."""
    rows = []
    for pair in pairs:
        values = [float(spearman(*(getattr(a, n) for n in pair.names))) for a in axes.values()]
        rows.append(_row(pair, values, **labels))
    return pd.DataFrame(rows)


def _row(pair: Pair, values: Sequence[float], **labels: object) -> dict[str, object]:
    known = pd.Series(values, dtype=float)
    return {
        **labels,
        "first": pair.first,
        "second": pair.second,
        "coupling": known.mean(),
        "lowest": known.min(),
        "highest": known.max(),
    }
