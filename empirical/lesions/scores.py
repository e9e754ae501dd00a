"""Loss, accuracy and margin of each image, and the differences between two networks on it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Loss = Callable[[Tensor, Tensor], Tensor]
"""(outputs (N, ...) float64, labels (N, ...)) -> loss of each image (N,)."""


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each image in nats."""
    return functional.cross_entropy(logits, labels, reduction="none")


def image_scores(
    logits: Tensor, labels: Tensor, loss: Loss, *, classes: bool = True
) -> dict[str, Tensor]:
    """Return loss, accuracy (0 or 1) and margin of each image, float64 (N,).

    The margin is the true-class logit minus the largest other. Without `classes` (a network with
    one output, labels that are no classes of its outputs) both are NaN; with them, "log_chances"
    (N, K) are the prediction. All in float64: a lesion of a small channel changes the loss by less
    than float32 resolves beside the loss itself.

    >>> scores = image_scores(torch.tensor([[2.0, 0.5]]), torch.tensor([0]), cross_entropy)
    >>> scores["margin"].item(), scores["accuracy"].item()
    (1.5, 1.0)
    """
    exact = logits.double()
    found = loss(exact, labels)
    if not isinstance(found, Tensor) or found.shape != (len(exact),):
        got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(
            f"loss must return one value for each of {len(exact)} images, a tensor "
            f"({len(exact)},); got {got}. Take no mean over images (reduction='none')."
        )
    scores = {"loss": found.double()}
    if not classes or exact.ndim != 2 or exact.shape[1] < 2:
        missing = torch.full_like(scores["loss"], torch.nan)
        return scores | {"accuracy": missing, "margin": missing}
    true = exact.gather(1, labels[:, None])[:, 0]
    others = exact.scatter(1, labels[:, None], -torch.inf).amax(1)
    scores["accuracy"] = (exact.argmax(1) == labels).double()
    scores["margin"] = true - others
    scores["log_chances"] = functional.log_softmax(exact, dim=1)
    return scores


def damage(dense: dict[str, Tensor], lesioned: dict[str, Tensor]) -> Tensor:
    """Return how much worse each image became, (4, N) in the order of `DAMAGES`.

    Positive where the lesion hurts. "divergence" is the Kullback-Leibler divergence of the lesioned
    prediction from the intact one, Σ_k p_k log(p_k / q_k): no label is read, and it is never
    negative. NaN where the outputs are no logits.
    """
    if "log_chances" in dense:
        intact = dense["log_chances"]
        divergence = (intact.exp() * (intact - lesioned["log_chances"])).sum(1)
    else:
        divergence = torch.full_like(dense["loss"], torch.nan)
    return torch.stack(
        [
            lesioned["loss"] - dense["loss"],
            dense["accuracy"] - lesioned["accuracy"],
            dense["margin"] - lesioned["margin"],
            divergence,
        ]
    )
