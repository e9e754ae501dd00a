"""Exact multiply-accumulate counts of a network's convolutions and linear layers."""

from __future__ import annotations

from math import prod

from torch import Tensor, nn

from empirical.reading.hooks import evaluating

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
COUNTED = (*CONVOLUTIONS, nn.Linear)


def positions(model: nn.Module, example: Tensor) -> dict[str, int]:
    """How often each convolution and linear layer is applied per image, by module name.

    For a convolution that is its number of output positions; a module that the forward pass
    calls twice counts twice.
    """
    seen: dict[str, int] = {}

    def note(name: str, module: nn.Module, output: Tensor) -> None:
        channels = output.shape[-1] if isinstance(module, nn.Linear) else output.shape[1]
        seen[name] = seen.get(name, 0) + output.numel() // (channels * example.shape[0])

    handles = [
        module.register_forward_hook(lambda m, _, output, n=name: note(n, m, output))
        for name, module in model.named_modules()
        if isinstance(module, COUNTED)
    ]
    try:
        with evaluating(model):
            model(example)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def per_position(module: nn.Module) -> int:
    """Multiply-accumulates of one application: taps × inputs × outputs / groups; no bias."""
    if isinstance(module, nn.Linear):
        return module.in_features * module.out_features
    taps = prod(module.kernel_size)
    return taps * module.in_channels * module.out_channels // module.groups


def count_macs(model: nn.Module, example: Tensor) -> int:
    """Multiply-accumulates of one image through every convolution and linear layer.

    Biases, norms, nonlinearities and pooling are not counted: this is the figure that papers
    report as MACs (often named FLOPs).

    >>> import torch
    >>> from torch import nn
    >>> count_macs(nn.Conv2d(3, 8, 3, padding=1), torch.zeros(1, 3, 10, 10))
    21600
    """
    modules = dict(model.named_modules())
    return sum(n * per_position(modules[name]) for name, n in positions(model, example).items())
