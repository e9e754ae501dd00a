"""What is pulled back through a network so that squares of its gradients are a divergence.

A change δ of the outputs f moves the prediction by ½ δᵀHδ to second order, H the Hessian of the
divergence, or of a loss. Any random s with E[s sᵀ] = H gives E[(s·δ)²] = δᵀHδ; here s is a root of
H times random signs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from empirical.reading.batches import Batch
from empirical.reading.outputs import checked_logits, checked_outputs
from empirical.reading.positions import random_signs
from empirical.reading.sums import Sums

Loss = Callable[[Tensor, Tensor], Tensor]
"""(outputs (n, ...) float64, labels (n, ...)) -> loss of each image (n,)."""

MOST_OUTPUTS = 2048
"""Of a loss of one's own: an image's Hessian is a matrix of this many rows."""

CONVEX = 1e-8
"""Largest negative eigenvalue of a Hessian, as a share of its largest, that is rounding."""


class Curvature(Protocol):
    """The m vectors that are pulled back for each image."""

    def cotangents(self, returned: object, batch: Batch) -> Tensor:
        """Return (m, *shape of the outputs)."""


@dataclass(frozen=True)
class OfPrediction:
    """Of the divergence between predictions: H = diag(p) - ppᵀ, s = √p ∘ ε - p (√p · ε)."""

    draws: int
    seed: int

    def cotangents(self, returned: object, batch: Batch) -> Tensor:
        """Return s (draws, n, classes)."""
        logits = checked_logits(returned, len(batch.images), None)
        p = functional.softmax(logits.detach().double(), dim=1)
        signed = p.sqrt() * _signs(self.draws, self.seed, batch, p)
        return (signed - p * signed.sum(2, keepdim=True)).to(logits.dtype)


@dataclass(frozen=True)
class OfEachLogit:
    """One vector per class: what is pulled back is the change of each logit itself."""

    def cotangents(self, returned: object, batch: Batch) -> Tensor:
        """Return the unit vectors (classes, n, classes)."""
        logits = checked_logits(returned, len(batch.images), None)
        unit = torch.eye(logits.shape[1], dtype=logits.dtype, device=logits.device)
        return unit[:, None].expand(-1, *logits.shape)


def chances(returned: object, batch: Batch) -> Tensor:
    """Return the prediction p (n, classes), float64."""
    logits = checked_logits(returned, len(batch.images), None)
    return functional.softmax(logits.detach().double(), dim=1)


@dataclass(frozen=True)
class OfLoss:
    """Of a loss of one's own, convex in the outputs: H is its Hessian, image by image."""

    loss: Loss
    draws: int
    seed: int

    def cotangents(self, returned: object, batch: Batch) -> Tensor:
        """Return s (draws, n, ...)."""
        outputs = checked_outputs(returned, len(batch.images))
        values, vectors = torch.linalg.eigh(self._hessians(outputs.detach().double(), batch.labels))
        lowest, highest = float(values.min()), float(values.abs().max())
        if lowest < -CONVEX * highest:
            raise ValueError(
                "loss must be convex in the outputs; its Hessian has the eigenvalue "
                f"{lowest:.3g} beside {highest:.3g}. Pass another loss, or None for the "
                "prediction's own divergence."
            )
        roots = vectors * values.clamp_min(0).sqrt()[:, None]
        signed = torch.einsum("nij,mnj->mni", roots, _signs(self.draws, self.seed, batch, values))
        return signed.reshape(self.draws, *outputs.shape).to(outputs.dtype)

    def _hessians(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """(n, K, K) second derivatives of each image's loss in its K outputs."""
        n, k = len(outputs), outputs[0].numel()
        if k > MOST_OUTPUTS:
            raise ValueError(
                f"loss must be of at most {MOST_OUTPUTS} outputs per image; the model returns {k}. "
                "Wrap it in a module that returns fewer, such as means over the map."
            )
        outputs.requires_grad_(True)
        found = self.loss(outputs, labels)
        if not isinstance(found, Tensor) or found.shape != (n,) or not found.requires_grad:
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(
                f"loss must return one differentiable value for each of {n} images, a tensor "
                f"({n},); got {got}. Take no mean over images (reduction='none'), and use torch."
            )
        (slope,) = torch.autograd.grad(found.sum(), outputs, create_graph=True)
        if not slope.requires_grad:
            raise ValueError(
                "loss must be curved in the outputs; it is linear in them, so that its second "
                "order is nothing. Pass a loss such as a squared error."
            )
        columns = slope.reshape(n, k).sum(0)
        rows = [
            torch.autograd.grad(column, outputs, retain_graph=True)[0].reshape(n, k)
            for column in columns
        ]
        return torch.stack(rows, dim=1)


class LinearizedSums:
    """Adds up the divergence of the intact prediction from that of the linearized logits.

    With δ the change of the logits less its mean Σ_k p_k δ_k, KL(p ‖ softmax(f + δ)) is
    log Σ_k p_k e^{δ_k} = log(1 + Σ_k p_k (e^{δ_k} - 1 - δ_k)), which cancels nothing.
    """

    def __init__(self, total: Sums) -> None:
        self._total = total

    def add(
        self,
        values: Mapping[str, Tensor],
        images_per_group: Sequence[int],
        images: NDArray[np.int64],
    ) -> None:
        """Add a batch of changes (n, classes, 1, L), with the prediction "t" (n, classes)."""
        p = values["t"][:, :, None, None]
        found = {}
        for name in ("alone", "with_peers"):
            change = -values[name].double()  # the channel is lost, not added
            change -= (p * change).sum(1, keepdim=True)
            found[name] = (p * (change.expm1() - change)).sum(1, keepdim=True).log1p()
        self._total.add(found, images_per_group, images)


def _signs(draws: int, seed: int, batch: Batch, like: Tensor) -> Tensor:
    """(draws, n, K) of -1 and 1, a function of seed and image alone."""
    n, k = like.shape
    drawn = [random_signs(seed, f"damage {draw}", batch.first, n, k) for draw in range(draws)]
    return torch.from_numpy(np.stack(drawn)).to(like)
