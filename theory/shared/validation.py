"""Checks for public functions: every error names the argument, its value and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float = NDArray[np.float64]


def finite_array(name: str, value: ArrayLike, *, ndim: int | Sequence[int]) -> Float:
    """Return `value` as float64, or say which argument has a wrong shape or a non-finite entry."""
    array = np.asarray(value, dtype=np.float64)
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
    asymmetry = float(np.abs(matrix - matrix.T).max())
    if asymmetry > 1e-8 * max(scale, np.finfo(float).tiny):
        raise ValueError(
            f"{name} must be symmetric; the largest asymmetry is {asymmetry:.3g}. "
            f"Pass ({name} + {name}.T) / 2 if that is meant."
        )
    matrix = (matrix + matrix.T) / 2
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


def positive(name: str, value: float, *, zero: bool = False) -> float:
    """Return `value` if it is a finite number above zero (or at zero, where `zero` allows it)."""
    number = float(value)
    if not np.isfinite(number) or number < 0 or (number == 0 and not zero):
        raise ValueError(f"{name} must be {'>= 0' if zero else '> 0'} and finite; got {value!r}.")
    return number


def count(name: str, value: int, *, least: int = 1) -> int:
    """Return `value` as an int if it is a whole number of at least `least`."""
    number = int(value)
    if number != value or number < least:
        raise ValueError(f"{name} must be a whole number >= {least}; got {value!r}.")
    return number
