"""Synthetic training: when do the two axes of channel information separate?"""

from __future__ import annotations

import importlib

_PUBLIC: dict[str, str] = {
    "Mixture": "tasks",
    "Regression": "tasks",
    "Network": "networks",
    "isotropic": "spectra",
    "power_law": "spectra",
    "spiked": "spectra",
    "variance_shares": "spectra",
    "DivergenceError": "simulation",
    "DivergenceWarning": "simulation",
    "simulate": "simulation",
    "stable_rate": "simulation",
    "Trajectory": "trajectory",
}
"""Public name -> module. Resolved on first use: importing this package does not load numba."""

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'sim' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"sim.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
