"""From the grouped moments of each layer to a table of quantities with standard errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from empirical.layers import Layer
from empirical.table import AxisTable
from empirical.targets import first_component
from theory.axes import ChannelAxes, channel_axes
from theory.moments import Moments, merge

OPTIONS = ("noise", "ridge", "peers", "top", "bias_correction", "hull")
"""The settings of a measurement that `theory.channel_axes` takes."""


def tabulate(
    groups: Mapping[str, list[Moments]],
    layers: Sequence[Layer],
    settings: Mapping[str, Any],
    skipped: Mapping[str, str],
) -> AxisTable:
    """Evaluate every quantity of every layer, and its delete-one-group replicates."""
    axes, replicates, moments = {}, {}, {}
    options = {name: settings[name] for name in OPTIONS}
    for layer in layers:
        parts = groups[layer.name]
        if settings["standard_errors"] and len(parts) < settings["groups"]:
            raise ValueError(
                f"loader must yield at least groups = {settings['groups']} images for standard "
                f"errors; it gave {settings['n_images']}. Pass fewer groups or "
                "standard_errors=False."
            )
        weights = layer.module.weight.detach().double().cpu().numpy()
        total = merge(parts)
        moments[layer.name] = total
        axes[layer.name] = _evaluate(layer.name, total, weights, options)
        if settings["standard_errors"]:
            replicates[layer.name] = np.stack(
                [
                    np.stack(list(_evaluate(layer.name, rest, weights, options).as_dict().values()))
                    for rest in (without(total, part) for part in parts)
                ]
            )
    norms = {layer.name: layer.norm for layer in layers}
    return AxisTable(
        axes, replicates, moments, dict(groups), norms, dict(settings), skipped=dict(skipped)
    )


def _evaluate(
    layer: str, moments: Moments, weights: np.ndarray, options: Mapping[str, Any]
) -> ChannelAxes:
    try:
        return channel_axes(moments, weights=weights, **options)
    except ValueError as error:
        raise ValueError(f"layer {layer!r}: {error}") from error


def without(total: Moments, part: Moments) -> Moments:
    """Moments of the samples of `total` that are not in `part`: the inverse of `+`.

    Removing one of G groups loses a factor G/(G - 1) of precision, no more.

    Examples
    --------
    >>> a = Moments.from_samples([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]])
    >>> b = Moments.from_samples([[5.0, 1.0], [1.0, 7.0]])
    >>> bool(np.allclose(without(a + b, b).cov, a.cov))
    True
    """
    n = total.n - part.n
    mean = total.mean + (total.mean - part.mean) * (part.n / n)
    shift = part.mean - mean
    scatter = (total.n - 1) * total.cov
    scatter -= (part.n - 1) * part.cov
    scatter -= np.outer(shift * (n * part.n / total.n), shift)
    scatter /= max(n - 1, 1)
    return Moments(mean, scatter, total.n_targets, n)


def project_to_first_component(
    groups: Mapping[str, list[Moments]],
) -> dict[str, list[Moments]]:
    """Replace the targets, all logits, by their first principal component over all images."""
    some = merge(next(iter(groups.values())))
    weights = first_component(some)
    return {
        name: [part.project_targets(weights) for part in parts] for name, parts in groups.items()
    }
