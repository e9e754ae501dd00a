"""Where to tap a layer: its own output, after its norm, or after its activation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from empirical.reading.layers import Layer
from theory.shared.validation import one_of

POINTS = ("pre_norm", "post_norm", "post_activation")


class MissingPointError(ValueError):
    """No layer of the model has the point that was asked for."""


@dataclass(frozen=True)
class Tap:
    """One tapped layer: the submodule whose output is read, and how.

    Attributes
    ----------
    layer : the layer whose channels they are
    module : dotted name of the submodule to hook
    channel_dim : which dimension of its output counts channels
    change : applied to the output before samples are taken; None leaves it
    """

    layer: Layer
    module: str
    channel_dim: int
    change: Callable[[Tensor], Tensor] | None = None


def taps(layers: Sequence[Layer], point: str, *, strict: bool) -> tuple[list[Tap], dict[str, str]]:
    """Return the taps of those layers that have the point, and why each other one has not.

    Parameters
    ----------
    layers : from `find_layers`
    point : "pre_norm", "post_norm" or "post_activation" (after the norm, if there is one, and the
        nonlinearity that receives its output directly)
    strict : raise instead of leaving a layer out

    Raises
    ------
    MissingPointError (a ValueError)
        no layer left
    ValueError
        with `strict`, any layer without peers or without the point
    """
    one_of("point", point, POINTS)
    found: list[Tap] = []
    skipped: dict[str, str] = {}
    for layer in layers:
        reason = _obstacle(layer, point)
        tap = _tap(layer, point)
        if reason is None and tap.module in {other.module for other in found}:
            reason = f"the norm {tap.module!r} in common with another layer"
        if reason is None:
            found.append(tap)
        else:
            skipped[layer.name] = reason
    if skipped and strict:
        name, reason = next(iter(skipped.items()))
        raise ValueError(f"layers must be measurable at point {point!r}; {name!r} has {reason}.")
    if not found:
        raise MissingPointError(
            f"model must have a layer that can be measured at point {point!r}; of "
            f"{len(skipped)} layers the first has {next(iter(skipped.values()))}."
        )
    return found, skipped


def _obstacle(layer: Layer, point: str) -> str | None:
    if layer.n_channels < 2:
        return "one channel, and so no peers"
    if point == "post_norm" and layer.norm is None:
        return "no norm that receives its output"
    if point == "post_activation" and layer.activation is None:
        return "no activation that receives its output directly"
    return None


def _tap(layer: Layer, point: str) -> Tap:
    change = layer.activation if point == "post_activation" else None
    if point == "pre_norm" or layer.norm is None:
        return Tap(layer, layer.name, layer.channel_dim, change)
    return Tap(layer, layer.norm, layer.norm_channel_dim, change)
