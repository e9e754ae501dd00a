"""T8, the law of damage: what the prediction loses by a channel, to second order in nats.

p is the intact prediction, δ the change of the logits, m = Σ_k p_k δ_k. A channel's damage is
½ E[u²], u = s·δ with random s of second moment diag(p) - ppᵀ.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import mpmath
import numpy as np
import scipy
from sympy.matrices.expressions.matexpr import MatrixElement

from theory.formulas import _points
from theory.formulas._damage_derivations import (
    CUBE,
    DIVERGENCE,
    DRAWN,
    JOINT,
    SIGNS,
    VARIANCE,
    E,
    K,
    M,
    a,
    alone,
    curvature,
    delta,
    derive_cube,
    derive_divergence,
    derive_drawn,
    derive_joint,
    derive_linear,
    derive_linear_peers,
    derive_ratio,
    derive_second_order,
    derive_sign_variance,
    derive_signs,
    i,
    p,
    peers,
    w,
)
from theory.formulas._oracles import DIFFERENTIATION, LINEAR_ALGEBRA, data_set
from theory.formulas.closed_form import ClosedForm, Oracle

LOGITS = "p positive, Σp = 1"


def _prediction(rng: np.random.Generator) -> dict[str, Any]:
    return {"p": rng.dirichlet(np.full(4, 2.0)), "delta": rng.standard_normal(4)}


def _divergence(p: Any, delta: Any) -> float:
    changed = scipy.special.softmax(np.log(p) + delta)
    return float(scipy.special.rel_entr(p, changed).sum())


def _taylor(order: int) -> Any:
    """Coefficient of t^order of the divergence at tδ, by differences of 60 digits."""

    def oracle(p: Any, delta: Any) -> float:
        with mpmath.workdps(60):
            weights = [mpmath.mpf(float(x)) for x in p]
            weights = [w / mpmath.fsum(weights) for w in weights]

            def along(t: Any) -> Any:
                changed = [
                    w * mpmath.exp(t * float(d)) for w, d in zip(weights, delta, strict=True)
                ]
                total = mpmath.fsum(changed)
                pairs = zip(weights, changed, strict=True)
                return mpmath.fsum(w * mpmath.log(w * total / q) for w, q in pairs)

            return float(mpmath.diff(along, 0, order) / mpmath.factorial(order))

    return oracle


def _over_signs(p: Any, delta: Any) -> Any:
    """(s·δ)² for every choice of signs, all equally likely."""
    signs = np.array(list(product((-1.0, 1.0), repeat=len(p))))
    rooted = signs * np.sqrt(p)
    return ((rooted - rooted.sum(1, keepdims=True) * p) @ delta) ** 2


def _over_classes(p: Any, delta: Any) -> Any:
    """((e_y - p)·δ)² for every class y."""
    return ((np.eye(len(p)) - p) @ delta) ** 2


def _drawn(p: Any, delta: Any) -> float:
    squares = _over_classes(p, delta)
    return float(p @ squares**2 - (p @ squares) ** 2)


def _moments(rng: np.random.Generator) -> dict[str, Any]:
    return {"M": _points.covariance(rng, 4), "w": np.array([1.0, 0.0, 1.0, 1.0])}


def _joint(M: Any, w: Any) -> float:
    return float(np.sum((data_set(M) @ w) ** 2) / 2)


def _readout(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "K": _points.covariance(rng, 4),
        "a": rng.standard_normal(4),
        "i": int(rng.integers(1, 5)),
        "h": float(rng.uniform(0.5, 2)),
    }


def _linear(K: Any, a: Any, i: int, h: float) -> float:
    """Half the mean square of what a data set's second-order loss loses."""
    change = data_set(K)[:, i - 1] * a[i - 1]
    return float(h * np.sum(change**2) / 2)


def _linear_peers(K: Any, a: Any, i: int, h: float) -> float:
    y = data_set(K)
    rest = np.delete(y, i - 1, axis=1)
    left = y[:, i - 1] - rest @ np.linalg.lstsq(rest, y[:, i - 1], rcond=None)[0]
    return float(h * np.sum((left * a[i - 1]) ** 2) / 2)


def _ratio(E: float, c_a: float, c_p: float) -> float:
    """Four equally likely cases: large or small x - μ, large or small residual."""
    first, second = np.array(list(product((-1.0, 1.0), repeat=2))).T
    g2 = 1 + 2 * c_a * first + 2 * c_p * second
    return float(np.mean(g2 * (1 - E) * (1 + second / 2)) / np.mean(g2 * (1 + first / 2)))


def _form(name: str, title: str, lhs: str, symbols: Any, expr: Any, **rest: Any) -> ClosedForm:
    """A T8 entry; their source is the same."""
    source = "cumulants of the change of the logits; derived here"
    return ClosedForm(
        name=name,
        item="T8",
        title=title,
        lhs=lhs,
        symbols=symbols,
        expr=expr,
        source=source,
        **rest,
    )


FORMS = (
    _form(
        "divergence_of_logits",
        "Divergence of a prediction whose logits change: what the cumulants of the change sum to.",
        r"D(p \,\|\, p')",
        (p, delta),
        DIVERGENCE,
        domain=LOGITS,
        derive=derive_divergence,
        point=_prediction,
        oracle=Oracle("relative entropy of two softmaxes", _divergence, LINEAR_ALGEBRA),
    ),
    _form(
        "second_order_divergence",
        "Its second order: half the variance of the change under the prediction.",
        r"\tfrac12 \, \delta^T (\text{diag}\,p - p p^T) \, \delta",
        (p, delta),
        VARIANCE / 2,
        domain=LOGITS,
        derive=derive_second_order,
        point=_prediction,
        oracle=Oracle("differences of 60 digits", _taylor(2), DIFFERENTIATION),
    ),
    _form(
        "divergence_remainder",
        "What the second order leaves: a sixth of the third cumulant, at small changes.",
        r"\lim_{t \to 0} t^{-3} (D_t - \tfrac12 t^2 \text{Var}_p \delta)",
        (p, delta),
        CUBE / 6,
        domain=LOGITS,
        derive=derive_cube,
        point=_prediction,
        oracle=Oracle("differences of 60 digits", _taylor(3), DIFFERENTIATION),
    ),
    _form(
        "sign_curvature",
        "Random signs have the curvature: s = √p ∘ ε − p (√p·ε).",
        r"E_\varepsilon[(s \cdot \delta)^2]",
        (p, delta),
        VARIANCE,
        domain=LOGITS,
        derive=derive_signs,
        point=_prediction,
        oracle=Oracle(
            "all choices of signs",
            lambda p, delta: float(_over_signs(p, delta).mean()),
            LINEAR_ALGEBRA,
        ),
    ),
    _form(
        "sign_variance",
        "Variance of one draw of signs: at most twice the square of what it estimates.",
        r"\text{Var}_\varepsilon[(s \cdot \delta)^2]",
        (p, delta),
        SIGNS,
        domain=LOGITS,
        derive=derive_sign_variance,
        point=_prediction,
        oracle=Oracle(
            "all choices of signs",
            lambda p, delta: float(_over_signs(p, delta).var()),
            LINEAR_ALGEBRA,
        ),
    ),
    _form(
        "class_variance",
        "Variance of one draw of a class instead: a fourth moment, large where p is confident.",
        r"\text{Var}_y[((e_y - p) \cdot \delta)^2]",
        (p, delta),
        DRAWN,
        domain=LOGITS,
        derive=derive_drawn,
        point=_prediction,
        oracle=Oracle("all classes", _drawn, LINEAR_ALGEBRA),
    ),
    _form(
        "joint_damage",
        "Damage of a set: u adds up before the square, so a pair interacts by E[u_i u_j].",
        r"D_S",
        (M, w),
        JOINT,
        domain="M = E[u uᵀ], w is 1 in the set S and 0 elsewhere",
        derive=derive_joint,
        point=_moments,
        oracle=Oracle("a data set", _joint, LINEAR_ALGEBRA),
    ),
    _form(
        "linear_damage",
        "Of a linear readout under a loss of curvature h, alone; at h = 2 the identity of T5.",
        r"D_i",
        (K, a, i, curvature),
        curvature * a[i, 0] ** 2 * K[i, i] / 2,
        domain="K positive definite, f = aᵀY, loss ½h(f − T)² at its least-squares readout",
        derive=derive_linear,
        point=_readout,
        oracle=Oracle("a data set", _linear, LINEAR_ALGEBRA),
    ),
    _form(
        "linear_damage_with_peers",
        "The same with peers standing in; at h = 2 the identity of T5.",
        r"D_i",
        (K, a, i, curvature),
        curvature * a[i, 0] ** 2 / (2 * MatrixElement(K.I, i, i)),
        domain="K positive definite, f = aᵀY, loss ½h(f − T)² at its least-squares readout",
        derive=derive_linear_peers,
        point=_readout,
        oracle=Oracle("regression on a data set", _linear_peers, LINEAR_ALGEBRA),
    ),
    _form(
        "damage_with_peers_ratio",
        "Damage with peers over damage alone: 1 − E where g² knows neither residual's size.",
        r"D_i^{\text{peer}} / D_i",
        (E, alone, peers),
        (1 - E) * (1 + peers) / (1 + alone),
        domain="one position; c = Cov(g², r²)/(E[g²] E[r²]), of x − μ and of its residual",
        derive=derive_ratio,
        point=lambda rng: {
            "E": float(rng.uniform(0.05, 0.95)),
            "c_a": float(rng.uniform(-0.2, 0.2)),
            "c_p": float(rng.uniform(-0.2, 0.2)),
        },
        oracle=Oracle("a discrete distribution", _ratio, LINEAR_ALGEBRA),
    ),
)
