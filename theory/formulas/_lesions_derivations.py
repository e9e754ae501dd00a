"""Symbols and derivations of T5: lesions of a linear readout f = aᵀY."""

from __future__ import annotations

from typing import Any

import sympy
from sympy.matrices.expressions.matexpr import MatrixElement

from theory.formulas._derivation import (
    Derivation,
    explicit,
    same_log,
    scalar,
    symmetric_of,
    vector_of,
)
from theory.formulas.closed_form import Proof

C, S, M, i = sympy.symbols("C S M i", integer=True, positive=True)
K = sympy.MatrixSymbol("K", C, C)
k, a = sympy.MatrixSymbol("k", C, 1), sympy.MatrixSymbol("a", C, 1)
A, D = sympy.MatrixSymbol("K_SS", S, S), sympy.MatrixSymbol("K_RR", C, C)
B, own = sympy.MatrixSymbol("K_SR", S, C), sympy.MatrixSymbol("a_S", S, 1)
W = sympy.MatrixSymbol("W", M, S)
LEFT = A - B * D.I * B.T
"""What a regression of the set on the rest leaves of its covariance."""
E, information = sympy.symbols("E I", nonnegative=True)
power, norm = sympy.symbols("J N", positive=True)
x, mu, bias = sympy.symbols("a mu e", real=True)
BEST, GAP = MatrixElement(K.I * k, i, 0), MatrixElement(k - K * a, i, 0)
AT = "block inversion; derived here"
OPTIMUM = "K positive definite, a = K⁻¹k"
ANYWHERE = "K positive definite, any readout a"
SIZES = (2, 3)


def error(cov: Any, cross: Any, readout: Any) -> Any:
    """E(T − f)² without Var T, for sympy matrices."""
    return (readout.T * cov * readout)[0] - 2 * (readout.T * cross)[0]


def held(readout: Any) -> Any:
    return sympy.Matrix([0, *readout[1:, 0]])


def replaced(cov: Any, readout: Any) -> Any:
    """Readout on the peers once the first channel is replaced by its regression on them."""
    slopes = cov[1:, 1:].inv() * cov[1:, 0]
    return sympy.Matrix([0, *(readout[1:, 0] + readout[0] * slopes)])


def by_cases(expr: Any, edit: Any, *, optimal: bool) -> Derivation:
    """The rise of the error under an edit of the readout, on explicit layers."""
    steps = Derivation()
    for size in SIZES:
        cov, readout = symmetric_of("s", size), vector_of("a", size)
        cross = cov * readout if optimal else vector_of("k", size)
        rise = error(cov, cross, edit(cov, readout)) - error(cov, cross, readout)
        form = explicit(expr.subs(i, 1), K=cov, k=cross, a=readout)
        where = "at a = K⁻¹k" if optimal else "at any a"
        steps.confirm(f"removed outright {where}, C = {size}", rise - form)
    return steps


def partition(expr: Any, *, optimal: bool) -> tuple[Any, Any]:
    """Y_i against the rest of f, any C: (rise of the error, the form in the same scalars)."""
    cross, rest, own_power = sympy.symbols("k_i r K_ii", real=True)
    before = x**2 * own_power + 2 * x * rest - 2 * x * cross
    gap = cross - own_power * x - rest
    form = expr.xreplace({a[i, 0]: x, K[i, i]: own_power, GAP: gap})
    solved = {cross: own_power * x + rest} if optimal else {}
    return (-before).subs(solved), form.subs(solved)


def derive_mean(expr: Any) -> Proof:
    steps = by_cases(expr, lambda _, readout: held(readout), optimal=True)
    rise, form = partition(expr, optimal=True)
    return steps.general("f split into a_iY_i and the rest, any C", rise - form).proof()


def derive_mean_general(expr: Any) -> Proof:
    steps = by_cases(expr, lambda _, readout: held(readout), optimal=False)
    rise, form = partition(expr, optimal=False)
    return steps.general("f split into a_iY_i and the rest, any C", rise - form).proof()


def residual_rise(best: Any) -> Any:
    """f loses a_i ε, ε = Y_i less its regression: Var ε = 1/(K⁻¹)_ii, Cov(T, ε) = a*_i Var ε."""
    variance = 1 / K.I[i, i]
    return 2 * x * (best * variance - x * variance) + x**2 * variance


def derive_replacement(expr: Any) -> Proof:
    steps = by_cases(expr, replaced, optimal=True)
    form = expr.xreplace({a[i, 0]: x})
    return steps.general("f loses a_i ε_i, any C", residual_rise(x) - form).proof()


def derive_replacement_general(expr: Any) -> Proof:
    steps = by_cases(expr, replaced, optimal=False)
    best = sympy.Symbol("best", real=True)
    form = expr.xreplace({a[i, 0]: x, BEST: best})
    return steps.general("f loses a_i ε_i, any C", residual_rise(best) - form).proof()


def derive_refit(expr: Any) -> Proof:
    steps = Derivation()
    for size in SIZES:
        cov, cross = symmetric_of("s", size), vector_of("k", size)
        rest, short = cov[1:, 1:], cross[1:, 0]
        rise = (cross.T * cov.inv() * cross)[0] - (short.T * rest.inv() * short)[0]
        form = explicit(expr.subs(i, 1), K=cov, k=cross)
        steps.case(f"kᵀK⁻¹k less the same without channel i, C = {size}", rise - form)
    return steps.proof()


def derive_zero(expr: Any) -> Proof:
    """E[(e + aY)²] − E[e²], e = T − f with mean −bias, at Cov(e, Y) = 0."""
    rise = x**2 * (power + mu**2) + 2 * x * (-bias) * mu
    return Derivation().general("moments of Y and of the residual, any C", expr - rise).proof()


def derive_ratio(expr: Any) -> Proof:
    corner = sympy.Symbol("P", positive=True)
    ratio = (x**2 / corner) / (x**2 * power)
    explained = 1 - 1 / (power * corner)
    return (
        Derivation()
        .general(
            "replacement over mean damage, E = 1 − 1/(K_ii(K⁻¹)_ii)",
            ratio - expr.subs(E, explained),
        )
        .proof()
    )


def derive_refit_ratio(expr: Any) -> Proof:
    before, after, variance = sympy.symbols("m_0 m_1 tau2", positive=True)
    gained = sympy.log(before / after) / 2
    steps = Derivation().general(
        "I = ½ log(MSE without / MSE with)",
        same_log(sympy.log(expr.subs(information, gained)) / 2, gained),
    )
    for size in SIZES:
        cov, cross = symmetric_of("s", size), vector_of("k", size)
        joint = cov.row_join(cross).col_join(cross.T.row_join(sympy.Matrix([[variance]])))
        entropies = joint.det() / cov.det()
        mse = variance - (cross.T * cov.inv() * cross)[0]
        steps.case(f"e^(2h(T|Y)) is the mean squared error, C = {size}", mse - entropies)
    return steps.proof()


def derive_set_mean(expr: Any) -> Proof:
    steps = Derivation()
    for size in SIZES:
        cov, readout = symmetric_of("s", size), vector_of("a", size)
        cross = cov * readout
        held = sympy.Matrix([0, 0, *readout[2:, 0]])
        rise = error(cov, cross, held) - error(cov, cross, readout)
        form = explicit(expr, K_SS=cov[:2, :2], a_S=readout[:2, 0])
        steps.case(f"two of {size} channels held", rise - form)
    return steps.proof()


def derive_set_replacement(expr: Any) -> Proof:
    """f loses a_Sᵀε_S with ε_S = Y_S − K_SR K_RR⁻¹ Y_R; its variance by expansion, any sizes."""
    slopes = B * D.I
    variance = A - slopes * B.T - B * slopes.T + slopes * D * slopes.T
    steps = Derivation()
    steps.general("a_Sᵀ Var(ε_S) a_S, any sizes", scalar(own.T * variance * own) - expr)
    cov, readout = symmetric_of("s", 3), vector_of("a", 2)
    block = cov.inv()[:2, :2].inv()
    form = explicit(expr, K_SS=cov[:2, :2], K_SR=cov[:2, 2:], K_RR=cov[2:, 2:], a_S=readout)
    steps.confirm("a_Sᵀ ((K⁻¹)_SS)⁻¹ a_S, two of three", (readout.T * block * readout)[0] - form)
    return steps.proof()


def derive_block_information(expr: Any) -> Proof:
    """Entropies of the set and of the rest, less that of both."""
    steps = Derivation()
    for inside, outside in ((1, 1), (1, 2), (2, 1)):
        cov = symmetric_of("s", inside + outside)
        own, rest = cov[:inside, :inside], cov[inside:, inside:]
        form = explicit(expr, K_SS=own, K_SR=cov[:inside, inside:], K_RR=rest)
        entropies = sympy.log(own.det() * rest.det() / cov.det()) / 2
        steps.case(f"h(S) + h(R) − h(S, R), {inside} and {outside}", same_log(form, entropies))
    return steps.proof()


def derive_block_recovered(expr: Any) -> Proof:
    """One target per unit of the next layer, each with the damages of a set at its readout."""
    slopes = B * D.I
    variance = A - slopes * B.T - B * slopes.T + slopes * D * slopes.T
    whole = scalar(W * A * W.T)
    return (
        Derivation()
        .general(
            "1 − tr(W Var(ε_S) Wᵀ) / tr(W K_SS Wᵀ), any sizes",
            (1 - expr) * whole - scalar(W * variance * W.T),
        )
        .proof()
    )


def derive_merge(expr: Any) -> Proof:
    """One target per unit of the next layer: the damages add up."""
    parts = sympy.symbols("a1:4", real=True)
    corner = sympy.Symbol("P", positive=True)
    damage = sum(p**2 for p in parts) / corner
    squared = sum(p**2 for p in parts)
    form = expr.subs({norm: squared, E: 1 - 1 / (power * corner)}, simultaneous=True)
    steps = Derivation().case("three units of the next layer", damage - form)
    n = sympy.Symbol("n", positive=True)
    whole = expr.subs({norm: n, E: 1 - 1 / (power * corner)}, simultaneous=True)
    return steps.general("Σ_o a_o² / (K⁻¹)_ii, any number", n / corner - whole).proof()
