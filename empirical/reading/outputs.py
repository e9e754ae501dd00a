"""What a model returned, checked before anything is computed from it."""

from __future__ import annotations

from torch import Tensor


def checked_outputs(returned: object, n: int) -> Tensor:
    """Return the outputs if they are one tensor (n, ...), a row per image.

    Raises
    ------
    TypeError, ValueError
        what was returned, and the remedy
    """
    if not isinstance(returned, Tensor):
        raise TypeError(
            f"model must return logits as one tensor (n, classes); it returned a "
            f"{type(returned).__name__}. Wrap it in a module that returns only its logits, or pass "
            "adapt=Adapter(output=...)."
        )
    if returned.ndim == 0 or len(returned) != n:
        raise ValueError(
            f"model must return logits of shape (n, classes), one row per image; for {n} images it "
            f"returned shape {tuple(returned.shape)}. Check that its forward keeps the images "
            "apart, also where there is one (no squeeze())."
        )
    return returned


def checked_logits(returned: object, n: int, largest_label: int | None) -> Tensor:
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
            "and accuracy say nothing: pass a function of (outputs, labels) as target= or loss=."
        )
    if largest_label is not None and largest_label >= logits.shape[1]:
        raise ValueError(
            f"labels must be below the number of classes; the loader gives {largest_label} and the "
            f"model has {logits.shape[1]} outputs. Check that model and data belong together."
        )
    return logits
