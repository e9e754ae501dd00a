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
    from theory.sampling import gaussian_information_bias
    from theory.trained_readout import TrainedReadoutPath, balanced_mode, trained_readout_flow

__all__ = [
    "LOCAL_AXIS",
    "QUANTITIES",
    "TARGET_AXIS",
    "ChannelAxes",
    "Coupling",
    "FixedReadoutFlow",
    "Hull",
    "Moments",
    "TrainedReadoutPath",
    "balanced_mode",
    "channel_axes",
    "channel_coupling",
    "compact_hull",
    "coupling",
    "delete_one_group",
    "expected_output_coupling",
    "fixed_readout_flow",
    "gaussian_information_bias",
    "initial_coupling",
    "initial_coupling_joint",
    "initial_coupling_normalized",
    "jackknife",
    "jackknife_standard_error",
    "many_outputs_coupling",
    "merge",
    "output_coupling",
    "separation_time",
    "spearman",
    "trained_readout_flow",
]

_LAZY: dict[str, str] = {
    "FixedReadoutFlow": "dynamics",
    "TrainedReadoutPath": "trained_readout",
    "balanced_mode": "trained_readout",
    "channel_coupling": "coupling_law",
    "expected_output_coupling": "coupling_law",
    "fixed_readout_flow": "dynamics",
    "gaussian_information_bias": "sampling",
    "initial_coupling": "coupling_law",
    "initial_coupling_joint": "coupling_law",
    "initial_coupling_normalized": "coupling_law",
    "many_outputs_coupling": "coupling_law",
    "output_coupling": "coupling_law",
    "separation_time": "dynamics",
    "trained_readout_flow": "trained_readout",
}
"""Public name -> module with sympy or much of scipy. Resolved on first use: `import theory` is fast."""


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module 'theory' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"theory.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, *_LAZY])
