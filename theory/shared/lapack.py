"""Symmetric products and inverses by BLAS and LAPACK, in place, without Python's lock.

NumPy adds no product to what is there, fills both halves of a symmetric one and copies matrices
before and after a factorization; SciPy's wrappers hold Python's lock, so that threads wait for each
other. SciPy also publishes the addresses of the routines, for Cython and for compilers; ctypes
calls them and lets the lock go.

Matrices are (n, n) float64 with consecutive rows, of which the lower triangle is read and written.
To LAPACK, which takes columns to be consecutive, that is the upper triangle of the transpose.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from scipy.linalg import cython_blas, cython_lapack

from theory.shared.validation import Float

BLOCK = 64
"""Rows and columns that are mirrored at once, and stay in a core's cache."""


def _routine(module: Any, name: str) -> Any:
    capsule = module.__pyx_capi__[name]
    named, pointer = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    named.restype, named.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    signature = named(capsule)
    if b", int *" not in signature:
        raise ImportError(
            f"scipy's {name} must take whole numbers as int *; it is {signature.decode()}. "
            "Install a version of scipy that pyproject.toml names."
        )
    prototype = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (signature.count(b",") + 1))
    return prototype(pointer(capsule, signature))


_DSYRK, _DPOTRF = _routine(cython_blas, "dsyrk"), _routine(cython_lapack, "dpotrf")
_DTRTRI, _DLAUUM = _routine(cython_lapack, "dtrtri"), _routine(cython_lapack, "dlauum")


def add_product(total: Float, rows: Float) -> None:
    """Add rowsᵀ rows, of rows (m, n), to the lower triangle of `total`, in place.

    >>> total = np.zeros((2, 2))
    >>> add_product(total, np.array([[1.0, 2.0], [0.0, 1.0]]))
    >>> total
    array([[1., 0.],
           [2., 5.]])
    """
    m, n = rows.shape
    if total.shape != (n, n):
        raise ValueError(
            f"total must have shape {(n, n)}; got {total.shape}. Give it a row per column of rows."
        )
    _call(_DSYRK, b"U", b"N", n, m, 1.0, rows, max(1, n), 1.0, total, max(1, n))


def mirror(matrix: Float) -> Float:
    """Fill the upper triangle with what the lower one holds, in place.

    >>> mirror(np.array([[1.0, 0.0], [2.0, 5.0]]))
    array([[1., 2.],
           [2., 5.]])
    """
    for start in range(0, len(matrix), BLOCK):
        stop = start + BLOCK
        corner = matrix[start:stop, start:stop]
        corner[:] = np.tril(corner) + np.tril(corner, -1).T
        matrix[start:stop, stop:] = matrix[stop:, start:stop].T
    return matrix


def factor(matrix: Float) -> Float | None:
    """Return L with L Lᵀ = matrix, or None where that is not positive; above it is what was there.

    >>> np.tril(factor(np.array([[4.0, 2.0], [2.0, 2.0]])))
    array([[2., 0.],
           [1., 1.]])
    """
    lower = np.array(matrix, order="C")
    n = len(lower)
    return lower if _call(_DPOTRF, b"U", n, lower, max(1, n)) == 0 else None


def invert_triangle(lower: Float) -> None:
    """Put L⁻¹ in the place of L, none of whose diagonal is 0."""
    n = len(lower)
    _call(_DTRTRI, b"U", b"N", n, lower, max(1, n))


def multiply_triangle(lower: Float) -> Float:
    """Put LᵀL, both of its halves, in the place of L, and return it."""
    n = len(lower)
    _call(_DLAUUM, b"U", n, lower, max(1, n))
    return mirror(lower)


def _call(routine: Any, *arguments: bytes | float | Float) -> int:
    """Call with bytes and arrays as they are and numbers by reference; return LAPACK's `info`."""
    info = ctypes.c_int()
    held = [
        value if isinstance(value, bytes)
        else _address(value) if isinstance(value, np.ndarray)
        else ctypes.byref(ctypes.c_int(value) if isinstance(value, int) else ctypes.c_double(value))
        for value in arguments
    ]  # fmt: skip
    routine(*held, *[ctypes.byref(info)] * (len(routine.argtypes) - len(held)))
    return info.value


def _address(array: Float) -> int:
    """Refuse what the routines would misread."""
    if array.dtype != np.float64 or not array.flags.c_contiguous:
        raise ValueError(
            f"array must be float64 with consecutive rows; got {array.dtype} of strides "
            f"{array.strides}. Pass np.ascontiguousarray(array, dtype=np.float64)."
        )
    return array.ctypes.data
