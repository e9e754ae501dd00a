"""What the networks that are written here share: rounded widths, and initial weights."""

from __future__ import annotations

from torch import nn


def scaled(channels: int, width: float, *, divisor: int = 1) -> int:
    """Return `channels` times `width`, rounded to a multiple of `divisor`, at least one of them."""
    return max(divisor, round(channels * width / divisor) * divisor)


def initialize(model: nn.Module) -> nn.Module:
    """Draw convolutions from He's normal distribution (fan out), and return `model`.

    Biases are zero, norms start at the identity, and linear layers keep torch's own distribution.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model
