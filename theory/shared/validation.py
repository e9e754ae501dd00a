"""Checks for public functions: every error names the argument, its value and the remedy."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
        raise TypeError(
            f"{name} must be an array of real numbers; got {shown(value)} ({error}). Pass a NumPy "
            "array, or a list with rows of one length."
        ) from None
    if array.dtype.kind not in "biuf":
        raise TypeError(
            f"{name} must be an array of real numbers; got {shown(value)} of dtype {array.dtype}. "
            "Pass floats."
        )
    with np.errstate(over="ignore"):  # what a wider float overflows to is found as not finite
        return np.asarray(array, dtype=np.float64)


def finite_array(name: str, value: ArrayLike | None, *, ndim: int | Sequence[int]) -> Float:
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


def columns(name: str, value: ArrayLike | None) -> Float:
    """Return a finite vector or matrix as a matrix, a vector as its one column."""
    array = finite_array(name, value, ndim=(1, 2))
    return array[:, None] if array.ndim == 1 else array


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
    from scipy.linalg import lapack

    if lapack.dpotrf(matrix + 1e-8 * scale * np.eye(len(matrix)), overwrite_a=1)[1] == 0:
        return matrix
    smallest = float(np.linalg.eigvalsh(matrix)[0])
    if smallest < -1e-8 * scale:
        raise ValueError(
            f"{name} must be positive semidefinite; its smallest eigenvalue is {smallest:.3g}. "
            "Check the estimate, or add a multiple of the identity."
        )
    return matrix


def indices(name: str, value: ArrayLike, size: int, *, distinct: bool = False) -> NDArray[np.intp]:
    """Return `value` as a vector of at least one index from 0 to `size` - 1."""
    array = real_array(name, value).ravel()
    inside = array.size > 0 and array.min() >= 0 and array.max() < size
    if not inside or (array % 1).any() or (distinct and np.unique(array).size < array.size):
        wanted = f"distinct indices below {size}" if distinct else f"indices from 0 to {size - 1}"
        raise ValueError(f"{name} must be {wanted}; got {array.tolist()}.")
    return array.astype(np.intp)


def index(name: str, value: int, size: int) -> int:
    """Return `value` as an index from 0 to `size` - 1.

    >>> index("channel", 8, 8)
    Traceback (most recent call last):
        ...
    ValueError: channel must be a whole number from 0 to 7; got 8.
    """
    wanted = f"a whole number from 0 to {size - 1}"
    number = _number(name, value, wanted)
    if not 0 <= number < size or number != number // 1:
        raise ValueError(f"{name} must be {wanted}; got {shown(value)}.")
    return int(number)


MOST_TOLD = 60
"""Choices that an error lists whole."""


def one_of(name: str, value: str, allowed: Iterable[str]) -> str:
    """Return `value`, or say which values are allowed and which of them is nearest."""
    choices = list(allowed)
    if value in choices:
        return value
    near = difflib.get_close_matches(str(value), choices, n=3, cutoff=0.4)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    told = ", ".join(map(repr, choices))
    if len(choices) > MOST_TOLD:
        told = f"{', '.join(map(repr, choices[:3]))} and {len(choices) - 3} others"
    raise ValueError(f"{name} must be one of {told}; got {value!r}.{hint}")


def named(argument: str, names: Iterable[str] | None) -> list[str] | None:
    """Return the names as a list, at least one; None means all."""
    if isinstance(names, str):
        raise TypeError(
            f"{argument} must be a sequence of names; got the text {names!r}. Pass [{names!r}]."
        )
    if names is None:
        return None
    listed = list(names)
    if not listed:
        raise ValueError(f"{argument} must name at least one layer; got none. Pass None for all.")
    return listed


def positive(name: str, value: float, *, zero: bool = False, most: float = np.inf) -> float:
    """Return `value` if it is a finite number above zero (or at zero, where `zero` allows it)."""
    wanted = f"{'>= 0' if zero else '> 0'} and finite"
    number = _number(name, value, wanted)
    if not np.isfinite(number) or number < 0 or (number == 0 and not zero):
        raise ValueError(f"{name} must be {wanted}; got {shown(value)}.")
    if number > most:
        raise ValueError(f"{name} must be at most {most:g}; got {shown(value)}. Lower it.")
    return number


def within(name: str, value: float, interval: str) -> float:
    """Return `value` if it is a number in `interval`, written as "[0, 1)".

    >>> within("share", 0.5, "(0, 1]")
    0.5
    """
    low, high = (float(end) for end in interval[1:-1].split(","))
    wanted = f"in {interval}"
    number = _number(name, value, wanted)
    above = low <= number if interval[0] == "[" else low < number
    below = number <= high if interval[-1] == "]" else number < high
    if not (above and below):
        raise ValueError(f"{name} must be {wanted}; got {value!r}.")
    return number


def count(name: str, value: int, *, least: int = 1, most: int | None = None) -> int:
    """Return `value` as an int if it is a whole number from `least` to what memory holds."""
    wanted = f"a whole number >= {least}"
    if most is not None:
        wanted += f" and <= {most:,}"
    whole = isinstance(value, int) and not isinstance(value, bool)
    number = value if whole else _number(name, value, wanted)
    if abs(number) == np.inf or number != number // 1 or number < least:
        raise ValueError(f"{name} must be {wanted}; got {shown(value)}.")
    if most is not None and number > most:
        raise ValueError(f"{name} must be {wanted}, to fit into memory; got {shown(value)}.")
    return int(value)


def instance(name: str, value: object, kind: type | tuple[type, ...], remedy: str) -> None:
    """Refuse a `value` that is of none of the kinds, and say how to get one that is."""
    if not isinstance(value, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        wanted = " or ".join(each.__name__ for each in kinds)
        raise TypeError(f"{name} must be a {wanted}; got {shown(value)}. {remedy}")


def truth(name: str, value: bool) -> bool:
    """Return `value`, True or False: text such as "no" would count as True.

    >>> truth("hull", "no")
    Traceback (most recent call last):
    TypeError: hull must be True or False; got 'no'.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False; got {shown(value)}.")
    return bool(value)


def path_of(name: str, value: str | os.PathLike[str]) -> Path:
    """Return `value` as a path.

    >>> path_of("out", None)
    Traceback (most recent call last):
    TypeError: out must be a path; got None. Pass text or a pathlib.Path.
    """
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{name} must be a path; got {shown(value)}. Pass text or a pathlib.Path.")
    return Path(value)


def called(name: str, value: object, *, optional: bool = True) -> None:
    """Refuse a `value` that is not a function, nor None where it is `optional`."""
    if not callable(value) and not (optional and value is None):
        raise TypeError(f"{name} must be a function; got {shown(value)}. Pass it without calling.")


def functions(name: str, value: object) -> None:
    """Refuse a `value` that is no mapping from names to functions."""
    instance(name, value, Mapping, "Pass {name of a submodule: function}.")
    for key, function in value.items():  # type: ignore[attr-defined]
        if not callable(function):
            raise TypeError(
                f"{name}[{key!r}] must be a function; got {shown(function)}. Pass one of a tensor."
            )


def _number(name: str, value: Any, wanted: str) -> float:
    """Return a real number as float: text, truth values and arrays are none."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be {wanted}; got {shown(value)}.")
    try:
        return float(value)
    except OverflowError:
        return float(np.inf)


def shown(value: object) -> str:
    """Text and truth values as they are; of everything else the kind, and an array's shape."""
    if value is None or isinstance(value, (bool, str, bytes, int, float, complex)):
        text = repr(value)
        return text if len(text) <= 60 else f"{text[:57]}..."
    shape = getattr(value, "shape", None)
    if isinstance(value, (list, tuple)):
        return f"the {type(value).__name__} {str(value)[:60]}"
    return type(value).__name__ + ("" if shape is None else f" of shape {tuple(shape)}")
