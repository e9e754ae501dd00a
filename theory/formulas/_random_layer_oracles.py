"""Points and oracles of T7: drawn layers, regressions on their peers, all small filters."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import scipy

from theory.formulas._oracles import mean_and_error

FINITE = 0.03
"""Relative tolerance of a limit of many inputs, at 160 of them: about 1/√d of a spectrum that falls
like 1/k, and the sampling of the layers."""
INPUTS, LAYERS = 160, 60


def fixed_point(values: Any, peers: int) -> float:
    """κ by bisection of its definition."""
    return float(
        scipy.optimize.bisect(
            lambda x: np.sum(values / (values + x)) - peers, 1e-12, 1e6, xtol=1e-15, rtol=1e-15
        )
    )


def few_inputs(rng: np.random.Generator) -> dict[str, Any]:
    """The same with so few inputs that an integral can be had to 50 digits."""
    values = np.arange(1.0, 13) ** -rng.uniform(0.4, 1.1)
    return {"lambda": values, "kappa": fixed_point(values, int(rng.integers(5, 8)))}


def spectral_point(rng: np.random.Generator) -> dict[str, Any]:
    """A falling spectrum, and κ for a number of peers."""
    values = np.arange(1.0, INPUTS + 1) ** -rng.uniform(0.4, 1.1)
    return {"lambda": values, "kappa": fixed_point(values, int(rng.integers(30, 90)))}


def scaled_point(rng: np.random.Generator) -> dict[str, Any]:
    return spectral_point(rng) | {"s": float(rng.uniform(0.5, 2.0))}


def small_spectrum(rng: np.random.Generator) -> dict[str, Any]:
    return {"lambda": rng.uniform(0.3, 2.0, 3)}


def peers_of(v: dict[str, Any]) -> int:
    return round(float(np.sum(v["lambda"] / (v["lambda"] + v["kappa"]))))


def left_by_peers(v: dict[str, Any]) -> list[Any]:
    """Q of layers of drawn peers: regression of each scaled input direction on them."""
    rng = np.random.default_rng(17)
    root, found = np.sqrt(v["lambda"]), []
    for _ in range(LAYERS):
        basis, _ = np.linalg.qr((rng.standard_normal((peers_of(v), root.size)) * root).T)
        found.append(np.diag(v["lambda"]) - (root[:, None] * basis) @ (root[:, None] * basis).T)
    return found


def residual_oracle(**v: Any) -> float:
    return float(v["s"] ** 2 * np.mean([np.trace(q) for q in left_by_peers(v)]))


def spread_oracle(**v: Any) -> float:
    matrices = left_by_peers(v)
    square = np.mean([np.sum(q * q) for q in matrices])
    return float(np.sqrt(2 * square) / np.mean([np.trace(q) for q in matrices]))


def correlation_oracle(**v: Any) -> float:
    matrices, values = left_by_peers(v), v["lambda"]
    cross = np.mean([np.diagonal(q) @ values for q in matrices])
    return float(cross / np.sqrt(np.mean([np.sum(q * q) for q in matrices]) * values @ values))


def slope_oracle(**v: Any) -> float:
    cross = np.mean([np.diagonal(q) @ v["lambda"] for q in left_by_peers(v)])
    return float(cross / (v["lambda"] @ v["lambda"]))


def predictability_oracle(**v: Any) -> float:
    """Mean of 1 − 1/((K⁻¹)_ii K_ii) over whole layers."""
    rng, found = np.random.default_rng(19), []
    for _ in range(5 * LAYERS):
        w = rng.standard_normal((peers_of(v) + 1, v["lambda"].size))
        cov = (w * v["lambda"]) @ w.T
        found.append(1 - 1 / (np.diagonal(np.linalg.inv(cov)) * np.diagonal(cov)))
    return float(np.mean(found))


def dimension_oracle(**v: Any) -> float:
    """Rank of what the peers take, as many as were asked for."""
    v = {**v, "lambda": np.asarray(v["lambda"])}
    taken = np.diag(v["lambda"]) - left_by_peers(v)[0]
    return float(np.linalg.matrix_rank(taken))


def squared_correlations(values: Any, draws: int) -> Any:
    rng = np.random.default_rng(23)
    a, b = rng.standard_normal((2, draws, len(values))) * np.sqrt(values)
    return np.sum(a * b, 1) ** 2 / np.sum(a * a, 1) / np.sum(b * b, 1)


def one_peer_oracle(**v: Any) -> tuple[float, float]:
    """Regression of one channel on one other."""
    rng = np.random.default_rng(29)
    a, b = v["s"] * rng.standard_normal((2, 200_000, len(v["lambda"]))) * np.sqrt(v["lambda"])
    return mean_and_error(np.sum(a * a, 1) - np.sum(a * b, 1) ** 2 / np.sum(b * b, 1))


def form_oracle(Q: Any, s: float) -> tuple[float, float]:
    w = s * np.random.default_rng(31).standard_normal((200_000, len(Q)))
    return mean_and_error(np.einsum("ni,ij,nj->n", w, Q, w))


def left_matrix(rng: np.random.Generator) -> Any:
    """Q of three peers on five inputs: what least squares leaves of each."""
    factor = rng.standard_normal((9, 5))
    peers = factor @ rng.standard_normal((5, 3))
    rest = factor - peers @ np.linalg.lstsq(peers, factor, rcond=None)[0]
    return rest.T @ rest


def variance_oracle(Q: Any, s: float, k_4: float) -> float:
    """All filters whose entries are ±s√k with probability 1/k, else 0: kurtosis k."""
    levels = {0.0: 1 - 1 / k_4, s * np.sqrt(k_4): 0.5 / k_4, -s * np.sqrt(k_4): 0.5 / k_4}
    filters = np.array(list(product(levels, repeat=len(Q))))
    weight = np.array([np.prod([levels[x] for x in row]) for row in filters])
    value = np.einsum("ni,ij,nj->n", filters, Q, filters)
    return float(weight @ value**2 - (weight @ value) ** 2)


def isotropic_predictability(C: int, d: int) -> Any:
    """E of the last channel from its regression on the others, inputs white."""
    rng = np.random.default_rng(37)
    x = rng.standard_normal((20_000, int(C), int(d)))
    gram = x[:, :-1] @ np.swapaxes(x[:, :-1], 1, 2)
    cross = x[:, :-1] @ x[:, -1][..., None]
    explained = np.sum(cross * np.linalg.solve(gram, cross), axis=(1, 2))
    return explained / np.sum(x[:, -1] ** 2, axis=1)


def power_spread_oracle(**v: Any) -> tuple[float, float]:
    w = np.random.default_rng(41).standard_normal((200_000, len(v["lambda"])))
    power = w**2 @ v["lambda"]
    mean = power.mean()
    relative = power.std() / mean
    z = (power - mean) / power.std()
    influence = relative * ((z**2 - 1) / 2 - z * power.std() / mean)
    return float(relative), float(influence.std() / np.sqrt(power.size))
