"""T4, from coupled initialization to separation: how the coupling starts to move, where it ends.

The network's own output covaries with the inputs by c = Σm, which the flow carries to the label's:
dc/dt = AΣr, r = c* − c. p_k ∝ c_k² are its shares in the eigenbasis of Σ; s_k = c_k²/λ_k is the
variance that a target has along input direction k.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import sympy

from theory.formulas import _points
from theory.formulas._derivation import Derivation, gradient, scalar
from theory.formulas._oracles import DIFFERENTIATION, DRAWS, SAMPLING, complex_step, mean_and_error
from theory.formulas._random_layer import DENSITY, tilted
from theory.formulas.closed_form import ClosedForm, Oracle, Proof

d, j, k = sympy.symbols("d j k", integer=True, positive=True)
A, t = sympy.symbols("A t", positive=True)
Sigma = sympy.MatrixSymbol("Sigma", d, d)
c, r = sympy.MatrixSymbol("c", d, 1), sympy.MatrixSymbol("r", d, 1)
lam = sympy.IndexedBase("lambda", shape=(d,), positive=True)
cross = sympy.IndexedBase("c", shape=(d,), real=True)
shares = sympy.IndexedBase("s", shape=(d,), nonnegative=True)

SIZE, QUOTIENT = scalar(c.T * c), scalar(c.T * Sigma * c) / scalar(c.T * c)
FROBENIUS = sympy.sqrt(sympy.Trace(Sigma * Sigma))
VELOCITY = (
    2
    * A
    * (scalar(c.T * Sigma * Sigma * r) - QUOTIENT * scalar(c.T * Sigma * r))
    / (SIZE * FROBENIUS)
)


def total(term: Any) -> Any:
    """Σ over k = 1 … d."""
    return sympy.Sum(term, (k, 1, d))


NORM = total(cross[k] ** 2)
MEAN = total(lam[k] * cross[k] ** 2) / NORM
FALL = (
    -2 * A * (total(lam[k] ** 2 * cross[k] ** 2) / NORM - MEAN**2) / sympy.sqrt(total(lam[k] ** 2))
)
BETWEEN = sympy.Integral(
    t * DENSITY / ((1 + 2 * t * lam[j]) * (1 + 2 * t * lam[k])), (t, 0, sympy.oo)
)
PAIR = 2 * lam[j] * lam[k] * (shares[j] - shares[k]) * (lam[j] - lam[k]) * BETWEEN
PAIRS = sympy.Sum(PAIR, (j, 1, k - 1), (k, 1, d))


def _derive_velocity(expr: Any) -> Proof:
    kappa = scalar(c.T * Sigma * c) / (SIZE * FROBENIUS)
    moved = A * Sigma * r
    steps = Derivation()
    steps.general("∂κ/∂c along AΣr, any d", scalar(gradient(kappa, c).T * moved) - expr)
    steps.general("0 where c is fitted, r = 0", expr.xreplace({r: 0 * c}).doit())
    return steps.proof()


def _derive_fall(expr: Any) -> Proof:
    """r = c* − c: what is odd in c has mean 0 over its sign, what is left is even."""
    at = {"size": SIZE, "one": scalar(c.T * Sigma * c), "two": scalar(c.T * Sigma * Sigma * c)}
    own = VELOCITY.xreplace({r: -c})
    target = sympy.MatrixSymbol("c_star", d, 1)
    odd = VELOCITY.xreplace({r: target})
    steps = Derivation()
    steps.general("the label's part is odd in c", odd + odd.xreplace({c: -c}))
    steps.general("its own part is even", own - own.xreplace({c: -c}))
    size, one, two, frobenius = sympy.symbols("n_0 n_1 n_2 f", positive=True)
    matrix = -2 * A * (two / size - (one / size) ** 2) / frobenius
    named = {at["size"]: size, at["one"]: one, at["two"]: two, FROBENIUS: frobenius}
    steps.general("in scalars, any d", own - matrix.xreplace({v: q for q, v in named.items()}))
    sums = {
        NORM: size,
        total(lam[k] * cross[k] ** 2): one,
        total(lam[k] ** 2 * cross[k] ** 2): two,
        total(lam[k] ** 2): frobenius**2,
    }
    steps.general("in the eigenbasis", expr.xreplace(sums) - matrix)
    return steps.proof()


def _derive_pairs(expr: Any) -> Proof:
    """‖c‖² − tr Σ E[b²/D] as a sum over pairs of directions, with g_k = E[w_k²/D]."""
    steps = Derivation()
    tilted(steps)
    x, y, value, other = sympy.symbols("x y l m", positive=True)
    steps.general(
        "1/(1 + 2tl) − 1/(1 + 2tm) = 2t(m − l)/((1 + 2tl)(1 + 2tm))",
        1 / (1 + 2 * t * value)
        - 1 / (1 + 2 * t * other)
        - 2 * t * (other - value) / ((1 + 2 * t * value) * (1 + 2 * t * other)),
    )
    inner = expr.function
    apart = 2 * (lam[k] - lam[j]) * BETWEEN  # g_j − g_k
    steps.general(
        "−λ_jλ_k (s_j − s_k)(g_j − g_k) for each pair",
        inner / (-lam[j] * lam[k] * (shares[j] - shares[k]) * apart) - 1,
    )
    p, q, g, h = sympy.symbols("p q g h", real=True)
    pair = (x * p * y * h + y * q * x * g) - (x * p * y * g + y * q * x * h)
    steps.general(
        "Σ s_jλ_j Σ λ_kg_k − Σ λ_k Σ s_jλ_jg_j pair by pair", pair + x * y * (p - q) * (g - h)
    )
    mass = sympy.Symbol("D", positive=True)
    steps.general("Σ λ_kg_k = E[D/D] = 1", mass / mass - 1)
    return steps.proof()


def _fall_oracle(**v: Any) -> float:
    """Mean over both signs of the start, for one label, of dκ/dt by complex steps."""
    values, start = np.asarray(v["lambda"]), np.asarray(v["c"])
    label = np.linspace(-1.0, 2.0, values.size)
    slopes = [
        _slope(np.diag(values), sign * start, label - sign * start, v["A"]) for sign in (1, -1)
    ]
    return float(np.mean(slopes))


def _slope(Sigma: Any, c: Any, r: Any, A: float) -> float:
    def kappa(x: Any) -> Any:
        now = c + x[0] * A * Sigma @ r
        return now @ Sigma @ now / (now @ now) / np.linalg.norm(Sigma)

    return float(complex_step(kappa, np.zeros(1))[0])


def _pairs_oracle(**v: Any) -> tuple[float, float]:
    values, parts = np.asarray(v["lambda"]), np.asarray(v["s"])
    w = np.random.default_rng(5).standard_normal((DRAWS, values.size))
    power = w**2 @ values
    explained = (w @ np.sqrt(values * parts)) ** 2 / power
    return mean_and_error((power - values.sum()) * explained)


def _spectral(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "A": float(rng.uniform(0.3, 1.5)),
        "lambda": rng.uniform(0.3, 2.0, 4),
        "c": rng.standard_normal(4),
    }


def _matrix(rng: np.random.Generator) -> dict[str, Any]:
    sigma, vector, _ = _points.input_and_target(rng, 4)
    return {"A": float(rng.uniform(0.3, 1.5)), "Sigma": sigma, "c": vector} | {
        "r": rng.standard_normal(4)
    }


FLOW = "gradient flow with the readout fixed, A = ‖a‖²"
form = partial(ClosedForm, item="T4", source="derived here")

FORMS = (
    form(
        name="coupling_velocity",
        title="How fast the coupling of the network's own output moves.",
        lhs=r"d\kappa(\Sigma, \Sigma m)/dt",
        symbols=(A, Sigma, c, r),
        expr=VELOCITY,
        domain=f"{FLOW}; c = Σm, r what is left to fit",
        derive=_derive_velocity,
        point=_matrix,
        oracle=Oracle(
            "complex-step differentiation", lambda A, **v: _slope(**v, A=A), DIFFERENTIATION
        ),
    ),
    form(
        name="initial_coupling_fall",
        title="At initialization the coupling falls, whatever the target: by the variance of λ.",
        lhs=r"E_{\pm}\, d\kappa/dt",
        symbols=(A, lam, cross),
        expr=FALL,
        domain=f"{FLOW}; mean over the sign of the initial output; 0 only for one eigenvalue",
        derive=_derive_fall,
        point=_spectral,
        oracle=Oracle("complex steps from both signs", _fall_oracle, DIFFERENTIATION),
    ),
    form(
        name="normalized_coupling_sign",
        title="The coupling with task information is positive where the target's variance rises "
        "with λ, 0 where it is even, negative where it falls.",
        lhs=r"\operatorname{Cov}(D, b^2/D)",
        symbols=(lam, shares),
        expr=PAIRS,
        domain="w ~ N(0, I); s_k the variance of the target along direction k",
        derive=_derive_pairs,
        point=lambda rng: {"lambda": rng.uniform(0.3, 2.0, 2), "s": rng.uniform(0.0, 2.0, 2)},
        oracle=Oracle("sampling channels", _pairs_oracle, SAMPLING, sampling=True),
    ),
)
