"""Symbols and derivations of T8, the law of damage."""

from __future__ import annotations

from itertools import product
from typing import Any

import sympy

from theory.formulas._derivation import Derivation, explicit, scalar, vector_of
from theory.formulas.closed_form import Proof

C, S, i = sympy.symbols("C S i", integer=True, positive=True)
j, k = sympy.symbols("j k", integer=True, positive=True)
p = sympy.IndexedBase("p", shape=(C,), positive=True)
delta = sympy.IndexedBase("delta", shape=(C,), real=True)
M, w = sympy.MatrixSymbol("M", S, S), sympy.MatrixSymbol("w", S, 1)
K, a = sympy.MatrixSymbol("K", C, C), sympy.MatrixSymbol("a", C, 1)
curvature = sympy.Symbol("h", positive=True)
E, alone, peers = sympy.symbols("E c_a c_p", real=True)
SIZES = (2, 3)


def _mean(term: Any) -> Any:
    return sympy.Sum(p[k] * term, (k, 1, C))


MEAN = sympy.Sum(p[j] * delta[j], (j, 1, C))
DIVERGENCE = sympy.log(_mean(sympy.exp(delta[k]))) - MEAN
VARIANCE = _mean((delta[k] - MEAN) ** 2)
CUBE = _mean((delta[k] - MEAN) ** 3)
SIGNS = 2 * (VARIANCE**2 - sympy.Sum(p[k] ** 2 * (delta[k] - MEAN) ** 4, (k, 1, C)))
DRAWN = _mean((delta[k] - MEAN) ** 4) - VARIANCE**2
JOINT = scalar(w.T * M * w) / 2


def _symbols(size: int) -> tuple[list[Any], list[Any]]:
    """Explicit p, summing to 1, and δ."""
    chances = list(sympy.symbols(f"p1:{size}", positive=True))
    return [*chances, 1 - sum(chances)], list(sympy.symbols(f"d1:{size + 1}", real=True))


def _form(expr: Any, chances: list[Any], change: list[Any]) -> Any:
    return explicit(expr, p=chances, delta=change)


def _divergence(chances: list[Any], change: list[Any], t: Any) -> Any:
    """Σ p (log p - log q), q ∝ p e^(tδ), the logarithms of p cancelled."""
    total = sum(c * sympy.exp(t * d) for c, d in zip(chances, change, strict=True))
    return sum(c * (sympy.log(total) - t * d) for c, d in zip(chances, change, strict=True))


def derive_divergence(expr: Any) -> Proof:
    steps = Derivation()
    for size in SIZES:
        chances, change = _symbols(size)
        found = _divergence(chances, change, sympy.Integer(1))
        steps.case(
            f"{size} classes", sympy.expand(found) - sympy.expand(_form(expr, chances, change))
        )
    return steps.proof()


def _order(expr: Any, order: int) -> Proof:
    """The orders below vanish (the first) or are stated elsewhere; this one is `expr`."""
    t = sympy.Symbol("t", real=True)
    steps = Derivation()
    for size in SIZES:
        chances, change = _symbols(size)
        along = _divergence(chances, change, t)
        steps.case(f"no first order, {size} classes", along.diff(t).subs(t, 0))
        coefficient = along.diff(t, order).subs(t, 0) / sympy.factorial(order)
        steps.case(f"order {order}, {size} classes", coefficient - _form(expr, chances, change))
    return steps.proof()


def derive_second_order(expr: Any) -> Proof:
    return _order(expr, 2)


def derive_cube(expr: Any) -> Proof:
    return _order(expr, 3)


def _squares(chances: list[Any], change: list[Any]) -> list[Any]:
    """(s·δ)² of every choice of signs; those of -ε are those of ε."""
    roots = [sympy.sqrt(c) for c in chances]
    found = []
    for rest in product((-1, 1), repeat=len(chances) - 1):
        signed = [sign * root for sign, root in zip((1, *rest), roots, strict=True)]
        total = sum(signed)
        terms = zip(signed, chances, change, strict=True)
        found.append(sum((s - c * total) * d for s, c, d in terms) ** 2)
    return found


def derive_signs(expr: Any) -> Proof:
    steps = Derivation()
    for size in SIZES:
        chances, change = _symbols(size)
        squares = _squares(chances, change)
        mean = sympy.expand(sum(squares)) / len(squares)
        steps.case(f"all signs, {size} classes", mean - _form(expr, chances, change))
    return steps.proof()


def derive_sign_variance(expr: Any) -> Proof:
    """s·δ = Σ_j ε_j √p_j (δ_j - m): the fourth moment of signs, E[ε_j²ε_k²] = 1."""
    steps = Derivation()
    for size in SIZES:
        chances, change = _symbols(size)
        parts = list(sympy.symbols(f"b1:{size + 1}", real=True))
        signed = [
            sum(s * b for s, b in zip((1, *rest), parts, strict=True))
            for rest in product((-1, 1), repeat=size - 1)
        ]
        second = sum(x**2 for x in signed) / len(signed)
        variance = sympy.expand(sum(x**4 for x in signed) / len(signed) - second**2)
        mean = sum(c * d for c, d in zip(chances, change, strict=True))
        squares = [c * (d - mean) ** 2 for c, d in zip(chances, change, strict=True)]
        # only squares of the parts are left
        even = variance.subs({b: sympy.sqrt(q) for b, q in zip(parts, squares, strict=True)})
        steps.case(f"all signs, {size} classes", even - _form(expr, chances, change))
    return steps.proof()


def derive_drawn(expr: Any) -> Proof:
    steps = Derivation()
    for size in SIZES:
        chances, change = _symbols(size)
        mean = sum(c * d for c, d in zip(chances, change, strict=True))
        squares = [(d - mean) ** 2 for d in change]
        second = sum(c * q for c, q in zip(chances, squares, strict=True))
        fourth = sum(c * q**2 for c, q in zip(chances, squares, strict=True))
        steps.case(f"{size} classes", fourth - second**2 - _form(expr, chances, change))
    return steps.proof()


def derive_joint(expr: Any) -> Proof:
    """½ (wᵀu)² with M = u uᵀ, whose mean is linear in M; a pair's excess over its parts."""
    steps = Derivation()
    for size in SIZES:
        u, members = vector_of("u", size), vector_of("w", size)
        form = explicit(expr, M=u * u.T, w=members)
        steps.case(f"½ (wᵀu)², {size} channels", (members.T * u)[0] ** 2 / 2 - form)
    u = vector_of("u", 2)
    both, first, second = (
        explicit(expr, M=u * u.T, w=sympy.Matrix(own)) for own in ([1, 1], [1, 0], [0, 1])
    )
    return steps.case("D_ij - D_i - D_j = u_i u_j", both - first - second - u[0] * u[1]).proof()


def derive_linear(expr: Any) -> Proof:
    """u = √h a_i (Y_i - μ_i); its mean square, and T5 at h = 2."""
    from theory.formulas._lesions_derivations import derive_mean

    square = curvature * a[i, 0] ** 2 * K[i, i]
    own = Derivation().general("½ E[u²], any C", square / 2 - expr).proof()
    return Proof((*own.steps, *derive_mean(expr.subs(curvature, 2)).steps))


def derive_linear_peers(expr: Any) -> Proof:
    """The residual's variance is 1/(K⁻¹)_ii; T5 at h = 2."""
    from theory.formulas._lesions_derivations import derive_replacement

    square = curvature * a[i, 0] ** 2 / K.I[i, i]
    own = Derivation().general("½ E[u²], any C", square / 2 - expr).proof()
    return Proof((*own.steps, *derive_replacement(expr.subs(curvature, 2)).steps))


def derive_ratio(expr: Any) -> Proof:
    """E[g²r²] = E[g²] E[r²] + Cov(g², r²) of either residual, variances J and (1 - E) J."""
    slope, power, with_own, with_rest = sympy.symbols("G J v_a v_p", positive=True)
    damage = slope * power + with_own, slope * (1 - E) * power + with_rest
    shares = {alone: with_own / (slope * power), peers: with_rest / (slope * (1 - E) * power)}
    return (
        Derivation()
        .general("½ E[g²r²] with peers over that alone", damage[1] / damage[0] - expr.subs(shares))
        .proof()
    )
