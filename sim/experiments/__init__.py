"""Experiments: each a function whose result has `findings()`, `to_frame()` and `figure()`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from theory.shared.lazy import on_first_use

if TYPE_CHECKING:
    from sim.experiments.carrier_networks import FactorialResult, factorial
    from sim.experiments.crossing import carriers, crossed_couplings
    from sim.experiments.initialization import Initial, initial
    from sim.experiments.lesioning import Lesions, lesion
    from sim.experiments.phases import Phase, phase
    from sim.experiments.separation import Separation, separate

__all__ = [
    "FactorialResult",
    "Initial",
    "Lesions",
    "Phase",
    "Separation",
    "carriers",
    "crossed_couplings",
    "factorial",
    "initial",
    "lesion",
    "phase",
    "separate",
]

__getattr__, __dir__ = on_first_use(__name__)
