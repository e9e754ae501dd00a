"""Bad calls of `theory`: each is refused with argument, value and remedy."""

import numpy as np

import theory
from tests.calls.refusals import (
    ARRAYS,
    COUNTS,
    INDICES,
    INF,
    NAN,
    RATES,
    SHARES,
    SIZES,
    Good,
    checks_of,
)
from theory import Moments

RNG = np.random.default_rng(0)
SAMPLES = RNG.standard_normal((40, 4))
MOMENTS = Moments.from_samples(SAMPLES, SAMPLES[:, 0] + RNG.standard_normal(40))
POPULATION = Moments.from_covariance(np.eye(3))
EYE, PAIR, TRIPLE = np.eye(3), [[1.0, 0.6], [0.6, 1.0]], [1.0, 2.0, 3.0]
LOPSIDED, INDEFINITE = [[1.0, 0.9], [0.1, 1.0]], [[1.0, 2.0], [2.0, 1.0]]
SINGULAR = [[1.0, 1.0], [1.0, 1.0]]
HOLED = [[1.0, NAN], [NAN, 1.0]]
MATRICES = (None, "text", [1.0, 2.0], LOPSIDED, INDEFINITE, HOLED, np.ones((2, 3)))
NOT_MOMENTS = (None, "text", 3, SAMPLES)
FORM = theory.catalogue()["task_information"]
LAYER = theory.initial_layer(EYE, 2)
FLOW = theory.fixed_readout_flow(
    np.diag([4.0, 1.0, 0.25]), [0.1, 0.5, 1.0], [1.0], [[1.0, 0.2, 0.1]]
)
TWO_LAYERS = {"sigma": np.eye(2), "cross": [1.0, 0.0], "readout": [0.1], "weights": [[0.1, 0.0]]}
READOUT = {"cov": PAIR, "cross": [0.5, 0.4]}


def law(function, second="c"):
    """The laws of a spectrum and a vector in its basis."""
    spectra = (None, "text", [-1.0, 1.0, 1.0], [0.0] * 3, [1.0, NAN, 1.0], LOPSIDED, INDEFINITE)
    bad = {"sigma": spectra}
    good = {"sigma": [2.0, 1.0, 0.5]}
    if second:
        good[second] = TRIPLE
        bad[second] = (None, "text", [1.0, INF, 1.0], [0.0, 0.0, 0.0], [1.0, 2.0])
    return Good(function, good, bad)


TABLE = {
    "from_samples": Good(
        Moments.from_samples,
        {"y": SAMPLES, "t": SAMPLES[:, 0]},
        {"y": (*ARRAYS, np.empty((0, 3)), [[NAN, 1.0]]), "t": ("text", [1.0], [1.0, NAN] * 20)},
    ),
    "from_covariance": Good(
        Moments.from_covariance,
        {"cov": PAIR},
        {
            "cov": MATRICES,
            "n_targets": (None, "text", NAN, -1, 1.5, 2),
            "mean": ("text", [1.0], [NAN, 1.0]),
            "n": ("text", NAN, INF, -1, 0, 1.5),
        },
    ),
    "merge": Good(theory.merge, {"parts": [MOMENTS]}, {"parts": (None, 3, [], [MOMENTS, 3])}),
    "select": Good(MOMENTS.select, {"channels": [0, 1]}, {"channels": ([], [9], [-1], "text")}),
    "project_targets": Good(
        MOMENTS.project_targets, {"weights": [1.0]}, {"weights": (None, "text", [1, 2], [NAN])}
    ),
    "transform_channels": Good(
        MOMENTS.transform_channels,
        {"weights": np.eye(4)},
        {"weights": (None, "text", np.eye(3)), "offset": ("text", [1.0], [NAN] * 4)},
    ),
    "channel_axes": Good(
        theory.channel_axes,
        {"moments": MOMENTS, "noise": 1.0},
        {
            "moments": NOT_MOMENTS,
            "noise": (None, "medan", "quantile:2", "quantile:x", -1, 0, NAN),
            "ridge": SIZES,
            "peers": COUNTS,
            "top": COUNTS,
            "weights": ("text", np.eye(3), [[NAN]] * 4),
            "hull": ("yes", None, 1),
            "details": ("yes", None, 1),
            "bias_correction": ("no", None, 1),
        },
    ),
    "channel_axes of a population": Good(
        theory.channel_axes,
        {"moments": POPULATION},
        {"bias_correction": (True,), "estimate": ("corrected", "in_out")},
    ),
    "initial_coupling": law(theory.initial_coupling),
    "initial_coupling_joint": law(theory.initial_coupling_joint),
    "initial_coupling_normalized": law(theory.initial_coupling_normalized),
    "output_coupling": law(theory.output_coupling, "m"),
    "many_outputs_coupling": law(theory.many_outputs_coupling, ""),
    "expected_output_coupling": law(theory.expected_output_coupling, ""),
    "channel_coupling": Good(
        theory.channel_coupling,
        {"sigma": EYE, "c": TRIPLE, "centers": np.zeros((2, 3))},
        {"centers": (None, "text", np.zeros((2, 2)), [1.0]), "scale": RATES},
    ),
    "initial_layer": Good(
        theory.initial_layer,
        {"sigma": EYE, "width": 2},
        {"sigma": (None, "text", [-1.0, 1.0], [0.0], LOPSIDED, INDEFINITE, HOLED)}
        | {"width": (*COUNTS, 1)}
        | {"scale": RATES},
    ),
    "layer.predictability": Good(
        LAYER.predictability, {"power": 1.0}, {"power": (None, "text", [-1.0, 1.0], 0.0, NAN)}
    ),
    "layer.peers_needed": Good(LAYER.peers_needed, {}, {"share": SHARES}),
    "layer.draw": Good(LAYER.draw, {}, {"seed": INDICES}),
    "layer.differentiation": Good(LAYER.differentiation, {}, {"draws": COUNTS}),
    "differentiation": Good(
        theory.differentiation,
        {"power": [1.0, 2.0, 3.0], "predictability": [0.1, 0.2, 0.4]},
        {
            "power": (None, "text", [1.0], [-1.0, 2.0, 3.0]),
            "predictability": (None, "text", [1.0]),
        },
    ),
    "fixed_readout_flow": Good(
        theory.fixed_readout_flow,
        TWO_LAYERS,
        {
            "sigma": MATRICES,
            "cross": (None, "text", [1.0], [NAN, 1.0]),
            "readout": (None, "text", [1.0, 1.0], [INF]),
            "weights": (None, "text", [[1.0]], [1.0, 1.0]),
            "target_cov": ("text", -1.0, np.eye(2)),
        },
    ),
    "flow.residual": Good(FLOW.residual, {"t": 1.0}, {"t": SIZES}),
    "flow.moments": Good(FLOW.moments, {"t": 1.0}, {"t": SIZES, "target": ("lable", None)}),
    "flow.coupling": Good(FLOW.coupling, {"t": 1.0}, {"t": SIZES, "target": ("outputs", 3)}),
    "flow.rank_coupling": Good(
        FLOW.rank_coupling, {"t": 1.0}, {"t": SIZES, "target": ("lable", None)}
    ),
    "settled_record": Good(
        theory.settled_record,
        {"values": [1.0, 0.5, 0.0]},
        {
            "values": (None, "text", [1.0], [[1.0, 0.0]]),
            "apart": SIZES,
            "fraction": (None, "text", NAN, 0, 1, -1),
        },
    ),
    "settling_time": Good(
        theory.settling_time,
        {"times": [0.0, 1.0, 2.0], "values": [1.0, 0.5, 0.0]},
        {
            "times": (None, "text", [0.0, 1.0], [0.0, 2.0, 1.0], [-1.0, 0.0, 1.0], [0.0, NAN, 1.0]),
            "values": (None, "text", [1.0]),
            "apart": SIZES,
            "fraction": (None, "text", NAN, 0, 1, -1),
        },
    ),
    "flow.layer_coupling": Good(
        FLOW.layer_coupling, {"t": 1.0, "scale": 1.0}, {"scale": RATES, "target": ("lable",)}
    ),
    "separation_time": Good(
        theory.separation_time,
        {"flow": FLOW},
        {"flow": (None, 3), "fraction": (None, "text", NAN, 0, 1, -1)},
    ),
    "trained_readout_flow": Good(
        theory.trained_readout_flow,
        {**TWO_LAYERS, "times": [0.0, 1.0]},
        {
            "sigma": MATRICES,
            "cross": (None, "text", [1.0]),
            "times": (None, "text", [], [1.0, 0.5], [-1.0], [NAN]),
            "rtol": RATES,
        },
    ),
    "balanced_mode": Good(
        theory.balanced_mode,
        {"t": 1.0, "strength": 1.0, "variance": 1.0, "start": 0.1},
        {"t": (None, "text", -1.0, NAN), "strength": SIZES, "variance": RATES, "start": RATES},
    ),
    "two_layer_mode": Good(
        theory.two_layer_mode,
        {"t": 1.0, "strength": 1.0, "variance": 1.0, "start": 0.1, "gap": 0.5},
        {
            "t": (None, "text", -1.0, NAN),
            "strength": RATES,
            "variance": RATES,
            "start": (None, "text", NAN, [1.0]),
            "gap": RATES,
        },
    ),
    "layer_gap": Good(
        theory.layer_gap,
        {"weights": [1.0, 2.0], "readout": [0.5, 0.1]},
        {"weights": (None, "text", [1.0], [NAN, 1.0]), "readout": (None, "text", [1.0])},
    ),
    "compact_hull": Good(
        theory.compact_hull,
        {"correlation": np.array(PAIR), "predictability": np.array([0.36, 0.36])},
        {
            "correlation": (None, "text", [1.0, 2.0], HOLED, np.ones((2, 3))),
            "predictability": (None, "text", [0.3], [NAN, 0.3]),
            "ridge": SIZES,
            "share": (None, "text", NAN, -0.1, 1.5),
            "most": COUNTS,
        },
    ),
    "readout_error": Good(
        theory.readout_error,
        {**READOUT, "target_cov": 1.0, "readout": [0.5, 0.1]},
        {
            "cov": MATRICES,
            "cross": (None, "text", [1.0]),
            "target_cov": (None, "text", np.eye(2), -1.0),
            "readout": (None, "text", [1.0], [NAN, 1.0]),
        },
    ),
    "least_squares_readout": Good(
        theory.least_squares_readout, READOUT, {"cov": (*MATRICES, SINGULAR)}
    ),
    "lesion_damage": Good(
        theory.lesion_damage,
        READOUT,
        {
            "cov": MATRICES,
            "readout": ("text", [1.0]),
            "mean": ("text", [1.0], [NAN, 1.0]),
            "mean_error": ("text", [1.0, 2.0], [NAN]),
        },
    ),
    "set_lesion_damage": Good(
        theory.set_lesion_damage,
        {**READOUT, "channels": [0]},
        {"channels": (None, "text", [], [0, 0], [2], [-1], [0.5])},
    ),
    "copula_moments": Good(
        theory.copula_moments, {"y": SAMPLES}, {"y": ARRAYS, "t": ("text", [1.0])}
    ),
    "nearest_neighbor_information": Good(
        theory.nearest_neighbor_information,
        {"x": SAMPLES[:, 0], "y": SAMPLES[:, 1]},
        {"x": (None, "text", [1.0] * 40), "y": ("text", [1.0, 2.0]), "k": (*COUNTS, 40, 10**12)},
    ),
    "regress_on_peers": Good(
        theory.regress_on_peers,
        {"moments": MOMENTS, "peers": "overlap", "size": 2},
        {
            "moments": NOT_MOMENTS,
            "peers": ("hulls", None, 3),
            "size": ("text", NAN, -1, 0, 1.5),
            "ridge": SIZES,
            "rng": ("text", 3),
        },
    ),
    "coupling": Good(
        theory.coupling,
        {"a": TRIPLE, "b": TRIPLE, "permutations": 9},
        {"a": (*ARRAYS, [1.0]), "b": ("text", [1.0]), "permutations": (*COUNTS, 10**12),
         "seed": INDICES},
    ),
    "spearman": Good(
        theory.spearman, {"a": TRIPLE, "b": TRIPLE}, {"a": ("text", [1.0, 2.0], [1j])}
    ),
    "delete_one_group": Good(
        theory.delete_one_group, {"groups": [MOMENTS] * 3}, {"groups": (None, 3, [], [MOMENTS])}
    ),
    "jackknife": Good(
        theory.jackknife,
        {"groups": [MOMENTS] * 3, "statistic": lambda m: m.mean},
        {"groups": (None, [], [MOMENTS]), "statistic": (None, "mean")},
    ),
    "jackknife_standard_error": Good(
        theory.jackknife_standard_error, {"replicates": TRIPLE}, {"replicates": (None, "text", [1])}
    ),
    "gaussian_information_bias": Good(
        theory.gaussian_information_bias,
        {"n": 30, "p": 2, "q": 1},
        {"n": (None, "text", NAN, INF, 3, 30.5), "p": COUNTS, "q": COUNTS},
    ),
    "delta_information_variance": Good(
        theory.delta_information_variance,
        {"rho": 0.5, "n": 30},
        {"rho": (None, "text", 1.5, NAN), "n": (None, "text", NAN, 2, 3.5)},
    ),
    "delta_capture_variance": Good(
        theory.delta_capture_variance,
        {"power": 1.0, "noise": 1.0, "n": 30},
        {"power": ("text", -1.0, NAN), "noise": RATES, "n": (None, NAN, 2)},
    ),
    "delta_predictability_variance": Good(
        theory.delta_predictability_variance,
        {"predictability": 0.5, "n": 30},
        {"predictability": ("text", 1.5, NAN), "n": (None, NAN, 2)},
    ),
    "adjusted_predictability": Good(
        theory.adjusted_predictability,
        {"predictability": 0.5, "n": 30, "p": 3},
        {"predictability": ("text", 1.5, NAN), "n": (None, "text", NAN, 4), "p": COUNTS},
    ),
    "null_information_tail": Good(
        theory.null_information_tail,
        {"information": 0.1, "n": 30},
        {"information": ("text", -1.0, NAN), "n": (None, "text", NAN, 2), "p": COUNTS},
    ),
    "null_information_variance": Good(
        theory.null_information_variance, {"n": 30}, {"n": (None, "text", NAN, 2), "p": COUNTS}
    ),
    "null_maximum_information": Good(
        theory.null_maximum_information, {"n": 30}, {"n": (None, "text", NAN, 3), "q": (None, 2)}
    ),
    "oas_intensity": Good(
        theory.oas_intensity, {"cov": EYE, "n": 10}, {"cov": MATRICES, "n": COUNTS}
    ),
    "ledoit_wolf_intensity": Good(
        theory.ledoit_wolf_intensity, {"samples": SAMPLES}, {"samples": (*ARRAYS, [[1.0, 2.0]])}
    ),
    "shrink": Good(
        theory.shrink,
        {"moments": MOMENTS, "method": "ridge", "amount": 0.1},
        {"moments": NOT_MOMENTS, "method": ("rigde", None), "amount": (None, "text", NAN, INF, -1)},
    ),
    "find_closed_form": Good(
        theory.find_closed_form, {"name": FORM.name}, {"name": ("task_informatoin", None, "")}
    ),
    "verify_form": Good(
        theory.verify_form,
        {"form": FORM, "points": 1},
        {"form": (None, "task_information"), "points": COUNTS, "seed": INDICES},
    ),
    "verify_catalogue": Good(
        theory.verify_catalogue, {"forms": [FORM], "points": 1}, {"forms": (3, ["text"], [3])}
    ),
}  # fmt: skip

test_the_good_call_works, test_a_bad_call_is_refused = checks_of(TABLE)
