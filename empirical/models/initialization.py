"""Initial weights of the networks that are written here."""

from __future__ import annotations

from torch import nn


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
