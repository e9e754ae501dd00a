"""The one place that carries the compile flags of every kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numba

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

# Sums may be reordered into vector lanes; NaN and infinity keep their meaning, since divergence is
# found by looking for them. Members of an ensemble run in plain threads, hence nogil.
_FLAGS: dict[str, Any] = {
    "nogil": True,
    "cache": True,
    "error_model": "numpy",
    "fastmath": {"contract", "reassoc", "nsz"},
}


def compiled(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Compile a kernel for one member of an ensemble.

    A kernel is sequential, allocates nothing in its loops and never touches another member's
    memory, so that its result cannot depend on the number of threads.
    """
    return cast(Callable[Parameters, Result], numba.njit(**_FLAGS)(function))


def inlined(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Compile a kernel into the kernels that call it: a call would cost as much as a small one."""
    return cast(Callable[Parameters, Result], numba.njit(forceinline=True, **_FLAGS)(function))
