"""T5: what removing channels costs a linear readout f = aᵀY, as a rise of E(T − f)².

a* = K⁻¹k is the least-squares readout. Of a set S of channels, R are the remaining ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy
import sympy

from theory.formulas import _points
from theory.formulas._derivation import (
    scalar,
)
from theory.formulas._lesions_derivations import (
    ANYWHERE,
    AT,
    BEST,
    GAP,
    LEFT,
    OPTIMUM,
    A,
    B,
    D,
    E,
    K,
    W,
    a,
    bias,
    derive_block_information,
    derive_block_recovered,
    derive_mean,
    derive_mean_general,
    derive_merge,
    derive_ratio,
    derive_refit,
    derive_refit_ratio,
    derive_replacement,
    derive_replacement_general,
    derive_set_mean,
    derive_set_replacement,
    derive_zero,
    i,
    information,
    k,
    mu,
    norm,
    own,
    power,
    x,
)
from theory.formulas._oracles import (
    LINEAR_ALGEBRA,
    QUADRATURE,
    data_set,
    mutual_information,
    pair_information,
)
from theory.formulas.closed_form import ClosedForm, Oracle


def _layer(rng: np.random.Generator) -> dict[str, Any]:
    joint = _points.covariance(rng, 5)
    return {"K": joint[:4, :4], "k": joint[:4, 4], "i": int(rng.integers(1, 5))}


def _with_readout(rng: np.random.Generator) -> dict[str, Any]:
    return {**_layer(rng), "a": rng.standard_normal(4)}


def _optimal(rng: np.random.Generator) -> dict[str, Any]:
    values = _with_readout(rng)
    del values["k"]
    return values


def _data(K: Any, k: Any) -> tuple[Any, Any]:
    """Centered data (Y, T) with these second moments, noise in T."""
    tau2 = float(k @ np.linalg.solve(K, k)) + 1.0
    data = data_set(np.block([[K, k[:, None]], [k[None], np.array([[tau2]])]]))
    return data[:, :-1], data[:, -1]


def _rise(edit: Any) -> Any:
    """Rise of the squared error on a data set when channel i's column is edited."""

    def oracle(K: Any, a: Any, i: int, k: Any = None) -> float:
        y, target = _data(K, K @ a if k is None else k)
        edited = y.copy()
        edited[:, i - 1] = edit(y, i - 1)
        return float(np.sum((target - edited @ a) ** 2) - np.sum((target - y @ a) ** 2))

    return oracle


def _regressed(y: Any, i: int) -> Any:
    peers = np.delete(y, i, axis=1)
    return peers @ np.linalg.lstsq(peers, y[:, i], rcond=None)[0]


def _fit_error(y: Any, target: Any) -> float:
    rest = target - y @ np.linalg.lstsq(y, target, rcond=None)[0]
    return float(rest @ rest)


def _refit_oracle(K: Any, k: Any, i: int) -> float:
    y, target = _data(K, k)
    return _fit_error(np.delete(y, i - 1, axis=1), target) - _fit_error(y, target)


def _zero_oracle(J: float, a: float, mu: float, e: float) -> float:
    """Two equally likely values of Y, and a residual with mean −e that ignores Y."""
    y = mu + np.sqrt(J) * np.array([1.0, -1.0, 1.0, -1.0])
    residual = -e + 0.7 * np.array([1.0, 1.0, -1.0, -1.0])
    return float(np.mean((residual + a * y) ** 2) - np.mean(residual**2))


def _set_point(rng: np.random.Generator) -> dict[str, Any]:
    cov = _points.covariance(rng, 5)
    return {
        "K_SS": cov[:2, :2],
        "K_SR": cov[:2, 2:],
        "K_RR": cov[2:, 2:],
        "a_S": rng.standard_normal(2),
    }


def _set_oracle(K_SS: Any, K_SR: Any, K_RR: Any, a_S: Any) -> float:
    """Variance of a_Sᵀ(residuals of regressions on the remaining channels), on a data set."""
    data = data_set(np.block([[K_SS, K_SR], [K_SR.T, K_RR]]))
    gone, kept = data[:, :2], data[:, 2:]
    rest = gone - kept @ np.linalg.lstsq(kept, gone, rcond=None)[0]
    return float(np.sum((rest @ a_S) ** 2))


def _block_point(rng: np.random.Generator) -> dict[str, Any]:
    cov = _points.covariance(rng, 3)
    return {"K_SS": cov[:2, :2], "K_SR": cov[:2, 2:], "K_RR": cov[2:, 2:]}


def _block_oracle(K_SS: Any, K_SR: Any, K_RR: Any) -> float:
    return mutual_information(np.block([[K_SS, K_SR], [K_SR.T, K_RR]]), (0, 1), (2,))


def _readout_point(rng: np.random.Generator) -> dict[str, Any]:
    values = _set_point(rng)
    del values["a_S"]
    return {**values, "W": rng.standard_normal((3, 2))}


def _recovered_oracle(K_SS: Any, K_SR: Any, K_RR: Any, W: Any) -> float:
    """Each row of W a readout: summed damage of replacing the set over that of losing it."""
    replaced = sum(_set_oracle(K_SS, K_SR, K_RR, row) for row in W)
    return float(1 - replaced / np.sum((data_set(K_SS) @ W.T) ** 2))


def _ratio_oracle(E: float) -> float:
    """One peer of R² = E: error of the replaced channel over its variance, on a data set."""
    y = data_set(np.array([[1.0, np.sqrt(E)], [np.sqrt(E), 1.0]]))
    rest = y[:, 0] - _regressed(y, 0)
    return float(rest @ rest / (y[:, 0] @ y[:, 0]))


def _refit_ratio_oracle(I: float) -> float:  # noqa: E741 - the symbol's name
    """ρ² by inverting the quadrature of the information, then 1/(1 − ρ²)."""

    def gap(rho: float) -> float:
        return pair_information(rho) - I

    rho = scipy.optimize.brentq(gap, 1e-6, 0.99, xtol=1e-12)
    return float(1 / (1 - rho**2))


def _merge_oracle(N: float, E: float, J: float) -> float:
    y = data_set(J * np.array([[1.0, np.sqrt(E)], [np.sqrt(E), 1.0]]))
    outgoing = np.sqrt(N) * np.array([0.6, 0.8])
    rest = y[:, 0] - _regressed(y, 0)
    return float(np.sum(np.outer(rest, outgoing) ** 2))


def _form(name: str, title: str, lhs: str, symbols: Any, expr: Any, **rest: Any) -> ClosedForm:
    """A T5 entry; their source is the same."""
    return ClosedForm(
        name=name, item="T5", title=title, lhs=lhs, symbols=symbols, expr=expr, source=AT, **rest
    )


FORMS = (
    _form(
        "mean_ablation",
        "Holding a channel at its mean, at the least-squares readout.",
        r"\Delta_i^{\text{mean}}",
        (K, a, i),
        a[i, 0] ** 2 * K[i, i],
        domain=OPTIMUM,
        derive=derive_mean,
        point=_optimal,
        oracle=Oracle("editing a data set", _rise(lambda y, i: 0.0), LINEAR_ALGEBRA),
    ),
    _form(
        "mean_ablation_general",
        "Holding a channel at its mean, away from the optimum: with its cross term.",
        r"\Delta_i^{\text{mean}}",
        (K, k, a, i),
        a[i, 0] ** 2 * K[i, i] + 2 * a[i, 0] * GAP,
        domain=ANYWHERE,
        derive=derive_mean_general,
        point=_with_readout,
        oracle=Oracle("editing a data set", _rise(lambda y, i: 0.0), LINEAR_ALGEBRA),
    ),
    _form(
        "zero_ablation_damage",
        "Zeroing a channel of mean μ, the readout's constant kept; e is the mean of f − T.",
        r"\Delta_i^{\text{zero}}",
        (power, x, mu, bias),
        x**2 * power + (x * mu) ** 2 - 2 * x * mu * bias,
        domain="residual uncorrelated with the channel, as at the optimum; e = 0 there too",
        derive=derive_zero,
        point=lambda rng: {
            "J": float(rng.uniform(0.3, 2)),
            **{n: float(rng.standard_normal()) for n in ("a", "mu", "e")},
        },
        oracle=Oracle("a discrete distribution", _zero_oracle, LINEAR_ALGEBRA),
    ),
    _form(
        "replacement",
        "Replacing a channel by its regression on its peers, at the least-squares readout.",
        r"\Delta_i^{\text{peer}}",
        (K, a, i),
        a[i, 0] ** 2 / K.I[i, i],
        domain=OPTIMUM,
        derive=derive_replacement,
        point=_optimal,
        oracle=Oracle("regression on a data set", _rise(_regressed), LINEAR_ALGEBRA),
    ),
    _form(
        "replacement_general",
        "Replacing a channel by its regression on its peers, away from the optimum.",
        r"\Delta_i^{\text{peer}}",
        (K, k, a, i),
        a[i, 0] * (2 * BEST - a[i, 0]) / K.I[i, i],
        domain=ANYWHERE,
        derive=derive_replacement_general,
        point=_with_readout,
        oracle=Oracle("regression on a data set", _rise(_regressed), LINEAR_ALGEBRA),
    ),
    _form(
        "refit_damage",
        "Refitting the readout without the channel costs the same as replacing it.",
        r"\Delta_i^{\text{refit}}",
        (K, k, i),
        BEST**2 / K.I[i, i],
        domain="K positive definite",
        derive=derive_refit,
        point=_layer,
        oracle=Oracle("two regressions", _refit_oracle, LINEAR_ALGEBRA),
    ),
    _form(
        "damage_ratio",
        "Damage with peers over damage without: exactly what peers do not predict.",
        r"\Delta_i^{\text{peer}} / \Delta_i^{\text{mean}}",
        (E,),
        1 - E,
        domain=OPTIMUM,
        derive=derive_ratio,
        point=lambda rng: {"E": float(rng.uniform(0.05, 0.95))},
        oracle=Oracle("regression on a data set", _ratio_oracle, LINEAR_ALGEBRA),
    ),
    _form(
        "refit_ratio",
        "Error without a channel (or set) over error with it, from conditional information.",
        r"\text{MSE}_{-i} / \text{MSE}",
        (information,),
        sympy.exp(2 * information),
        domain="I = I(T; Y_i | Y_-i), refitted readouts, scalar target, Gaussian",
        derive=derive_refit_ratio,
        point=lambda rng: {"I": float(rng.uniform(0.05, 0.8))},
        oracle=Oracle("inverted quadrature", _refit_ratio_oracle, QUADRATURE),
    ),
    _form(
        "set_mean_ablation",
        "Holding a set of channels at their means.",
        r"\Delta_S^{\text{mean}}",
        (A, own),
        scalar(own.T * A * own),
        domain=OPTIMUM,
        derive=derive_set_mean,
        point=lambda rng: {n: v for n, v in _set_point(rng).items() if n in ("K_SS", "a_S")},
        oracle=Oracle(
            "variance on a data set",
            lambda K_SS, a_S: float(np.sum((data_set(K_SS) @ a_S) ** 2)),
            LINEAR_ALGEBRA,
        ),
    ),
    _form(
        "set_replacement",
        "Replacing a set by its regression on the rest, or refitting without it.",
        r"\Delta_S^{\text{peer}} = a_S^T ((K^{-1})_{SS})^{-1} a_S",
        (A, B, D, own),
        scalar(own.T * A * own) - scalar(own.T * B * D.I * B.T * own),
        domain=OPTIMUM,
        derive=derive_set_replacement,
        point=_set_point,
        oracle=Oracle("regression on a data set", _set_oracle, LINEAR_ALGEBRA),
    ),
    _form(
        "block_information",
        "What the rest of a layer says of a set of channels, such as an attention head.",
        r"I(Y_S; Y_R)",
        (A, B, D),
        sympy.log(sympy.Determinant(A) / sympy.Determinant(LEFT)) / 2,
        domain="K positive definite, Gaussian",
        derive=derive_block_information,
        point=_block_point,
        oracle=Oracle("quadrature", _block_oracle, QUADRATURE),
    ),
    _form(
        "block_recovered",
        "Share of a set's damage that its regression on the rest recovers; W reads the set.",
        r"1 - \Delta_S^{\text{peer}} / \Delta_S^{\text{mean}}",
        (A, B, D, W),
        1 - scalar(W * LEFT * W.T) / scalar(W * A * W.T),
        domain="each unit of the next layer a target; also away from the optimum, against f itself",
        derive=derive_block_recovered,
        point=_readout_point,
        oracle=Oracle("regression on a data set", _recovered_oracle, LINEAR_ALGEBRA),
    ),
    _form(
        "peer_merge_damage",
        "Merging a channel into its peers: N is its squared outgoing weight norm.",
        r"\sum_o \Delta_{i,o}^{\text{peer}}",
        (norm, E, power),
        norm * (1 - E) * power,
        domain="each unit of the next layer a target; also away from the optimum, against f itself",
        derive=derive_merge,
        point=lambda rng: {
            "N": float(rng.uniform(0.5, 2)),
            "E": float(rng.uniform(0.05, 0.9)),
            "J": float(rng.uniform(0.5, 2)),
        },
        oracle=Oracle("regression on a data set", _merge_oracle, LINEAR_ALGEBRA),
    ),
)
