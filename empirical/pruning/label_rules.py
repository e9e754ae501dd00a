"""What each operation does to the labels of `labels.py`.

Composite operations are met whole (`conv2d`, `linear`, `layer_norm`), since the example runs in
inference mode; those without a rule are taken apart, and what then has none is opaque.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from empirical.pruning.channel_graph import is_depthwise, is_norm_by_hand, is_norm_of_each
from empirical.pruning.label_layers import NORMS, layer, norm, prelu
from empirical.pruning.label_ties import arguments, constant, joined, met
from empirical.pruning.labels import Atoms, Labelling, Rule, opaque, tensors, why_opaque
from empirical.pruning.operations import (
    ALONG,
    CONVOLUTIONS,
    MADE,
    MIXERS,
    MOVES,
    POOLS,
    REDUCTIONS,
    UNPOOLS,
    is_elementwise,
)  # fmt: skip
from empirical.reading.hooks import evaluating, running
from empirical.reading.networks import copied


def rule_of(func: Any) -> Rule | None:
    """The rule of an operation; None where it has none."""
    name = func._schema.name.removeprefix("aten::")
    if name in RULES:
        return RULES[name]
    return elementwise if is_elementwise(func) else None


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
    """Sums and the like over positions keep channels apart; over all channels they mix them.

    What meets in sums over a few, or over layers that are stacked, goes together. In a norm written
    by hand they are statistics, which belong to no channel.
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
        labels = met(mode, labels, dims)
        if labels is None:
            return opaque(mode, func, args, kwargs)
    result = func(*args, **kwargs)
    mine = labels.amax(dims, keepdim=bool(given.get("keepdim", False))) if labels.ndim else labels
    for tensor in tensors(result):
        mode.put(tensor, mine)
    return result


def along(mode: Labelling, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Softmax and the like mix what lies along their dimension, as `reduction` does."""
    labels, dim = mode.labels(args[0]), arguments(func, args, kwargs)["dim"]
    if labels is not None and not constant(labels, [dim]) and met(mode, labels, [dim]) is None:
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
    """Every channel by itself, over the positions behind it, at places that serve all channels."""
    labels = mode.labels(args[0])
    for places in tensors((args[1:], kwargs)):
        mode.freeze(mode.labels(places), why_opaque(mode, func))
    if labels is None:
        return func(*args, **kwargs)
    positions = list(range(2, labels.ndim))
    if not positions or not constant(labels, positions):
        return opaque(mode, func, args, kwargs)
    result = func(*args, **kwargs)
    for tensor in tensors(result):
        mode.put(tensor, labels.amax(positions, keepdim=True))
    return result


def unpool(mode: Labelling, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Every channel by itself, to the places at which a channel that goes with it was largest."""
    known = [labels for t in args[:2] if (labels := mode.labels(t)) is not None]
    positions = list(range(2, args[0].ndim))
    if not all(constant(labels, positions) for labels in known):
        return opaque(mode, func, args, kwargs)
    result = func(*args, **kwargs)
    if known:
        mode.put(result, joined(mode, known, args[0].shape).amax(positions, keepdim=True))
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
    | dict.fromkeys(UNPOOLS, unpool)
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
    model = copied(model)
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
