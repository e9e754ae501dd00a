"""T1: what three channels say together about the target beyond any two of them. In nats.

r_ij are the correlations of the three channels, a_i those of each with the target.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import sympy

from theory.formulas import _points
from theory.formulas._derivation import Derivation, same_log
from theory.formulas._information_derivations import ENTROPY
from theory.formulas._oracles import LINEAR_ALGEBRA, residual_variance
from theory.formulas.closed_form import ClosedForm, Oracle, Proof
from theory.formulas.pairs import MMI

SYMBOLS = sympy.symbols("r12 r13 r23 a1 a2 a3", real=True)
r12, r13, r23, a1, a2, a3 = SYMBOLS
CORRELATION = sympy.Matrix(
    [[1, r12, r13, a1], [r12, 1, r23, a2], [r13, r23, 1, a3], [a1, a2, a3, 1]]
)
DOMAIN = "the correlation matrix of (Y_1, Y_2, Y_3, T) positive definite; jointly Gaussian"
PAIRS = ((0, 1), (0, 2), (1, 2))


def _determinant(*rows: int) -> Any:
    return CORRELATION.extract(list(rows), list(rows)).det(method="berkowitz")


def _information(*channels: int) -> Any:
    return sympy.log(_determinant(*channels) / _determinant(*channels, 3)) / 2


JOINT = _information(0, 1, 2)
OF_PAIRS = tuple(_information(*pair) for pair in PAIRS)


def _derive_joint(expr: Any) -> Proof:
    entropies = sympy.log(_determinant(0, 1, 2)) / 2 - sympy.log(_determinant(0, 1, 2, 3)) / 2
    return Derivation().general("h(T) + h(Y) − h(Y, T)", same_log(expr, entropies)).proof()


def _derive_excess(expr: Any) -> Proof:
    """What is beyond the best pair is the least of three conditional informations."""
    steps = Derivation()
    for pair, of_pair in zip(PAIRS, OF_PAIRS, strict=True):
        conditional = sympy.log(
            _determinant(0, 1, 2) * _determinant(*pair, 3)
            / (_determinant(*pair) * _determinant(0, 1, 2, 3))
        ) / 2  # fmt: skip
        third = ({0, 1, 2} - set(pair)).pop()
        claim = f"I(T; Y) − I(T; Y_{pair[0] + 1}, Y_{pair[1] + 1}) is I(T; Y_{third + 1} | both)"
        steps.general(claim, same_log(JOINT - of_pair, conditional))
    x, y, w, z = sympy.symbols("x y w z", real=True)
    values = dict(zip(OF_PAIRS, (x, y, w), strict=True))
    free = expr.xreplace({JOINT: z}).replace(
        sympy.Max, lambda *pairs: _largest(*(values[pair] for pair in pairs))
    )
    least = _least(_least(z - x, z - y), z - w)
    steps.general("z − max(x, y, w) = min(z − x, z − y, z − w), by absolute values", free - least)
    return steps.proof()


def _largest(*values: Any) -> Any:
    first, *others = values
    for other in others:
        first = (first + other + abs(first - other)) / 2
    return first


def _least(first: Any, second: Any) -> Any:
    return (first + second - abs(first - second)) / 2


def _point(rng: np.random.Generator) -> dict[str, float]:
    matrix = _points.correlation(rng, 4)
    places = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
    return {str(s): float(matrix[i, j]) for s, (i, j) in zip(SYMBOLS, places, strict=True)}


def _regressions(*kept: int, **values: float) -> float:
    """½ log of the target's residual variance given `kept`, by regression on a data set."""
    numbers = {symbol: values[str(symbol)] for symbol in SYMBOLS}
    matrix = np.array(CORRELATION.subs(numbers), dtype=np.float64)
    return 0.5 * float(np.log(residual_variance(matrix, 3, list(kept))))


def _least_conditional(**values: float) -> float:
    whole = _regressions(0, 1, 2, **values)
    return min(_regressions(*pair, **values) - whole for pair in PAIRS)


form = partial(ClosedForm, item="T1")

FORMS = (
    form(
        name="triplet_information",
        title="Information of three channels together about the target.",
        lhs="I(T; Y_1, Y_2, Y_3)",
        symbols=SYMBOLS,
        expr=JOINT,
        domain=DOMAIN,
        source=ENTROPY,
        derive=_derive_joint,
        point=_point,
        oracle=Oracle(
            "a regression on three channels",
            lambda **values: -_regressions(0, 1, 2, **values),
            LINEAR_ALGEBRA,
        ),
    ),
    form(
        name="triplet_excess",
        title="Excess of three channels over their best pair: the MMI synergy of three sources.",
        lhs=r"S_{123} = I(T; Y_1, Y_2, Y_3) - \max_{i<j} I(T; Y_i, Y_j)",
        symbols=SYMBOLS,
        expr=JOINT - sympy.Max(*OF_PAIRS),
        domain=DOMAIN,
        source=MMI,
        derive=_derive_excess,
        point=_point,
        oracle=Oracle("the least conditional information", _least_conditional, LINEAR_ALGEBRA),
    ),
)
