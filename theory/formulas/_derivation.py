"""Tools with which derivations are carried out: matrix calculus of any size, and small cases.

Scalars such as wᵀΣw are written Trace(w.T * Sigma * w), which sympy can differentiate for a
symbolic size d. Symmetric matrices are named in `SYMMETRIC` and reduced as such.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sympy

from theory.formulas._expression import SYMBOLIC, walk
from theory.formulas.closed_form import Proof, Step

SYMMETRIC = frozenset({"Sigma", "K", "R", "S", "Q", "K_SS", "K_RR"})
"""Matrix symbols that are symmetric wherever they appear in the catalogue."""


def scalar(product: Any) -> Any:
    """A 1 × 1 matrix product as a scalar."""
    return sympy.Trace(product)


class Derivation:
    """Collects the steps of a derivation as sympy decides them."""

    def __init__(self) -> None:
        self._steps: list[Step] = []

    def general(self, claim: str, *differences: Any) -> Derivation:
        """A claim for any size: every difference must reduce to zero."""
        self._steps.append(Step(claim, True, _all_vanish(differences)))
        return self

    def case(self, claim: str, *differences: Any) -> Derivation:
        """A claim for the sizes or signs that it names."""
        self._steps.append(Step(claim, False, _all_vanish(differences)))
        return self

    def confirm(self, claim: str, *differences: Any) -> Derivation:
        """A case that shows on explicit symbols what general steps prove without it."""
        self._steps.append(Step(claim, False, _all_vanish(differences), needed=False))
        return self

    def proof(self, *, rests_on: str = "") -> Proof:
        """The steps so far, as a proof that may rest on a theorem not shown here."""
        return Proof(tuple(self._steps), rests_on)


def _all_vanish(differences: Iterable[Any]) -> bool | None:
    verdicts = [vanishes(d) for d in differences]
    if any(v is False for v in verdicts):
        return False
    return None if not verdicts or any(v is None for v in verdicts) else True


def vanishes(difference: Any) -> bool | None:
    """Whether an expression is identically zero; None where sympy reduces it to no decision."""
    if isinstance(difference, sympy.MatrixBase):
        return _all_vanish(list(difference))
    if isinstance(difference, sympy.MatrixExpr):
        coefficients = list(monomials(reduce_scalars(difference)).values())
        return _all_vanish(coefficients) if coefficients else True
    reduced = reduce_scalars(sympy.sympify(difference))
    for attempt in (_numerator, sympy.simplify, _expand_logs, sympy.radsimp):
        reduced = attempt(reduced)
        if reduced == 0:
            return True
        if _nonzero_somewhere(reduced):
            return False  # sympy may take minutes to simplify what is not zero
    return None


def _numerator(expr: Any) -> Any:
    """The expanded numerator over a common denominator: decides rational functions fast."""
    return sympy.expand(sympy.fraction(sympy.together(expr))[0])


def _expand_logs(expr: Any) -> Any:
    return sympy.simplify(sympy.expand_log(sympy.simplify(expr), force=True))


def _nonzero_somewhere(expr: Any) -> bool:
    """Whether a numerical evaluation contradicts zero."""
    free = sorted(expr.free_symbols, key=str)
    if expr.has(sympy.Sum, sympy.Indexed, sympy.Integral):
        return False
    primes = [sympy.Rational(sympy.prime(i + 3), 3 * i + 17) for i in range(len(free))]
    try:
        value = complex(expr.subs(dict(zip(free, primes, strict=True))).evalf(30))
    except TypeError:
        return False
    return abs(value) > 1e-12


def same_log(first: Any, second: Any) -> Any:
    """Zero if two real logarithmic forms agree: e^(2(first − second)) − 1."""
    return sympy.simplify(sympy.exp(sympy.expand(2 * (first - second)))) - 1


def gradient(expr: Any, vector: Any) -> Any:
    """∇ of a scalar expression in traces, by the chain rule and sympy's matrix derivative."""
    traces = [t for t in expr.atoms(sympy.Trace) if t.has(vector)]
    names = {t: sympy.Dummy() for t in traces}
    outer = expr.xreplace(names)
    total = sympy.ZeroMatrix(*vector.shape)
    for t, name in names.items():
        slope = outer.diff(name).xreplace({n: s for s, n in names.items()})
        total = total + slope * t.diff(vector)
    return total


def monomials(expr: Any) -> dict[Any, Any]:
    """A matrix expression as {matrix product: scalar coefficient}, scalars pulled out of it."""
    terms: dict[Any, Any] = {}
    expanded = sympy.expand(expr.doit())
    for term in expanded.args if isinstance(expanded, sympy.MatAdd) else [expanded]:
        if isinstance(term, sympy.matrices.expressions.special.ZeroMatrix):
            continue
        coefficient, product = _extract(term)
        terms[product] = terms.get(product, 0) + coefficient
    return terms


def _extract(term: Any) -> tuple[Any, Any]:
    """Coefficient and matrix product of one term; row · … · column segments become scalars."""
    coefficient: Any = sympy.Integer(1)
    factors: list[Any] = []
    for arg in _flat(term):
        if getattr(arg, "is_Matrix", False) or isinstance(arg, sympy.MatrixExpr):
            factors.append(arg)
        else:
            coefficient = coefficient * arg
    kept: list[Any] = []
    for factor in factors:
        kept.append(factor)
        if factor.shape[1] != 1 or factor.shape[0] == 1:
            continue
        start = next((i for i in reversed(range(len(kept))) if kept[i].shape[0] == 1), None)
        if start is not None:
            coefficient = coefficient * _canonical(kept[start:])
            del kept[start:]
    if not kept:
        return coefficient, sympy.Identity(1)
    return coefficient, sympy.MatMul(*kept).doit()


def _flat(term: Any) -> list[Any]:
    if isinstance(term, sympy.MatPow) and isinstance(term.base, sympy.MatMul):
        return _flat(term.base) * int(term.exp)
    if isinstance(term, sympy.MatMul):
        return [f for arg in term.args for f in _flat(arg)]
    if isinstance(term, sympy.Transpose) and isinstance(term.arg, sympy.MatMul):
        return [f for arg in reversed(term.arg.args) for f in _flat(sympy.Transpose(arg).doit())]
    if isinstance(term, sympy.Transpose) and _is_symmetric(term.arg):
        return [term.arg]
    return [term]


def _is_symmetric(matrix: Any) -> bool:
    if isinstance(matrix, sympy.Inverse):
        matrix = matrix.arg
    return isinstance(matrix, sympy.MatrixSymbol) and matrix.name in SYMMETRIC


def _canonical(factors: list[Any]) -> Any:
    """One symbol for xᵀAy and yᵀAᵀx; Σ Σ⁻¹ inside them is the identity."""
    forward = sympy.MatMul(*factors).doit()
    backward = sympy.MatMul(*_flat(sympy.Transpose(forward).doit())).doit()
    positive = forward == backward and len(_flat(forward)) in (2, 3)
    name = f"[{min(forward, backward, key=str)}]"
    return sympy.Symbol(name, positive=True) if positive else sympy.Symbol(name, real=True)


def reduce_scalars(expr: Any) -> Any:
    """Every trace of a row · … · column product as a symbol, the same for equal scalars."""

    def reduce(trace: Any) -> Any:
        if trace.arg.shape != (1, 1):
            return trace
        return sum(monomials(trace.arg).values(), sympy.Integer(0))

    return expr.replace(lambda e: isinstance(e, sympy.Trace), reduce)


def explicit(expr: Any, **matrices: Any) -> Any:
    """The expression on explicit symbolic matrices, for a proof by cases."""
    return walk(expr, {**{str(s): s for s in expr.free_symbols}, **matrices}, SYMBOLIC)


def vector_of(letter: str, size: int) -> Any:
    """An explicit column of real symbols."""
    return sympy.Matrix([sympy.Symbol(f"{letter}{i + 1}", real=True) for i in range(size)])


def symmetric_of(letter: str, size: int) -> Any:
    """An explicit symmetric matrix of real symbols, its diagonal positive."""

    def entry(i: int, j: int) -> Any:
        i, j = min(i, j), max(i, j)
        assumption = {"positive": True} if i == j else {"real": True}
        return sympy.Symbol(f"{letter}{i + 1}{j + 1}", **assumption)

    return sympy.Matrix(size, size, entry)
