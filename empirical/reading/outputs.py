"""What a model returns, checked before anything is computed from it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def answered(model: nn.Module, images: Tensor) -> object:
    """Return what the model returns on images; images that do not suit it are refused by name.

    Raises
    ------
    ValueError
        what the model said of these images, their shape and type

    Examples
    --------
    >>> answered(nn.Linear(2, 3), torch.zeros(1, 2, dtype=torch.float64))
    Traceback (most recent call last):
        ...
    ValueError: model must run on the images of the loader; on shape (1, 2) of torch.float64 it \
says: mat1 and mat2 must have the same dtype, but got Double and Float. Give images as it takes \
them: its weights are torch.float32.
    """
    try:
        return model(images)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        said = (str(error).splitlines() or ["nothing"])[0].rstrip(".")
        weights = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
        raise ValueError(
            f"model must run on the images of the loader; on shape {tuple(images.shape)} of "
            f"{images.dtype} it says: {said}. Give images as it takes them: its weights are "
            f"{weights}."
        ) from error


def one_tensor(returned: object) -> Tensor:
    """Return the outputs if they are one tensor; raise TypeError with the remedy if not."""
    if not isinstance(returned, Tensor):
        raise TypeError(
            f"model must return logits as one tensor (n, classes); it returned a "
            f"{type(returned).__name__}. Wrap it in a module that returns only its logits, or pass "
            "adapt=Adapter(output=...)."
        )
    return returned


def checked_outputs(returned: object, n: int) -> Tensor:
    """Return the outputs if they are one tensor (n, ...), a row per image.

    Raises
    ------
    TypeError, ValueError
        what was returned, and the remedy
    """
    returned = one_tensor(returned)
    if returned.ndim == 0 or len(returned) != n:
        raise ValueError(
            f"model must return logits of shape (n, classes), one row per image; for {n} images it "
            f"returned shape {tuple(returned.shape)}. Check that its forward keeps the images "
            "apart, also where there is one (no squeeze())."
        )
    return returned


PREDICTIONS = "Choose criteria, allocations and recoveries that read no predictions."
"""Remedy where pruning asks what logits say."""


def checked_logits(
    returned: object,
    n: int,
    largest_label: int | None,
    remedy: str = "Pass a function of (outputs, labels) as target= or loss=.",
) -> Tensor:
    """Return the outputs if they are logits (n, classes) with room for every label.

    Raises
    ------
    TypeError, ValueError
        what was returned, and the remedy
    """
    logits = checked_outputs(returned, n)
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise ValueError(
            f"model must return logits of shape (n, classes) with at least 2 classes; for {n} "
            f"images it returned shape {tuple(logits.shape)}. Of one output, cross-entropy, margin "
            f"and accuracy say nothing. {remedy}"
        )
    if largest_label is not None and largest_label >= logits.shape[1]:
        raise ValueError(
            f"labels must be below the number of classes; the loader gives {largest_label} and the "
            f"model has {logits.shape[1]} outputs. Check that model and data belong together."
        )
    return logits


ROUNDED = 256
"""Roundings that an output's own size may have gathered."""


def moved_by_images(model: nn.Module, images: Tensor, outputs: Tensor) -> float:
    """The most that any of a network's `outputs` on `images` differs from that on blank images.

    Their median size where none does. Classes masked by -1e9 and large biases do not count.
    """
    blank = model(torch.zeros_like(images) if images.any() else torch.ones_like(images))
    finite = outputs.isfinite() & blank.isfinite()
    moved = float((outputs - blank).abs().masked_fill(~finite, 0.0).max())
    return moved or float(outputs.abs().masked_fill(~outputs.isfinite(), 0.0).median())


def apart(found: Tensor, expected: Tensor, moved: float) -> float:
    """The largest difference of outputs that should be the same, 0 where it is rounding.

    Rounding is half of the digits of the outputs' type, of what images move them by, and `ROUNDED`
    roundings of each output itself, or of their median size. What is expected to be no number is
    not compared.

    >>> expected = torch.tensor([[0.5, -0.2, -torch.inf]])
    >>> apart(expected + 1e-6, expected, 0.5), round(apart(expected + 1e-2, expected, 0.5), 3)
    (0.0, 0.01)
    """
    eps = torch.finfo(expected.dtype).eps
    difference = (found - expected).abs().masked_fill((found == expected) | expected.isnan(), 0.0)
    own = expected.abs().masked_fill(~expected.isfinite(), 0.0)
    own = own.clamp(min=float(own.median()))
    rounding = eps**0.5 * moved + min(eps**0.5, ROUNDED * eps) * own
    largest = float(difference.max())
    return largest if bool(((difference > rounding) | difference.isnan()).any()) else 0.0


def divergences(dense: Tensor, other: Tensor) -> Tensor:
    """KL(dense ‖ other) of each image in nats, (n,), of log probabilities (n, classes).

    A class that the dense network rules out, of log probability -inf, adds nothing.

    >>> ruled_out = torch.tensor([[0.0, -torch.inf]])
    >>> divergences(ruled_out, torch.tensor([[0.5, 0.5]]).log())
    tensor([0.6931])
    """
    gaps = (dense - other).masked_fill(dense == -torch.inf, 0.0)
    return (dense.exp() * gaps).sum(1)
