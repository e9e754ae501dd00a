"""Symbols and derivations of T1, one channel: information with input, peers and target."""

from __future__ import annotations

from typing import Any

import sympy

from theory.formulas._derivation import Derivation, explicit, same_log, scalar, symmetric_of
from theory.formulas.closed_form import Proof

C, d, i, q = sympy.symbols("C d i q", integer=True, positive=True)
Sigma, w = sympy.MatrixSymbol("Sigma", d, d), sympy.MatrixSymbol("w", d, 1)
R, K = sympy.MatrixSymbol("R", C, C), sympy.MatrixSymbol("K", C, C)
k, S = sympy.MatrixSymbol("k", C, q), sympy.MatrixSymbol("S", q, q)
J, sigma0, tau, D = sympy.symbols("J sigma_0 tau D", positive=True)
rho = sympy.Symbol("rho", real=True)
E, p = sympy.symbols("E p", nonnegative=True)
ridge = sympy.Symbol("r", nonnegative=True)

PAPER = "Safaai et al. (2026), arXiv:2605.07086"
ENTROPY = "Cover and Thomas, Elements of Information Theory, theorem 8.4.1"


def entropy(variance: Any) -> Any:
    """Differential entropy of a Gaussian without the constant of its dimension."""
    return sympy.log(variance) / 2


def derive_power(expr: Any) -> Proof:
    u = sympy.Symbol("u", real=True)
    generating = sympy.exp(u**2 * scalar(w.T * Sigma * w) / 2)
    x, v = sympy.symbols("x1:4", real=True), sympy.Matrix(sympy.symbols("w1:4", real=True))
    cov = symmetric_of("s", 3)
    square = sympy.Poly(sympy.expand(sum(a * b for a, b in zip(v, x, strict=True)) ** 2), *x)
    mean = sympy.Integer(0)
    for powers, coefficient in square.terms():
        first, second = (n for n, power in enumerate(powers) for _ in range(power))
        mean += coefficient * cov[first, second]
    return (
        Derivation()
        .general("second derivative of E e^(u wᵀX) at 0", generating.diff(u, 2).subs(u, 0) - expr)
        .confirm("E (wᵀX)² term by term, d = 3", mean - explicit(expr, Sigma=cov, w=v))
        .proof()
    )


def derive_rayleigh(expr: Any) -> Proof:
    s = sympy.Symbol("s", positive=True)
    scaled = explicit(expr, Sigma=symmetric_of("s", 2), w=s * sympy.Matrix(sympy.symbols("w1:3")))
    plain = explicit(expr, Sigma=symmetric_of("s", 2), w=sympy.Matrix(sympy.symbols("w1:3")))
    power = scalar(w.T * Sigma * w)
    return (
        Derivation()
        .general("power per squared norm", expr * scalar(w.T * w) - power)
        .confirm("unchanged when w is rescaled, d = 2", scaled - plain)
        .proof()
    )


def derive_capture(expr: Any) -> Proof:
    difference = entropy(J + sigma0**2) - entropy(sigma0**2)
    return (
        Derivation()
        .general("h(Y + N) − h(N), Var(N) = σ0²", same_log(expr, difference))
        .general("no power, no information", expr.subs(J, 0))
        .proof()
    )


def derive_task(expr: Any) -> Proof:
    cross = rho * sympy.sqrt(D) * tau
    joint = sympy.Matrix([[D, cross], [cross, tau**2]]).det()
    information = entropy(D) + entropy(tau**2) - entropy(sympy.factor(joint))
    return (
        Derivation()
        .general("h(Y) + h(T) − h(Y, T), any scales", same_log(expr, information))
        .proof()
    )


def unit_diagonal(size: int) -> Any:
    m = symmetric_of("s", size)
    return m.subs({m[n, n]: 1 for n in range(size)})


def derive_predictability(expr: Any) -> Proof:
    b, g = sympy.symbols("b g", positive=True)
    corner = sympy.solve(sympy.Eq(b * (1 - g), 1), b)[0]
    form = expr.xreplace({R.I[i, i]: corner})
    steps = Derivation().general(
        "block elimination: (R⁻¹)_ii = 1/(1 − g), g = r_iᵀR_-i⁻¹r_i", form - g
    )
    for size in (2, 3):
        m = unit_diagonal(size)
        u, rest = m[1:, 0], m[1:, 1:]
        steps.confirm(
            f"R² of the regression on the peers, C = {size}",
            explicit(expr.subs(i, 1), R=m) - (u.T * rest.inv() * u)[0],
        )
    return steps.proof()


def derive_ridge(expr: Any) -> Proof:
    b, g = sympy.symbols("b g", positive=True)
    corner = sympy.solve(sympy.Eq(b * (1 + ridge - g), 1), b)[0]
    inverse = (R + ridge * sympy.Identity(C)).I[i, i]
    steps = Derivation().general(
        "block elimination: 1/(1 + r − g), g = r_iᵀ(R_-i + rI)⁻¹r_i",
        expr.xreplace({inverse: corner}) - g,
    )
    for size in (2, 3):
        m = unit_diagonal(size)
        u, rest = m[1:, 0], m[1:, 1:]
        direct = (u.T * (rest + ridge * sympy.eye(size - 1)).inv() * u)[0]
        steps.confirm(
            f"the ridge regression itself, C = {size}", explicit(expr.subs(i, 1), R=m) - direct
        )
    return steps.proof()


def derive_peer_information(expr: Any) -> Proof:
    information = entropy(D) - entropy(D * (1 - E))
    return (
        Derivation()
        .general(
            "h(Y_i) − h(Y_i | Y_-i), Var(Y_i | Y_-i) = K_ii(1 − E_i)", same_log(expr, information)
        )
        .proof()
    )


def derive_conditional(expr: Any) -> Proof:
    before, after = sympy.symbols("m_0 m_1", positive=True)
    partial = sympy.solve(sympy.Eq(after, before * (1 - p**2)), p)[-1]
    return (
        Derivation()
        .general(
            "½ log(residual variance of T without Y_i / with it)",
            same_log(expr.subs(p, partial), sympy.log(before / after) / 2),
        )
        .proof()
    )


def derive_vector(expr: Any) -> Proof:
    steps = Derivation()
    joint = symmetric_of("s", 3)
    for size, targets in ((2, 1), (1, 2)):
        kk, cross, ss = joint[:size, :size], joint[:size, size:], joint[size:, size:]
        information = entropy(kk.det()) + entropy(ss.det()) - entropy(joint.det())
        steps.case(
            f"h(Y) + h(T) − h(Y, T), C = {size}, q = {targets}",
            same_log(explicit(expr, K=kk, k=cross, S=ss), information),
        )
    return steps.proof()
