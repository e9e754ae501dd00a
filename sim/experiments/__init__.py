"""Experiments: each a function whose result has `findings()`, `to_frame()` and `figure()`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sim.experiments.initialization import Initial, initial
    from sim.experiments.lesioning import Lesions, lesion
    from sim.experiments.phases import Phase, phase
    from sim.experiments.separation import Separation, separate

_PUBLIC: dict[str, str] = {
    "Initial": "initialization",
    "Lesions": "lesioning",
    "Phase": "phases",
    "Separation": "separation",
    "initial": "initialization",
    "lesion": "lesioning",
    "phase": "phases",
    "separate": "separation",
}
"""Public name -> module, resolved on first use."""

__all__ = [
    "Initial",
    "Lesions",
    "Phase",
    "Separation",
    "initial",
    "lesion",
    "phase",
    "separate",
]


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'sim.experiments' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"sim.experiments.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
