"""The two axes of channel information in trained networks."""

from __future__ import annotations

import importlib

_PUBLIC: dict[str, str] = {
    "Layer": "layers",
    "find_layers": "layers",
    "capture": "activations",
    "edit": "activations",
    "measure": "measurement",
    "AxisTable": "table",
}
"""Public name -> module. Resolved on first use: importing this package does not load torch."""

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'empirical' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"empirical.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
