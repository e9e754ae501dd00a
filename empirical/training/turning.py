"""Training whose filters keep their directions: the residualized part of each update left out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from empirical.training.pretrained import classifier_of


def filters_of(model: nn.Module) -> list[nn.Parameter]:
    """Return the weights whose rows are filters: all of two dimensions or more but the readout's.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    >>> [tuple(weights.shape) for weights in filters_of(model)]
    [(4, 3, 3, 3)]
    """
    head = f"{classifier_of(model)}."
    return [
        parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.ndim > 1 and not name.startswith(head)
    ]


@torch.no_grad()
def keep_directions(filters: Sequence[nn.Parameter]) -> None:
    """Leave of each filter's gradient g its part along the filter w, (w · g / w · w) w, in place.

    Behind a batch norm the loss does not depend on a filter's length, so that nothing is left: the
    whole gradient is residualized, at right angles to w. Without a norm lengths go on learning.

    Parameters
    ----------
    filters : (C, ...) weights, row i the filter of channel i. Those without gradients are passed
        over; a filter of zeros keeps none of its gradient.

    Examples
    --------
    >>> weights = nn.Parameter(torch.tensor([[3.0, 4.0]]))
    >>> weights.grad = torch.tensor([[1.0, 2.0]])
    >>> keep_directions([weights])
    >>> weights.grad
    tensor([[1.3200, 1.7600]])
    """
    for weights in filters:
        if weights.grad is None:
            continue
        w, g = weights.flatten(1), weights.grad.flatten(1)
        length = w.square().sum(1, keepdim=True)
        share = torch.where(length > 0, (w * g).sum(1, keepdim=True) / length, 0)
        weights.grad.copy_((share * w).view_as(weights))
