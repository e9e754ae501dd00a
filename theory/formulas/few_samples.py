"""T6, few samples: residual variances inside and outside of them, and samples that are alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy

from theory.formulas._derivation import Derivation
from theory.formulas._oracles import LINEAR_ALGEBRA, SAMPLING, mean_and_error
from theory.formulas.closed_form import ClosedForm, Oracle, Proof

n, p, m = sympy.symbols("n p m", integer=True, positive=True)
rho = sympy.Symbol("rho", real=True)

WISHART = (
    "means of chi-square and of an inverse Wishart matrix (Anderson, section 7.7); derived here"
)
SETS = 40_000
"""Data sets of the sampling oracle."""


def _moment(power: int, degrees: Any) -> Any:
    """E (χ²_k)^s by Gamma functions."""
    half = degrees / 2
    return sympy.gammasimp(2**power * sympy.gamma(half + power) / sympy.gamma(half))


def derive_product(expr: Any) -> Proof:
    """Means of χ²: inside with n - 1 - p degrees, outside by the leverage of a new sample."""
    k = sympy.Symbol("k", positive=True)
    steps = Derivation()
    steps.general("E χ²_k = k", _moment(1, k) - k)
    steps.general("E 1/χ²_k = 1/(k − 2)", _moment(-1, k) - 1 / (k - 2))
    inside = (n - 1 - p) / (n - 1)  # the residual sum of squares is σ² χ² with n - 1 - p degrees
    # a diagonal entry of the inverse Wishart matrix is 1/χ² with (n - 1) - p + 1 degrees
    leverage = p / (n - p - 2)
    outside = (1 + 1 / n) * (1 + leverage)
    steps.general(
        "trace of Σ times the inverse scatter", p * (1 / (k - 2)).subs(k, n - p) - leverage
    )
    steps.general("inside times outside", expr - inside * outside)
    gamma = sympy.Symbol("gamma", positive=True)
    ratio = sympy.limit(expr.subs(p, gamma * n), n, sympy.oo)
    steps.general("1 in the limit of many samples at any share p/n", ratio - 1)
    return steps.proof()


def _product_oracle(n: int, p: int) -> tuple[float, float]:
    """Residuals of regressions on noise, on their own samples and on one more; independent sets."""
    rng = np.random.default_rng(31)

    def fitted() -> tuple[Any, Any]:
        x, y = rng.standard_normal((SETS, n, p)), rng.standard_normal((SETS, n, 1))
        centre, level = x.mean(1, keepdims=True), y.mean(1, keepdims=True)
        x, y = x - centre, y - level
        slopes = np.linalg.solve(np.swapaxes(x, 1, 2) @ x, np.swapaxes(x, 1, 2) @ y)
        inside = ((y - x @ slopes) ** 2).sum((1, 2)) / (n - 1)
        new_x, new_y = rng.standard_normal((SETS, 1, p)), rng.standard_normal((SETS, 1, 1))
        return inside, (new_y - level - (new_x - centre) @ slopes)[:, 0, 0] ** 2

    return mean_and_error(fitted()[0] * fitted()[1])


def derive_effect(expr: Any) -> Proof:
    """From the two eigenvalues of equal correlations."""
    one, rest = 1 + (m - 1) * rho, 1 - rho
    steps = Derivation()
    steps.general("mean eigenvalue 1", (one + (m - 1) * rest) / m - 1)
    steps.general("mean squared eigenvalue", (one**2 + (m - 1) * rest**2) / m - expr)
    return steps.proof()


def _effect_oracle(m: int, rho: float) -> float:
    """Sum of squared correlations of one image's samples, per sample."""
    matrix = np.full((m, m), rho)
    np.fill_diagonal(matrix, 1.0)
    return float((np.linalg.eigvalsh(matrix) ** 2).mean())


FORMS = (
    ClosedForm(
        name="in_out_product",
        item="T6",
        title="Residual variance inside times outside of the samples, over its square: nearly 1.",
        lhs=r"E\,\mathrm{inside} \cdot E\,\mathrm{outside} / \sigma^4",
        symbols=(n, p),
        expr=(n - 1 - p) * (n + 1) * (n - 2) / (n * (n - 1) * (n - p - 2)),
        domain="n ≥ p + 3 independent Gaussian samples, p peers, estimated means",
        source=WISHART,
        derive=derive_product,
        point=lambda rng: {"n": int(rng.integers(14, 30)), "p": int(rng.integers(1, 6))},
        oracle=Oracle("regressions on noise", _product_oracle, SAMPLING, sampling=True),
    ),
    ClosedForm(
        name="design_effect",
        item="T6",
        title="How much more a covariance scatters when m samples of an image correlate by ρ.",
        lhs=r"\delta",
        symbols=(m, rho),
        expr=1 + (m - 1) * rho**2,
        domain="equally correlated samples, ρ from 0 to 1",
        source="Kish (1965) for means, by squares for covariances; derived here",
        derive=derive_effect,
        point=lambda rng: {"m": int(rng.integers(2, 30)), "rho": float(rng.uniform(0.05, 0.95))},
        oracle=Oracle("eigenvalues of the correlation matrix", _effect_oracle, LINEAR_ALGEBRA),
    ),
)
