"""How much the prediction minds a change of what a layer computes: Fisher information of outputs.

For a layer's output z and the network's own predictive distribution p(y | image),

    Γ = E over images and y ~ p of Σ over positions g gᵀ,   g = ∂ log p(y) / ∂z,

so that a change δz of that layer moves the prediction by about ½ δzᵀ Γ δz nats (Kullback-Leibler
divergence), positions taken as independent. The classes are drawn from the model, so that no labels
are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from empirical.devices import device_of
from empirical.reading.batches import Batch, leading
from empirical.reading.hooks import edit, evaluating
from empirical.reading.outputs import PREDICTIONS, answered, checked_logits
from empirical.reading.positions import random_fractions
from empirical.reading.sums import Sums

Float = NDArray[np.float64]


def output_fisher(
    model: nn.Module,
    layers: Sequence[str],
    batches: Iterable[Batch],
    *,
    images: int = 1000,
    seed: int = 0,
) -> dict[str, Float]:
    """Γ (outputs, outputs) of every layer, from the first `images` images, in nats per unit².

    `layers` are convolutions or linear layers of `model`, which is left as it is. The class drawn
    for an image depends on the seed and on its index in the data.
    """
    device = device_of(model)
    sums = {name: Sums([("g", "g")], device=device, about_zero=True) for name in layers}
    outputs: dict[str, list[Tensor]] = {name: [] for name in layers}
    seen = 0
    with evaluating(model), edit(model, {n: _keeping(kept) for n, kept in outputs.items()}):
        for batch in leading(batches, images):
            for name, gradient in _gradients(model, batch, outputs, seed):
                linear = isinstance(model.get_submodule(name), nn.Linear)
                rows = gradient if linear else gradient.movedim(1, -1)
                rows = rows.flatten(1, -2) if rows.ndim > 2 else rows[:, None]
                sums[name].add({"g": rows[:, :, None]}, [len(rows)])
            seen += len(batch.images)
    return {name: total.total().products["g", "g"][0] / seen for name, total in sums.items()}


def foretells(model: nn.Module, layers: Sequence[str], images: Tensor) -> bool:
    """Whether `model` returns logits of two classes or more that have gradients at all `layers`.

    >>> foretells(nn.Sequential(nn.Linear(2, 3)), ["0"], torch.ones(1, 2))
    True
    >>> foretells(nn.Sequential(nn.Linear(2, 1)), ["0"], torch.ones(1, 2))
    False
    """
    if not layers:
        return False
    outputs: dict[str, list[Tensor]] = {name: [] for name in layers}
    hooks = {name: _keeping(kept) for name, kept in outputs.items()}
    with evaluating(model), edit(model, hooks), torch.enable_grad():
        try:
            logits = model(images)
            if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[1] < 2:
                return False
            calls = [output for kept in outputs.values() for output in kept]
            torch.autograd.grad(logits.sum(), calls)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # what torch says where there is no gradient
            return False
    return True


def _keeping(into: list[Tensor]) -> Callable[[Tensor], Tensor]:
    def keep(output: Tensor) -> Tensor:
        # a graph of the loss is needed from here on, also where all parameters are frozen
        output = output if output.requires_grad else output.detach().requires_grad_(True)
        into.append(output)
        return output

    return keep


def _gradients(
    model: nn.Module, batch: Batch, outputs: dict[str, list[Tensor]], seed: int
) -> list[tuple[str, Tensor]]:
    """Layer and ∂ log p(y) / ∂z for each call of one batch; `outputs` are emptied."""
    n = len(batch.images)
    with torch.enable_grad():
        logits = checked_logits(answered(model, batch.images), n, None, PREDICTIONS)
        chances = functional.softmax(logits.detach().double().cpu(), dim=1).cumsum(1)
        drawn = torch.from_numpy(random_fractions(seed, "output_fisher", batch.first, n))
        classes = (chances < drawn[:, None] * chances[:, -1:]).sum(1).to(logits.device)
        loss = functional.cross_entropy(logits, classes, reduction="sum")
        calls = [(name, output) for name, kept in outputs.items() for output in kept]
        gradients = torch.autograd.grad(loss, [output for _, output in calls])
    for kept in outputs.values():
        kept.clear()
    return [(name, gradient) for (name, _), gradient in zip(calls, gradients, strict=True)]
