"""T1: information of one channel about its input, its peers and the target. In nats."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import sympy

from theory.formulas import _points
from theory.formulas._derivation import scalar
from theory.formulas._information_derivations import (
    ENTROPY,
    PAPER,
    C,
    E,
    J,
    K,
    R,
    S,
    Sigma,
    derive_capture,
    derive_conditional,
    derive_peer_information,
    derive_power,
    derive_predictability,
    derive_rayleigh,
    derive_ridge,
    derive_task,
    derive_vector,
    i,
    k,
    p,
    rho,
    ridge,
    sigma0,
    w,
)
from theory.formulas._oracles import (
    DRAWS,
    LINEAR_ALGEBRA,
    QUADRATURE,
    SAMPLING,
    data_set,
    mean_and_error,
    mutual_information,
    pair_information,
    residual_variance,
)
from theory.formulas.closed_form import ClosedForm, Oracle


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


form = partial(ClosedForm, item="T1")

FORMS = (
    form(
        name="signal_power",
        title="Power of a channel: the variance of its output.",
        lhs=r"J_i = \operatorname{Var}(w_i^T X)",
        symbols=(Sigma, w),
        expr=scalar(w.T * Sigma * w),
        domain="Σ positive semidefinite; any distribution of X",
        source=PAPER,
        derive=derive_power,
        point=_point_power,
        oracle=Oracle("sampling X", _sampled_power, SAMPLING, sampling=True),
    ),
    form(
        name="rayleigh_quotient",
        title="Power per squared weight norm.",
        lhs=r"J_i / \|w_i\|^2",
        symbols=(Sigma, w),
        expr=scalar(w.T * Sigma * w) / scalar(w.T * w),
        domain="w ≠ 0",
        source=PAPER,
        derive=derive_rayleigh,
        point=_point_power,
        oracle=Oracle("eigenvalues of Σ, weighted", _spectral_rayleigh, LINEAR_ALGEBRA),
    ),
    form(
        name="input_capture",
        title="Information that a channel read with reference noise carries about its input.",
        lhs=r"I_X(i) = I(X; Y_i + N)",
        symbols=(J, sigma0),
        expr=sympy.log(1 + J / sigma0**2) / 2,
        domain="J ≥ 0, σ0 > 0; X and the noise Gaussian",
        source=f"{PAPER}; {ENTROPY}",
        derive=derive_capture,
        point=lambda rng: {"J": float(rng.uniform(0.1, 4)), "sigma_0": float(rng.uniform(0.7, 2))},
        oracle=Oracle("quadrature of the densities", _capture_oracle, QUADRATURE),
        stable=lambda J, sigma_0: float(0.5 * np.log1p(J / sigma_0**2)),
    ),
    form(
        name="task_information",
        title="Information between one channel and a scalar target.",
        lhs="I_T(i) = I(T; Y_i)",
        symbols=(rho,),
        expr=-sympy.log(1 - rho**2) / 2,
        domain="|ρ| < 1; infinite at ±1. (Y, T) Gaussian",
        source=f"{PAPER}; {ENTROPY}",
        derive=derive_task,
        point=lambda rng: {"rho": float(rng.uniform(-0.9, 0.9))},
        oracle=Oracle("quadrature of the densities", lambda rho: pair_information(rho), QUADRATURE),
        stable=lambda rho: float(-0.5 * np.log1p(-(rho**2))),
    ),
    form(
        name="peer_predictability",
        title="Share of a channel's variance that a linear regression on its peers explains.",
        lhs=r"E_i = R^2(Y_i \leftarrow Y_{-i})",
        symbols=(R, i),
        expr=1 - 1 / R.I[i, i],
        domain="R positive definite; any distribution",
        source=PAPER,
        derive=derive_predictability,
        point=_point_correlation,
        oracle=Oracle("least-squares regression", _predictability_oracle, LINEAR_ALGEBRA),
    ),
    form(
        name="peer_predictability_ridge",
        title="The same with a ridge r on the correlation; all channels from one inverse.",
        lhs=r"E_i(r) = r_i^T (R_{-i} + r I)^{-1} r_i",
        symbols=(R, i, ridge),
        expr=1 + ridge - 1 / (R + ridge * sympy.Identity(C)).I[i, i],
        domain="r ≥ 0, R + rI positive definite",
        source="derived here",
        derive=derive_ridge,
        point=lambda rng: {**_point_correlation(rng), "r": float(rng.uniform(0.05, 0.5))},
        oracle=Oracle("regression on augmented data", _ridge_oracle, LINEAR_ALGEBRA),
    ),
    form(
        name="peer_information",
        title="Information between a channel and all its peers.",
        lhs="I(Y_i; Y_{-i})",
        symbols=(E,),
        expr=-sympy.log(1 - E) / 2,
        domain="0 ≤ E < 1; channels jointly Gaussian",
        source=ENTROPY,
        derive=derive_peer_information,
        point=lambda rng: {"E": float(rng.uniform(0.01, 0.8))},
        oracle=Oracle(
            "quadrature with one peer of R² = E", lambda E: pair_information(E**0.5), QUADRATURE
        ),
        stable=lambda E: float(-0.5 * np.log1p(-E)),
    ),
    form(
        name="conditional_task_information",
        title="What a channel says about the target beyond all its peers.",
        lhs=r"I(T; Y_i \mid Y_{-i})",
        symbols=(p,),
        expr=-sympy.log(1 - p**2) / 2,
        domain="0 ≤ p < 1 the partial correlation of Y_i and T given Y_-i",
        source=ENTROPY,
        derive=derive_conditional,
        point=lambda rng: {"p": float(rng.uniform(0.05, 0.9))},
        oracle=Oracle(
            "quadrature of the residuals' densities", lambda p: pair_information(p), QUADRATURE
        ),
        stable=lambda p: float(-0.5 * np.log1p(-(p**2))),
    ),
    form(
        name="vector_task_information",
        title="Information between channels and a vector target, such as a one-hot label.",
        lhs="I(T; Y)",
        symbols=(K, k, S),
        expr=sympy.log(sympy.Determinant(S) / sympy.Determinant(S - k.T * K.I * k)) / 2,
        domain="K and the residual covariance of T positive definite; (Y, T) Gaussian",
        source=ENTROPY,
        derive=derive_vector,
        point=_point_vector,
        oracle=Oracle("canonical correlations", _vector_oracle, LINEAR_ALGEBRA),
    ),
)
