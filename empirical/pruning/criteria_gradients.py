"""Torch-pruning's importances over a whole coupled group, those with gradients among them.

They sum over every slice that goes with a channel: its filters, its norm, and the weights that
read it. Scores are torch-pruning's own; only gradients are gathered here, because its Hessian
importance keeps those of the last image alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.nn import functional

from empirical.pruning.channel_graph import Group
from empirical.pruning.criterion import Knowledge, Scores, register

GROUP_SCORES: dict[str, tuple[Callable[[], tp.importance.Importance], str, str]] = {
    "group_l1": (lambda: tp.importance.GroupMagnitudeImportance(p=1, normalizer=None), "mean", ""),
    "group_l2": (lambda: tp.importance.GroupMagnitudeImportance(p=2, normalizer=None), "mean", ""),
    "bn_scale": (lambda: tp.importance.BNScaleImportance(normalizer=None), "mean", ""),
    "lamp": (tp.importance.LAMPImportance, "raw", ""),
    "group_fpgm": (lambda: tp.importance.FPGMImportance(normalizer=None), "mean", ""),
    "taylor": (lambda: tp.importance.GroupTaylorImportance(normalizer=None), "raw", "mean"),
    "hessian": (lambda: tp.importance.GroupHessianImportance(normalizer=None), "raw", "square"),
}
"""Name -> (torch-pruning's importance, how groups compare, which gradients it needs)."""

SOURCES = {
    "group_l1": "torch-pruning",
    "group_l2": "torch-pruning",
    "bn_scale": "Liu et al., ICCV 2017, by torch-pruning",
    "lamp": "Lee et al., ICLR 2021, by torch-pruning",
    "group_fpgm": "torch-pruning's FPGM, on squared weights",
    "taylor": "Molchanov et al., CVPR 2019, by torch-pruning",
    "hessian": "LeCun et al., NeurIPS 1989, diagonal Fisher, by torch-pruning",
}


def _declare() -> None:
    for name, (importance, across, gradient) in GROUP_SCORES.items():

        def score(
            known: Knowledge, group: Group, _: int, n=name, make=importance, g=gradient
        ) -> Scores:
            return _group_score(known, group, n, make(), g)

        axis = "gradients" if gradient else "weights"
        register(name, axis, across, SOURCES[name])(score)


def _group_score(
    known: Knowledge, group: Group, name: str, importance: tp.importance.Importance, gradient: str
) -> Scores:
    model, dependencies = known.traced
    module = model.get_submodule(group.name)
    cut = dependencies.get_pruner_of_module(module).prune_out_channels
    channels = dependencies.get_out_channels(module)
    whole = dependencies.get_pruning_group(module, cut, list(range(channels)))
    if gradient:
        gradients = known.gradients[gradient]
        for key, parameter in model.named_parameters():
            parameter.grad = gradients[key]
    try:
        found = importance(whole)
    finally:
        model.zero_grad(set_to_none=True)
    if found is None:
        raise ValueError(
            f"criterion {name!r} is not defined on layer {group.name!r}: nothing in its group has "
            "the parameters it reads. Choose another criterion, or name the layer in skip."
        )
    per_channel = found.double().cpu().numpy()
    return np.asarray(per_channel.reshape(-1, group.units).mean(axis=0))


_declare()


def loss_gradients(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], images: int, kind: str
) -> dict[str, Tensor]:
    """Gradients of the cross-entropy by parameter name, in evaluation mode.

    kind "mean": of the mean loss over the first `images` images. kind "square": the mean over
    images of the squared gradient of each image's own loss (the diagonal of the empirical Fisher
    matrix). A parameter that the loss does not reach has zeros.
    """
    model.eval()
    total = {key: torch.zeros_like(parameter) for key, parameter in model.named_parameters()}
    seen = 0
    for inputs, labels in batches:
        take = min(len(inputs), images - seen)
        step = take if kind == "mean" else 1
        for start in range(0, take, step):
            rows = slice(start, start + step)
            model.zero_grad(set_to_none=True)
            with torch.enable_grad():
                functional.cross_entropy(
                    model(inputs[rows]), labels[rows], reduction="sum"
                ).backward()
            for key, parameter in model.named_parameters():
                if parameter.grad is not None:
                    g = parameter.grad
                    total[key] += g if kind == "mean" else g.square()
        seen += take
        if seen >= images:
            break
    model.zero_grad(set_to_none=True)
    return {key: value / max(1, seen) for key, value in total.items()}
