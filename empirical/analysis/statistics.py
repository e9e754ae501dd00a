"""Rank statistics within layers, pooled over layers: partial correlation, permutation, bootstrap.

Layers differ in scale and in number of channels, so every comparison is among the channels of one
layer, on ranks, and layers are pooled by weight n - q - 3, the precision of Fisher's z with q
controls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from theory.shared.validation import Float

LEVEL = 0.95

LEAST_CHANNELS = 8
"""A layer with fewer has too few residual degrees of freedom to say anything by itself."""


@dataclass(frozen=True)
class Stratum:
    """Ranks of one layer's channels.

    Parameters
    ----------
    name : of the layer.
    outcome : (n,) ranks of the damage.
    tested : (n,) ranks of the score in question.
    controls : (n, q) ranks of the scores held fixed.
    """

    name: str
    outcome: Float
    tested: Float
    controls: Float

    @property
    def weight(self) -> float:
        """n - q - 3, the inverse variance of Fisher's z."""
        return float(len(self.outcome) - self.controls.shape[1] - 3)

    @property
    def basis(self) -> Float:
        """(n, r) orthonormal basis of the constant and the controls."""
        columns = np.column_stack([np.ones(len(self.outcome)), self.controls])
        left, values, _ = np.linalg.svd(columns, full_matrices=False)
        return left[:, values > 1e-10 * values[0]]

    def residuals(self) -> tuple[Float, Float]:
        """Return what the controls leave of the outcome and of the tested score."""
        basis = self.basis
        outcome = self.outcome - basis @ (basis.T @ self.outcome)
        return outcome, self.tested - basis @ (basis.T @ self.tested)


@dataclass(frozen=True)
class PartialTest:
    """Partial rank correlation per layer and pooled, with permutation p-values.

    Parameters
    ----------
    names, correlation, p_value : per layer; two-sided p.
    p_holm : per layer, Holm's adjustment over layers.
    gain : per layer, R² of the regression with the tested score minus R² without it.
    pooled, pooled_p : over layers.
    pooled_gain : explained share of the summed within-layer variance of ranks that the tested
        score adds.
    """

    names: list[str]
    correlation: Float
    p_value: Float
    p_holm: Float
    gain: Float
    pooled: float
    pooled_p: float
    pooled_gain: float


def partial_test(
    strata: Sequence[Stratum], *, permutations: int, rng: np.random.Generator
) -> PartialTest:
    """Test the tested score beyond the controls by permuting residuals (Freedman and Lane 1983).

    Under the null the outcome is its regression on the controls plus exchangeable residuals;
    these are permuted within layers, and regressed on the controls again. The pooled statistic
    uses the same permutations, so no independence of layers is assumed.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> control, score = rng.standard_normal((2, 60))
    >>> layer = Stratum("conv", control + score, score, control[:, None])
    >>> result = partial_test([layer], permutations=200, rng=rng)
    >>> round(result.pooled, 3), round(result.pooled_p, 3)
    (1.0, 0.005)
    """
    observed, drawn, gains, variances = [], [], [], []
    for stratum in strata:
        outcome, tested = stratum.residuals()
        basis = stratum.basis
        shuffled = rng.permuted(np.tile(outcome, (permutations, 1)), axis=1)
        shuffled -= (shuffled @ basis) @ basis.T
        correlation = _cosine(outcome[None], tested)[0]
        observed.append(correlation)
        drawn.append(_cosine(shuffled, tested))
        variance = float(((stratum.outcome - stratum.outcome.mean()) ** 2).sum())
        gains.append(correlation**2 * float((outcome**2).sum()))
        variances.append(variance)
    correlations, null = np.array(observed), np.array(drawn)
    weights = np.array([stratum.weight for stratum in strata])
    pooled, pooled_null = _pool(correlations, weights), _pool(null, weights)
    p_values = permutation_p(correlations, null)
    return PartialTest(
        names=[stratum.name for stratum in strata],
        correlation=correlations,
        p_value=p_values,
        p_holm=holm(p_values),
        gain=np.array(gains) / np.array(variances),
        pooled=float(pooled),
        pooled_p=float(permutation_p(pooled, pooled_null)),
        pooled_gain=float(np.sum(gains) / np.sum(variances)),
    )


def bootstrap_pooled(
    strata: Sequence[Stratum], *, draws: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return (draws,) pooled partial correlations with the channels of each layer resampled."""
    replicates = []
    for stratum in strata:
        data = np.column_stack([stratum.outcome, stratum.tested, stratum.controls])
        n, p = data.shape
        index = rng.integers(n, size=(draws, n))
        replicates.append(_partial_from_samples(data[index].reshape(draws, n, p)))
    weights = np.array([stratum.weight for stratum in strata])
    return np.asarray(_pool(np.array(replicates), weights))


def _partial_from_samples(samples: Float) -> Float:
    """(draws,) partial correlation of columns 0 and 1 given the rest, of (draws, n, p) samples."""
    centred = samples - samples.mean(axis=1, keepdims=True)
    scatter = np.einsum("dni,dnj->dij", centred, centred)
    deviation = np.sqrt(np.einsum("dii->di", scatter))
    deviation[deviation == 0] = np.inf  # a constant resample correlates with nothing
    correlation = scatter / deviation[:, :, None] / deviation[:, None, :]
    # Resamples repeat channels and may make controls collinear: 1e-9 keeps the inverse finite.
    inverse = np.linalg.inv(correlation + 1e-9 * np.eye(correlation.shape[1]))
    result: Float = -inverse[:, 0, 1] / np.sqrt(inverse[:, 0, 0] * inverse[:, 1, 1])
    return result


def pooled_correlation(strata: Sequence[Stratum]) -> float:
    """Rank correlation of the tested score with the outcome, no controls held fixed."""
    found = [np.corrcoef(stratum.outcome, stratum.tested)[0, 1] for stratum in strata]
    return float(_pool(np.array(found), np.array([stratum.weight for stratum in strata])))


def _pool(correlations: Float, weights: Float) -> Float:
    """Weighted mean of Fisher's z over layers, back on the scale of correlations."""
    z = np.arctanh(np.clip(correlations, -1 + 1e-9, 1 - 1e-9))  # 1 has no finite z
    result: Float = np.tanh(weights @ z / weights.sum())
    return result


def _cosine(rows: Float, vector: Float) -> Float:
    norms = np.sqrt((rows**2).sum(axis=1) * (vector @ vector))
    result: Float = np.divide(rows @ vector, norms, out=np.zeros(len(rows)), where=norms > 1e-12)
    return result


def permutation_p(observed: ArrayLike, null: Float, *, tolerance: float = 1e-12) -> Float:
    """Two-sided p-values (...) of `observed` (...) among `null` (..., permutations).

    The observed arrangement is one of those that could have been drawn, hence the + 1; `tolerance`
    counts draws that equal the observed value but for rounding.

    >>> float(permutation_p(-2.0, np.array([1.0, 2.0, -3.0])))
    0.75
    """
    size = np.abs(np.asarray(observed, dtype=np.float64))[..., None]
    result: Float = (1 + (np.abs(null) >= size - tolerance).sum(axis=-1)) / (1 + null.shape[-1])
    return result


def holm(p_values: Float) -> Float:
    """Holm's step-down adjustment: the familywise error over layers, whatever their dependence.

    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1.0)
    result = np.empty_like(adjusted)
    result[order] = adjusted
    return result


def ranks(values: Float) -> Float:
    """Mid-ranks scaled to (0, 1)."""
    result: Float = (rankdata(values) - 0.5) / len(values)
    return result


def stratum_of(
    name: str, rows: pd.DataFrame, damage: str, tested: str, controls: Sequence[str]
) -> Stratum:
    """Return the ranks of one layer's rows."""
    columns = [ranks(rows[control].to_numpy()) for control in controls]
    fixed = np.column_stack(columns) if columns else np.empty((len(rows), 0))
    return Stratum(name, ranks(rows[damage].to_numpy()), ranks(rows[tested].to_numpy()), fixed)


def interval_of(replicates: Float) -> tuple[float, float]:
    """Return the central 95 % of the replicates."""
    low, high = np.quantile(replicates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
