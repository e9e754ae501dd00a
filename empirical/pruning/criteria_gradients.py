"""Torch-pruning's importances over a whole coupled group, those with gradients among them.

They sum over every slice that goes with a channel: its filters, its norm, and the weights that
read it. Scores are torch-pruning's own; only gradients are gathered here, because its Hessian
importance keeps those of the last image alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from empirical.pruning.channel_graph import Group
from empirical.pruning.criterion import Across, Axis, Knowledge, Scores, register_criterion
from empirical.reading.batches import Batch, leading
from empirical.reading.hooks import evaluating, module_at
from empirical.reading.outputs import PREDICTIONS, checked_logits

Gradient = Literal["mean", "square"]
"""Of the mean loss, or the mean over images of the square of each one's own."""


GROUP_SCORES: tuple[tuple[str, str, dict[str, Any], Across, Gradient | None, str], ...] = (
    ("group_l1", "GroupMagnitudeImportance", {"p": 1}, "mean", None, "torch-pruning"),
    ("group_l2", "GroupMagnitudeImportance", {"p": 2}, "mean", None, "torch-pruning"),
    ("bn_scale", "BNScaleImportance", {}, "mean", None,
     "Liu et al., ICCV 2017, by torch-pruning"),
    ("lamp", "LAMPImportance", {"normalizer": "lamp"}, "raw", None,
     "Lee et al., ICLR 2021, by torch-pruning"),
    ("group_fpgm", "FPGMImportance", {}, "mean", None,
     "torch-pruning's FPGM, on squared weights"),
    ("taylor", "GroupTaylorImportance", {}, "raw", "mean",
     "Molchanov et al., CVPR 2019, by torch-pruning"),
    ("hessian", "GroupHessianImportance", {}, "raw", "square",
     "LeCun et al., NeurIPS 1989, diagonal Fisher, by torch-pruning"),
)  # fmt: skip
"""Name, torch-pruning's importance and its arguments, how groups compare, which gradients it needs,
source."""


def _criterion(
    name: str, importance: str, options: Mapping[str, Any], kind: Gradient | None
) -> Callable[[Knowledge, Group], Scores]:
    def score(known: Knowledge, group: Group) -> Scores:
        import torch_pruning  # here, since it imports torchvision and more, which takes seconds

        model = known.model
        gradients = None
        if kind is not None:
            gradients = known.mean_gradients if kind == "mean" else known.squared_gradients
        scorer = getattr(torch_pruning.importance, importance)(**{"normalizer": None, **options})
        with _gradients_set(model, gradients):
            try:
                found = scorer(as_torch_pruning(model, group))
            except RuntimeError as error:
                raise ValueError(
                    f"criterion {name!r} of torch-pruning fails on layer {group.name!r}: {error}. "
                    "Choose another criterion, or name the layer in skip."
                ) from error
        if found is None:
            raise ValueError(
                f"criterion {name!r} is not defined on layer {group.name!r}: nothing in its group "
                "has the parameters it reads. Choose another criterion, or name the layer in skip."
            )
        width = group.producers[0].index.shape[1]  # a unit of several channels has their mean
        return np.asarray(found.double().cpu().numpy()[: group.units] / width)

    return score


@contextmanager
def _gradients_set(model: nn.Module, gradients: Mapping[str, Tensor] | None) -> Iterator[None]:
    """Put gradients where torch-pruning looks for them, and those that were there back."""
    before = {name: parameter.grad for name, parameter in model.named_parameters()}
    try:
        for name, parameter in model.named_parameters():
            if gradients is not None:
                parameter.grad = gradients[name]
        yield
    finally:
        for name, parameter in model.named_parameters():
            parameter.grad = before[name]


def as_torch_pruning(model: nn.Module, group: Group) -> Any:
    """A group of ours as one of torch-pruning's, whose root indices are the units.

    Bare parameters and modules that torch-pruning does not know are left out: no importance reads
    them.
    """
    from torch_pruning import Group as TheirGroup
    from torch_pruning.dependency import Dependency, Node
    from torch_pruning.ops import module2type
    from torch_pruning.pruner.function import PrunerBox

    found = TheirGroup()
    for member in group.members:
        module = module_at(model, member.module)
        pruner = None if module is None else PrunerBox.get(module2type(module))
        if pruner is None:
            continue
        cut = pruner.prune_in_channels if member.role == "in" else pruner.prune_out_channels
        node = Node(module, None, member.module)
        channels = member.index.ravel()
        order = np.argsort(channels)  # some importances sort the channels, but not their roots
        found.add_dep(Dependency(cut, cut, node, node), channels[order].tolist())
        found[-1].root_idxs = (order // member.index.shape[1]).tolist()
    return found


for _name, _importance, _options, _across, _kind, _source in GROUP_SCORES:
    _axis: Axis = "gradients" if _kind else "weights"
    register_criterion(_name, axis=_axis, across=_across, source=_source)(
        _criterion(_name, _importance, _options, _kind)
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
                own = labels[rows]
                logits = checked_logits(model(inputs[rows]), len(own), int(own.max()), PREDICTIONS)
                loss = functional.cross_entropy(logits, own, reduction="sum")
                found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
                for sums, gradient in zip(total.values(), found, strict=True):
                    if gradient is not None:
                        sums += gradient if kind == "mean" else gradient.square()
            seen += len(inputs)
    return {key: value / seen for key, value in total.items()}
