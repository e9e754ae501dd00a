"""T7: the local axis of C random filters w ~ N(0, s²I), from the spectrum λ of their inputs.

J = wᵀΣw is a channel's power, J(1 − E) what its peers leave of it, κ from Σ λ_k/(λ_k + κ) = C − 1.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import sympy

from theory.formulas import _random_layer as law
from theory.formulas import _random_layer_oracles as drawn
from theory.formulas._oracles import LINEAR_ALGEBRA, SAMPLING, mean_and_error
from theory.formulas._random_layer import (
    DENSITY,
    HELD,
    LEFT,
    PEERS,
    RESIDUAL,
    SQUARE,
    C,
    Q,
    d,
    i,
    j,
    k,
    kappa,
    kurtosis,
    lam,
    s,
    share,
    t,
    total,
)
from theory.formulas._random_layer_oracles import FINITE
from theory.formulas.closed_form import ClosedForm, Oracle
from theory.random_layer import InitialLayer, initial_layer

HERE = "leave one out, and the resolvent of what the peers span; derived here"
EXACT = "Gaussian filters of one variance; derived here"
MANY = "w ~ N(0, s²I), C − 1 below the rank of Σ; in the limit of many inputs"
MEAN = sympy.Integral(DENSITY * total(lam[k] * HELD / (1 + 2 * t * lam[k])), (t, 0, sympy.oo))
ONE = sympy.Integral(DENSITY * total(lam[k] ** 2 / (1 + 2 * t * lam[k])), (t, 0, sympy.oo))
SHARED = sympy.Sum(share(j) ** 2, (j, 1, d))
OWN_SQUARES = sympy.Sum(Q[i, i] ** 2, (i, 1, d))
MATCHED = 0.03
"""Relative tolerance of the overlap by its first moment, at four inputs."""
FEW = 0.06
"""Relative tolerance of a limit of many inputs, at 12 of them."""


def _layer(values: dict[str, object]) -> InitialLayer:
    """The layer with this κ; the number of its channels does not enter what is asked of it."""
    given = np.sort(np.asarray(values["lambda"], dtype=float))[::-1]
    kappa = float(values["kappa"])  # type: ignore[arg-type]
    return InitialLayer(given, 1 + round(float(np.sum(given / (given + kappa)))), 1.0, kappa)


form = partial(ClosedForm, item="T7")

FORMS = (
    form(
        name="peer_dimension",
        title="κ: below it input directions are left, above it the C − 1 peers hold them.",
        lhs="C - 1",
        symbols=(lam, kappa),
        expr=PEERS,
        domain="C − 1 below the rank of Σ",
        source=HERE,
        derive=law.derive_dimension,
        point=drawn.spectral_point,
        oracle=Oracle("rank of what drawn peers span", drawn.dimension_oracle, LINEAR_ALGEBRA),
    ),
    form(
        name="residual_given_peers",
        title="Given its peers, every random channel keeps the same variance in the mean: "
        "replaceability is born equal.",
        lhs=r"E[J_i (1 - E_i) \mid Y_{-i}]",
        symbols=(Q, s),
        expr=s**2 * sympy.Trace(Q),
        domain="w_i ~ (0, s²I) independent of its peers V; Q = Σ − ΣVᵀ(VΣVᵀ)⁻¹VΣ",
        source=EXACT,
        derive=law.derive_given_peers,
        point=lambda rng: {"Q": drawn.left_matrix(rng), "s": float(rng.uniform(0.5, 2))},
        oracle=Oracle("sampling filters", drawn.form_oracle, SAMPLING, sampling=True),
    ),
    form(
        name="residual_variance_given_peers",
        title="Its variance over filters with independent entries of any kurtosis.",
        lhs=r"\operatorname{Var}[J_i (1 - E_i) \mid Y_{-i}]",
        symbols=(Q, s, kurtosis),
        expr=s**4 * (2 * sympy.Trace(Q * Q) + (kurtosis - 3) * OWN_SQUARES),
        domain="independent entries of w_i, of variance s², kurtosis k_4: 3 Gaussian, 9/5 uniform",
        source=EXACT,
        derive=law.derive_variance,
        point=lambda rng: {
            "Q": drawn.left_matrix(rng),
            "s": float(rng.uniform(0.5, 2)),
            "k_4": float(rng.uniform(1.5, 6)),
        },
        oracle=Oracle("all filters of three levels", drawn.variance_oracle, LINEAR_ALGEBRA),
    ),
    form(
        name="initial_residual",
        title="What no peer explains of a random channel, the same for all.",
        lhs=r"E[J_i (1 - E_i)]",
        symbols=(lam, kappa, s),
        expr=s**2 * RESIDUAL,
        domain=MANY,
        source=HERE,
        derive=law.derive_residual,
        point=drawn.scaled_point,
        oracle=Oracle("projections of drawn peers", drawn.residual_oracle, FINITE),
        stable=lambda s, **v: s**2 * _layer(v).residual,
    ),
    form(
        name="initial_residual_spread",
        title="Its standard deviation across channels, relative to its mean.",
        lhs=r"\operatorname{sd}[J_i (1 - E_i)] / E[J_i (1 - E_i)]",
        symbols=(lam, kappa),
        expr=sympy.sqrt(2 * SQUARE) / RESIDUAL,
        domain=MANY,
        source=HERE,
        derive=law.derive_spread,
        point=drawn.spectral_point,
        oracle=Oracle("projections of drawn peers", drawn.spread_oracle, FINITE),
        stable=lambda **v: _layer(v).residual_spread,
    ),
    form(
        name="initial_residual_correlation",
        title="Correlation of what no peer explains with power, across random channels.",
        lhs=r"\operatorname{corr}(J_i (1 - E_i), J_i)",
        symbols=(lam, kappa),
        expr=total(LEFT * lam[k]) / sympy.sqrt(SQUARE * total(lam[k] ** 2)),
        domain=MANY,
        source=HERE,
        derive=law.derive_correlation,
        point=drawn.spectral_point,
        oracle=Oracle("projections of drawn peers", drawn.correlation_oracle, FINITE),
        stable=lambda **v: _layer(v).residual_power_correlation,
    ),
    form(
        name="initial_residual_slope",
        title="Slope of what no peer explains on power: E is near 1 − (r + β(J − E J))/J.",
        lhs=r"\operatorname{Cov}(J_i (1 - E_i), J_i) / \operatorname{Var} J_i",
        symbols=(lam, kappa),
        expr=total(LEFT * lam[k]) / total(lam[k] ** 2),
        domain=MANY,
        source=HERE,
        derive=law.derive_slope,
        point=drawn.spectral_point,
        oracle=Oracle("projections of drawn peers", drawn.slope_oracle, FINITE),
        stable=lambda **v: _layer(v).residual_slope,
    ),
    form(
        name="initial_predictability",
        title="Mean predictability of random channels.",
        lhs=r"E[E_i]",
        symbols=(lam, kappa),
        expr=MEAN,
        domain=MANY,
        source=HERE,
        derive=law.derive_predictability,
        point=drawn.few_inputs,
        oracle=Oracle("inverting drawn layers", drawn.predictability_oracle, FEW),
        stable=lambda **v: _layer(v).mean_predictability,
    ),
    form(
        name="initial_predictability_isotropic",
        title="Mean predictability where the inputs are white: peers over inputs.",
        lhs=r"E[E_i]",
        symbols=(C, d),
        expr=(C - 1) / d,
        domain="Σ ∝ I, 2 ≤ C ≤ d; exact",
        source="the share of a uniform direction in C − 1 of d dimensions is Beta",
        derive=law.derive_beta(1),
        point=lambda rng: {"C": int(rng.integers(3, 6)), "d": int(rng.integers(7, 12))},
        oracle=Oracle(
            "regressions in drawn layers",
            lambda C, d: mean_and_error(drawn.isotropic_predictability(C, d)),
            SAMPLING,
            sampling=True,
        ),
    ),
    form(
        name="initial_predictability_variance",
        title="Its variance across channels.",
        lhs=r"\operatorname{Var}[E_i]",
        symbols=(C, d),
        expr=2 * (C - 1) * (d - C + 1) / (d**2 * (d + 2)),
        domain="Σ ∝ I, 2 ≤ C ≤ d; exact",
        source="the share of a uniform direction in C − 1 of d dimensions is Beta",
        derive=law.derive_beta(2),
        point=lambda rng: {"C": int(rng.integers(3, 6)), "d": int(rng.integers(7, 12))},
        oracle=Oracle(
            "regressions in drawn layers",
            lambda C, d: mean_and_error((drawn.isotropic_predictability(C, d) - (C - 1) / d) ** 2),
            SAMPLING,
            sampling=True,
        ),
    ),
    form(
        name="one_peer_residual",
        title="What one peer leaves of a random channel, exactly: the law at its smallest.",
        lhs=r"E[J_i (1 - E_i)],\ C = 2",
        symbols=(lam, s),
        expr=s**2 * (total(lam[k]) - ONE),
        domain="w ~ N(0, s²I), two channels; exact",
        source=EXACT,
        derive=law.derive_one_peer,
        point=lambda rng: drawn.small_spectrum(rng) | {"s": float(rng.uniform(0.5, 2))},
        oracle=Oracle(
            "regressions of drawn channels", drawn.one_peer_oracle, SAMPLING, sampling=True
        ),
    ),
    form(
        name="initial_squared_overlap",
        title="Mean squared correlation of two random channels: the squared mean shares of power.",
        lhs=r"E[R_{ij}^2]",
        symbols=(lam,),
        expr=SHARED,
        domain="w ~ N(0, s²I); exact",
        source=EXACT,
        derive=law.derive_squared_overlap,
        point=drawn.small_spectrum,
        oracle=Oracle(
            "sampling channels",
            lambda **v: mean_and_error(drawn.squared_correlations(v["lambda"], 200_000)),
            SAMPLING,
            sampling=True,
        ),
        stable=lambda **v: initial_layer(v["lambda"], 2).squared_overlap,
    ),
    form(
        name="initial_overlap_isotropic",
        title="Mean overlap of random channels where the inputs are white.",
        lhs=r"E[-\tfrac12 \log(1 - R_{ij}^2)]",
        symbols=(d,),
        expr=(sympy.digamma(d / sympy.Integer(2)) - sympy.digamma((d - 1) / sympy.Integer(2))) / 2,
        domain="Σ ∝ I of rank d; exact",
        source="1 − R² ~ Beta((d − 1)/2, ½)",
        derive=law.derive_overlap_isotropic,
        point=lambda rng: {"d": int(rng.integers(3, 12))},
        oracle=Oracle(
            "sampling channels",
            lambda d: mean_and_error(
                -0.5 * np.log1p(-drawn.squared_correlations(np.ones(int(d)), 200_000))
            ),
            SAMPLING,
            sampling=True,
        ),
    ),
    form(
        name="initial_overlap",
        title="Mean overlap of random channels, by the mean of R².",
        lhs=r"E[-\tfrac12 \log(1 - R_{ij}^2)]",
        symbols=(lam,),
        expr=(sympy.digamma(1 / SHARED / 2) - sympy.digamma((1 / SHARED - 1) / 2)) / 2,
        domain="w ~ N(0, s²I); exact where Σ ∝ I, else for many inputs",
        source=HERE,
        derive=law.derive_overlap,
        point=lambda rng: {"lambda": np.arange(1.0, 5) ** -rng.uniform(0.2, 0.8)},
        oracle=Oracle(
            "sampling channels",
            lambda **v: float(
                np.mean(-0.5 * np.log1p(-drawn.squared_correlations(v["lambda"], 100_000)))
            ),
            MATCHED,
        ),
        stable=lambda **v: initial_layer(v["lambda"], 2).mean_overlap,
    ),
    form(
        name="initial_power_spread",
        title="Relative spread of power across random channels, which E follows.",
        lhs=r"\operatorname{sd}[J_i] / E[J_i]",
        symbols=(lam,),
        expr=sympy.sqrt(2 * total(lam[k] ** 2)) / total(lam[k]),
        domain="w ~ N(0, s²I); exact",
        source="cumulants of a quadratic form",
        derive=law.derive_power_spread,
        point=drawn.small_spectrum,
        oracle=Oracle("sampling channels", drawn.power_spread_oracle, SAMPLING, sampling=True),
    ),
)
