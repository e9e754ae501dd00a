"""T6: what n samples do to Gaussian information: bias, null distribution, variance, shrinkage.

With an estimated mean the scatter matrix is Wishart with ν = n − 1 degrees of freedom.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy
import sympy

from theory import sampling
from theory.formulas._estimation_derivations import (
    ANDERSON,
    BIAS,
    CHEN,
    DELTA,
    INTENSITY,
    LARGE,
    E,
    J,
    derive_adjusted,
    derive_bias,
    derive_correlation_bias,
    derive_delta_capture,
    derive_delta_information,
    derive_delta_predictability,
    derive_null_variance,
    derive_oas,
    derive_tail,
    n,
    p,
    psi,
    q,
    rho,
    sigma0,
    square,
    trace,
    x,
)
from theory.formulas._oracles import (
    DRAWS,
    LINEAR_ALGEBRA,
    QUADRATURE,
    SAMPLING,
    mean_and_error,
)
from theory.formulas.closed_form import ClosedForm, Oracle
from theory.shrinkage import oas_intensity


def _scatters(samples: int, cov: Any) -> tuple[Any, Any, Any]:
    """Entries (s_yy, s_tt, s_yt) of many 2 × 2 sample covariances, by Bartlett's decomposition."""
    rng = np.random.default_rng(21)
    nu = samples - 1
    first, second = np.sqrt(rng.chisquare(nu, DRAWS)), np.sqrt(rng.chisquare(nu - 1, DRAWS))
    lower = rng.standard_normal(DRAWS)
    (a, _), (b, c) = np.linalg.cholesky(cov)
    y, t1, t2 = a * first, b * first + c * lower, c * second
    return y**2 / nu, (t1**2 + t2**2) / nu, y * t1 / nu


def _variance_and_error(values: Any, scale: float) -> tuple[float, float]:
    squares = (values - values.mean()) ** 2 * scale
    return mean_and_error(squares)


def _bias_oracle(n: int, p: int, q: int) -> tuple[float, float]:
    """Plug-in information of independent data sets."""
    rng = np.random.default_rng(22)
    data = rng.standard_normal((20_000, n, p + q))
    data -= data.mean(axis=1, keepdims=True)
    scatter = np.swapaxes(data, 1, 2) @ data
    logdet = [np.linalg.slogdet(s)[1] for s in (scatter[:, :p, :p], scatter[:, p:, p:], scatter)]
    return mean_and_error(0.5 * (logdet[0] + logdet[1] - logdet[2]))


def _expectation(n: int, p: int, function: Any) -> float:
    """E function(1 − R²) at independence, by quadrature in y = cos²θ, smooth at both ends."""
    law = scipy.stats.beta((n - 1 - p) / 2, p / 2)

    def integrand(angle: float) -> float:
        y = np.cos(angle) ** 2
        return float(function(y) * law.pdf(y) * np.sin(2 * angle))

    return float(
        scipy.integrate.quad(integrand, 0, np.pi / 2, epsabs=0, epsrel=1e-11, limit=200)[0]
    )


def _correlation_bias_oracle(n: int) -> float:
    return _expectation(n, 1, lambda y: -0.5 * np.log(y))


def _null_variance_oracle(n: int, p: int) -> float:
    mean = _expectation(n, p, lambda y: -0.5 * np.log(y))
    return _expectation(n, p, lambda y: (-0.5 * np.log(y) - mean) ** 2)


def _tail_oracle(n: int, p: int, x: float) -> tuple[float, float]:
    """Share of independent data sets at or above x, from ratios of χ²."""
    rng = np.random.default_rng(23)
    rest, fit = rng.chisquare(n - 1 - p, DRAWS), rng.chisquare(p, DRAWS)
    return mean_and_error((0.5 * np.log1p(fit / rest) >= x).astype(float))


def _delta_information_oracle(n: int, rho: float) -> tuple[float, float]:
    yy, tt, yt = _scatters(LARGE, np.array([[1, rho], [rho, 1.0]]))
    return _variance_and_error(-0.5 * np.log1p(-(yt**2) / (yy * tt)), LARGE / n)


def _delta_capture_oracle(n: int, J: float, sigma_0: float) -> tuple[float, float]:
    yy, _, _ = _scatters(LARGE, np.array([[J, 0], [0, 1.0]]))
    return _variance_and_error(0.5 * np.log1p(yy / sigma_0**2), LARGE / n)


def _delta_predictability_oracle(n: int, E: float) -> tuple[float, float]:
    root = np.sqrt(E)
    yy, tt, yt = _scatters(LARGE, np.array([[1, root], [root, 1.0]]))
    return _variance_and_error(yt**2 / (yy * tt), LARGE / n)


def _adjusted_oracle(E: float, n: int, p: int) -> float:
    """One less the ratio of the two unbiased variance estimates."""
    residual, total = (1 - E) / (n - 1 - p), 1 / (n - 1)
    return 1 - residual / total


def _oas_oracle(n: int, p: int, s_1: float, s_2: float) -> float:
    """The iteration itself, to convergence."""
    lam = 0.5
    for _ in range(2000):
        cross = (1 - lam) * s_2 + lam * s_1**2 / p
        top = (1 - 2 / p) * cross + s_1**2
        lam = min(1.0, top / ((n + 1 - 2 / p) * cross + (1 - n / p) * s_1**2))
    return lam


def _stable_oas(n: int, p: int, s_1: float, s_2: float) -> float:
    """`oas_intensity` on a diagonal matrix with these two traces."""
    spread = np.sqrt((s_2 - s_1**2 / p) / 2)
    values = np.full(p, s_1 / p)
    values[:2] += spread, -spread
    return oas_intensity(np.diag(values), n)


def _sizes(rng: np.random.Generator) -> dict[str, int]:
    return {
        "n": int(rng.integers(12, 40)),
        "p": int(rng.integers(1, 5)),
        "q": int(rng.integers(1, 4)),
    }


def _n(rng: np.random.Generator) -> dict[str, int]:
    return {"n": int(rng.integers(8, 60))}


def _n_p(rng: np.random.Generator) -> dict[str, int]:
    return {"n": int(rng.integers(15, 60)), "p": int(rng.integers(1, 5))}


def _oas_point(rng: np.random.Generator) -> dict[str, Any]:
    values = rng.uniform(0.5, 3.0, 6)
    return {
        "n": int(rng.integers(20, 60)),
        "p": 6,
        "s_1": float(values.sum()),
        "s_2": float(values @ values),
    }


def _form(name: str, title: str, lhs: str, symbols: Any, expr: Any, **rest: Any) -> ClosedForm:
    return ClosedForm(
        name=name, item="T6", title=title, lhs=lhs, symbols=symbols, expr=expr, **rest
    )


FORMS = (
    _form(
        "information_bias",
        "Bias of plug-in information between p and q Gaussian variables, at any dependence.",
        r"E \hat I(X_p; Y_q) - I",
        (n, p, q),
        BIAS,
        domain="n ≥ p + q + 1, estimated mean",
        source=ANDERSON,
        derive=derive_bias,
        point=_sizes,
        oracle=Oracle("sampling data sets", _bias_oracle, SAMPLING, sampling=True),
        stable=sampling.gaussian_information_bias,
    ),
    _form(
        "correlation_information_bias",
        "The same for one channel and one target.",
        r"E \hat I_T - I_T",
        (n,),
        (psi((n - 1) / 2) - psi((n - 2) / 2)) / 2,
        domain="n ≥ 3",
        source=ANDERSON,
        derive=derive_correlation_bias,
        point=_n,
        oracle=Oracle("quadrature over the Beta law", _correlation_bias_oracle, QUADRATURE),
        stable=lambda n: sampling.gaussian_information_bias(n, 1, 1),
    ),
    _form(
        "null_information_tail",
        "Exact null distribution of plug-in information: P(Î ≥ x) at independence.",
        r"P(\hat I \ge x)",
        (n, p, x),
        sympy.betainc_regularized((n - 1 - p) / 2, p / 2, 0, sympy.exp(-2 * x)),
        domain="n ≥ p + 2; p channels, one target; 1 − R² ~ Beta((n−1−p)/2, p/2)",
        source=ANDERSON,
        derive=derive_tail,
        point=lambda rng: {**_n_p(rng), "x": float(rng.uniform(0.01, 0.1))},
        oracle=Oracle("sampling χ² ratios", _tail_oracle, SAMPLING, sampling=True),
        stable=lambda n, p, x: float(sampling.null_information_tail(x, n, p)),
    ),
    _form(
        "null_information_variance",
        "Exact variance of plug-in information at independence.",
        r"\operatorname{Var} \hat I",
        (n, p),
        (sympy.polygamma(1, (n - 1 - p) / 2) - sympy.polygamma(1, (n - 1) / 2)) / 4,
        domain="n ≥ p + 2",
        source=ANDERSON,
        derive=derive_null_variance,
        point=_n_p,
        oracle=Oracle("quadrature over the Beta law", _null_variance_oracle, QUADRATURE),
        stable=sampling.null_information_variance,
    ),
    _form(
        "delta_information_variance",
        "Large-sample variance of plug-in information.",
        r"\operatorname{Var} \hat I_T",
        (rho, n),
        rho**2 / n,
        domain="|ρ| < 1, n ρ² large",
        source=DELTA,
        derive=derive_delta_information,
        point=lambda rng: {"rho": float(rng.uniform(0.3, 0.8)), **_n(rng)},
        oracle=Oracle(
            "sampling scatter matrices", _delta_information_oracle, SAMPLING, sampling=True
        ),
        stable=lambda rho, n: float(sampling.delta_information_variance(rho, n)),
    ),
    _form(
        "delta_capture_variance",
        "Large-sample variance of input capture, its reference noise held.",
        r"\operatorname{Var} \hat I_X",
        (J, sigma0, n),
        J**2 / (2 * n * (sigma0**2 + J) ** 2),
        domain="J, σ0 > 0",
        source=DELTA,
        derive=derive_delta_capture,
        point=lambda rng: {
            "J": float(rng.uniform(0.3, 2)),
            "sigma_0": float(rng.uniform(0.5, 1.5)),
            **_n(rng),
        },
        oracle=Oracle("sampling scatter matrices", _delta_capture_oracle, SAMPLING, sampling=True),
        stable=lambda J, sigma_0, n: float(sampling.delta_capture_variance(J, sigma_0**2, n)),
    ),
    _form(
        "delta_predictability_variance",
        "Large-sample variance of peer predictability.",
        r"\operatorname{Var} \hat E_i",
        (E, n),
        4 * E * (1 - E) ** 2 / n,
        domain="0 < E < 1",
        source=DELTA,
        derive=derive_delta_predictability,
        point=lambda rng: {"E": float(rng.uniform(0.1, 0.8)), **_n(rng)},
        oracle=Oracle(
            "sampling scatter matrices", _delta_predictability_oracle, SAMPLING, sampling=True
        ),
        stable=lambda E, n: float(sampling.delta_predictability_variance(E, n)),
    ),
    _form(
        "adjusted_predictability",
        "Predictability corrected for its p peers: mean zero at independence.",
        r"\tilde E_i",
        (E, n, p),
        1 - (1 - E) * (n - 1) / (n - 1 - p),
        domain="n ≥ p + 2",
        source="Ezekiel (1930); derived here",
        derive=derive_adjusted,
        point=lambda rng: {"E": float(rng.uniform(0.05, 0.9)), **_n_p(rng)},
        oracle=Oracle("ratio of unbiased variances", _adjusted_oracle, LINEAR_ALGEBRA),
        stable=lambda E, n, p: float(sampling.adjusted_predictability(E, n, p)),
    ),
    _form(
        "oas_intensity",
        "Oracle-approximating shrinkage: s1 = tr S, s2 = tr S².",
        r"\lambda_{\text{OAS}}",
        (n, p, trace, square),
        sympy.Min(1, INTENSITY),
        domain="p ≥ 2, S not a multiple of I, where it is 1",
        source=CHEN,
        derive=derive_oas,
        point=_oas_point,
        oracle=Oracle("the iteration to its fixed point", _oas_oracle, LINEAR_ALGEBRA),
        stable=_stable_oas,
    ),
)
