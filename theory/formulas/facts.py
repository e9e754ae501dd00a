"""T1: facts on regressions that the other items use, each with its proof.

K = Cov(Y), R its correlation, ε_i what the regression of Y_i on its peers leaves.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import sympy
from sympy.matrices.expressions.matexpr import MatrixElement

from theory.formulas import _points
from theory.formulas._derivation import Derivation, gradient, same_log, scalar
from theory.formulas._oracles import (
    LINEAR_ALGEBRA,
    QUADRATURE,
    data_set,
    mutual_information,
    residual_variance,
)
from theory.formulas.closed_form import ClosedForm, Oracle, Proof

C, n, i = sympy.symbols("C n i", integer=True, positive=True)
K, R = sympy.MatrixSymbol("K", C, C), sympy.MatrixSymbol("R", C, C)
k = sympy.MatrixSymbol("k", C, 1)
peers, own = sympy.MatrixSymbol("K_RR", n, n), sympy.MatrixSymbol("c", n, 1)
power, corner = sympy.symbols("v P_ii", positive=True)
E = sympy.Symbol("E", nonnegative=True)
without, with_it = sympy.symbols("m_0 m_1", positive=True)
LEFT = power - scalar(own.T * peers.I * own)
"""Variance of a channel of power v, covariances c with its peers, that they leave."""
BLOCKS = "block elimination; derived here"


def _least_squares(steps: Derivation) -> None:
    """The regression on the peers, and what it leaves."""
    b = sympy.MatrixSymbol("b", n, 1)
    error = power - 2 * scalar(b.T * own) + scalar(b.T * peers * b)
    best = peers.I * own
    steps.general("slopes K_RR⁻¹c are least squares", gradient(error, b).xreplace({b: best}))
    steps.general("they leave v − cᵀK_RR⁻¹c", error.xreplace({b: best}) - LEFT)


def _inverse_column(steps: Derivation) -> None:
    """K times (1, −K_RR⁻¹c)/(v − cᵀK_RR⁻¹c) is the first unit vector: so it is K⁻¹'s column."""
    slopes = peers.I * own
    steps.general("own row", (power - scalar(own.T * slopes)) / LEFT - 1)
    steps.general("rows of the peers", own - peers * slopes)


def _derive_residual(expr: Any) -> Proof:
    steps = Derivation()
    _least_squares(steps)
    _inverse_column(steps)
    form = expr.xreplace({K.I[i, i]: 1 / LEFT})
    return steps.general("1/(K⁻¹)_ii is that variance", form - LEFT).proof()


def _derive_inflation(expr: Any) -> Proof:
    """With v = 1, R² = cᵀR_RR⁻¹c."""
    steps = Derivation()
    _least_squares(steps)
    _inverse_column(steps)
    unit = 1 / LEFT.subs(power, 1)
    explained = 1 - LEFT.subs(power, 1)
    return steps.general("(R⁻¹)_ii = 1/(1 − R²)", expr.subs(E, explained) - unit).proof()


def _derive_covariance(expr: Any) -> Proof:
    """ε = Y_i − cᵀK_RR⁻¹Y_R: Cov(T, ε) is the own row of K⁻¹k over (K⁻¹)_ii."""
    own_cross, rest = sympy.Symbol("k_i", real=True), sympy.MatrixSymbol("k_R", n, 1)
    slopes = peers.I * own
    covariance = own_cross - scalar(slopes.T * rest)
    steps = Derivation()
    _inverse_column(steps)
    best = covariance / LEFT
    form = expr.xreplace({MatrixElement(K.I * k, i, 0): best, K.I[i, i]: 1 / LEFT})
    return steps.general("a*_i Var ε_i is Cov(T, ε_i)", form - covariance).proof()


def _derive_information(expr: Any) -> Proof:
    """h(T | peers) − h(T | peers, Y_i) of Gaussians."""
    entropy = sympy.log(without) / 2 - sympy.log(with_it) / 2
    steps = Derivation().general("difference of entropies", same_log(expr, entropy))
    return steps.general("none where nothing is gained", expr.subs(without, with_it)).proof()


def _residual_oracle(K: Any, i: int) -> float:
    return residual_variance(K, i - 1, [n for n in range(len(K)) if n != i - 1])


def _inflation_oracle(E: float) -> float:
    """Diagonal of an inverted correlation matrix whose first channel has this R²."""
    between, along = 0.3, np.array([0.6, -0.2])
    size = along @ np.linalg.solve([[1, between], [between, 1]], along)
    along = along * np.sqrt(E / size)
    matrix = np.array([[1, *along], [along[0], 1, between], [along[1], between, 1]])
    return float(np.linalg.inv(matrix)[0, 0])


def _covariance_oracle(K: Any, k: Any, i: int) -> float:
    """The residual of a regression on a data set, against the target."""
    noise = float(k @ np.linalg.solve(K, k)) + 1.0
    data = data_set(np.block([[K, k[:, None]], [k[None], np.array([[noise]])]]))
    own, rest = data[:, i - 1], np.delete(data[:, :-1], i - 1, axis=1)
    return float((own - rest @ np.linalg.lstsq(rest, own, rcond=None)[0]) @ data[:, -1])


def _information_oracle(m_0: float, m_1: float) -> float:
    """T = gain · Y + rest, of variance m_0 with m_1 left."""
    gain = np.sqrt(m_0 - m_1)
    return mutual_information(np.array([[1.0, gain], [gain, m_0]]), (0,), (1,))


def _errors(rng: np.random.Generator) -> dict[str, float]:
    left = float(rng.uniform(0.3, 1.0))
    return {"m_0": left * float(rng.uniform(1.2, 3.0)), "m_1": left}


form = partial(ClosedForm, item="T1", source=BLOCKS)

FORMS = (
    form(
        name="residual_variance",
        title="What the regression on all other channels leaves of a channel.",
        lhs=r"\operatorname{Var}(Y_i \mid Y_{-i})",
        symbols=(K, i),
        expr=1 / K.I[i, i],
        domain="K positive definite; linear regression, any distribution",
        derive=_derive_residual,
        point=lambda rng: {"K": _points.covariance(rng, 5), "i": int(rng.integers(1, 6))},
        oracle=Oracle("least-squares regression", _residual_oracle, LINEAR_ALGEBRA),
    ),
    form(
        name="variance_inflation",
        title="Diagonal of the inverse correlation: the variance inflation factor.",
        lhs=r"(R^{-1})_{ii}",
        symbols=(E,),
        expr=1 / (1 - E),
        domain="0 ≤ E_i < 1",
        derive=_derive_inflation,
        point=lambda rng: {"E": float(rng.uniform(0.05, 0.9))},
        oracle=Oracle("inverting a correlation matrix", _inflation_oracle, LINEAR_ALGEBRA),
    ),
    form(
        name="residual_target_covariance",
        title="Covariance of the target with what a channel's peers leave of it.",
        lhs=r"\operatorname{Cov}(T, \varepsilon_i)",
        symbols=(K, k, i),
        expr=MatrixElement(K.I * k, i, 0) / K.I[i, i],
        domain="K positive definite; ε_i the residual of Y_i on its peers",
        derive=_derive_covariance,
        point=lambda rng: {
            "K": _points.covariance(rng, 5),
            "k": rng.standard_normal(5),
            "i": int(rng.integers(1, 6)),
        },
        oracle=Oracle("regression on a data set", _covariance_oracle, LINEAR_ALGEBRA),
    ),
    form(
        name="information_from_errors",
        title="What a channel adds, from the target's mean squared errors without and with it.",
        lhs=r"I(T; Y_i \mid Y_{-i})",
        symbols=(without, with_it),
        expr=sympy.log(without / with_it) / 2,
        domain="jointly Gaussian; m_0 ≥ m_1 > 0",
        source="Cover and Thomas, Elements of Information Theory, theorem 8.4.1",
        derive=_derive_information,
        point=_errors,
        oracle=Oracle("quadrature of the densities", _information_oracle, QUADRATURE),
    ),
)
