"""Which labels of `labels.py` meet in an operation, and ties them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from empirical.pruning.labels import Labelling


def joined(mode: Labelling, known: list[Tensor], shape: torch.Size) -> Tensor:
    """Labels of an elementwise result; ties what meets, and freezes what serves all channels."""
    for labels in (serving := [k for k in known if _serves_all(k, known, shape)]):
        mode.freeze(labels, "one value of it serves all channels of another layer")
    known = [k for k in known if not any(k is s for s in serving)] or known
    wide = [labels.expand(shape) for labels in known]
    if len(wide) == 1:
        return wide[0]
    smallest = torch.stack([torch.where(w > 0, w, torch.inf) for w in wide]).amin(0)
    smallest = torch.where(smallest.isinf(), 0.0, smallest)
    for labels in wide:
        tie_elements(mode, labels, smallest)
    return smallest


def tie_elements(mode: Labelling, some: Tensor, others: Tensor) -> None:
    """Tie the labels of two tensors of one shape, element by element."""
    differ = (some != others) & (some > 0) & (others > 0)
    keys = torch.unique(some[differ].long() * 2**31 + others[differ].long()).cpu().numpy()
    mode.atoms.tie(keys // 2**31, keys % 2**31)


def met(mode: Labelling, labels: Tensor, dims: list[int]) -> Tensor | None:
    """Labels (1 along `dims`) of what meets along `dims`, tied; None where all channels do.

    What meets is that of several layers, stacked, or of a few channels of one: they go together.
    """
    rows = labels.movedim(dims, list(range(len(dims)))).flatten(0, len(dims) - 1)
    if len(torch.unique(rows.reshape(len(rows), -1)[:, 0])) == len(torch.unique(rows)):
        return None
    smallest = torch.where(rows > 0, rows, torch.inf).amin(0)
    smallest = torch.where(smallest.isinf(), 0.0, smallest)
    tie_elements(mode, rows, smallest.expand(rows.shape))
    for dim in sorted(dim % labels.ndim for dim in dims):
        smallest = smallest.unsqueeze(dim)
    return smallest


def _serves_all(labels: Tensor, known: list[Tensor], shape: torch.Size) -> bool:
    """Whether another operand's channels change along a dimension where this one has one value."""
    for dim in range(-len(shape), 0):
        alone = labels.ndim < -dim or labels.shape[dim] == 1
        if alone and shape[dim] > 1:
            full = (k for k in known if k.ndim >= -dim and k.shape[dim] == shape[dim])
            if any(not constant(k, [dim]) for k in full):
                return True
    return False


def constant(labels: Tensor, dims: list[int]) -> bool:
    """Whether labels (0 aside) do not change along `dims`."""
    high = labels.amax(dims)
    low = torch.where(labels > 0, labels, torch.inf).amin(dims)
    return bool((low >= high).all())


def arguments(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """All arguments of an operation by the names of its schema."""
    named = {a.name: a.default_value for a in func._schema.arguments if a.has_default_value()}
    return named | dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | kwargs
