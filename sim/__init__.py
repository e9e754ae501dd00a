"""Synthetic training: when do the two axes of channel information separate?"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sim.networks import Network
    from sim.simulation import DivergenceError, DivergenceWarning, simulate, stable_rate
    from sim.spectra import isotropic, power_law, spiked, variance_shares
    from sim.sweep import run_sweep
    from sim.tasks import Mixture, Regression
    from sim.trajectory import Trajectory

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
    "run_sweep": "sweep",
    "simulate": "simulation",
    "stable_rate": "simulation",
    "Trajectory": "trajectory",
}
"""Public name -> module. Resolved on first use: importing this package does not load numba."""

__all__ = [
    "DivergenceError",
    "DivergenceWarning",
    "Mixture",
    "Network",
    "Regression",
    "Trajectory",
    "isotropic",
    "power_law",
    "run_sweep",
    "simulate",
    "spiked",
    "stable_rate",
    "variance_shares",
]


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'sim' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"sim.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
