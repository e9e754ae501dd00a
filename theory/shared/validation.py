"""Checks for public functions: every error names the argument, its value and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import lapack

Float = NDArray[np.float64]


def real_array(name: str, value: Any) -> Float:
    """Return `value` as float64 if it holds real numbers and nothing else.

    A tensor comes without its gradient, whatever its type and device. Complex numbers, text,
    objects and masked entries have no one meaning as real numbers and are refused.
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = (value if value.is_complex() else value.double()).numpy()
    if np.ma.is_masked(value):
        masked = int(np.ma.getmaskarray(value).sum())
        raise ValueError(
            f"{name} must have no masked entries; got {masked} of them. "
            "Drop those samples, or fill them."
        )
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} must be an array of real numbers; got {error}.") from None
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} must hold real numbers; got {shown(value)} of type {array.dtype}. "
            "Convert it to float64."
        )
    with np.errstate(over="ignore"):  # what a wider float overflows to is found as not finite
        return np.asarray(array, dtype=np.float64)


def shown(value: object) -> str:
    """Return `value` in one short line, for a message."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."


def finite_array(name: str, value: ArrayLike, *, ndim: int | Sequence[int]) -> Float:
    """Return `value` as float64, or say which argument has a wrong shape or a non-finite entry."""
    array = real_array(name, value)
    allowed = (ndim,) if isinstance(ndim, int) else tuple(ndim)
    if array.ndim not in allowed:
        wanted = " or ".join(f"{d}-dimensional" for d in allowed)
        raise ValueError(f"{name} must be {wanted}; got shape {array.shape}.")
    bad = ~np.isfinite(array)
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"{name} must be finite; {int(bad.sum())} entries are not, the first at {first} "
            f"({array[first]}). Remove or impute them."
        )
    return array


def symmetric_psd(name: str, value: ArrayLike) -> Float:
    """Return `value` as a symmetric positive semidefinite float64 matrix."""
    matrix = finite_array(name, value, ndim=2)
    if matrix.shape[0] != matrix.shape[1] or matrix.shape[0] == 0:
        raise ValueError(f"{name} must be a square matrix; got shape {matrix.shape}.")
    scale = float(np.abs(matrix).max())
    asymmetry = 2 * float(np.abs(matrix / 2 - matrix.T / 2).max())
    if asymmetry > 1e-8 * max(scale, np.finfo(float).tiny):
        raise ValueError(
            f"{name} must be symmetric; the largest asymmetry is {asymmetry:.3g}. "
            f"Pass ({name} + {name}.T) / 2 if that is meant."
        )
    matrix = matrix / 2 + matrix.T / 2
    # a factor decides where it can, in a tenth of the time of eigenvalues, by the same tolerance
    if lapack.dpotrf(matrix + 1e-8 * scale * np.eye(len(matrix)), overwrite_a=1)[1] == 0:
        return matrix
    smallest = float(np.linalg.eigvalsh(matrix)[0])
    if smallest < -1e-8 * scale:
        raise ValueError(
            f"{name} must be positive semidefinite; its smallest eigenvalue is {smallest:.3g}. "
            "Check the estimate, or add a multiple of the identity."
        )
    return matrix


def one_of(name: str, value: str, allowed: Iterable[str]) -> str:
    """Return `value`, or say which values are allowed and which of them is nearest."""
    choices = list(allowed)
    if value in choices:
        return value
    near = difflib.get_close_matches(str(value), choices, n=3, cutoff=0.4)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}; got {value!r}.{hint}")


def positive(name: str, value: float, *, zero: bool = False, most: float = np.inf) -> float:
    """Return `value` if it is a finite number above zero (or at zero, where `zero` allows it)."""
    number = _number(value)
    if not (0 < number < np.inf or (zero and number == 0)):
        bound = ">= 0" if zero else "> 0"
        raise ValueError(f"{name} must be {bound} and finite; got {shown(value)}.")
    if number > most:
        raise ValueError(f"{name} must be at most {most:g}; got {shown(value)}. Lower it.")
    return number


def count(name: str, value: int, *, least: int = 1, most: int | None = None) -> int:
    """Return `value` as an int if it is a whole number from `least` to `most`."""
    given: Any = value
    whole = isinstance(given, Integral) and not isinstance(given, bool)
    if whole or _number(given).is_integer():
        number = int(value)
        if number >= least and (most is None or number <= most):
            return number
    bound = f">= {least}" if most is None else f"from {least} to {most}"
    raise ValueError(f"{name} must be a whole number {bound}; got {shown(value)}.")


def _number(value: Any) -> float:
    """Return a real number as a float, and NaN for anything else, truth values among it."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return np.nan
    try:
        return float(value)
    except OverflowError:
        return np.inf
