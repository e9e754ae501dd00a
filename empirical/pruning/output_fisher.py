"""How much the prediction minds a change of what a layer computes: Fisher information of outputs.

For a layer's output z and the network's own predictive distribution p(y | image),

    Γ = E over images and y ~ p of Σ over positions g gᵀ,   g = ∂ log p(y) / ∂z,

so that a change δz of that layer moves the prediction by about ½ δzᵀ Γ δz nats (Kullback-Leibler
divergence), positions taken as independent. The classes are drawn from the model, so that no labels
are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from empirical.reading.hooks import evaluating

Float = NDArray[np.float64]


def output_fisher(
    model: nn.Module,
    layers: Sequence[str],
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    images: int = 1000,
    seed: int = 0,
) -> dict[str, Float]:
    """Γ (outputs, outputs) of every layer, from the first `images` images, in nats per unit².

    `layers` are convolutions or linear layers of `model`, which is left as it is.
    """
    generator = torch.Generator().manual_seed(seed)
    outputs: dict[str, list[Tensor]] = {name: [] for name in layers}

    def keep(name: str, output: Tensor) -> Tensor:
        # A graph of the loss is needed from here on, also where all parameters are frozen.
        output = output if output.requires_grad else output.detach().requires_grad_(True)
        outputs[name].append(output)
        return output

    handles = [
        model.get_submodule(name).register_forward_hook(lambda m, i, o, n=name: keep(n, o))
        for name in layers
    ]
    total: dict[str, Tensor] = {}
    seen = 0
    try:
        with evaluating(model):
            for inputs, _ in batches:
                inputs = inputs[: images - seen]
                _add(model, inputs, outputs, total, generator)
                seen += len(inputs)
                if seen >= images:
                    break
    finally:
        for handle in handles:
            handle.remove()
    return {name: (value / seen).cpu().numpy() for name, value in total.items()}


def _add(
    model: nn.Module,
    inputs: Tensor,
    outputs: dict[str, list[Tensor]],
    total: dict[str, Tensor],
    generator: torch.Generator,
) -> None:
    """Add the sums of one batch."""
    with torch.enable_grad():
        logits = model(inputs)
        chances = functional.softmax(logits.detach().double().cpu(), dim=1)
        drawn = torch.multinomial(chances, 1, generator=generator).flatten().to(logits.device)
        loss = functional.cross_entropy(logits, drawn, reduction="sum")
        flat = [(name, output) for name, calls in outputs.items() for output in calls]
        gradients = torch.autograd.grad(loss, [output for _, output in flat])
    for (name, _), gradient in zip(flat, gradients, strict=True):
        linear = isinstance(model.get_submodule(name), nn.Linear)
        rows = (gradient if linear else gradient.movedim(1, -1)).flatten(0, -2).double()
        total[name] = total.get(name, 0) + rows.mT @ rows
    for calls in outputs.values():
        calls.clear()
