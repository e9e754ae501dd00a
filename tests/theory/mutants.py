"""Wrong formulas made from right ones: sign, factor, power, swapped symbols, numbers off by one."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import sympy

from theory.formulas.closed_form import ClosedForm, symbol_name
from theory.verify import _deviation, _sampling_deviation

BROKEN = (
    ArithmeticError, AttributeError, LookupError, NotImplementedError, TypeError, ValueError,
    StopIteration, np.linalg.LinAlgError,
)  # fmt: skip
"""What an expression or a derivation may raise once its formula makes no sense."""
SAME = 1e-9
"""Relative deviation below which a mutant is the formula itself, written otherwise."""


def mutants(form: ClosedForm) -> Iterator[tuple[str, ClosedForm]]:
    """What was changed, and the closed form with the changed expression."""
    expr = form.expr
    changed: list[tuple[str, Any]] = [("factor", 2 * expr), ("sign", -expr)]
    changed += [("swap", swapped) for swapped in _swaps(form)]
    changed += _edits(expr)
    for kind, wrong in changed:
        yield kind, dataclasses.replace(form, expr=wrong, stable=None)


def _swaps(form: ClosedForm) -> Iterator[Any]:
    """Two symbols of one shape and kind exchanged, the first such pair."""
    for index, first in enumerate(form.symbols):
        for second in form.symbols[index + 1 :]:
            alike = type(first) is type(second) and getattr(first, "shape", 0) == getattr(
                second, "shape", 0
            )
            if not alike or not {first, second} <= _atoms(form.expr):
                continue
            between = sympy.Dummy()
            if hasattr(first, "shape"):
                between = type(first)(f"_{symbol_name(first)}", *first.shape)
            swapped = form.expr.xreplace({first: between}).xreplace({second: first})
            yield swapped.xreplace({between: second})
            return


def _atoms(expr: Any) -> set[Any]:
    return set(expr.free_symbols) | expr.atoms(sympy.MatrixSymbol)


def _edits(expr: Any) -> list[tuple[str, Any]]:
    """A term of the first sum turned, the first power raised, the first number plus one."""
    found: list[tuple[str, Any]] = []
    nodes = list(sympy.preorder_traversal(expr, keys=True))  # not as texts happen to hash
    for kind, chosen, edit in (
        ("term", sympy.Add, lambda e: e - 2 * max(e.args, key=sympy.default_sort_key)),
        ("power", sympy.Pow, lambda e: e.base ** (e.exp + 1)),
        ("number", sympy.Rational, lambda e: e + 1),
    ):
        node = next((n for n in nodes if isinstance(n, chosen) and n not in (-1, 0, 1)), None)
        if node is not None:
            with suppress(*BROKEN):
                found.append((kind, expr.xreplace({node: edit(node)})))
    return found


@dataclasses.dataclass(frozen=True)
class Fate:
    """Who refuses a mutant: general steps alone, any step, the oracle."""

    general: bool
    derivation: bool
    oracle: bool


def fate(form: ClosedForm, wrong: ClosedForm, *, oracle: bool = True) -> Fate | None:
    """What refuses `wrong`; None where it cannot be evaluated or is the same formula."""
    rng = np.random.default_rng([7, sum(form.name.encode())])
    values = form.point(rng)
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of quadrature, where an integral no longer converges
            right, other = form.numeric(**values), wrong.numeric(**values)
    except BROKEN:
        return None
    if np.shape(right) != np.shape(other) or _deviation(other, right, SAME) <= 1:
        return None
    try:
        steps = form.derive(wrong.expr).steps
        general = any(step.general and step.holds is not True for step in steps)
        derivation = any(step.holds is not True for step in steps)
    except BROKEN:  # a derivation that cannot even be carried out proves nothing
        general = derivation = True
    refused = False
    if oracle and not general:
        reference = form.oracle.function(**values)
        gap = (
            _sampling_deviation(other, *reference) / form.oracle.tolerance
            if form.oracle.sampling
            else _deviation(other, reference, form.oracle.tolerance)
        )
        refused = not gap <= 1
    return Fate(general, derivation, refused)
