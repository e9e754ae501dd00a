"""Shrunken covariances for layers with few samples per channel: ridge, OAS, Ledoit-Wolf."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from theory.moments import Moments, trusted_moments
from theory.shared.validation import (
    Float,
    count,
    finite_array,
    instance,
    one_of,
    positive,
    symmetric_psd,
)
from theory.standardize import live_channels


def oas_intensity(cov: ArrayLike, n: int) -> float:
    """Oracle-approximating shrinkage intensity towards (tr S / p) I, from a covariance alone.

    min(1, [(1 − 2/p) tr S² + (tr S)²] / [(n + 1 − 2/p)(tr S² − (tr S)²/p)]).

    Parameters
    ----------
    cov : (p, p) sample covariance S.
    n : number of samples.

    Source: Chen, Wiesel, Eldar and Hero (2010), arXiv:0907.4698, equation 23.

    >>> oas_intensity(np.eye(3), 10)
    1.0
    """
    s = symmetric_psd("cov", cov)
    count("n", n)
    p = s.shape[0]
    largest = float(np.abs(s).max(initial=0.0))
    if s.shape != (p, p) or largest == 0:
        raise ValueError(
            f"cov must be square and not 0; got shape {s.shape}, largest entry {largest:g}. Pass "
            "the covariance of variables that vary."
        )
    s = s / largest  # the intensity is one of ratios
    square, trace2 = float(np.sum(s * s)), float(np.trace(s)) ** 2
    spread = (n + 1 - 2 / p) * (square - trace2 / p)
    if spread <= 1e-14 * trace2:
        return 1.0
    return float(min(1.0, ((1 - 2 / p) * square + trace2) / spread))


def shrink(moments: Moments, method: str = "oas", amount: float | None = None) -> Moments:
    """Moments whose joint correlation of channels and targets is shrunk towards the identity.

    Variances stay as they are; a correlation R becomes (1 − λ)R + λI. Shrinking correlations
    rather than covariances keeps every quantity independent of the units of the channels.

    Parameters
    ----------
    moments : of samples.
    method : "none"; "ridge", R + amount·I with the diagonal restored, which is λ =
        amount/(1 + amount); "oas", λ by `oas_intensity` on R. Dead channels have no correlation
        and do not count.
    amount : the ridge; only with method="ridge".

    Raises
    ------
    ValueError
        unknown method; ridge without an amount; OAS on a population (n = None).

    >>> m = Moments.from_covariance([[1.0, 0.5], [0.5, 1.0]], n=10)
    >>> shrink(m, "ridge", 1.0).cov
    array([[1.  , 0.25],
           [0.25, 1.  ]])
    """
    one_of("method", method, ("none", "ridge", "oas"))
    instance("moments", moments, Moments, "Build one with Moments.from_samples.")
    if (amount is None) == (method == "ridge"):
        raise ValueError(
            f"amount goes with method='ridge' only, and must; got {amount!r}, {method!r}."
        )
    if method == "none":
        return moments
    live = np.concatenate(
        [live_channels(moments), moments.n_channels + np.arange(moments.n_targets)]
    )
    live = live[np.diagonal(moments.cov)[live] > 0]
    deviation = np.sqrt(np.diagonal(moments.cov)[live])
    correlation = moments.cov[np.ix_(live, live)] / deviation / deviation[:, None]
    if method == "ridge":
        amount = positive("amount", amount, zero=True) if amount is not None else 0.0
        intensity = amount / (1 + amount)
    else:
        if moments.n is None:
            raise ValueError(
                "oas needs the sample count; these moments are a population's (n=None)."
            )
        intensity = oas_intensity(correlation, moments.n) if live.size else 0.0
    cov = moments.cov * (1 - intensity)
    np.fill_diagonal(cov, np.diagonal(moments.cov))
    return trusted_moments(moments.mean, cov, moments.n_targets, moments.n)


def ledoit_wolf_intensity(samples: ArrayLike) -> float:
    """Ledoit-Wolf shrinkage intensity towards (tr S / p) I; it needs the samples themselves.

    min(1, [n⁻² Σ_t ‖x_t x_tᵀ − S‖²_F] / ‖S − (tr S / p) I‖²_F), centered samples.

    Parameters
    ----------
    samples : (n, p), n at least 2.

    Source: Ledoit and Wolf (2004), J. Multivariate Analysis 88, section 3.

    >>> samples = np.random.default_rng(0).standard_normal((50, 4))
    >>> 0 < ledoit_wolf_intensity(samples) <= 1
    True
    """
    x: Float = finite_array("samples", samples, ndim=2)
    n, p = x.shape
    if n < 2:
        raise ValueError(f"samples must have at least 2 rows; got {n}.")
    x = x - x.mean(axis=0)
    s = x.T @ x / n
    spread = float(np.sum(s * s)) - float(np.trace(s)) ** 2 / p
    noise = (float(np.sum(np.sum(x**2, axis=1) ** 2)) / n - float(np.sum(s * s))) / n
    if spread <= 1e-14 * float(np.trace(s)) ** 2:
        return 1.0
    return float(min(1.0, noise / spread))
