"""Symbols and derivations of T2: gradients of both axes, by sympy's matrix calculus."""

from __future__ import annotations

from typing import Any

import sympy

from theory.formulas._derivation import (
    Derivation,
    explicit,
    gradient,
    scalar,
    symmetric_of,
    vector_of,
)
from theory.formulas.closed_form import Proof

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


def cases(steps: Derivation, expr: Any, function: Any, **numbers: Any) -> None:
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
        steps.confirm(f"entry by entry, d = {size}", slopes - explicit(expr, **at))


def derive_capture(expr: Any) -> Proof:
    function = sympy.log(1 + D / sigma0**2) / 2
    steps = Derivation().general("chain rule and ∂(wᵀΣw)/∂w, any d", gradient(function, w) - expr)
    cases(steps, expr, function)
    return steps.proof()


def derive_task(expr: Any) -> Proof:
    function = -sympy.log(1 - b**2 / (D * tau**2)) / 2
    steps = Derivation().general("chain rule, any d", gradient(function, w) - expr)
    cases(steps, expr, function)
    return steps.proof()


def derive_residualized(expr: Any) -> Proof:
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


def derive_weight_product(expr: Any) -> Proof:
    steps = Derivation().general("wᵀ(c − (b/D) Σw), any d", expr - scalar(w.T * RESIDUALIZED))
    steps.general("b − (b/D) D = 0", expr)
    for size in (2, 3):
        at = {
            "Sigma": symmetric_of("s", size),
            "w": vector_of("w", size),
            "c": vector_of("c", size),
        }
        steps.confirm(f"d = {size}", (at["w"].T * explicit(RESIDUALIZED, **at))[0])
    return steps.proof()


def derive_precision_product(expr: Any) -> Proof:
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
        steps.confirm(f"d = {size}", (capture.T * at["Sigma"].inv() * residual)[0])
    return steps.proof()


def derive_cosine(expr: Any) -> Proof:
    inner = scalar(w.T * Sigma * RESIDUALIZED)
    lengths = scalar(w.T * Sigma * Sigma * w) * scalar(RESIDUALIZED.T * RESIDUALIZED)
    steps = Derivation()
    steps.general(
        "its square is (g_Xᵀg_T)² / (‖g_X‖² ‖g_T‖²)",
        expr**2 / sympy.sign(b) ** 2 - inner**2 / lengths,
    )
    at = {"Sigma": sympy.eye(2), "w": vector_of("w", 2), "c": vector_of("c", 2)}
    steps.confirm("zero where Σ = I, d = 2", explicit(inner, **at))
    cov, here, there = sympy.Matrix([[2, 1], [1, 2]]), sympy.Matrix([1, 0]), sympy.Matrix([-1, 2])
    first = cov * here
    second = (here.T * there)[0] * (there - (here.T * there)[0] / 2 * first)  # D = 2
    cosine = (first.T * second)[0] / sympy.sqrt((first.T * first)[0] * (second.T * second)[0])
    steps.case(
        "with its sign, at one point, d = 2", explicit(expr, Sigma=cov, w=here, c=there) - cosine
    )
    return steps.proof()


def derive_residual_norm(expr: Any) -> Proof:
    steps = Derivation()
    steps.general(
        "expanding ‖c − (b/D)Σw‖² in the Σ⁻¹ norm",
        expr - scalar(RESIDUALIZED.T * Sigma.I * RESIDUALIZED),
    )
    return steps.proof()


power_v, _cross_wv, _b_v = scalar(v.T * Sigma * v), scalar(w.T * Sigma * v), scalar(v.T * c)
OVERLAP = (_cross_wv / (D * power_v - _cross_wv**2)) * (Sigma * v - (_cross_wv / D) * Sigma * w)
delta = D * power_v - _cross_wv**2
a_w = (b * power_v - _b_v * _cross_wv) / delta
a_v = (_b_v * D - b * _cross_wv) / delta
rest = tau**2 - a_w * b - a_v * _b_v
PAIR = (a_w / rest) * (c - a_w * Sigma * w - a_v * Sigma * v)


def derive_overlap(expr: Any) -> Proof:
    function = -sympy.log(1 - _cross_wv**2 / (D * power_v)) / 2
    steps = Derivation().general("chain rule, any d", gradient(function, w) - expr)
    cases(steps, expr, function)
    return steps.proof()


def derive_pair(expr: Any) -> Proof:
    function = sympy.log(tau**2 / rest) / 2
    return Derivation().general("chain rule, any d", gradient(function, w) - expr).proof()


def derive_excess(expr: Any) -> Proof:
    pair, alone = sympy.log(tau**2 / rest) / 2, -sympy.log(1 - b**2 / (D * tau**2)) / 2
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
