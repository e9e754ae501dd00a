"""Both axes from activations that something else recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from empirical.measuring.estimation import OPTIONS, tabulate
from empirical.measuring.table import AxisTable
from empirical.reading.groups import grouped_moments
from empirical.reading.positions import Sampler
from empirical.reading.readings import WITH_TARGET, WITHOUT_TARGET
from empirical.reading.sums import Sums
from empirical.seeding import checked_seed
from theory.shared.validation import columns, count, instance, truth

HOLDERS = ("activation", "tensor_contents", "value")
"""Attributes under which recorders keep an array: TorchLens, its older versions, and nnsight."""

DEFAULTS: dict[str, Any] = {
    "noise": "median",
    "ridge": 0.0,
    "peers": 50,
    "top": 10,
    "bias_correction": False,
    "hull": True,
    "estimate": None,
}


def from_activations(
    activations: Mapping[str, Any],
    target: Any = None,
    *,
    channel_dim: int = 1,
    positions: int = 16,
    groups: int = 10,
    standard_errors: bool = True,
    seed: int = 0,
    **options: Any,
) -> AxisTable:
    """Both axes of every channel, from activations recorded elsewhere. In nats.

    Parameters
    ----------
    activations : layer name -> array (n, C, ...) or tensor, the same n images in the same order;
        or what holds one as `activation`, `tensor_contents` or `value`, as the entries of a
        TorchLens history and saved values of nnsight do
    target : (n,) or (n, q) numbers, one row per image; None leaves the target axis out
    channel_dim : which dimension counts channels: 1 of convolutions, -1 of tokens (n, tokens, C)
    positions : random positions of each image's map; all where it has no more
    groups : of images, image i in group i modulo `groups`, for the jackknife
    standard_errors : False skips it
    seed : of the positions
    options : noise, ridge, peers, top, bias_correction, hull, estimate, as of `theory.channel_axes`

    Raises
    ------
    TypeError, ValueError
        naming the layer, what it holds, and the remedy

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> maps = {"conv": rng.standard_normal((60, 4, 5, 5))}
    >>> from_activations(maps, maps["conv"][:, 0].mean((1, 2)))["conv"].task_information.argmax()
    np.int64(0)
    """
    instance("activations", activations, Mapping, "Pass a dict of layer name -> array.")
    truth("standard_errors", standard_errors)
    if unknown := sorted(set(options) - set(OPTIONS)):
        raise TypeError(f"options must be among {', '.join(OPTIONS)}; got {unknown[0]!r}.")
    if not activations:
        raise ValueError("activations must hold at least one layer; it is empty.")
    arrays = {name: _tensor(name, value, channel_dim) for name, value in activations.items()}
    n = len(next(iter(arrays.values())))
    for name, array in arrays.items():
        if len(array) != n:
            raise ValueError(
                f"activations must be of the same images; layer {name!r} has {len(array)}, the "
                f"first {n}. Concatenate all batches of each layer."
            )
    aims = None if target is None else torch.from_numpy(columns("target", _array(target)))
    if aims is not None and len(aims) != n:
        raise ValueError(f"target must have one row per image, {n}; got {len(aims)}.")
    settings = {
        **DEFAULTS,
        **options,
        "target": "none" if aims is None else "recorded",
        "point": "recorded",
        "positions": count("positions", positions),
        "sampling": "positions",
        "groups": count("groups", groups, least=2 if standard_errors else 1),
        "seed": checked_seed("seed", seed),
        "first_image": 0,
        "standard_errors": standard_errors,
        "null": 0,
        "damage": False,
        "n_images": n,
    }
    sampler = Sampler(positions, groups=groups, seed=seed)
    sampler.begin(0, n)
    sums = {}
    for name, array in arrays.items():
        sums[name] = Sums(WITHOUT_TARGET if aims is None else WITH_TARGET, groups=groups)
        values = {"y": sampler.take(name, array, channel_dim)[:, :, None].double()}
        if aims is not None:
            values["t"] = aims[sampler.order]
        sums[name].add(values, sampler.images_per_group, sampler.host_order)
    names = list(sums)
    return tabulate(grouped_moments(sums, {}), dict.fromkeys(names), {}, settings, {})


def _array(value: Any) -> Any:
    """What a recorder's entry holds; a tensor as an array."""
    for holder in HOLDERS:
        if not isinstance(value, Tensor | np.ndarray) and hasattr(value, holder):
            value = getattr(value, holder)
    return value.detach().cpu().double().numpy() if isinstance(value, Tensor) else value


def _tensor(name: str, value: Any, channel_dim: int) -> Tensor:
    array = np.asarray(_array(value))
    if array.dtype.kind not in "fiu":
        raise TypeError(
            f"activations[{name!r}] must hold real numbers; got {array.dtype}. Pass an array, a "
            f"tensor, or what keeps one as {', '.join(HOLDERS)}."
        )
    if array.ndim < 2 or not -array.ndim <= channel_dim < array.ndim or channel_dim == 0:
        raise ValueError(
            f"activations[{name!r}] must be (n, C, ...) with its channels along dimension "
            f"{channel_dim}; got shape {array.shape}. Pass channel_dim."
        )
    if not np.isfinite(array).all():
        raise ValueError(
            f"activations[{name!r}] must be finite; it holds NaN or infinity. Leave it out, or "
            "record in a wider precision."
        )
    return torch.from_numpy(np.ascontiguousarray(array))
