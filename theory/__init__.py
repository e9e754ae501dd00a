"""Population mathematics of the two axes of channel information. All information in nats."""

from __future__ import annotations

from typing import TYPE_CHECKING

from theory.shared.lazy import on_first_use

if TYPE_CHECKING:
    from theory.axes import channel_axes
    from theory.block_regression import blocks_recovered_outside, regress_on_other_blocks
    from theory.blocks import BlockAxes, block_axes, block_axes_of_groups
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
    from theory.few_samples import PeerEstimates, estimate_peers
    from theory.formulas import catalogue, find_closed_form
    from theory.formulas.closed_form import ClosedForm
    from theory.hull import Hull, compact_hull
    from theory.intervals import predictability_interval
    from theory.lesion_identities import (
        LesionDamage,
        least_squares_readout,
        lesion_damage,
        readout_error,
        set_lesion_damage,
    )
    from theory.moments import Moments, merge
    from theory.nonparametric import copula_moments, nearest_neighbor_information
    from theory.peer_regression import PeerRegression, recovered_outside, regress_on_peers
    from theory.quantity import (
        LOCAL_AXIS,
        QUANTITIES,
        TARGET_AXIS,
        ChannelAxes,
        Quantity,
        quantities,
    )
    from theory.random_layer import (
        Differentiation,
        InitialLayer,
        differentiation,
        initial_layer,
    )
    from theory.rank_coupling import (
        Coupling,
        coupling,
        delete_one_group,
        jackknife,
        jackknife_standard_error,
        spearman,
    )
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
    from theory.settling import settled_record, settling_time
    from theory.shrinkage import ledoit_wolf_intensity, oas_intensity, shrink
    from theory.trained_readout import (
        TrainedReadoutPath,
        balanced_mode,
        layer_gap,
        trained_readout_flow,
        two_layer_mode,
    )
    from theory.verify import Verdict, verify_catalogue, verify_form

__all__ = [
    "LOCAL_AXIS",
    "QUANTITIES",
    "TARGET_AXIS",
    "BlockAxes",
    "ChannelAxes",
    "ClosedForm",
    "Coupling",
    "Differentiation",
    "FixedReadoutFlow",
    "Hull",
    "InitialLayer",
    "LesionDamage",
    "Moments",
    "PeerEstimates",
    "PeerRegression",
    "Quantity",
    "TrainedReadoutPath",
    "Verdict",
    "adjusted_predictability",
    "balanced_mode",
    "block_axes",
    "block_axes_of_groups",
    "blocks_recovered_outside",
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
    "differentiation",
    "estimate_peers",
    "expected_output_coupling",
    "find_closed_form",
    "fixed_readout_flow",
    "gaussian_information_bias",
    "initial_coupling",
    "initial_coupling_joint",
    "initial_coupling_normalized",
    "initial_layer",
    "jackknife",
    "jackknife_standard_error",
    "layer_gap",
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
    "predictability_interval",
    "quantities",
    "readout_error",
    "recovered_outside",
    "regress_on_other_blocks",
    "regress_on_peers",
    "separation_time",
    "set_lesion_damage",
    "settled_record",
    "settling_time",
    "shrink",
    "spearman",
    "trained_readout_flow",
    "two_layer_mode",
    "verify_catalogue",
    "verify_form",
]

__getattr__, __dir__ = on_first_use(__name__)
