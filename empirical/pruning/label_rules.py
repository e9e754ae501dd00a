"""What each operation does to the labels of `labels.py`.

Composite operations are met whole (`conv2d`, `linear`, `layer_norm`), since the example runs in
inference mode; those without a rule are taken apart, and what then has none is opaque.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from empirical.pruning.channel_graph import is_depthwise, is_norm_by_hand, is_norm_of_each
from empirical.pruning.label_ties import arguments, constant, joined, tie_elements
from empirical.pruning.labels import Atoms, Indices, Key, Labelling, Rule, opaque, tensors
from empirical.pruning.macs import COUNTED
from empirical.pruning.operations import (
    ALONG,
    CONVOLUTIONS,
    COPIES,
    MADE,
    MIXERS,
    MOVES,
    POOLS,
    REDUCTIONS,
)  # fmt: skip
from empirical.reading.hooks import evaluating, running
from empirical.reading.layers import TRANSPOSED, weight_of


def rule_of(func: Any) -> Rule | None:
    """The rule of an operation; None where it has none."""
    name = func._schema.name.removeprefix("aten::")
    if name in RULES:
        return RULES[name]
    if name.removesuffix("_") in COPIES or torch.Tag.pointwise in func.tags:
        return elementwise
    return None


def move(mode: Labelling, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The operation itself moves the labels; index arguments stay what they are."""
    result = func(*args, **kwargs)
    moved = tensors(args[0] if args else next(iter(kwargs.values())))
    if any(mode.labels(t) is not None for t in moved):
        given = arguments(func, args, kwargs)
        labels = tree_map(lambda leaf: _labels_or_zeros(mode, leaf, moved), given)
        if func._schema.name == "aten::constant_pad_nd":
            labels["value"] = 0  # what is padded belongs to no channel
        for tensor, mine in zip(tensors(result), tensors(func(**labels)), strict=True):
            mode.keep(tensor, mine)
    return result


def _labels_or_zeros(mode: Labelling, leaf: Any, moved: list[Tensor]) -> Any:
    if not any(leaf is tensor for tensor in moved):
        return leaf
    known = mode.labels(leaf)
    return torch.zeros_like(leaf, dtype=torch.float64) if known is None else known


def elementwise(mode: Labelling, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Labels that meet in an element are tied; the smallest one goes on."""
    given = tensors((args, kwargs))
    known = [labels for t in given if (labels := mode.labels(t)) is not None]
    result = func(*args, **kwargs)
    if known and isinstance(result, Tensor):
        _settle(mode, result, joined(mode, known, result.shape), given)
    return result


def _settle(mode: Labelling, result: Tensor, labels: Tensor, given: Iterable[Tensor]) -> None:
    """Label a result; where it was written in place, its views and their base see it."""
    if not any(result is tensor for tensor in given):
        mode.put(result, labels)
    elif (mine := mode.labels(result)) is not None:
        mine.copy_(labels)
    else:
        mode.freeze(labels, "it is written into a tensor whose other parts are not known")


def reduction(mode: Labelling, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Sums and the like over positions keep channels apart; over channels they mix them.

    In a norm written by hand they are statistics, which belong to no channel.
    """
    given = arguments(func, args, kwargs)
    labels = mode.labels(args[0])
    if labels is None:
        return func(*args, **kwargs)
    asked = given.get("dim")
    dims = [asked] if isinstance(asked, int) else list(asked or range(labels.ndim))
    if isinstance(args[0], Tensor) and len(tensors((args, kwargs))) > 1:  # max(a, b)
        return elementwise(mode, func, args, kwargs)
    if labels.ndim and not constant(labels, dims):
        if is_norm_by_hand(mode.current[1]):
            return made(mode, func, args, kwargs)
        return opaque(mode, func, args, kwargs)
    result = func(*args, **kwargs)
    mine = labels.amax(dims, keepdim=bool(given.get("keepdim", False))) if labels.ndim else labels
    for tensor in tensors(result):
        mode.put(tensor, mine)
    return result


def along(mode: Labelling, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Softmax and the like mix what lies along their dimension."""
    labels = mode.labels(args[0])
    if labels is not None and not constant(labels, [arguments(func, args, kwargs)["dim"]]):
        return opaque(mode, func, args, kwargs)
    result = func(*args, **kwargs)
    if labels is not None:
        for tensor in tensors(result):
            mode.put(tensor, labels)
    return result


def glu(mode: Labelling, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One half along a dimension, gated by the other."""
    labels = mode.labels(args[0])
    result = func(*args, **kwargs)
    if labels is not None:
        halves = labels.chunk(2, arguments(func, args, kwargs)["dim"])
        mode.put(result, joined(mode, list(halves), result.shape))
    return result


def pool(mode: Labelling, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Every channel by itself, over the positions behind it."""
    labels = mode.labels(args[0])
    if labels is None:
        return func(*args, **kwargs)
    positions = list(range(2, labels.ndim))
    if not positions or not constant(labels, positions):
        return opaque(mode, func, args, kwargs)
    result = func(*args, **kwargs)
    for tensor in tensors(result):
        mode.put(tensor, labels.amax(positions, keepdim=True))
    return result


def layer(mode: Labelling, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A convolution or linear layer reads its inputs' channels and starts its own."""
    given = arguments(func, args, kwargs)
    name, module = mode.current
    images, weight = given["input"], given["weight"]
    labels = mode.labels(images)
    linear = func._schema.name == "aten::linear"
    reason = _not_its_own(mode, module, weight)
    if reason is not None:
        if labels is not None:
            mode.freeze(labels, reason)
        mode.read |= {n for t in (weight, given["bias"]) if (n := mode.name_of(t)) is not None}
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


def _not_its_own(mode: Labelling, module: nn.Module, weight: Tensor) -> str | None:
    """Why this is not the forward of a layer with a weight of its own; None if it is."""
    kind = type(module).__name__
    if id(weight) in mode.shared:
        return mode.shared[id(weight)]
    if isinstance(module, COUNTED):
        if module._parameters.get("weight") is weight:
            several = isinstance(module, TRANSPOSED) and module.groups > 1
            return f"{kind} modules of several groups cannot be cut" if several else None
        return (
            "its weight is computed (a parametrization, weight norm or pruning mask); make it "
            "permanent first, as by torch.nn.utils.parametrize.remove_parametrizations"
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
    if not own or (over_last and len(given["normalized_shape"]) > 1):
        return opaque(mode, func, args, kwargs)
    result = func(*args, **kwargs)
    dim = -1 if over_last else 1
    channels = images.shape[dim]
    _tie_channels(mode, labels, dim, mode.atoms.of((name, "through"), channels))
    if operation == "group_norm" and name not in mode.depthwise:
        atoms = mode.atoms.of((name, "through"), channels)
        mode.atoms.tie(atoms, atoms[np.arange(channels) % (channels // given["num_groups"])])
    mode.put(result, labels)
    return result


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
    mode.put(result, labels)
    return result


def written(mode: Labelling, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Copying into a tensor: its elements take the labels of what is written."""
    target, source = args[0], args[1] if len(args) > 1 else None
    labels = mode.labels(source) if isinstance(source, Tensor) else None
    mine = mode.labels(target)
    result = func(*args, **kwargs)
    if mine is not None:
        mine.copy_(torch.zeros_like(mine) if labels is None else labels)
    else:
        mode.freeze(labels, "it is written into a tensor whose other parts are not known")
    return result


def made(mode: Labelling, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A new tensor belongs to no channel, until something is written into it."""
    result = func(*args, **kwargs)
    for tensor in tensors(result):
        mode.put(tensor, torch.zeros((), dtype=torch.float64))
    return result


RULES: dict[str, Rule] = (
    dict.fromkeys(MOVES, move)
    | dict.fromkeys(REDUCTIONS, reduction)
    | dict.fromkeys(ALONG, along)
    | dict.fromkeys(POOLS, pool)
    | {"glu": glu}
    | dict.fromkeys((*CONVOLUTIONS, "linear"), layer)
    | dict.fromkeys(NORMS, norm)
    | dict.fromkeys(("prelu", "_prelu_kernel"), prelu)
    | dict.fromkeys(("copy_", "fill_", "zero_"), written)
    | dict.fromkeys(MIXERS, opaque)
    | dict.fromkeys(MADE, made)
)  # fmt: skip
"""Operation -> what it does to labels."""


def label_channels(model: nn.Module, example: Tensor, *, whole: nn.Module | None = None) -> Atoms:
    """Run a copy of `model` on `example` (1, ...) and return what is tied and what is frozen.

    `whole` is the network that `model` was cut from: what is depthwise there stays so here, also
    where a single channel is left and every convolution looks alike.
    """
    modules = (model if whole is None else whole).named_modules()
    depthwise = {name for name, m in modules if is_depthwise(m) or is_norm_of_each(m)}
    model = copy.deepcopy(model)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # its fused kernels hide their layers
    try:
        with evaluating(model), torch.inference_mode(), running(model) as stack:
            mode = Labelling(model, stack, rule_of, depthwise)
            with mode:
                output = model(example.clone())
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    for tensor in tensors(output):
        mode.freeze(getattr(tensor, "_atom_labels", None), "its channels are the network's output")
    mode.freeze_read()
    return mode.atoms
