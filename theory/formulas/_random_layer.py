"""Symbols and derivations of T7: C filters w ~ N(0, s²I) on inputs of spectrum λ.

q_k = λ_kκ/(λ_k + κ) is what the peers leave along direction k, κ from Σ λ_k/(λ_k + κ) = C − 1.
Given the peers, what they leave of a channel is wᵀQw with a matrix Q that w has no part in.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import sympy

from theory.formulas._derivation import Derivation, explicit, gradient, scalar, symmetric_of
from theory.formulas.closed_form import DEFINITION, Proof

d, C, k, j, i = sympy.symbols("d C k j i", integer=True, positive=True)
s, kappa, t = sympy.symbols("s kappa t", positive=True)
kurtosis = sympy.Symbol("k_4", positive=True)
lam = sympy.IndexedBase("lambda", shape=(d,), positive=True)
Q = sympy.MatrixSymbol("Q", d, d)

LIMIT = (
    "the deterministic equivalent of a random projection: Silverstein and Bai (1995) at the "
    "resolvent's limit, its square as in Hastie et al. (2022), arXiv:1903.08560"
)


def total(term: Any) -> Any:
    """Σ over the input directions."""
    return sympy.Sum(term, (k, 1, d))


HELD = lam[k] / (lam[k] + kappa)
LEFT = lam[k] * kappa / (lam[k] + kappa)
PEERS = total(HELD)
RESIDUAL = total(LEFT)
SQUARE = total(LEFT**2) / (1 - total(HELD**2) / PEERS)
DENSITY = 1 / sympy.sqrt(sympy.Product(1 + 2 * t * lam[k], (k, 1, d)))


def share(index: Any) -> Any:
    """s_j = E[λ_j w_j²/D]: the mean share of a channel's power along direction j."""
    return sympy.Integral(DENSITY * lam[index] / (1 + 2 * t * lam[index]), (t, 0, sympy.oo))


def as_terms(expr: Any) -> Any:
    """Sums over the directions as one symbol for each, constants outside; sums of sums split."""

    def pull(node: Any) -> Any:
        parts = []
        for term in sympy.Add.make_args(sympy.apart(sympy.expand(node.function), kappa)):
            constant, rest = term.as_independent(lam, kappa, as_Add=False)
            parts.append(constant * sympy.Symbol(f"<{sympy.factor(rest)}>", positive=True))
        return sum(parts, sympy.Integer(0))

    return expr.replace(lambda e: isinstance(e, sympy.Sum), pull)


def isotropic(expr: Any, value: Any) -> Any:
    """The expression where every eigenvalue is `value`, Σ_k 1 = d."""
    return expr.replace(
        lambda e: isinstance(e, sympy.Sum), lambda e: d * e.function.subs(lam[k], value)
    )


def at_equal_eigenvalues(steps: Derivation, claim: str, expr: Any, exact: Any) -> None:
    """Where all λ_k = x the peers span exactly C − 1 of d: κ = x(d − C + 1)/(C − 1)."""
    x = sympy.Symbol("x", positive=True)
    at = {kappa: x * (d - C + 1) / (C - 1)}
    steps.general("κ where all eigenvalues are x", isotropic(PEERS, x).subs(at) - (C - 1))
    steps.general(claim, isotropic(expr, x).subs(at) - exact(x))


def one_more_peer(steps: Derivation) -> None:
    """A further peer g takes gᵀQ²g/gᵀQg of the trace, in the mean tr Q²/tr Q; dκ from dC = 1.

    x, y, z stand for Σ λ²/(λ+κ)², Σ λ/(λ+κ)² and the peers' number n: κy = n − x.
    """
    x, y = sympy.symbols("x y", positive=True)
    n = kappa * y + x
    slope_kappa = -1 / y  # Σ λ/(λ + κ) = n, differentiated
    slope = x * slope_kappa  # of Σ λκ/(λ + κ)
    square, trace = kappa**2 * x / (1 - x / n), kappa * n
    steps.general("one more peer takes tr Q²/tr Q of it", slope + square / trace)
    term = LEFT.diff(kappa) - HELD**2
    steps.general(
        "d/dκ of λκ/(λ + κ) and of λ/(λ + κ)", term, HELD.diff(kappa) + HELD / (lam[k] + kappa)
    )


def consistent(steps: Derivation) -> None:
    """Leave one out: the mean of Q is Λ/(1 + xΛ), x = (C − 1)/tr(mean of Q): then x = 1/κ."""
    x = 1 / kappa
    steps.general("Λ/(1 + Λ/κ) is λκ/(λ + κ)", lam[k] / (1 + x * lam[k]) - LEFT)
    steps.general("and its trace κ(C − 1)", LEFT - kappa * HELD)


def derive_dimension(expr: Any) -> Proof:
    steps = Derivation().general("κ is defined by it", as_terms(expr - PEERS))
    return steps.proof(rests_on=DEFINITION)


def derive_residual(expr: Any) -> Proof:
    steps = Derivation()
    consistent(steps)
    one_more_peer(steps)
    steps.general("s² times the trace", as_terms(expr - s**2 * RESIDUAL))
    at_equal_eigenvalues(
        steps, "exact where all are x: s²x(d − C + 1)", expr, lambda x: s**2 * x * (d - C + 1)
    )
    return steps.proof(rests_on=LIMIT)


def derive_spread(expr: Any) -> Proof:
    """Var(wᵀQw) = 2s⁴ tr Q² over the square of its mean."""
    steps = Derivation()
    one_more_peer(steps)
    steps.general("2 tr Q²/(tr Q)²", as_terms(expr**2 * RESIDUAL**2 - 2 * SQUARE))
    at_equal_eigenvalues(
        steps, "exact where all are equal: χ² with d − C + 1", expr**2, lambda x: 2 / (d - C + 1)
    )
    return steps.proof(rests_on=LIMIT)


def derive_correlation(expr: Any) -> Proof:
    """Cov(wᵀQw, wᵀΛw) = 2s⁴ tr QΛ."""
    steps = Derivation()
    one_more_peer(steps)
    cross = total(LEFT * lam[k])
    steps.general(
        "(2 tr QΛ)²/(2 tr Q² · 2 tr Λ²)",
        expr**2 * SQUARE * total(lam[k] ** 2) - cross**2,
    )
    at_equal_eigenvalues(
        steps, "√((d − C + 1)/d) where all are equal", expr**2, lambda x: (d - C + 1) / d
    )
    return steps.proof(rests_on=LIMIT)


def derive_slope(expr: Any) -> Proof:
    """Cov(wᵀQw, wᵀΛw)/Var wᵀΛw, of quadratic forms in w ~ N(0, s²I)."""
    steps = Derivation()
    consistent(steps)
    steps.general("2 tr QΛ/(2 tr Λ²)", expr * total(lam[k] ** 2) - total(LEFT * lam[k]))
    at_equal_eigenvalues(
        steps, "(d − C + 1)/d where all are equal", expr, lambda x: (d - C + 1) / d
    )
    return steps.proof(rests_on=LIMIT)


def derive_predictability(expr: Any) -> Proof:
    """1 − E[wᵀQw/D] with 1/D = ∫ e^(−tD) dt: w_k then has the variance 1/(1 + 2tλ_k)."""
    steps = Derivation()
    consistent(steps)
    tilted(steps)
    inner = next(iter(expr.atoms(sympy.Integral)))
    held = next(x for x in inner.function.atoms(sympy.Sum))
    steps.general(
        "Σ of (λ_k − q_k)/(1 + 2tλ_k)",
        sympy.simplify(held.function - (lam[k] - LEFT) / (1 + 2 * t * lam[k])),
        inner.function - DENSITY * held,
        expr - inner,
    )
    return steps.proof(rests_on=LIMIT)


def tilted(steps: Derivation) -> None:
    """Moments of one coordinate under the density weighted by e^(−tλw²)."""
    w, value = sympy.Symbol("w", real=True), sympy.Symbol("l", positive=True)
    weight = sympy.exp(-(w**2) * (1 + 2 * t * value) / 2) / sympy.sqrt(2 * sympy.pi)
    line = (w, -sympy.oo, sympy.oo)
    power, mass = (sympy.integrate(w**n * weight, line, conds="none") for n in (2, 0))
    steps.general("E e^(−tλw²) = (1 + 2tλ)^(−½)", mass - 1 / sympy.sqrt(1 + 2 * t * value))
    steps.general("E w² e^(−tλw²) is 1/(1 + 2tλ) of it", power / mass - 1 / (1 + 2 * t * value))
    steps.general("odd moments vanish", sympy.integrate(w * weight, line, conds="none"))
    x = sympy.Symbol("D", positive=True)
    steps.general(
        "∫ e^(−tD) dt = 1/D", sympy.integrate(sympy.exp(-t * x), (t, 0, sympy.oo)) - 1 / x
    )


def derive_squared_overlap(expr: Any) -> Proof:
    """Directions u, v of two channels are independent, E u_ju_k = 0 for j ≠ k by their signs."""
    steps = Derivation()
    tilted(steps)
    steps.general(
        "E(Σ u_jv_j)² = Σ (E u_j²)², E u_j² = s_j",
        sympy.simplify(expr.function / share(expr.variables[0]) ** 2) - 1,
    )
    return steps.proof()


def derive_one_peer(expr: Any) -> Proof:
    """tr of Λ − Λvvᵀ Λ/(vᵀΛv): Σλ − E[vᵀΛ²v/vᵀΛv]."""
    steps = Derivation()
    tilted(steps)
    value, v = sympy.symbols("l v", positive=True)
    power = sympy.Symbol("D", positive=True)
    steps.general(
        "diagonal of Λ − Λvvᵀ Λ/D",
        value - value**2 * v**2 / power - value * (1 - value * v**2 / power),
    )
    taken = s**2 * total(lam[k]) - expr
    inner = next(iter(taken.atoms(sympy.Integral)))
    held = next(x for x in inner.function.atoms(sympy.Sum))
    steps.general(
        "Σ λ_k · λ_k/(1 + 2tλ_k)",
        sympy.simplify(held.function - lam[k] ** 2 / (1 + 2 * t * lam[k])),
        inner.function - DENSITY * held,
        sympy.expand(taken - s**2 * inner),
    )
    return steps.proof()


def derive_given_peers(expr: Any) -> Proof:
    """The regression on the peers leaves a form in w; its mean over w is s² times its trace."""
    n, x = sympy.Symbol("n", integer=True, positive=True), sympy.Symbol("x", real=True)
    K = sympy.MatrixSymbol("K_RR", n, n)
    cross, b = sympy.MatrixSymbol("k", n, 1), sympy.MatrixSymbol("b", n, 1)
    left = scalar(b.T * K * b) - 2 * scalar(b.T * cross)
    best = K.I * cross
    steps = Derivation()
    steps.general("least squares on the peers", gradient(left, b).xreplace({b: best}))
    steps.general("leaves kᵀK⁻¹k less", left.xreplace({b: best}) + scalar(cross.T * best))
    generating = -total(sympy.log(1 - 2 * x * s**2 * lam[k])) / 2
    mean = generating.diff(x).subs(x, 0).doit()
    steps.general(
        "E wᵀQw = s² tr Q from E e^(x wᵀQw), in its eigenbasis", mean - s**2 * total(lam[k])
    )
    steps.general("the trace", expr - s**2 * sympy.Trace(Q))
    return steps.proof()


def derive_variance(expr: Any) -> Proof:
    """E w_aw_bw_cw_e of independent entries: 1 for two pairs, k_4 for four alike."""
    steps = Derivation()
    for size in (2, 3):
        matrix = symmetric_of("q", size)
        mean = s**2 * matrix.trace()
        square = sum(
            (matrix[a, b] * matrix[c, e] * _fourth(a, b, c, e) for a, b, c, e in
             product(range(size), repeat=4)),
            sympy.Integer(0),
        )  # fmt: skip
        form = explicit(expr, Q=matrix)
        steps.case(f"E(wᵀQw)² − (E wᵀQw)², d = {size}", s**4 * square - mean**2 - form)
    return steps.proof()


def _fourth(*index: int) -> Any:
    counts = sorted(index.count(n) for n in set(index))
    return {(4,): kurtosis, (2, 2): sympy.Integer(1)}.get(tuple(counts), sympy.Integer(0))


def derive_beta(order: int) -> Any:
    """The share of a random direction in C − 1 dimensions is Beta((C − 1)/2, (d − C + 1)/2)."""

    def derive(expr: Any) -> Proof:
        a, b = sympy.symbols("alpha beta", positive=True)
        y = sympy.Symbol("y", positive=True)
        density = y ** (a - 1) * (1 - y) ** (b - 1) / sympy.beta(a, b)
        moment = [
            sympy.gammasimp((sympy.beta(a + n, b) / sympy.beta(a, b)).rewrite(sympy.gamma))
            for n in (1, 2)
        ]
        at = {a: (C - 1) / sympy.Integer(2), b: (d - C + 1) / sympy.Integer(2)}
        value = moment[0] if order == 1 else moment[1] - moment[0] ** 2
        steps = Derivation()
        steps.general(
            "y · Beta(α, β) is Beta(α + 1, β) up to its constant",
            sympy.powsimp(y * density * sympy.beta(a, b)) - y**a * (1 - y) ** (b - 1),
        )
        steps.general("mean" if order == 1 else "variance", value.subs(at) - expr)
        return steps.proof()

    return derive


def derive_overlap_isotropic(expr: Any) -> Proof:
    """−½ E log(1 − R²), 1 − R² ~ Beta((d − 1)/2, ½): the slope of log E(1 − R²)^x at 0."""
    x = sympy.Symbol("x", positive=True)
    a, b = (d - 1) / sympy.Integer(2), sympy.Rational(1, 2)
    log_moment = (
        sympy.loggamma(a + x)
        - sympy.loggamma(a)
        + sympy.loggamma(a + b)
        - sympy.loggamma(a + b + x)
    )
    steps = Derivation()
    steps.general("−½ d/dx log E(1 − R²)^x at 0", -log_moment.diff(x).subs(x, 0) / 2 - expr)
    return steps.proof()


def derive_overlap(expr: Any) -> Proof:
    """Beta(½, (ν − 1)/2) has the mean 1/ν; with d in place of ν it is the isotropic law."""
    nu = sympy.Symbol("nu", positive=True)
    inverse = 1 / sympy.Sum(share(j) ** 2, (j, 1, d))
    half = sympy.Rational(1, 2)
    steps = Derivation()
    steps.general("mean of Beta(½, (ν − 1)/2)", half / (half + (nu - 1) / 2) - 1 / nu)
    form = (sympy.digamma(nu / 2) - sympy.digamma((nu - 1) / 2)) / 2
    steps.general("ν = 1/Σ s_j² in the isotropic law", expr - form.subs(nu, inverse))
    return steps.proof(
        rests_on="R² of two channels on many input directions being Beta(½, (ν − 1)/2)"
    )


def derive_power_spread(expr: Any) -> Proof:
    x = sympy.Symbol("x", real=True)
    generating = -total(sympy.log(1 - 2 * x * lam[k])) / 2
    mean, variance = (generating.diff(x, n).subs(x, 0).doit() for n in (1, 2))
    steps = Derivation()
    steps.general("√Var/mean from the cumulants", as_terms(expr**2 * mean**2 - variance))
    return steps.proof()
