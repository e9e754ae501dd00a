"""Population mathematics of the two axes of channel information. All information in nats."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from theory.axes import LOCAL_AXIS, QUANTITIES, TARGET_AXIS, ChannelAxes, channel_axes
from theory.hull import Hull, compact_hull
from theory.moments import Moments, merge
from theory.rank_coupling import (
    Coupling,
    coupling,
    delete_one_group,
    jackknife,
    jackknife_standard_error,
    spearman,
)

if TYPE_CHECKING:
    from theory.coupling_law import (
        channel_coupling,
        expected_output_coupling,
        initial_coupling,
        initial_coupling_joint,
        initial_coupling_normalized,
        many_outputs_coupling,
        output_coupling,
    )
    from theory.dynamics import FixedReadoutFlow, fixed_readout_flow, separation_time
    from theory.formulas import catalogue, find_closed_form
    from theory.formulas.closed_form import ClosedForm
    from theory.lesion_identities import (
        LesionDamage,
        least_squares_readout,
        lesion_damage,
        readout_error,
        set_lesion_damage,
    )
    from theory.nonparametric import copula_moments, nearest_neighbor_information
    from theory.sampling import (
        adjusted_predictability,
        delta_capture_variance,
        delta_information_variance,
        delta_predictability_variance,
        gaussian_information_bias,
        null_information_tail,
        null_information_variance,
        null_maximum_information,
    )
    from theory.shrinkage import ledoit_wolf_intensity, oas_intensity, shrink
    from theory.trained_readout import TrainedReadoutPath, balanced_mode, trained_readout_flow
    from theory.verify import Verdict, verify_catalogue, verify_form

__all__ = [
    "LOCAL_AXIS",
    "QUANTITIES",
    "TARGET_AXIS",
    "ChannelAxes",
    "ClosedForm",
    "Coupling",
    "FixedReadoutFlow",
    "Hull",
    "LesionDamage",
    "Moments",
    "TrainedReadoutPath",
    "Verdict",
    "adjusted_predictability",
    "balanced_mode",
    "catalogue",
    "channel_axes",
    "channel_coupling",
    "compact_hull",
    "copula_moments",
    "coupling",
    "delete_one_group",
    "delta_capture_variance",
    "delta_information_variance",
    "delta_predictability_variance",
    "expected_output_coupling",
    "find_closed_form",
    "fixed_readout_flow",
    "gaussian_information_bias",
    "initial_coupling",
    "initial_coupling_joint",
    "initial_coupling_normalized",
    "jackknife",
    "jackknife_standard_error",
    "least_squares_readout",
    "ledoit_wolf_intensity",
    "lesion_damage",
    "many_outputs_coupling",
    "merge",
    "nearest_neighbor_information",
    "null_information_tail",
    "null_information_variance",
    "null_maximum_information",
    "oas_intensity",
    "output_coupling",
    "readout_error",
    "separation_time",
    "set_lesion_damage",
    "shrink",
    "spearman",
    "trained_readout_flow",
    "verify_catalogue",
    "verify_form",
]

_LAZY: dict[str, str] = {
    "ClosedForm": "formulas.closed_form",
    "FixedReadoutFlow": "dynamics",
    "LesionDamage": "lesion_identities",
    "TrainedReadoutPath": "trained_readout",
    "Verdict": "verify",
    "adjusted_predictability": "sampling",
    "balanced_mode": "trained_readout",
    "catalogue": "formulas",
    "channel_coupling": "coupling_law",
    "copula_moments": "nonparametric",
    "delta_capture_variance": "sampling",
    "delta_information_variance": "sampling",
    "delta_predictability_variance": "sampling",
    "expected_output_coupling": "coupling_law",
    "find_closed_form": "formulas",
    "fixed_readout_flow": "dynamics",
    "gaussian_information_bias": "sampling",
    "initial_coupling": "coupling_law",
    "initial_coupling_joint": "coupling_law",
    "initial_coupling_normalized": "coupling_law",
    "least_squares_readout": "lesion_identities",
    "ledoit_wolf_intensity": "shrinkage",
    "lesion_damage": "lesion_identities",
    "many_outputs_coupling": "coupling_law",
    "nearest_neighbor_information": "nonparametric",
    "null_information_tail": "sampling",
    "null_information_variance": "sampling",
    "null_maximum_information": "sampling",
    "oas_intensity": "shrinkage",
    "output_coupling": "coupling_law",
    "readout_error": "lesion_identities",
    "separation_time": "dynamics",
    "set_lesion_damage": "lesion_identities",
    "shrink": "shrinkage",
    "trained_readout_flow": "trained_readout",
    "verify_catalogue": "verify",
    "verify_form": "verify",
}
"""Public name -> module with sympy or much of scipy. Resolved on first use, to import fast."""


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module 'theory' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"theory.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, *_LAZY])
