"""T2: gradients of the two axes with respect to a channel's weights w. In nats per unit of weight.

D = wᵀΣw, b = wᵀc, c = Cov(X, T), τ² = Var(T). The target gradient points along the residualized
direction c − (b/D) Σw = Cov(X, T − (b/D) Y).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import sympy

from theory.formulas import _points
from theory.formulas._derivation import (
    scalar,
)
from theory.formulas._gradients_derivations import (
    CAPTURE,
    HERE,
    OVERLAP,
    PAIR,
    POINT,
    RESIDUALIZED,
    TASK,
    D,
    Sigma,
    _b_v,
    b,
    c,
    derive_capture,
    derive_cosine,
    derive_excess,
    derive_overlap,
    derive_pair,
    derive_precision_product,
    derive_residual_norm,
    derive_residualized,
    derive_task,
    derive_weight_product,
    power_v,
    sigma0,
    tau,
    v,
    w,
)
from theory.formulas._oracles import DIFFERENTIATION, LINEAR_ALGEBRA, complex_step, data_set
from theory.formulas.closed_form import ClosedForm, Oracle


def _point(rng: np.random.Generator) -> dict[str, Any]:
    sigma, cross, deviation = _points.input_and_target(rng, 4)
    return {"Sigma": sigma, "w": rng.standard_normal(4), "c": cross, "tau": deviation}


def _without(*names: str, **more: Any) -> Any:
    def point(rng: np.random.Generator) -> dict[str, Any]:
        values = {k: x for k, x in _point(rng).items() if k not in names}
        return values | {k: draw(rng) for k, draw in more.items()}

    return point


def _capture_oracle(Sigma: Any, w: Any, sigma_0: float) -> Any:
    return complex_step(lambda x: 0.5 * np.log(1 + x @ Sigma @ x / sigma_0**2), w)


def _information(x: Any, Sigma: Any, c: Any, tau: float) -> Any:
    return -0.5 * np.log(1 - (x @ c) ** 2 / (x @ Sigma @ x * tau**2))


def _pair_value(x: Any, v: Any, Sigma: Any, c: Any, tau: float) -> Any:
    layer = np.stack([x, v.astype(complex)])
    k = layer @ c
    return -0.5 * np.log(1 - k @ np.linalg.solve(layer @ Sigma @ layer.T, k) / tau**2)


def _excess_oracle(Sigma: Any, w: Any, v: Any, c: Any, tau: float) -> Any:
    best = max((w, v), key=lambda x: float(_information(x, Sigma, c, tau)))
    own = 1.0 if best is w else 0.0
    return complex_step(
        lambda x: _pair_value(x, v, Sigma, c, tau) - own * _information(x, Sigma, c, tau), w
    )


def _residual_oracle(Sigma: Any, w: Any, c: Any) -> Any:
    """Cov(X, residual of T on Y), on a data set with these moments."""
    noise = float(c @ np.linalg.solve(Sigma, c)) + 1.0
    data = data_set(np.block([[Sigma, c[:, None]], [c[None], np.array([[noise]])]]))
    x, t = data[:, :-1], data[:, -1]
    y = x @ w
    return x.T @ (t - y * np.linalg.lstsq(y[:, None], t, rcond=None)[0])


def _cosine_oracle(Sigma: Any, w: Any, c: Any) -> float:
    tau = float(np.sqrt(c @ np.linalg.solve(Sigma, c) + 1.0))
    g = complex_step(lambda x: 0.5 * np.log(1 + x @ Sigma @ x), w)
    h = complex_step(lambda x: _information(x, Sigma, c, tau), w)
    return float(g @ h / np.linalg.norm(g) / np.linalg.norm(h))


def _overlap_oracle(Sigma: Any, w: Any, v: Any) -> Any:
    return complex_step(
        lambda x: -0.5 * np.log(1 - (x @ Sigma @ v) ** 2 / (x @ Sigma @ x * (v @ Sigma @ v))), w
    )


def _vector(rng: np.random.Generator) -> Any:
    return rng.standard_normal(4)


_NORM = (
    scalar(c.T * c)
    - 2 * (b / D) * scalar(w.T * Sigma * c)
    + (b / D) ** 2 * scalar(w.T * Sigma * Sigma * w)
)

form = partial(ClosedForm, item="T2", source=HERE)

FORMS = (
    form(
        name="capture_gradient",
        title="Gradient of input capture: it points along Σw.",
        lhs=r"\nabla_w I_X",
        symbols=(Sigma, w, sigma0),
        expr=CAPTURE,
        domain="Σ positive semidefinite, σ0 > 0",
        derive=derive_capture,
        point=_without("c", "tau", sigma_0=lambda rng: float(rng.uniform(0.5, 2))),
        oracle=Oracle("complex-step differentiation", _capture_oracle, DIFFERENTIATION),
    ),
    form(
        name="task_gradient",
        title="Gradient of task information: it points along the residualized direction.",
        lhs=r"\nabla_w I_T",
        symbols=(Sigma, w, c, tau),
        expr=TASK,
        domain=POINT,
        derive=derive_task,
        point=_point,
        oracle=Oracle(
            "complex-step differentiation",
            lambda Sigma, w, c, tau: complex_step(lambda x: _information(x, Sigma, c, tau), w),
            DIFFERENTIATION,
        ),
    ),
    form(
        name="residualized_direction",
        title="What the target still covaries with once the channel is regressed out.",
        lhs=r"\operatorname{Cov}(X, T - \tfrac{b}{D} Y)",
        symbols=(Sigma, w, c),
        expr=RESIDUALIZED,
        domain="wᵀΣw > 0; any distribution",
        derive=derive_residualized,
        point=_without("tau"),
        oracle=Oracle("regression on a data set", _residual_oracle, LINEAR_ALGEBRA),
    ),
    form(
        name="residualized_weight_product",
        title="The residualized direction is orthogonal to w: I_T ignores the scale of w.",
        lhs=r"w^T \left(c - \tfrac{b}{D} \Sigma w\right) = 0",
        symbols=(Sigma, w, c),
        expr=scalar(w.T * RESIDUALIZED),
        domain="wᵀΣw > 0",
        derive=derive_weight_product,
        point=_without("tau"),
        oracle=Oracle("zero", lambda Sigma, w, c: 0.0, LINEAR_ALGEBRA),
    ),
    form(
        name="residualized_precision_product",
        title="The two gradient directions are orthogonal in the Σ⁻¹ inner product, exactly.",
        lhs=r"(\Sigma w)^T \Sigma^{-1} \left(c - \tfrac{b}{D} \Sigma w\right) = 0",
        symbols=(Sigma, w, c),
        expr=scalar(w.T * Sigma * Sigma.I * RESIDUALIZED),
        domain="Σ positive definite, w ≠ 0; in the Euclidean product only where Σ ∝ I",
        derive=derive_precision_product,
        point=_without("tau"),
        oracle=Oracle("zero", lambda Sigma, w, c: 0.0, LINEAR_ALGEBRA),
    ),
    form(
        name="gradient_cosine",
        title="Euclidean cosine of the two gradients.",
        lhs=r"\cos(\nabla_w I_X, \nabla_w I_T)",
        symbols=(Sigma, w, c),
        expr=sympy.sign(b)
        * (scalar(w.T * Sigma * c) - (b / D) * scalar(w.T * Sigma * Sigma * w))
        / sympy.sqrt(scalar(w.T * Sigma * Sigma * w) * _NORM),
        domain="b ≠ 0 and c not along Σw; σ0 and τ do not enter",
        derive=derive_cosine,
        point=_without("tau"),
        oracle=Oracle("complex-step differentiation", _cosine_oracle, LINEAR_ALGEBRA),
    ),
    form(
        name="residualized_norm",
        title="Squared Σ⁻¹ norm of the residualized direction: unexplained target variance.",
        lhs=r"\left\|c - \tfrac{b}{D} \Sigma w\right\|^2_{\Sigma^{-1}}",
        symbols=(Sigma, w, c),
        expr=scalar(c.T * Sigma.I * c) - b**2 / D,
        domain="Σ positive definite",
        derive=derive_residual_norm,
        point=_without("tau"),
        oracle=Oracle(
            "norm of the regression's direction",
            lambda Sigma, w, c: float(
                np.sum(np.linalg.solve(data_set(Sigma).T, _residual_oracle(Sigma, w, c)) ** 2)
            ),
            LINEAR_ALGEBRA,
        ),
    ),
    form(
        name="overlap_gradient",
        title="Gradient of the overlap with a peer v: the peer, residualized on the channel.",
        lhs=r"\nabla_w I(Y_w; Y_v)",
        symbols=(Sigma, w, v),
        expr=OVERLAP,
        domain="|corr(Y_w, Y_v)| < 1",
        derive=derive_overlap,
        point=_without("c", "tau", v=_vector),
        oracle=Oracle("complex-step differentiation", _overlap_oracle, DIFFERENTIATION),
    ),
    form(
        name="pair_information_gradient",
        title="Gradient of joint information: what both channels together leave unexplained.",
        lhs=r"\nabla_w I(T; Y_w, Y_v)",
        symbols=(Sigma, w, v, c, tau),
        expr=PAIR,
        domain="the covariance of (Y_w, Y_v, T) positive definite",
        derive=derive_pair,
        point=_without(v=_vector),
        oracle=Oracle(
            "complex-step differentiation",
            lambda Sigma, w, v, c, tau: complex_step(lambda x: _pair_value(x, v, Sigma, c, tau), w),
            DIFFERENTIATION,
        ),
    ),
    form(
        name="excess_gradient",
        title="Gradient of the pairwise excess, on either side of I_T(w) = I_T(v).",
        lhs=r"\nabla_w S_{wv}",
        symbols=(Sigma, w, v, c, tau),
        expr=PAIR - sympy.Heaviside(b**2 / D - _b_v**2 / power_v) * TASK,
        domain="I_T(w) ≠ I_T(v), where the excess has a kink",
        derive=derive_excess,
        point=_without(v=_vector),
        oracle=Oracle("complex-step differentiation", _excess_oracle, DIFFERENTIATION),
    ),
)
