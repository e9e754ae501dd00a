"""T4: the exact law of a layer's filters while its readout a is held fixed, and of its ranks.

m is the layer's end-to-end weight along one input direction, s² the initial weights' variance.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import scipy
import sympy

from theory.formulas._derivation import Derivation, scalar
from theory.formulas._oracles import SAMPLING, mean_and_error
from theory.formulas.closed_form import ClosedForm, Oracle, Proof

C, i, j = sympy.symbols("C i j", integer=True, positive=True)
n = sympy.Symbol("n", integer=True, positive=True)
a, w0, r = (sympy.MatrixSymbol(letter, C, 1) for letter in ("a", "w_0", "r"))
m, g = sympy.symbols("m g", real=True)
s = sympy.Symbol("s", positive=True)
tau, rho = sympy.symbols("tau rho", real=True)

POWER = scalar(a.T * a)
LAW = "dW/dt = a rᵀ moves a layer along its readout alone; derived here"
NETWORKS, DESCENT = 30_000, 100


def _solution(steps: Derivation) -> None:
    """w(t) = w0 + a g(t) for one input direction, written in m = aᵀw."""
    filters = w0 + a * g
    output = scalar(a.T * w0) + POWER * g
    rest = w0 - a * scalar(a.T * w0) / POWER
    steps.general(
        "w0 + a g = a m/‖a‖² + (I − aaᵀ/‖a‖²) w0, any C", a * output / POWER + rest - filters
    )
    steps.general("the readout does not see the rest", scalar(a.T * rest))


def _derive_center(expr: Any) -> Proof:
    """The rest is independent of m, having no covariance with aᵀw0, and has mean 0."""
    steps = Derivation()
    _solution(steps)
    steps.general("Cov(rest, aᵀw0) = s²(a − a‖a‖²/‖a‖²)", a - a * POWER / POWER)
    return steps.general("the part along a", expr - a[i, 0] * m / POWER).proof()


def _derive_covariance(expr: Any) -> Proof:
    """s² (I − P)(I − P)ᵀ with P = aaᵀ/‖a‖²."""
    onto = a * a.T / POWER
    steps = Derivation()
    _solution(steps)
    steps.general("P² = P, so (I − P)(I − P) = I − P, any C", onto * onto - onto)
    same = sympy.KroneckerDelta(i, j)
    other = expr / s**2 - (same - a[i, 0] * a[j, 0] / POWER)
    steps.general("its entry for i ≠ j, and for i = j", other.subs(same, 0), other.subs(same, 1))
    return steps.proof()


def _derive_spearman(expr: Any) -> Proof:
    """r_S is 3/(n³ − n) times the sum over i, j, k of sgn(x_i − x_j) sgn(y_i − y_k)."""
    pairs, triples = n * (n - 1), n * (n - 1) * (n - 2)
    mean = 3 / (n**3 - n) * (pairs * tau + triples * rho / 3)
    steps = Derivation()
    steps.general("j = k: E is τ; j ≠ k: E is ρ_S/3", mean - expr)
    ranks = sympy.Symbol("k", integer=True, positive=True)
    square = sympy.summation((2 * ranks - n - 1) ** 2, (ranks, 1, n))
    steps.general(
        "1 where both orders are one: Σ(2k − n − 1)² = (n³ − n)/3", square - (n**3 - n) / 3
    )
    return steps.proof()


def _trained(a: Any, s: float) -> tuple[Any, Any]:
    """Filters along one direction after some descent on (m − 1)², from many initial weights."""
    w = s * np.random.default_rng(11).standard_normal((NETWORKS, len(a)))
    rate = 0.5 / DESCENT / float(a @ a)
    for _ in range(DESCENT):
        w = w + rate * np.outer(1.0 - w @ a, a)
    return w, w @ a


def _center_oracle(a: Any, i: int, m: float) -> tuple[float, float]:
    """The regression of a trained filter on the trained output, taken at m."""
    w, output = _trained(a, 1.0)
    gap = output - output.mean()
    slope = gap @ w[:, i - 1] / (gap @ gap)
    rest = w[:, i - 1] - w[:, i - 1].mean() - slope * gap
    level = w[:, i - 1].mean() + slope * (m - output.mean())
    spread = rest.std() / np.sqrt(NETWORKS)
    return float(level), float(spread * np.hypot(1.0, (m - output.mean()) / output.std()))


def _covariance_oracle(a: Any, i: int, j: int, s: float) -> tuple[float, float]:
    """Of what the output does not say of two trained filters."""
    w, output = _trained(a, s)
    gap = (output - output.mean())[:, None]
    w = w - w.mean(0)
    rest = w - gap * (gap.T @ w) / np.sum(gap**2)
    return mean_and_error(rest[:, i - 1] * rest[:, j - 1])


def _spearman_oracle(n: int, tau: float, rho: float) -> tuple[float, float]:
    """Samples of a Gaussian pair with this τ, for which ρ_S goes with it."""
    r = np.sin(np.pi * tau / 2)
    x, y = np.random.default_rng(13).standard_normal((2, NETWORKS, int(n)))
    y = r * x + np.sqrt(1 - r * r) * y
    ranks = [scipy.stats.rankdata(v, axis=1) - (n + 1) / 2 for v in (x, y)]
    return mean_and_error(np.sum(ranks[0] * ranks[1], axis=1) / ((n**3 - n) / 12))


def _gaussian_pair(rng: np.random.Generator) -> dict[str, Any]:
    r = float(rng.uniform(-0.9, 0.9))
    tau, rho = 2 / np.pi * np.arcsin(r), 6 / np.pi * np.arcsin(r / 2)
    return {"n": int(rng.integers(4, 15)), "tau": float(tau), "rho": float(rho)}


form = partial(ClosedForm, item="T4", source=LAW)

FORMS = (
    form(
        name="filter_center",
        title="Mean of a trained filter, given readout and output: its share of the output.",
        lhs=r"E[w_i \mid a, m]",
        symbols=(a, i, m),
        expr=a[i, 0] * m / POWER,
        domain="one output, readout fixed, w_i(0) ~ N(0, s²I); any time and width",
        derive=_derive_center,
        point=lambda rng: {
            "a": rng.standard_normal(4),
            "i": int(rng.integers(1, 5)),
            "m": float(rng.standard_normal()),
        },
        oracle=Oracle("descent from many initial weights", _center_oracle, SAMPLING, sampling=True),
    ),
    form(
        name="filter_covariance",
        title="Covariance of two trained filters around that mean: what chance has left.",
        lhs=r"\operatorname{Cov}(w_i, w_j \mid a, m)",
        symbols=(a, i, j, s),
        expr=s**2 * (sympy.KroneckerDelta(i, j) - a[i, 0] * a[j, 0] / POWER),
        domain="as filter_center; per input direction",
        derive=_derive_covariance,
        point=lambda rng: {
            "a": rng.standard_normal(4),
            "i": int(rng.integers(1, 5)),
            "j": int(rng.integers(1, 5)),
            "s": float(rng.uniform(0.5, 2)),
        },
        oracle=Oracle(
            "descent from many initial weights", _covariance_oracle, SAMPLING, sampling=True
        ),
    ),
    form(
        name="sample_spearman_mean",
        title="Mean Spearman of n samples: it lies nearer 0 than the population's.",
        lhs=r"E\, r_S",
        symbols=(n, tau, rho),
        expr=(3 * tau + (n - 2) * rho) / (n + 1),
        domain="n ≥ 3 independent pairs without ties; τ Kendall's, ρ Spearman's of the population",
        source="Hoeffding (1948), section 5",
        derive=_derive_spearman,
        point=_gaussian_pair,
        oracle=Oracle("sampling Gaussian pairs", _spearman_oracle, SAMPLING, sampling=True),
    ),
)
