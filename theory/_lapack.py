"""BLAS and LAPACK without Python's lock, so that threads can work on several matrices at once.

SciPy's own wrappers hold the lock for the whole of a product or a factorization. SciPy also
publishes the functions' addresses, for Cython and for compilers such as Numba; ctypes calls them
and lets the lock go. Arguments are Fortran's: everything by reference, columns first.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cython_blas, cython_lapack

from theory.shared.validation import Float


def _function(module: Any, name: str, arguments: int) -> Any:
    capsule = module.__pyx_capi__[name]
    signature, pointer = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    signature.restype, signature.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    prototype = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * arguments)
    return prototype(pointer(capsule, signature(capsule)))


_DSYRK = _function(cython_blas, "dsyrk", 10)
_DPOTRF = _function(cython_lapack, "dpotrf", 5)
_DPOTRI = _function(cython_lapack, "dpotri", 5)
_DPOTRS = _function(cython_lapack, "dpotrs", 8)
_DPOCON = _function(cython_lapack, "dpocon", 9)
_DPSTRF = _function(cython_lapack, "dpstrf", 9)
_DTRTRS = _function(cython_lapack, "dtrtrs", 10)


def _call(function: Any, *arguments: Any) -> None:
    """Call with bytes and arrays as they are, everything else by reference."""
    held = [
        a if isinstance(a, bytes)
        else a.ctypes.data if isinstance(a, np.ndarray)
        else ctypes.byref(ctypes.c_int(a)) if isinstance(a, int)
        else ctypes.byref(ctypes.c_double(a)) if isinstance(a, float)
        else ctypes.byref(a)
        for a in arguments
    ]  # fmt: skip
    function(*held)


def _columns_first(array: Float) -> int:
    """Return the leading dimension of an array of consecutive columns, or refuse it."""
    if array.size == 0:
        return max(1, len(array))
    if array.dtype != np.float64 or (array.shape[0] > 1 and array.strides[0] != array.itemsize):
        raise ValueError(
            f"array must be float64 with consecutive columns; got {array.dtype} of strides "
            f"{array.strides}."
        )
    rows, columns = array.shape
    stride: int = array.strides[1] // array.itemsize if columns > 1 else rows
    return stride


def add_symmetric_product(total: Float, rows: Float) -> None:
    """Add rowsᵀ rows to the upper triangle of `total`, in place.

    Parameters
    ----------
    total : (C, C), with consecutive rows.
    rows : (n, C), likewise.

    >>> total = np.zeros((2, 2))
    >>> add_symmetric_product(total, np.array([[1.0, 2.0], [0.0, 1.0]]))
    >>> total
    array([[1., 2.],
           [0., 5.]])
    """
    n, c = rows.shape
    if total.shape != (c, c):
        raise ValueError(f"total must have shape {(c, c)}; got {total.shape}.")
    # the lower triangle of the transpose is the upper one of `total`
    stride, step = _columns_first(total.T), _columns_first(rows.T)
    _call(_DSYRK, b"L", b"N", c, n, 1.0, rows, step, 1.0, total, stride)


def cholesky(matrix: Float) -> Float | None:
    """Lower factor of a symmetric matrix, columns first, or None where it is not positive.

    Its upper triangle holds what `matrix` held.
    """
    factor = np.array(matrix, order="C").T  # symmetric: rows serve as columns
    info = ctypes.c_int()
    _call(_DPOTRF, b"L", len(factor), factor, _columns_first(factor), info)
    return factor if info.value == 0 else None


def pivoted_cholesky(matrix: Float, tolerance: float) -> tuple[Float, NDArray[np.intp], int]:
    """Lower factor of a positive semidefinite matrix in the order of its pivots, order and rank.

    Each pivot is the largest variance left; at `tolerance` it ends.
    """
    factor = np.array(matrix, order="C").T
    c = len(factor)
    pivots, work = np.zeros(c, dtype=np.intc), np.empty(2 * c)
    rank, info = ctypes.c_int(), ctypes.c_int()
    stride = _columns_first(factor)
    _call(_DPSTRF, b"L", c, factor, stride, pivots, rank, float(tolerance), work, info)
    return factor, pivots.astype(np.intp) - 1, rank.value


def reciprocal_condition(factor: Float, norm: float) -> float:
    """Estimate 1 / (‖A‖₁ ‖A⁻¹‖₁) from the factor of A and ‖A‖₁."""
    c = len(factor)
    work, signs = np.empty(3 * c), np.empty(c, dtype=np.intc)
    found, info = ctypes.c_double(), ctypes.c_int()
    stride = _columns_first(factor)
    _call(_DPOCON, b"L", c, factor, stride, float(norm), found, work, signs, info)
    return found.value


def solve(factor: Float, right: Float) -> Float:
    """A⁻¹ times `right` (C, m), from the factor of A."""
    result = np.array(right, order="F")
    info = ctypes.c_int()
    _call(
        _DPOTRS, b"L", len(factor), result.shape[1], factor, _columns_first(factor),
        result, _columns_first(result), info,
    )  # fmt: skip
    return result


def solve_transposed(factor: Float, right: Float) -> Float:
    """L⁻ᵀ times `right` (r, m), L the lower triangle of `factor`."""
    result = np.array(right, order="F")
    info = ctypes.c_int()
    _call(
        _DTRTRS, b"L", b"T", b"N", len(factor), result.shape[1], factor, _columns_first(factor),
        result, _columns_first(result), info,
    )  # fmt: skip
    return result


def inverse_diagonal(factor: Float) -> Float:
    """Diagonal of A⁻¹ from the factor of A."""
    inverse = np.array(factor, order="F")
    info = ctypes.c_int()
    _call(_DPOTRI, b"L", len(inverse), inverse, _columns_first(inverse), info)
    return np.diagonal(inverse).copy()
