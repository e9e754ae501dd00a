"""T4, batch-normalized channels: there the loss gradient of a filter is the residualized direction.

f = Σ_i a_i Y_i/√D_i, loss ½ E‖T − f‖², r (d, K) = Cov(X, T − f) what the layer leaves, a (K, 1) the
readout of one channel w. Rates are per unit of gradient-flow time; η is a learning rate.
"""

from __future__ import annotations

from functools import partial

import sympy

from theory.formulas import _normalized as bn
from theory.formulas._derivation import scalar
from theory.formulas._flow import SOLVER
from theory.formulas._normalized import (
    LAYER,
    VELOCITY,
    D,
    G,
    Sigma,
    X,
    a,
    e,
    epsilon,
    eta,
    mu,
    n,
    norm0,
    r,
    s,
    steps_made,
    tau,
    w,
)
from theory.formulas._oracles import DIFFERENTIATION
from theory.formulas.closed_form import ClosedForm, Oracle

ITERATION = 1e-9
"""Relative tolerance of a descent iterated to where it stays."""
SMALL_STEPS = 1e-5
"""Of a limit of small steps, against steps that move the filter by a thousandth of its norm."""
DESCENT = "one descent step of a plane filter is (1 − ημ)w + ηv, v ⟂ w, ‖v‖ = G/‖w‖"
EQUILIBRIUM = (
    "van Laarhoven (2017), arXiv:1706.05350; Wan et al. (2021), arXiv:2006.08419; exact here"
)
COMPLEX = "complex-step differentiation of a whole layer"
BATCH_POWER = scalar(w.T * X.T * X * w) / n
ALONG = scalar(w.T * r * a)

form = partial(ClosedForm, item="T4", source=bn.HERE)

FORMS = (
    form(
        name="normalized_velocity",
        title="Behind batch norm a filter moves along the residualized direction of the layer's "
        "own residual.",
        lhs=r"-\partial L/\partial w",
        symbols=(Sigma, w, r, a),
        expr=VELOCITY,
        domain=f"{LAYER}; any number of outputs",
        derive=bn.derive_velocity,
        point=bn.channel,
        oracle=Oracle(COMPLEX, bn.network_velocity, DIFFERENTIATION),
    ),
    form(
        name="normalized_weight_product",
        title="Behind batch norm the loss gradient is orthogonal to the filter.",
        lhs=r"-w^T \partial L/\partial w = 0",
        symbols=(Sigma, w, r, a),
        expr=scalar(w.T * VELOCITY),
        domain=LAYER,
        derive=bn.derive_weight_product,
        point=bn.channel,
        oracle=Oracle("derivative along the filter's scale", bn.scale_slope, DIFFERENTIATION),
    ),
    form(
        name="normalized_information_rate",
        title="The filter's velocity over its gradient of information about the layer's residual.",
        lhs=r"-\partial L/\partial w = x \nabla_w I(Y; (T - f)^T a), \quad x",
        symbols=(Sigma, w, r, a, tau),
        expr=(D * tau**2 - ALONG**2) / (ALONG * sympy.sqrt(D)),
        domain=f"{LAYER}; τ² the variance of the residual along a; wᵀra ≠ 0",
        derive=bn.derive_information_rate,
        point=bn.channel_with(tau=(8.0, 9.0)),
        oracle=Oracle("both gradients by complex steps", bn.information_rate, DIFFERENTIATION),
    ),
    form(
        name="normalized_norm_conserved",
        title="Gradient flow conserves the norm of every filter behind a batch norm.",
        lhs=r"\|w(t)\|^2",
        symbols=(w,),
        expr=scalar(w.T * w),
        domain=f"{LAYER}; w at t = 0, any Σ, targets, readouts and t",
        derive=bn.derive_norm_conserved,
        point=lambda rng: {"w": rng.standard_normal(4)},
        oracle=Oracle("the flow, integrated numerically", bn.norm_after, SOLVER),
    ),
    form(
        name="normalized_norm_step",
        title="A descent step lengthens a filter behind a batch norm, always.",
        lhs=r"\|w - \eta\, \partial L/\partial w\|^2",
        symbols=(Sigma, w, r, a, eta),
        expr=scalar(w.T * w)
        + eta**2
        * (
            scalar(a.T * r.T * r * a)
            - 2 * ALONG / D * scalar(w.T * Sigma * r * a)
            + (ALONG / D) ** 2 * scalar(w.T * Sigma * Sigma * w)
        )
        / D,
        domain=LAYER,
        derive=bn.derive_norm_step,
        point=bn.channel_with(eta=(0.1, 1.0)),
        oracle=Oracle("a step along the complex-step gradient", bn.norm_of_step, DIFFERENTIATION),
    ),
    form(
        name="normalized_scale",
        title="A filter of s times the norm moves at 1/s of the speed: its direction at 1/s².",
        lhs=r"-\partial L/\partial w \,(s w)",
        symbols=(Sigma, w, r, a, s),
        expr=VELOCITY / s,
        domain=f"{LAYER}; r as at w, since the scale of w changes nothing",
        derive=bn.derive_scale,
        point=bn.channel_with(s=(0.5, 3.0)),
        oracle=Oracle(
            COMPLEX,
            lambda s, **v: bn.network_velocity(**{**v, "w": s * v["w"]}),
            DIFFERENTIATION,
        ),
    ),
    form(
        name="normalized_power_velocity",
        title="Power moves only by the Euclidean product of the two directions: not at all where "
        "Σ ∝ I.",
        lhs="dD/dt",
        symbols=(Sigma, w, r, a),
        expr=2
        * (scalar(w.T * Sigma * r * a) - ALONG / D * scalar(w.T * Sigma * Sigma * w))
        / sympy.sqrt(D),
        domain=f"gradient flow; {LAYER}",
        derive=bn.derive_power_velocity,
        point=bn.channel,
        oracle=Oracle("complex steps of loss and power", bn.power_slope(False), DIFFERENTIATION),
    ),
    form(
        name="plain_power_velocity",
        title="Without the norm, power moves with what the layer leaves along Σw.",
        lhs="dD/dt",
        symbols=(Sigma, w, r, a),
        expr=2 * scalar(w.T * Sigma * r * a),
        domain="gradient flow of ½ E‖T − f‖², f = Σ a_i Y_i",
        derive=bn.derive_plain_power_velocity,
        point=bn.channel,
        oracle=Oracle("complex steps of loss and power", bn.power_slope(True), DIFFERENTIATION),
    ),
    form(
        name="normalized_epsilon",
        title="What a batch norm's ε leaves of the gradient along the filter.",
        lhs=r"-w^T \partial L/\partial w",
        symbols=(Sigma, w, r, a, epsilon),
        expr=epsilon * ALONG / (D + epsilon) ** sympy.Rational(3, 2),
        domain="as normalized_velocity, with Y/√(D + ε)",
        derive=bn.derive_epsilon,
        point=bn.channel_with(epsilon=(0.01, 0.5)),
        oracle=Oracle("derivative along the filter's scale", bn.epsilon_slope, DIFFERENTIATION),
    ),
    form(
        name="normalized_readout_velocity",
        title="A readout stands still where its channel covaries with no residual: then the "
        "residualized direction is the residual itself.",
        lhs=r"-\partial L/\partial a",
        symbols=(Sigma, w, r),
        expr=r.T * w / sympy.sqrt(D),
        domain=LAYER,
        derive=bn.derive_readout_velocity,
        point=lambda rng: {k: v for k, v in bn.channel(rng).items() if k != "a"},
        oracle=Oracle(COMPLEX, bn.readout_slope, DIFFERENTIATION),
    ),
    form(
        name="normalized_batch_velocity",
        title="The same in a minibatch, exactly, with the batch's own moments.",
        lhs=r"-\partial L/\partial w",
        symbols=(X, w, e, a),
        expr=(X.T * e * a - (scalar(w.T * X.T * e * a) / (n * BATCH_POWER)) * X.T * X * w)
        / (n * sympy.sqrt(BATCH_POWER)),
        domain="a batch X (n, d) of columns with mean 0, errors e (n, K), norm over the batch",
        derive=bn.derive_batch_velocity,
        point=bn.batch,
        oracle=Oracle("complex steps through a batch norm", bn.batch_slope, DIFFERENTIATION),
    ),
    form(
        name="normalized_norm_growth",
        title="Without weight decay filters grow like the fourth root of steps: learning slows.",
        lhs=r"\|w\| \text{ after } N \text{ steps}",
        symbols=(norm0, eta, G, steps_made),
        expr=(norm0**4 + 2 * eta**2 * G**2 * steps_made) ** sympy.Rational(1, 4),
        domain="small steps, gradient of norm G at ‖w‖ = 1",
        source=f"{DESCENT}; derived here",
        derive=bn.derive_norm_growth,
        point=lambda rng: {
            "w_0": float(rng.uniform(0.9, 1.2)),
            "eta": 0.001,
            "G": float(rng.uniform(0.5, 1.0)),
            "N": float(rng.integers(10_000, 50_000)),
        },
        oracle=Oracle("descent of a plane filter", bn.grown_norm, SMALL_STEPS),
    ),
    form(
        name="decay_equilibrium_norm",
        title="Norm at which weight decay takes as much as the steps add.",
        lhs=r"\|w\|",
        symbols=(eta, mu, G),
        expr=(eta * G**2 / (mu * (2 - eta * mu))) ** sympy.Rational(1, 4),
        domain="0 < ημ < 1, gradient of norm G at ‖w‖ = 1",
        source=EQUILIBRIUM,
        derive=bn.derive_decay_norm,
        point=lambda rng: {
            "eta": float(rng.uniform(0.2, 0.8)),
            "mu": float(rng.uniform(0.05, 0.3)),
            "G": float(rng.uniform(0.5, 2.0)),
        },
        oracle=Oracle("descent of a plane filter", bn.settled_norm, ITERATION),
    ),
    form(
        name="decay_equilibrium_cosine",
        title="Cosine of a filter before and after a step at that norm, whatever the gradient.",
        lhs=r"\cos(w, w_+)",
        symbols=(eta, mu),
        expr=1 - eta * mu,
        domain="0 < ημ < 1; about √(2ημ) of angle per step",
        source=EQUILIBRIUM,
        derive=bn.derive_decay_cosine,
        point=lambda rng: {
            "eta": float(rng.uniform(0.2, 0.8)),
            "mu": float(rng.uniform(0.05, 0.3)),
        },
        oracle=Oracle("descent of a plane filter", bn.settled_cosine, ITERATION),
    ),
)
