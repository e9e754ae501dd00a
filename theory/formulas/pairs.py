"""T1: information of two channels together, and its parts. In nats.

r = corr(Y_i, Y_j), a = corr(Y_i, T), b = corr(Y_j, T).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import sympy

from theory.formulas import _points
from theory.formulas._derivation import Derivation, same_log
from theory.formulas._information_derivations import ENTROPY, PAPER
from theory.formulas._oracles import (
    LINEAR_ALGEBRA,
    QUADRATURE,
    mutual_information,
    pair_information,
    residual_variance,
    triple_covariance,
)
from theory.formulas.closed_form import ClosedForm, Oracle, Proof

r, a, b = sympy.symbols("r a b", real=True)

DETERMINANT = 1 - r**2 - a**2 - b**2 + 2 * r * a * b
JOINT = sympy.log((1 - r**2) / DETERMINANT) / 2
FIRST, SECOND = -sympy.log(1 - a**2) / 2, -sympy.log(1 - b**2) / 2
DOMAIN = "the correlation matrix of (Y_i, Y_j, T) positive definite; jointly Gaussian"
MMI = "minimum mutual information (Barrett 2015, arXiv:1411.2832); derived here"


def _entropy(*names: str) -> Any:
    """Entropy of some of (i, j, t) up to its constant, from the determinant of their block."""
    order = {"i": 0, "j": 1, "t": 2}
    joint = sympy.Matrix([[1, r, a], [r, 1, b], [a, b, 1]])
    index = [order[n] for n in names]
    return sympy.log(joint.extract(index, index).det()) / 2


def _derive_overlap(expr: Any) -> Proof:
    information = _entropy("i") + _entropy("j") - _entropy("i", "j")
    return (
        Derivation().general("h(Y_i) + h(Y_j) − h(Y_i, Y_j)", same_log(expr, information)).proof()
    )


def _derive_joint(expr: Any) -> Proof:
    information = _entropy("t") + _entropy("i", "j") - _entropy("i", "j", "t")
    return Derivation().general("h(T) + h(Y) − h(Y, T)", same_log(expr, information)).proof()


def _derive_conditional(expr: Any) -> Proof:
    information = _entropy("j", "t") + _entropy("i", "j") - _entropy("j") - _entropy("i", "j", "t")
    return (
        Derivation()
        .general("from the four entropies", same_log(expr, information))
        .general("chain rule: I(T; Y_i, Y_j) − I(T; Y_j)", same_log(expr, JOINT - SECOND))
        .proof()
    )


def _of_parts(expr: Any) -> Any:
    """The expression with the three informations as free symbols."""
    x, y, z = sympy.symbols("x y z", real=True)
    logs = {2 * FIRST: 2 * x, 2 * SECOND: 2 * y, 2 * JOINT: 2 * z}
    return expr.xreplace(_as_logs(logs)), x, y, z


def _as_logs(informations: dict[Any, Any]) -> dict[Any, Any]:
    """{log(...): value} from {±log(...): value}."""
    return {
        next(iter(k.atoms(sympy.log))): v * (1 if k.is_Function else -1)
        for k, v in informations.items()
    }


def _derive_excess(expr: Any) -> Proof:
    """Max and min forms agree on each branch, and at once through |x − y|."""
    free, x, y, z = _of_parts(expr)
    forms = {"max": z - sympy.Max(x, y), "min": sympy.Min(z - y, z - x)}
    gap = sympy.Symbol("g", positive=True)
    steps = Derivation()
    for which, other in forms.items():
        difference = free.rewrite(sympy.Abs) - other.rewrite(sympy.Abs)
        steps.general(f"equals the {which} form, by (x + y ± |x − y|)/2", difference)
    for name, inside in (("I_i > I_j", {x: y + gap}), ("I_i < I_j", {x: y - gap})):
        differences = [_branch(free.subs(inside)) - _branch(f.subs(inside)) for f in forms.values()]
        steps.case(f"both forms on the branch {name}", *differences)
    conditional_i = sympy.log((1 - r**2) * (1 - b**2) / DETERMINANT) / 2
    conditional_j = sympy.log((1 - r**2) * (1 - a**2) / DETERMINANT) / 2
    steps.general("z − y is I(T; Y_i | Y_j)", same_log(JOINT - SECOND, conditional_i))
    steps.general("z − x is I(T; Y_j | Y_i)", same_log(JOINT - FIRST, conditional_j))
    return steps.proof()


def _branch(expr: Any) -> Any:
    return sympy.simplify(expr.rewrite(sympy.Abs))


def _derive_redundancy(expr: Any) -> Proof:
    free, x, y, _ = _of_parts(expr)
    return (
        Derivation()
        .general("min of the two informations", free.rewrite(sympy.Abs) - (x + y - abs(x - y)) / 2)
        .proof()
    )


def _derive_unique(expr: Any) -> Proof:
    free, x, y, z = _of_parts(expr)
    redundancy, excess = sympy.Min(x, y), z - sympy.Max(x, y)
    other = y - redundancy
    atoms = (redundancy + free + other + excess).rewrite(sympy.Abs)
    return (
        Derivation()
        .general("redundancy + both unique + excess = I(T; Y_i, Y_j)", atoms - z)
        .general("redundancy + unique = I_T(i)", (redundancy + free).rewrite(sympy.Abs) - x)
        .proof()
    )


def _conditional_oracle(r: float, a: float, b: float) -> float:
    cov = triple_covariance(r, a, b)
    return 0.5 * float(np.log(residual_variance(cov, 2, [1]) / residual_variance(cov, 2, [0, 1])))


def _excess_oracle(r: float, a: float, b: float) -> float:
    """The smaller of the two conditional informations, each by regression."""
    return min(_conditional_oracle(r, a, b), _conditional_oracle(r, b, a))


form = partial(ClosedForm, item="T1")

FORMS = (
    form(
        name="pair_overlap",
        title="Information that two channels share; its mean over peers is the peer overlap.",
        lhs="I(Y_i; Y_j)",
        symbols=(r,),
        expr=-sympy.log(1 - r**2) / 2,
        domain="|r| < 1; infinite for copies",
        source=PAPER,
        derive=_derive_overlap,
        point=lambda rng: {"r": float(rng.uniform(-0.9, 0.9))},
        oracle=Oracle("quadrature of the densities", lambda r: pair_information(r), QUADRATURE),
        stable=lambda r: float(-0.5 * np.log1p(-(r**2))),
    ),
    form(
        name="pair_information",
        title="Information of two channels together about the target.",
        lhs="I(T; Y_i, Y_j)",
        symbols=(r, a, b),
        expr=JOINT,
        domain=DOMAIN,
        source=ENTROPY,
        derive=_derive_joint,
        point=_points.triple,
        oracle=Oracle(
            "quadrature in three dimensions",
            lambda r, a, b: mutual_information(triple_covariance(r, a, b), (2,), (0, 1)),
            QUADRATURE,
        ),
    ),
    form(
        name="pair_conditional_information",
        title="What one channel says about the target beyond one other.",
        lhs=r"I(T; Y_i \mid Y_j)",
        symbols=(r, a, b),
        expr=sympy.log((1 - r**2) * (1 - b**2) / DETERMINANT) / 2,
        domain=DOMAIN,
        source=ENTROPY,
        derive=_derive_conditional,
        point=_points.triple,
        oracle=Oracle("two regressions", _conditional_oracle, LINEAR_ALGEBRA),
    ),
    form(
        name="pairwise_excess",
        title="Excess of a pair over its better channel: the MMI synergy.",
        lhs=r"S_{ij} = I(T; Y_i, Y_j) - \max(I_T(i), I_T(j))",
        symbols=(r, a, b),
        expr=JOINT - sympy.Max(FIRST, SECOND),
        domain=DOMAIN,
        source=f"{PAPER}; {MMI}",
        derive=_derive_excess,
        point=_points.triple,
        oracle=Oracle("the smaller conditional information", _excess_oracle, LINEAR_ALGEBRA),
    ),
    form(
        name="pairwise_excess_conditional",
        title="The same excess as the smaller of two conditional informations.",
        lhs=r"S_{ij} = \min(I(T; Y_i \mid Y_j), I(T; Y_j \mid Y_i))",
        symbols=(r, a, b),
        expr=sympy.Min(JOINT - SECOND, JOINT - FIRST),
        domain=DOMAIN,
        source=MMI,
        derive=_derive_excess,
        point=_points.triple,
        oracle=Oracle(
            "quadrature in three dimensions",
            lambda r, a, b: (
                mutual_information(triple_covariance(r, a, b), (2,), (0, 1))
                - max(pair_information(a), pair_information(b))
            ),
            QUADRATURE,
        ),
    ),
    form(
        name="task_redundancy",
        title="MMI redundancy of two channels about the target.",
        lhs=r"\min(I_T(i), I_T(j))",
        symbols=(a, b),
        expr=sympy.Min(FIRST, SECOND),
        domain="|a|, |b| < 1",
        source=MMI,
        derive=_derive_redundancy,
        point=lambda rng: {k: v for k, v in _points.triple(rng).items() if k != "r"},
        oracle=Oracle(
            "quadrature", lambda a, b: min(pair_information(a), pair_information(b)), QUADRATURE
        ),
    ),
    form(
        name="task_unique",
        title="MMI unique information of the first channel; with the other atoms it sums up.",
        lhs=r"I_T(i) - \min(I_T(i), I_T(j))",
        symbols=(a, b),
        expr=FIRST - sympy.Min(FIRST, SECOND),
        domain="|a|, |b| < 1",
        source=MMI,
        derive=_derive_unique,
        point=lambda rng: {k: v for k, v in _points.triple(rng).items() if k != "r"},
        oracle=Oracle(
            "quadrature",
            lambda a, b: max(pair_information(a) - pair_information(b), 0.0),
            QUADRATURE,
        ),
    ),
)
