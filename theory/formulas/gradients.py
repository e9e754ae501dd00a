"""T2: gradients of the two axes with respect to a channel's weights w. In nats per unit of weight.

D = wᵀΣw, b = wᵀc, c = Cov(X, T), τ² = Var(T). The target gradient points along the residualized
direction c − (b/D) Σw = Cov(X, T − (b/D) Y).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy

from theory.closed_form import ClosedForm, Oracle, Proof
from theory.formulas import _points
from theory.formulas._derivation import (
    Derivation,
    explicit,
    gradient,
    scalar,
    symmetric_of,
    vector_of,
)
from theory.formulas._oracles import DIFFERENTIATION, LINEAR_ALGEBRA, complex_step, data_set

d = sympy.Symbol("d", integer=True, positive=True)
Sigma = sympy.MatrixSymbol("Sigma", d, d)
w, v, c = (sympy.MatrixSymbol(letter, d, 1) for letter in "wvc")
tau, sigma0 = sympy.symbols("tau sigma_0", positive=True)
D, b = scalar(w.T * Sigma * w), scalar(w.T * c)
RESIDUALIZED = c - (b / D) * Sigma * w
CAPTURE = Sigma * w / (sigma0**2 + D)
TASK = (b / (D * tau**2 - b**2)) * RESIDUALIZED
POINT = "Σ positive semidefinite, wᵀΣw > 0, b² < Dτ²"
HERE = "differentiated here with sympy's matrix calculus"


def _cases(steps: Derivation, expr: Any, function: Any, **numbers: Any) -> None:
    """∇ of the function, entry by entry: d = 2, and d = 3 in the eigenbasis of Σ (no loss)."""
    for size in (2, 3):
        full = symmetric_of("s", size)
        at = {
            "Sigma": full if size == 2 else sympy.diag(*full.diagonal()),
            "w": vector_of("w", size),
            "v": vector_of("v", size),
            "c": vector_of("c", size),
            **numbers,
        }
        plain = explicit(function, **at)
        slopes = sympy.Matrix([plain.diff(x) for x in at["w"]])
        steps.case(f"entry by entry, d = {size}", slopes - explicit(expr, **at))


def _derive_capture(expr: Any) -> Proof:
    function = sympy.log(1 + D / sigma0**2) / 2
    steps = Derivation().general("chain rule and ∂(wᵀΣw)/∂w, any d", gradient(function, w) - expr)
    _cases(steps, expr, function)
    return steps.proof()


def _derive_task(expr: Any) -> Proof:
    function = -sympy.log(1 - b**2 / (D * tau**2)) / 2
    steps = Derivation().general("chain rule, any d", gradient(function, w) - expr)
    _cases(steps, expr, function)
    return steps.proof()


def _derive_residualized(expr: Any) -> Proof:
    s, power, cross = sympy.symbols("s D b", positive=True)
    slope = sympy.solve((tau**2 - 2 * s * cross + s**2 * power).diff(s), s)[0]
    regressed = c - slope.subs({power: D, cross: b}) * Sigma * w
    return (
        Derivation()
        .general("Cov(X, T − sY) at the least-squares s", regressed - expr)
        .general("orthogonal to w, any d", scalar(w.T * expr))
        .general("orthogonal to Σw in the Σ⁻¹ inner product", scalar(w.T * Sigma * Sigma.I * expr))
        .general("∇I_T is b/(Dτ² − b²) times it", TASK - (b / (D * tau**2 - b**2)) * expr)
        .proof()
    )


def _derive_weight_product(expr: Any) -> Proof:
    steps = Derivation().general("wᵀ(c − (b/D) Σw), any d", expr - scalar(w.T * RESIDUALIZED))
    steps.general("b − (b/D) D = 0", expr)
    for size in (2, 3):
        at = {
            "Sigma": symmetric_of("s", size),
            "w": vector_of("w", size),
            "c": vector_of("c", size),
        }
        steps.case(f"d = {size}", (at["w"].T * explicit(RESIDUALIZED, **at))[0])
    return steps.proof()


def _derive_precision_product(expr: Any) -> Proof:
    steps = Derivation()
    steps.general("(Σw)ᵀΣ⁻¹(c − (b/D) Σw) = b − (b/D) D = 0, any d", expr)
    for size in (2, 3):
        at = {
            "Sigma": symmetric_of("s", size),
            "w": vector_of("w", size),
            "c": vector_of("c", size),
        }
        capture = at["Sigma"] * at["w"]
        residual = explicit(RESIDUALIZED, **at)
        steps.case(f"d = {size}", (capture.T * at["Sigma"].inv() * residual)[0])
    return steps.proof()


def _derive_cosine(expr: Any) -> Proof:
    inner = scalar(w.T * Sigma * RESIDUALIZED)
    lengths = scalar(w.T * Sigma * Sigma * w) * scalar(RESIDUALIZED.T * RESIDUALIZED)
    steps = Derivation()
    steps.general(
        "its square is (g_Xᵀg_T)² / (‖g_X‖² ‖g_T‖²)",
        expr**2 / sympy.sign(b) ** 2 - inner**2 / lengths,
    )
    at = {"Sigma": sympy.eye(2), "w": vector_of("w", 2), "c": vector_of("c", 2)}
    steps.case("zero where Σ = I, d = 2", explicit(inner, **at))
    return steps.proof()


def _derive_residual_norm(expr: Any) -> Proof:
    steps = Derivation()
    steps.general(
        "expanding ‖c − (b/D)Σw‖² in the Σ⁻¹ norm",
        expr - scalar(RESIDUALIZED.T * Sigma.I * RESIDUALIZED),
    )
    return steps.proof()


_power_v, _cross_wv, _b_v = scalar(v.T * Sigma * v), scalar(w.T * Sigma * v), scalar(v.T * c)
OVERLAP = (_cross_wv / (D * _power_v - _cross_wv**2)) * (Sigma * v - (_cross_wv / D) * Sigma * w)
_delta = D * _power_v - _cross_wv**2
_a_w = (b * _power_v - _b_v * _cross_wv) / _delta
_a_v = (_b_v * D - b * _cross_wv) / _delta
_rest = tau**2 - _a_w * b - _a_v * _b_v
PAIR = (_a_w / _rest) * (c - _a_w * Sigma * w - _a_v * Sigma * v)


def _derive_overlap(expr: Any) -> Proof:
    function = -sympy.log(1 - _cross_wv**2 / (D * _power_v)) / 2
    steps = Derivation().general("chain rule, any d", gradient(function, w) - expr)
    _cases(steps, expr, function)
    return steps.proof()


def _derive_pair(expr: Any) -> Proof:
    function = sympy.log(tau**2 / _rest) / 2
    return Derivation().general("chain rule, any d", gradient(function, w) - expr).proof()


def _derive_excess(expr: Any) -> Proof:
    pair, alone = sympy.log(tau**2 / _rest) / 2, -sympy.log(1 - b**2 / (D * tau**2)) / 2
    step = next(iter(expr.atoms(sympy.Heaviside)))
    return (
        Derivation()
        .general(
            "branch I_i > I_j: ∇[I(T; Y_i, Y_j) − I_T(i)]",
            gradient(pair - alone, w) - expr.xreplace({step: sympy.Integer(1)}),
        )
        .general(
            "branch I_i < I_j: ∇I(T; Y_i, Y_j), I_T(j) being constant",
            gradient(pair, w) - expr.xreplace({step: sympy.Integer(0)}),
        )
        .proof()
    )


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

FORMS = (
    ClosedForm(
        name="capture_gradient",
        item="T2",
        title="Gradient of input capture: it points along Σw.",
        lhs=r"\nabla_w I_X",
        symbols=(Sigma, w, sigma0),
        expr=CAPTURE,
        domain="Σ positive semidefinite, σ0 > 0",
        source=HERE,
        derive=_derive_capture,
        point=_without("c", "tau", sigma_0=lambda rng: float(rng.uniform(0.5, 2))),
        oracle=Oracle("complex-step differentiation", _capture_oracle, DIFFERENTIATION),
    ),
    ClosedForm(
        name="task_gradient",
        item="T2",
        title="Gradient of task information: it points along the residualized direction.",
        lhs=r"\nabla_w I_T",
        symbols=(Sigma, w, c, tau),
        expr=TASK,
        domain=POINT,
        source=HERE,
        derive=_derive_task,
        point=_point,
        oracle=Oracle(
            "complex-step differentiation",
            lambda Sigma, w, c, tau: complex_step(lambda x: _information(x, Sigma, c, tau), w),
            DIFFERENTIATION,
        ),
    ),
    ClosedForm(
        name="residualized_direction",
        item="T2",
        title="What the target still covaries with once the channel is regressed out.",
        lhs=r"\operatorname{Cov}(X, T - \tfrac{b}{D} Y)",
        symbols=(Sigma, w, c),
        expr=RESIDUALIZED,
        domain="wᵀΣw > 0; any distribution",
        source=HERE,
        derive=_derive_residualized,
        point=_without("tau"),
        oracle=Oracle("regression on a data set", _residual_oracle, LINEAR_ALGEBRA),
    ),
    ClosedForm(
        name="residualized_weight_product",
        item="T2",
        title="The residualized direction is orthogonal to w: I_T ignores the scale of w.",
        lhs=r"w^T \left(c - \tfrac{b}{D} \Sigma w\right) = 0",
        symbols=(Sigma, w, c),
        expr=scalar(w.T * RESIDUALIZED),
        domain="wᵀΣw > 0",
        source=HERE,
        derive=_derive_weight_product,
        point=_without("tau"),
        oracle=Oracle("zero", lambda Sigma, w, c: 0.0, LINEAR_ALGEBRA),
    ),
    ClosedForm(
        name="residualized_precision_product",
        item="T2",
        title="The two gradient directions are orthogonal in the Σ⁻¹ inner product, exactly.",
        lhs=r"(\Sigma w)^T \Sigma^{-1} \left(c - \tfrac{b}{D} \Sigma w\right) = 0",
        symbols=(Sigma, w, c),
        expr=scalar(w.T * Sigma * Sigma.I * RESIDUALIZED),
        domain="Σ positive definite, w ≠ 0; in the Euclidean product only where Σ ∝ I",
        source=HERE,
        derive=_derive_precision_product,
        point=_without("tau"),
        oracle=Oracle("zero", lambda Sigma, w, c: 0.0, LINEAR_ALGEBRA),
    ),
    ClosedForm(
        name="gradient_cosine",
        item="T2",
        title="Euclidean cosine of the two gradients.",
        lhs=r"\cos(\nabla_w I_X, \nabla_w I_T)",
        symbols=(Sigma, w, c),
        expr=sympy.sign(b)
        * (scalar(w.T * Sigma * c) - (b / D) * scalar(w.T * Sigma * Sigma * w))
        / sympy.sqrt(scalar(w.T * Sigma * Sigma * w) * _NORM),
        domain="b ≠ 0 and c not along Σw; σ0 and τ do not enter",
        source=HERE,
        derive=_derive_cosine,
        point=_without("tau"),
        oracle=Oracle("complex-step differentiation", _cosine_oracle, LINEAR_ALGEBRA),
    ),
    ClosedForm(
        name="residualized_norm",
        item="T2",
        title="Squared Σ⁻¹ norm of the residualized direction: unexplained target variance.",
        lhs=r"\left\|c - \tfrac{b}{D} \Sigma w\right\|^2_{\Sigma^{-1}}",
        symbols=(Sigma, w, c),
        expr=scalar(c.T * Sigma.I * c) - b**2 / D,
        domain="Σ positive definite",
        source=HERE,
        derive=_derive_residual_norm,
        point=_without("tau"),
        oracle=Oracle(
            "norm of the regression's direction",
            lambda Sigma, w, c: float(
                np.sum(np.linalg.solve(data_set(Sigma).T, _residual_oracle(Sigma, w, c)) ** 2)
            ),
            LINEAR_ALGEBRA,
        ),
    ),
    ClosedForm(
        name="overlap_gradient",
        item="T2",
        title="Gradient of the overlap with a peer v: the peer, residualized on the channel.",
        lhs=r"\nabla_w I(Y_w; Y_v)",
        symbols=(Sigma, w, v),
        expr=OVERLAP,
        domain="|corr(Y_w, Y_v)| < 1",
        source=HERE,
        derive=_derive_overlap,
        point=_without("c", "tau", v=_vector),
        oracle=Oracle("complex-step differentiation", _overlap_oracle, DIFFERENTIATION),
    ),
    ClosedForm(
        name="pair_information_gradient",
        item="T2",
        title="Gradient of joint information: what both channels together leave unexplained.",
        lhs=r"\nabla_w I(T; Y_w, Y_v)",
        symbols=(Sigma, w, v, c, tau),
        expr=PAIR,
        domain="the covariance of (Y_w, Y_v, T) positive definite",
        source=HERE,
        derive=_derive_pair,
        point=_without(v=_vector),
        oracle=Oracle(
            "complex-step differentiation",
            lambda Sigma, w, v, c, tau: complex_step(lambda x: _pair_value(x, v, Sigma, c, tau), w),
            DIFFERENTIATION,
        ),
    ),
    ClosedForm(
        name="excess_gradient",
        item="T2",
        title="Gradient of the pairwise excess, on either side of I_T(w) = I_T(v).",
        lhs=r"\nabla_w S_{wv}",
        symbols=(Sigma, w, v, c, tau),
        expr=PAIR - sympy.Heaviside(b**2 / D - _b_v**2 / _power_v) * TASK,
        domain="I_T(w) ≠ I_T(v), where the excess has a kink",
        source=HERE,
        derive=_derive_excess,
        point=_without(v=_vector),
        oracle=Oracle("complex-step differentiation", _excess_oracle, DIFFERENTIATION),
    ),
)
