"""Convolutions and linear layers, and their exact multiply-accumulate counts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from empirical.reading.hooks import capture, evaluating

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
Counted = Convolution | nn.Linear
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
COUNTED = (*CONVOLUTIONS, nn.Linear)


def counted(model: nn.Module, name: str) -> Counted:
    """Return a convolution or linear layer by its name, which is known to be one."""
    module = model.get_submodule(name)
    assert isinstance(module, COUNTED)
    return module


def filters(module: Counted) -> NDArray[np.float64]:
    """Weights in float64 on the host: (outputs, inputs per block, *taps)."""
    weight: NDArray[np.float64] = module.weight.detach().double().cpu().numpy()
    return weight


def blocks_of(module: Counted) -> int:
    """In how many blocks the layer reads its channels: `groups` of a grouped convolution."""
    return 1 if isinstance(module, nn.Linear) else module.groups


def positions(model: nn.Module, example: Tensor) -> dict[str, int]:
    """How often each convolution and linear layer is applied per image, by module name.

    For a convolution that is its number of output positions; a module that the forward pass
    calls twice counts twice.
    """
    seen: dict[str, int] = {}

    def reader(name: str, module: Counted) -> Callable[[Tensor], None]:
        def note(output: Tensor) -> None:
            channels = output.shape[-1 if isinstance(module, nn.Linear) else 1]
            seen[name] = seen.get(name, 0) + output.numel() // (channels * len(example))

        return note

    readers = {n: reader(n, m) for n, m in model.named_modules() if isinstance(m, COUNTED)}
    with evaluating(model), capture(model, readers):
        model(example)
    return seen


def count_macs(model: nn.Module, example: Tensor) -> int:
    """Multiply-accumulates of one image through every convolution and linear layer.

    Biases, norms, nonlinearities and pooling are not counted: this is the figure that papers
    report as MACs (often named FLOPs).

    >>> import torch
    >>> from torch import nn
    >>> count_macs(nn.Conv2d(3, 8, 3, padding=1), torch.zeros(1, 3, 10, 10))
    21600
    """
    calls = positions(model, example)
    # taps × inputs × outputs / groups is how many weights there are
    return sum(n * counted(model, name).weight.numel() for name, n in calls.items())
