"""Torch-pruning's importances over a whole coupled group, those with gradients among them.

They sum over every slice that goes with a channel: its filters, its norm, and the weights that
read it. Scores are torch-pruning's own; only gradients are gathered here, because its Hessian
importance keeps those of the last image alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np
import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.nn import functional

from empirical.pruning.channel_graph import Group
from empirical.pruning.criterion import Across, Axis, Knowledge, Scores, register_criterion
from empirical.reading.batches import Batch, leading
from empirical.reading.hooks import evaluating

Gradient = Literal["mean", "square"]
"""Of the mean loss, or the mean over images of the square of each one's own."""


_of = tp.importance
GROUP_SCORES: tuple[tuple[str, Any, Across, Gradient | None, str], ...] = (
    ("group_l1", _of.GroupMagnitudeImportance(p=1, normalizer=None), "mean", None,
     "torch-pruning"),
    ("group_l2", _of.GroupMagnitudeImportance(p=2, normalizer=None), "mean", None,
     "torch-pruning"),
    ("bn_scale", _of.BNScaleImportance(normalizer=None), "mean", None,
     "Liu et al., ICCV 2017, by torch-pruning"),
    ("lamp", _of.LAMPImportance(), "raw", None,
     "Lee et al., ICLR 2021, by torch-pruning"),
    ("group_fpgm", _of.FPGMImportance(normalizer=None), "mean", None,
     "torch-pruning's FPGM, on squared weights"),
    ("taylor", _of.GroupTaylorImportance(normalizer=None), "raw", "mean",
     "Molchanov et al., CVPR 2019, by torch-pruning"),
    ("hessian", _of.GroupHessianImportance(normalizer=None), "raw", "square",
     "LeCun et al., NeurIPS 1989, diagonal Fisher, by torch-pruning"),
)  # fmt: skip
"""Name, torch-pruning's importance, how groups compare, which gradients it needs, source."""


def _criterion(
    name: str, importance: Any, kind: Gradient | None
) -> Callable[[Knowledge, Group], Scores]:
    def score(known: Knowledge, group: Group) -> Scores:
        model, dependencies = known.traced
        module = model.get_submodule(group.name)
        cut = dependencies.get_pruner_of_module(module).prune_out_channels
        channels = dependencies.get_out_channels(module)
        whole = dependencies.get_pruning_group(module, cut, list(range(channels)))
        if kind is not None:
            gradients = known.mean_gradients if kind == "mean" else known.squared_gradients
            for key, parameter in model.named_parameters():
                parameter.grad = gradients[key]
        try:
            found = importance(whole)
        finally:
            model.zero_grad(set_to_none=True)
        if found is None:
            raise ValueError(
                f"criterion {name!r} is not defined on layer {group.name!r}: nothing in its group "
                "has the parameters it reads. Choose another criterion, or name the layer in skip."
            )
        return np.asarray(found.double().cpu().numpy().reshape(-1, group.units).mean(axis=0))

    return score


for _name, _importance, _across, _kind, _source in GROUP_SCORES:
    _axis: Axis = "gradients" if _kind else "weights"
    register_criterion(_name, axis=_axis, across=_across, source=_source)(
        _criterion(_name, _importance, _kind)
    )


def loss_gradients(
    model: nn.Module, batches: Iterable[Batch], images: int, kind: Gradient
) -> dict[str, Tensor]:
    """Gradients of the cross-entropy by parameter name, in evaluation mode.

    kind "mean": of the mean loss over the first `images` images. kind "square": the mean over
    images of the squared gradient of each image's own loss (the diagonal of the empirical Fisher
    matrix). A parameter that the loss does not reach has zeros.
    """
    parameters = dict(model.named_parameters())
    total = {key: torch.zeros_like(parameter) for key, parameter in parameters.items()}
    seen = 0
    with evaluating(model), torch.enable_grad():
        for inputs, labels in leading(batches, images):
            each = len(inputs) if kind == "mean" else 1
            for start in range(0, len(inputs), each):
                rows = slice(start, start + each)
                loss = functional.cross_entropy(model(inputs[rows]), labels[rows], reduction="sum")
                found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
                for sums, gradient in zip(total.values(), found, strict=True):
                    if gradient is not None:
                        sums += gradient if kind == "mean" else gradient.square()
            seen += len(inputs)
    return {key: value / seen for key, value in total.items()}
