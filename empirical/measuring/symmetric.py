"""The symmetric product of BLAS without Python's lock, so that threads can run several at once.

SciPy's own wrapper, `scipy.linalg.blas.dsyrk`, holds the lock for the whole product. SciPy also
publishes the function's address, for Cython and for compilers such as Numba; ctypes calls it and
lets the lock go.
"""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cython_blas


def _dsyrk() -> ctypes._CFuncPtr:
    capsule = cython_blas.__pyx_capi__["dsyrk"]
    name, pointer = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 10)(pointer(capsule, name(capsule)))


_DSYRK = _dsyrk()


def add_symmetric_product(total: NDArray[np.float64], rows: NDArray[np.float64]) -> None:
    """Add rowsᵀ rows to the upper triangle of `total`, in place.

    Parameters
    ----------
    total : (C, C), rows of C consecutive numbers
    rows : (n, C), likewise

    Examples
    --------
    >>> total = np.zeros((2, 2))
    >>> add_symmetric_product(total, np.array([[1.0, 2.0], [0.0, 1.0]]))
    >>> total
    array([[1., 2.],
           [0., 5.]])
    """
    n, c = rows.shape
    for name, array, shape in (("total", total, (c, c)), ("rows", rows, (n, c))):
        if array.dtype != np.float64 or not array.flags.c_contiguous or array.shape != shape:
            raise ValueError(
                f"{name} must be a contiguous float64 array of shape {shape}; got "
                f"{array.dtype} {array.shape}."
            )
    size, depth, one = ctypes.c_int(c), ctypes.c_int(n), ctypes.c_double(1.0)
    # BLAS reads columns first: this is the lower triangle of what it sees
    _DSYRK(
        b"L",
        b"N",
        ctypes.byref(size),
        ctypes.byref(depth),
        ctypes.byref(one),
        rows.ctypes.data,
        ctypes.byref(size),
        ctypes.byref(one),
        total.ctypes.data,
        ctypes.byref(size),
    )
