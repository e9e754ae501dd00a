"""What layers, norms and slopes do to the labels of `labels.py`: all that holds parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from empirical.pruning.label_ties import arguments, constant, joined, tie_elements
from empirical.pruning.labels import Indices, Key, Labelling, opaque
from empirical.pruning.macs import COUNTED
from empirical.reading.layers import TRANSPOSED, weight_of


def layer(mode: Labelling, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A convolution or linear layer reads its inputs' channels and starts its own."""
    given = arguments(func, args, kwargs)
    name, module = mode.current
    images, weight = given["input"], given["weight"]
    labels = mode.labels(images)
    linear = func._schema.name == "aten::linear"
    reason = _not_its_own(mode, weight, given["bias"])
    if reason is not None:
        if labels is not None:
            mode.freeze(labels, reason)
        mode.atoms.read |= {
            n for t in (weight, given["bias"]) if (n := mode.name_of(t)) is not None
        }
        result = func(*args, **kwargs)
        if isinstance(module, COUNTED):  # so that it is named among what is kept whole
            mode.atoms.freeze(mode.atoms.of((name, "out"), len(weight_of(module))), reason)
        mode.put(result, torch.tensor(float(mode.atoms.single(reason)), dtype=torch.float64))
        return result
    result = func(*args, **kwargs)
    dim, groups = (-1, 1) if linear else (1 - weight.ndim + images.ndim, given["groups"])
    inputs, outputs = images.shape[dim], result.shape[dim]
    if name in mode.depthwise and labels is not None and bool((labels > 0).any()):
        labels = labels.repeat_interleave(outputs // inputs, dim)  # each channel by itself
        mine = _pass_through(mode, labels, dim, (name, "through"), outputs)
    else:
        read = mode.atoms.of((name, "in"), inputs)
        mode.atoms.tie(read, read[np.arange(inputs) % (inputs // groups)])
        if labels is not None:
            _tie_channels(mode, labels, dim, read)
        mine = mode.atoms.of((name, "out"), outputs)
        mode.atoms.tie(mine, mine[np.arange(len(mine)) % (len(mine) // groups)])
    shape = [1] * result.ndim
    shape[dim] = -1
    mode.put(result, torch.as_tensor(mine, dtype=torch.float64).reshape(shape))
    return result


def _not_its_own(mode: Labelling, weight: Tensor, bias: Tensor | None) -> str | None:
    """Why this is not the forward of a layer with parameters of its own; None if it is."""
    name, module = mode.current
    kind = type(module).__name__
    if (shared := mode.why_shared(weight, bias)) is not None:
        return shared
    if isinstance(module, COUNTED):
        if module._parameters.get("weight") is weight:
            several = isinstance(module, TRANSPOSED) and module.groups > 1
            return f"{kind} modules of several groups cannot be cut" if several else None
        return (
            f"the weight of {name!r} is computed (a parametrization, weight norm or pruning mask); "
            "make it permanent first, as by torch.nn.utils.parametrize.remove_parametrizations"
        )
    if type(module).__module__.startswith("torch.nn"):
        return f"{kind} modules cannot be cut"
    return f"a functional layer in the forward of {kind} reads or computes it"


def _tie_channels(mode: Labelling, labels: Tensor, dim: int, atoms: Indices) -> Indices:
    """Tie the labels of each channel to its atom; return one label per channel, 0 for none."""
    rows = labels.movedim(dim, 0).reshape(labels.shape[dim], -1)
    high = rows.amax(1)
    low = torch.where(rows > 0, rows, torch.inf).amin(1)
    found: Indices = high.long().cpu().numpy()
    if bool((low >= high).all()):
        mode.atoms.tie(found, atoms)
    else:
        own = torch.as_tensor(atoms, dtype=torch.float64, device=rows.device)
        tie_elements(mode, rows, own[:, None].expand(rows.shape))
    return found


def _pass_through(
    mode: Labelling, labels: Tensor | None, dim: int, key: Key, channels: int
) -> Indices:
    """A module with one parameter per channel: its atoms are the channels that it hands on."""
    atoms = mode.atoms.of(key, channels)
    if labels is None:
        return atoms
    found = _tie_channels(mode, labels, dim, atoms)
    return np.where(found > 0, found, atoms)


def norm(mode: Labelling, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Norms hand channels on; layer and group norms only as modules, which can be cut."""
    given = arguments(func, args, kwargs)
    name, module = mode.current
    images = given["input"]
    labels = mode.labels(images)
    if labels is None or not bool((labels > 0).any()):
        return func(*args, **kwargs)
    operation = func._schema.name.removeprefix("aten::")
    over_last = operation in ("layer_norm", "rms_norm")
    if over_last and constant(labels, list(range(-len(given["normalized_shape"]), 0))):
        result = func(*args, **kwargs)  # each channel by itself, over positions
        mode.put(result, labels)
        return result
    own = isinstance(module, NORMS[operation]) and all(
        given.get(part) is None or module._parameters.get(part) is given[part]
        for part in ("weight", "bias")
    )
    if operation == "batch_norm" and not own and (parts := _statistics(mode, given)):
        result = func(*args, **kwargs)
        mode.put(result, joined(mode, [labels, *parts], result.shape))
        return result
    if not own or (over_last and len(given["normalized_shape"]) > 1):
        return opaque(mode, func, args, kwargs)
    if (shared := mode.why_shared(*(given.get(part) for part in PARTS))) is not None:
        mode.freeze(labels, shared)
    result = func(*args, **kwargs)
    dim = -1 if over_last else 1
    channels = images.shape[dim]
    _tie_channels(mode, labels, dim, mode.atoms.of((name, "through"), channels))
    if operation == "group_norm" and name not in mode.depthwise:
        atoms = mode.atoms.of((name, "through"), channels)
        mode.atoms.tie(atoms, atoms[np.arange(channels) % (channels // given["num_groups"])])
    mode.put(result, labels)
    return result


def _statistics(mode: Labelling, given: dict[str, Any]) -> list[Tensor]:
    """Labels of the parameters and buffers of a batch norm whose module is none of PyTorch's.

    Empty where one of them is not the module's own, or the statistics are those of the batch.
    """
    _, module = mode.current
    own = {id(t) for t in (*module._parameters.values(), *module._buffers.values())}
    parts = [given[part] for part in PARTS]
    if given["training"] or not all(part is None or id(part) in own for part in parts):
        return []
    behind = [1] * (given["input"].ndim - 2)
    known = [mode.labels(part) for part in parts if part is not None]
    return [labels.reshape(-1, *behind) for labels in known if labels is not None]


PARTS = ("weight", "bias", "running_mean", "running_var")
"""Arguments of norms that hold a value for each channel."""

NORMS: dict[str, tuple[type[nn.Module], ...]] = {
    "batch_norm": (nn.modules.batchnorm._BatchNorm,),
    "instance_norm": (nn.modules.instancenorm._InstanceNorm,),
    "layer_norm": (nn.LayerNorm,),
    "rms_norm": (nn.RMSNorm,),
    "group_norm": (nn.GroupNorm,),
}


def prelu(mode: Labelling, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One slope for all channels, or one each, of a module that can be cut or a bare parameter."""
    images, weight = args
    labels = mode.labels(images)
    name, module = mode.current
    if labels is None or weight.numel() == 1:
        result = func(*args, **kwargs)
        if labels is not None:
            mode.put(result, labels)
        return result
    own = isinstance(module, nn.PReLU) and module.weight is weight
    slopes = None if own else mode.labels(weight)
    if not own and slopes is None:
        return opaque(mode, func, args, kwargs)
    result = func(*args, **kwargs)
    if slopes is not None:
        each = slopes.reshape(-1, *[1] * (images.ndim - 2))
        mode.put(result, joined(mode, [labels, each], result.shape))
        return result
    _tie_channels(mode, labels, 1, mode.atoms.of((name, "through"), images.shape[1]))
    if (shared := mode.why_shared(weight)) is not None:
        mode.freeze(labels, shared)
    mode.put(result, labels)
    return result
