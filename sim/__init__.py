"""Synthetic training: when do the two axes of channel information separate?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from theory.shared.lazy import on_first_use

if TYPE_CHECKING:
    from sim.networks import Network
    from sim.simulation import DivergenceError, DivergenceWarning, simulate, stable_rate
    from sim.spectra import isotropic, power_law, spiked, variance_shares
    from sim.sweep import run_sweep
    from sim.tasks import Mixture, Regression
    from sim.trajectory import Trajectory

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

__getattr__, __dir__ = on_first_use(__name__)
