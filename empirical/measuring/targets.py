"""Targets T: what the target axis asks the channels about, as a function of logits and labels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from empirical.reading.batches import Batch
from empirical.reading.outputs import checked_logits, checked_outputs
from theory.moments import Moments
from theory.shared.validation import one_of

TargetFunction = Callable[[Tensor, Tensor], Tensor]
"""(outputs (n, ...) in float64, labels (n, ...)) -> T (n,) or (n, q)."""


def true_logit(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the logit of the true class, (n,)."""
    return logits.gather(1, labels[:, None])[:, 0]


def logit_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the true class's logit minus the largest other one, (n,).

    Examples
    --------
    >>> logit_margin(torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([0]))
    tensor([1.])
    """
    others = logits.scatter(1, labels[:, None], float("-inf"))
    return true_logit(logits, labels) - others.amax(1)


def label(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the label as a one-hot vector, (n, classes)."""
    return torch.nn.functional.one_hot(labels, logits.shape[1]).double()


def all_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """Return all logits, (n, classes). Of them `logit_pc1` is a projection, chosen at the end."""
    return logits


TARGETS: dict[str, TargetFunction] = {
    "logit_margin": logit_margin,
    "true_logit": true_logit,
    "logit_pc1": all_logits,
    "label": label,
}


def target_function(target: str | TargetFunction) -> TargetFunction:
    """Return the function that a name stands for, or `target` itself if it is callable."""
    if callable(target):
        return target
    return TARGETS[one_of("target", target, TARGETS)]


def reads_classes(target: str | TargetFunction) -> bool:
    """Whether labels must be class numbers: not for a function, nor for a target without labels."""
    return isinstance(target, str) and target != "logit_pc1"


def batch_target(function: TargetFunction) -> Callable[[object, Batch], Tensor]:
    """Return T of a batch as (n, q) float64, as `empirical.reading.recorder` asks for it."""
    return lambda logits, batch: evaluate_target(
        function, logits, batch.labels, batch.largest_label
    )


def evaluate_target(
    function: TargetFunction, logits: object, labels: Tensor, largest_label: int | None
) -> Tensor:
    """Return T as (n, q) float64; whether it is finite is checked with the layers' samples.

    Raises
    ------
    TypeError, ValueError
        outputs that are no tensor (n, ...); for a named target logits that are not (n, classes),
        and labels beyond the classes; T of a wrong shape
    """
    n = len(labels)
    named = function in TARGETS.values()
    outputs = checked_logits(logits, n, largest_label) if named else checked_outputs(logits, n)
    target = function(outputs.double(), labels)
    if not isinstance(target, Tensor) or target.ndim not in (1, 2) or len(target) != n:
        got = tuple(target.shape) if isinstance(target, Tensor) else type(target).__name__
        raise ValueError(f"target must return a tensor (n,) or (n, q), n = {n}; got {got}.")
    return target.double().reshape(n, -1)


def first_component(moments: Moments) -> np.ndarray:
    """Weights (q, 1) of the targets' first principal component, its largest entry positive.

    A linear target is a function of the moments of (Y, all logits), so the component costs no
    second pass over the data.
    """
    c = moments.n_channels
    _, vectors = np.linalg.eigh(moments.cov[c:, c:])
    first = vectors[:, -1:]
    return np.asarray(first * np.sign(first[np.abs(first).argmax()]))
