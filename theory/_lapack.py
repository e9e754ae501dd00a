"""BLAS and LAPACK without Python's lock, so that threads can work on several matrices at once.

SciPy's own wrappers hold the lock for the whole of a product or a factorization. SciPy also
publishes the functions' addresses, for Cython and for compilers such as Numba; ctypes calls them
and lets the lock go. Arguments are Fortran's: everything by reference, columns first.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from scipy.linalg import cython_blas

from theory.shared.validation import Float


def _function(module: Any, name: str, arguments: int) -> Any:
    capsule = module.__pyx_capi__[name]
    signature, pointer = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    signature.restype, signature.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    prototype = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * arguments)
    return prototype(pointer(capsule, signature(capsule)))


_DSYRK = _function(cython_blas, "dsyrk", 10)


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
