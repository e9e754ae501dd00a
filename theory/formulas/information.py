"""T1: information of one channel about its input, its peers and the target. In nats."""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy

from theory.closed_form import ClosedForm, Oracle, Proof
from theory.formulas import _points
from theory.formulas._derivation import Derivation, explicit, same_log, scalar, symmetric_of
from theory.formulas._oracles import (
    DRAWS,
    LINEAR_ALGEBRA,
    QUADRATURE,
    SAMPLING,
    data_set,
    mean_and_error,
    mutual_information,
    residual_variance,
)

C, d, i, q = sympy.symbols("C d i q", integer=True, positive=True)
Sigma, w = sympy.MatrixSymbol("Sigma", d, d), sympy.MatrixSymbol("w", d, 1)
R, K = sympy.MatrixSymbol("R", C, C), sympy.MatrixSymbol("K", C, C)
k, S = sympy.MatrixSymbol("k", C, q), sympy.MatrixSymbol("S", q, q)
J, sigma0, tau, D = sympy.symbols("J sigma_0 tau D", positive=True)
rho = sympy.Symbol("rho", real=True)
E, p = sympy.symbols("E p", nonnegative=True)
ridge = sympy.Symbol("r", nonnegative=True)

PAPER = "Safaai et al. (2026), arXiv:2605.07086"
ENTROPY = "Cover and Thomas, Elements of Information Theory, theorem 8.4.1"


def _entropy(variance: Any) -> Any:
    """Differential entropy of a Gaussian without the constant of its dimension."""
    return sympy.log(variance) / 2


def _derive_power(expr: Any) -> Proof:
    u = sympy.Symbol("u", real=True)
    generating = sympy.exp(u**2 * scalar(w.T * Sigma * w) / 2)
    x, v = sympy.symbols("x1:4", real=True), sympy.Matrix(sympy.symbols("w1:4", real=True))
    cov = symmetric_of("s", 3)
    square = sympy.Poly(sympy.expand(sum(a * b for a, b in zip(v, x, strict=True)) ** 2), *x)
    mean = sympy.Integer(0)
    for powers, coefficient in square.terms():
        first, second = (n for n, power in enumerate(powers) for _ in range(power))
        mean += coefficient * cov[first, second]
    return (
        Derivation()
        .general("second derivative of E e^(u wᵀX) at 0", generating.diff(u, 2).subs(u, 0) - expr)
        .case("E (wᵀX)² term by term, d = 3", mean - explicit(expr, Sigma=cov, w=v))
        .proof()
    )


def _derive_rayleigh(expr: Any) -> Proof:
    s = sympy.Symbol("s", positive=True)
    scaled = explicit(expr, Sigma=symmetric_of("s", 2), w=s * sympy.Matrix(sympy.symbols("w1:3")))
    plain = explicit(expr, Sigma=symmetric_of("s", 2), w=sympy.Matrix(sympy.symbols("w1:3")))
    power = scalar(w.T * Sigma * w)
    return (
        Derivation()
        .general("power per squared norm", expr * scalar(w.T * w) - power)
        .case("unchanged when w is rescaled, d = 2", scaled - plain)
        .proof()
    )


def _derive_capture(expr: Any) -> Proof:
    difference = _entropy(J + sigma0**2) - _entropy(sigma0**2)
    return (
        Derivation()
        .general("h(Y + N) − h(N), Var(N) = σ0²", same_log(expr, difference))
        .general("no power, no information", expr.subs(J, 0))
        .proof()
    )


def _derive_task(expr: Any) -> Proof:
    cross = rho * sympy.sqrt(D) * tau
    joint = sympy.Matrix([[D, cross], [cross, tau**2]]).det()
    information = _entropy(D) + _entropy(tau**2) - _entropy(sympy.factor(joint))
    return (
        Derivation()
        .general("h(Y) + h(T) − h(Y, T), any scales", same_log(expr, information))
        .proof()
    )


def _unit_diagonal(size: int) -> Any:
    m = symmetric_of("s", size)
    return m.subs({m[n, n]: 1 for n in range(size)})


def _derive_predictability(expr: Any) -> Proof:
    b, g = sympy.symbols("b g", positive=True)
    corner = sympy.solve(sympy.Eq(b * (1 - g), 1), b)[0]
    form = expr.xreplace({R.I[i, i]: corner})
    steps = Derivation().general(
        "block elimination: (R⁻¹)_ii = 1/(1 − g), g = r_iᵀR_-i⁻¹r_i", form - g
    )
    for size in (2, 3):
        m = _unit_diagonal(size)
        u, rest = m[1:, 0], m[1:, 1:]
        steps.case(
            f"R² of the regression on the peers, C = {size}",
            explicit(expr.subs(i, 1), R=m) - (u.T * rest.inv() * u)[0],
        )
    return steps.proof()


def _derive_ridge(expr: Any) -> Proof:
    b, g = sympy.symbols("b g", positive=True)
    corner = sympy.solve(sympy.Eq(b * (1 + ridge - g), 1), b)[0]
    inverse = (R + ridge * sympy.Identity(C)).I[i, i]
    steps = Derivation().general(
        "block elimination: 1/(1 + r − g), g = r_iᵀ(R_-i + rI)⁻¹r_i",
        expr.xreplace({inverse: corner}) - g,
    )
    for size in (2, 3):
        m = _unit_diagonal(size)
        u, rest = m[1:, 0], m[1:, 1:]
        direct = (u.T * (rest + ridge * sympy.eye(size - 1)).inv() * u)[0]
        steps.case(
            f"the ridge regression itself, C = {size}", explicit(expr.subs(i, 1), R=m) - direct
        )
    return steps.proof()


def _derive_peer_information(expr: Any) -> Proof:
    information = _entropy(D) - _entropy(D * (1 - E))
    return (
        Derivation()
        .general(
            "h(Y_i) − h(Y_i | Y_-i), Var(Y_i | Y_-i) = K_ii(1 − E_i)", same_log(expr, information)
        )
        .proof()
    )


def _derive_conditional(expr: Any) -> Proof:
    before, after = sympy.symbols("m_0 m_1", positive=True)
    partial = sympy.solve(sympy.Eq(after, before * (1 - p**2)), p)[-1]
    return (
        Derivation()
        .general(
            "½ log(residual variance of T without Y_i / with it)",
            same_log(expr.subs(p, partial), sympy.log(before / after) / 2),
        )
        .proof()
    )


def _derive_vector(expr: Any) -> Proof:
    steps = Derivation()
    joint = symmetric_of("s", 3)
    for size, targets in ((2, 1), (1, 2)):
        kk, cross, ss = joint[:size, :size], joint[:size, size:], joint[size:, size:]
        information = _entropy(kk.det()) + _entropy(ss.det()) - _entropy(joint.det())
        steps.case(
            f"h(Y) + h(T) − h(Y, T), C = {size}, q = {targets}",
            same_log(explicit(expr, K=kk, k=cross, S=ss), information),
        )
    return steps.proof()


def _sampled_power(Sigma: Any, w: Any) -> tuple[float, float]:
    rng = np.random.default_rng(11)
    y = rng.standard_normal((DRAWS, len(w))) @ data_set(np.asarray(Sigma)) @ w
    return mean_and_error(y**2)


def _spectral_rayleigh(Sigma: Any, w: Any) -> float:
    values, vectors = np.linalg.eigh(Sigma)
    share = (vectors.T @ w) ** 2
    return float(share @ values / share.sum())


def _point_power(rng: np.random.Generator) -> dict[str, Any]:
    return {"Sigma": _points.covariance(rng, 4), "w": rng.standard_normal(4)}


def _capture_oracle(J: float, sigma_0: float) -> float:
    return mutual_information(np.array([[J, J], [J, J + sigma_0**2]]), (0,), (1,))


def _predictability_oracle(R: Any, i: int) -> float:
    return 1 - residual_variance(R, i - 1, [n for n in range(len(R)) if n != i - 1])


def _ridge_oracle(R: Any, i: int, r: float) -> float:
    """The ridge regression as least squares on a data set with √r I appended."""
    peers = [n for n in range(len(R)) if n != i - 1]
    data = np.vstack([data_set(R), np.zeros((len(peers), len(R)))])
    design = data[:, peers]
    design[-len(peers) :] = np.sqrt(r) * np.eye(len(peers))
    fit = design @ np.linalg.lstsq(design, data[:, i - 1], rcond=None)[0]
    return float(fit @ data[:, i - 1])


def _point_correlation(rng: np.random.Generator) -> dict[str, Any]:
    return {"R": _points.correlation(rng, 5), "i": int(rng.integers(1, 6))}


def _vector_oracle(K: Any, k: Any, S: Any) -> float:
    """Sum over canonical correlations, from the singular values of whitened cross-moments."""
    joint = np.block([[K, k], [k.T, S]])
    data = data_set(joint)
    y, t = (np.linalg.qr(part)[0] for part in (data[:, : len(K)], data[:, len(K) :]))
    canonical = np.linalg.svd(y.T @ t, compute_uv=False)
    return float(-0.5 * np.sum(np.log1p(-(canonical**2))))


def _point_vector(rng: np.random.Generator) -> dict[str, Any]:
    joint = _points.covariance(rng, 5)
    return {"K": joint[:3, :3], "k": joint[:3, 3:], "S": joint[3:, 3:]}


FORMS = (
    ClosedForm(
        name="signal_power",
        item="T1",
        title="Power of a channel: the variance of its output.",
        lhs=r"J_i = \operatorname{Var}(w_i^T X)",
        symbols=(Sigma, w),
        expr=scalar(w.T * Sigma * w),
        domain="Σ positive semidefinite; any distribution of X",
        source=PAPER,
        derive=_derive_power,
        point=_point_power,
        oracle=Oracle("sampling X", _sampled_power, SAMPLING, sampling=True),
    ),
    ClosedForm(
        name="rayleigh_quotient",
        item="T1",
        title="Power per squared weight norm.",
        lhs=r"J_i / \|w_i\|^2",
        symbols=(Sigma, w),
        expr=scalar(w.T * Sigma * w) / scalar(w.T * w),
        domain="w ≠ 0",
        source=PAPER,
        derive=_derive_rayleigh,
        point=_point_power,
        oracle=Oracle("eigenvalues of Σ, weighted", _spectral_rayleigh, LINEAR_ALGEBRA),
    ),
    ClosedForm(
        name="input_capture",
        item="T1",
        title="Information that a channel read with reference noise carries about its input.",
        lhs=r"I_X(i) = I(X; Y_i + N)",
        symbols=(J, sigma0),
        expr=sympy.log(1 + J / sigma0**2) / 2,
        domain="J ≥ 0, σ0 > 0; X and the noise Gaussian",
        source=f"{PAPER}; {ENTROPY}",
        derive=_derive_capture,
        point=lambda rng: {"J": float(rng.uniform(0.1, 4)), "sigma_0": float(rng.uniform(0.7, 2))},
        oracle=Oracle("quadrature of the densities", _capture_oracle, QUADRATURE),
        stable=lambda J, sigma_0: float(0.5 * np.log1p(J / sigma_0**2)),
    ),
    ClosedForm(
        name="task_information",
        item="T1",
        title="Information between one channel and a scalar target.",
        lhs="I_T(i) = I(T; Y_i)",
        symbols=(rho,),
        expr=-sympy.log(1 - rho**2) / 2,
        domain="|ρ| < 1; infinite at ±1. (Y, T) Gaussian",
        source=f"{PAPER}; {ENTROPY}",
        derive=_derive_task,
        point=lambda rng: {"rho": float(rng.uniform(-0.9, 0.9))},
        oracle=Oracle(
            "quadrature of the densities",
            lambda rho: mutual_information(np.array([[1, rho], [rho, 1.0]]), (0,), (1,)),
            QUADRATURE,
        ),
        stable=lambda rho: float(-0.5 * np.log1p(-(rho**2))),
    ),
    ClosedForm(
        name="peer_predictability",
        item="T1",
        title="Share of a channel's variance that a linear regression on its peers explains.",
        lhs=r"E_i = R^2(Y_i \leftarrow Y_{-i})",
        symbols=(R, i),
        expr=1 - 1 / R.I[i, i],
        domain="R positive definite; any distribution",
        source=PAPER,
        derive=_derive_predictability,
        point=_point_correlation,
        oracle=Oracle("least-squares regression", _predictability_oracle, LINEAR_ALGEBRA),
    ),
    ClosedForm(
        name="peer_predictability_ridge",
        item="T1",
        title="The same with a ridge r on the correlation; all channels from one inverse.",
        lhs=r"E_i(r) = r_i^T (R_{-i} + r I)^{-1} r_i",
        symbols=(R, i, ridge),
        expr=1 + ridge - 1 / (R + ridge * sympy.Identity(C)).I[i, i],
        domain="r ≥ 0, R + rI positive definite",
        source="derived here",
        derive=_derive_ridge,
        point=lambda rng: {**_point_correlation(rng), "r": float(rng.uniform(0.05, 0.5))},
        oracle=Oracle("regression on augmented data", _ridge_oracle, LINEAR_ALGEBRA),
    ),
    ClosedForm(
        name="peer_information",
        item="T1",
        title="Information between a channel and all its peers.",
        lhs="I(Y_i; Y_{-i})",
        symbols=(E,),
        expr=-sympy.log(1 - E) / 2,
        domain="0 ≤ E < 1; channels jointly Gaussian",
        source=ENTROPY,
        derive=_derive_peer_information,
        point=lambda rng: {"E": float(rng.uniform(0.01, 0.8))},
        oracle=Oracle(
            "quadrature with one peer of R² = E",
            lambda E: mutual_information(np.array([[1, E**0.5], [E**0.5, 1]]), (0,), (1,)),
            QUADRATURE,
        ),
        stable=lambda E: float(-0.5 * np.log1p(-E)),
    ),
    ClosedForm(
        name="conditional_task_information",
        item="T1",
        title="What a channel says about the target beyond all its peers.",
        lhs=r"I(T; Y_i \mid Y_{-i})",
        symbols=(p,),
        expr=-sympy.log(1 - p**2) / 2,
        domain="0 ≤ p < 1 the partial correlation of Y_i and T given Y_-i",
        source=ENTROPY,
        derive=_derive_conditional,
        point=lambda rng: {"p": float(rng.uniform(0.05, 0.9))},
        oracle=Oracle(
            "quadrature of the residuals' densities",
            lambda p: mutual_information(np.array([[1, p], [p, 1.0]]), (0,), (1,)),
            QUADRATURE,
        ),
        stable=lambda p: float(-0.5 * np.log1p(-(p**2))),
    ),
    ClosedForm(
        name="vector_task_information",
        item="T1",
        title="Information between channels and a vector target, such as a one-hot label.",
        lhs="I(T; Y)",
        symbols=(K, k, S),
        expr=sympy.log(sympy.Determinant(S) / sympy.Determinant(S - k.T * K.I * k)) / 2,
        domain="K and the residual covariance of T positive definite; (Y, T) Gaussian",
        source=ENTROPY,
        derive=_derive_vector,
        point=_point_vector,
        oracle=Oracle("canonical correlations", _vector_oracle, LINEAR_ALGEBRA),
    ),
)
