"""Convolutions and linear layers, and the multiply-accumulates of a whole network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from empirical.reading.hooks import capture_calls, evaluating
from empirical.reading.layers import MEASURABLE, TRANSPOSED, Measurable, weight_of

Counted = Measurable
COUNTED = MEASURABLE


def counted(model: nn.Module, name: str) -> Counted:
    """Return a convolution or linear layer by its name, which is known to be one."""
    module = model.get_submodule(name)
    assert isinstance(module, COUNTED)
    return module


PART_WEIGHTS = 2**23
"""Weights that are fitted at once: a wide layer's in float64, several times over, take gigabytes
(25,088 inputs and 4,096 outputs: 0.8 each time)."""


def in_parts(first: int, outputs: int, weights_each: int) -> Iterator[slice]:
    """So many outputs from the first on, a few at a time where they have many weights each.

    >>> list(in_parts(4, 3, PART_WEIGHTS // 2))
    [slice(4, 6, None), slice(6, 7, None)]
    """
    step = max(1, PART_WEIGHTS // weights_each)
    last = first + outputs
    return (slice(start, min(start + step, last)) for start in range(first, last, step))


def filters(module: Counted) -> NDArray[np.float64]:
    """Weights in float64 on the host: (outputs, inputs per block, *taps)."""
    weight: NDArray[np.float64] = weight_of(module).detach().double().cpu().numpy()
    return weight


def blocks_of(module: nn.Module) -> int:
    """In how many blocks the layer reads its channels: `groups` of a grouped convolution."""
    return getattr(module, "groups", 1) if isinstance(module, COUNTED) else 1


def positions(model: nn.Module, example: Tensor) -> dict[str, int]:
    """How often each convolution and linear layer is applied per image, by module name.

    For a convolution that is its number of output positions, for a transposed one of its input's;
    a module that the forward pass calls twice counts twice.
    """
    seen: dict[str, int] = {}

    def reader(name: str, module: Counted) -> Callable[[Tensor, Tensor], None]:
        def note(inputs: Tensor, output: Tensor) -> None:
            maps = inputs if isinstance(module, TRANSPOSED) else output
            channels = maps.shape[-1 if isinstance(module, nn.Linear) else 1 - module.weight.ndim]
            seen[name] = seen.get(name, 0) + maps.numel() // channels

        return note

    readers = {n: reader(n, m) for n, m in model.named_modules() if isinstance(m, COUNTED)}
    with evaluating(model), capture_calls(model, readers):
        model(example)
    return {name: places // len(example) for name, places in seen.items()}


def count_macs(model: nn.Module, example: Tensor) -> int:
    """Multiply-accumulates of one image, the first of `example`, in evaluation mode.

    Counted at the dispatcher, from the shapes that reach it, whichever module or function asked:
    convolutions of every kind (transposed, grouped; the padding's zeros count), linear layers and
    matrix products, attention (scores and weighted values, whole also under a mask), recurrent
    layers, and bilinear ones (inputs × inputs × outputs). Biases, norms, nonlinearities, pooling,
    embeddings, interpolation, distances and products of elements are not counted. For networks
    of convolutions and linear layers this is Σ positions × weights, the figure that papers report
    as MACs (often named FLOPs).

    >>> import torch
    >>> from torch import nn
    >>> count_macs(nn.Conv2d(3, 8, 3, padding=1), torch.zeros(1, 3, 10, 10))
    21600
    >>> count_macs(nn.GRU(5, 4, batch_first=True), torch.zeros(1, 7, 5))  # 7 steps, 3 gates
    756
    """
    counter = FlopCounterMode(display=False, custom_mapping=_formulas())
    with evaluating(model), _frozen(model), _separate_attention(), counter:
        model(example[:1])
    return counter.get_total_flops() // 2


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Parameters that ask for no gradients: torch's counter hooks views of them, and fails."""
    asking = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)


@contextmanager
def _separate_attention() -> Iterator[None]:
    """Keep transformer layers off the kernels that run a whole layer and show no products."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


Shape = Sequence[int]


def _formulas() -> dict[Any, Callable[..., int]]:
    """Operators that torch's own counter knows no formula for, each to twice its products.

    Formulas get shapes in the place of tensors. Where a backend runs a recurrent layer as separate
    products, or an operator is not there (other devices; torchvision not imported), nothing of
    this is met.
    """
    known: dict[str, Callable[..., int]] = {
        "aten.mv": _matrix_vector,
        "aten.addmv": lambda _, matrix, vector, *a, **k: _matrix_vector(matrix, vector),
        "aten.dot": lambda one, *a, **k: 2 * prod(one),
        "aten.vdot": lambda one, *a, **k: 2 * prod(one),
        "aten.addbmm": lambda _, one, other, *a, **k: 2 * prod(one) * other[-1],
        "aten._trilinear": _trilinear,
        "aten.conv_tbc": lambda images, weight, *a, out_shape, **k: (
            2 * prod(out_shape[:2]) * prod(weight)
        ),
        "aten.mkldnn_rnn_layer": lambda steps, w_in, w_state, *a, **k: _recurrent(
            steps, (w_in, w_state)
        ),
        "aten._cudnn_rnn": _recurrent,
        "aten.miopen_rnn": _recurrent,
        "torchvision.deform_conv2d": lambda images, weight, *a, out_shape, **k: (
            2 * (prod(out_shape) // out_shape[1]) * prod(weight)
        ),
    }
    found = {name: _operator(name) for name in known}
    return {
        operator: known[name]
        for name, operator in found.items()
        if operator is not None and operator not in flop_registry
    }


def _operator(name: str) -> Any:
    library, _, operator = name.partition(".")
    return getattr(getattr(torch.ops, library), operator, None)


def _matrix_vector(matrix: Shape, *_: object, **__: object) -> int:
    return 2 * prod(matrix)


def _recurrent(steps: Shape, weights: Sequence[Shape], *_: object, **__: object) -> int:
    """Every matrix (all layers, directions, projections) once per step of each sequence.

    `steps` is (time, images, features), either order, or (all steps, features) where packed.
    """
    return 2 * prod(steps[:-1]) * sum(prod(weight) for weight in weights if len(weight) == 2)


def _trilinear(
    one: Shape,
    weight: Shape,
    other: Shape,
    expand_one: Sequence[int],
    expand_weight: Sequence[int],
    expand_other: Sequence[int],
    *_: object,
    **__: object,
) -> int:
    """One per weight and row of the inputs, each being broadcast over its `expand` dimensions."""
    given = zip((one, weight, other), (expand_one, expand_weight, expand_other), strict=True)
    shapes = [_expanded(shape, dims) for shape, dims in given]
    joint: list[int] = [max(sizes) for sizes in zip(*shapes, strict=True)]
    return 2 * prod(joint)


def _expanded(shape: Shape, dims: Sequence[int]) -> list[int]:
    full = list(shape)
    for dim in sorted(dims):
        full.insert(dim, 1)
    return full
