"""Experiments: each a function whose result has `findings()`, `to_frame()` and `figure()`."""

from __future__ import annotations

import importlib

_PUBLIC: dict[str, str] = {
    "initial": "initialization",
    "lesion": "lesioning",
    "phase": "phases",
    "separate": "separation",
}
"""Public name -> module, resolved on first use."""

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'sim.experiments' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"sim.experiments.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
