"""What a finite sample does to Gaussian information: bias, null distributions, variance. In nats.

With n samples and an estimated mean, the scatter matrix of jointly Gaussian data is Wishart with
ν = n − 1 degrees of freedom, so everything here is exact except the functions named `delta_*`.
"""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import ArrayLike

from theory.shared.validation import Float, count, finite_array, positive


def gaussian_information_bias(n: int, p: int, q: int) -> float:
    """Exact bias of the plug-in estimate of I(X; Y), X of size p and Y of size q, jointly Gaussian.

    ½ Σ_{i<q} [ψ((ν−i)/2) − ψ((ν−p−i)/2)] with ν = n − 1, from E log|Wishart|. It does not depend on
    the covariance, so subtracting it leaves an unbiased estimate at any dependence. A conditional
    information I(T; Y_i | Y_-i) is a difference of two such terms, and so is its bias.

    Parameters
    ----------
    n : number of samples; at least p + q + 1, below which the estimate itself is infinite.
    p : size of X.
    q : size of Y.

    Returns
    -------
    The bias in nats; positive, and symmetric in p and q.

    Raises
    ------
    ValueError
        n is below p + q + 1, or a size is not a positive whole number.

    Source: the mean of log|Wishart| (Anderson, Multivariate Statistical Analysis, section 7.5).

    >>> round(gaussian_information_bias(30, 1, 1), 6)
    0.018176
    """
    p, q = count("p", p), count("q", q)
    _enough(n, p + q + 1, f"the bias correction of I(X_{p}; Y_{q})", "p + q + 1")
    p, q = max(p, q), min(p, q)
    nu = n - 1 - np.arange(q, dtype=np.float64)
    return float(0.5 * np.sum(scipy.special.digamma(nu / 2) - scipy.special.digamma((nu - p) / 2)))


def delta_information_variance(rho: ArrayLike, n: int) -> Float:
    """Large-sample variance of −½ log(1 − r²): ρ²/n, for a simple or a multiple correlation ρ.

    At ρ = 0 the estimate is of order 1/n and its law is that of `null_information_tail`.

    Parameters
    ----------
    rho : correlation between −1 and 1; a number or (k,).
    n : number of samples.

    >>> float(delta_information_variance(0.5, 100))
    0.0025
    """
    return np.asarray(_correlation("rho", rho) ** 2 / count("n", n, least=3))


def delta_capture_variance(power: ArrayLike, noise: float, n: int) -> Float:
    """Large-sample variance of ½ log(1 + J/σ0²) for a fixed σ0²: J² / (2n(σ0² + J)²).

    Parameters
    ----------
    power : J >= 0; a number or (k,).
    noise : σ0².
    n : number of samples.

    >>> float(delta_capture_variance(1.0, 1.0, 50))
    0.0025
    """
    j = _at_least_zero("power", power)
    total = j + positive("noise", noise)
    return np.asarray(j**2 / (2 * count("n", n, least=3) * total**2))


def delta_predictability_variance(predictability: ArrayLike, n: int) -> Float:
    """Large-sample variance of E = R²: 4E(1 − E)²/n.

    >>> float(delta_predictability_variance(0.5, 100))
    0.005
    """
    e = _share("predictability", predictability)
    return np.asarray(4 * e * (1 - e) ** 2 / count("n", n, least=3))


def adjusted_predictability(predictability: ArrayLike, n: int, p: int) -> Float:
    """R² corrected for its p predictors: 1 − (1 − R²)(n − 1)/(n − 1 − p); mean 0 at independence.

    Parameters
    ----------
    predictability : R² as estimated; a number or (k,).
    n : number of samples; at least p + 2.
    p : number of peers.

    Raises
    ------
    ValueError
        n below p + 2.

    >>> float(adjusted_predictability(0.5, 11, 5))
    0.0
    """
    _enough(n, count("p", p) + 2, "the adjusted predictability", "p + 2")
    e = _share("predictability", predictability)
    return np.asarray(1 - (1 - e) * (n - 1) / (n - 1 - p))


def null_information_tail(information: ArrayLike, n: int, p: int = 1) -> Float:
    """P(estimate >= information) if p Gaussian channels and a scalar target are independent.

    1 − R² ~ Beta((n − 1 − p)/2, p/2) exactly, so the tail is its distribution function at e^(−2I).

    Parameters
    ----------
    information : plug-in estimates I >= 0 in nats; a number or (k,).
    n : number of samples; at least p + 2.
    p : number of channels together.

    Raises
    ------
    ValueError
        n below p + 2.

    >>> float(null_information_tail(0.0, 30))
    1.0
    """
    _enough(n, count("p", p) + 2, "the null distribution", "p + 2")
    x = _at_least_zero("information", information)
    return np.asarray(scipy.special.betainc((n - 1 - p) / 2, p / 2, np.exp(-2 * x)))


def null_information_variance(n: int, p: int = 1) -> float:
    """Exact variance of the plug-in I(Y; T) at independence: ¼ [ψ₁((n−1−p)/2) − ψ₁((n−1)/2)].

    >>> round(null_information_variance(30), 8)
    0.00066...
    """
    _enough(n, count("p", p) + 2, "the null variance", "p + 2")
    low, high = scipy.special.polygamma(1, [(n - 1 - p) / 2, (n - 1) / 2])
    return float((low - high) / 4)


def null_maximum_information(n: int, q: int = 1) -> float:
    """E max(Î_1, Î_2) for two channels independent of each other and of a scalar target.

    It is what the excess S_12 of independent channels is short of by: its plug-in mean is
    `gaussian_information_bias(n, 2, 1)` less this. One-dimensional quadrature of 1 − (1 − tail)².

    Parameters
    ----------
    n : number of samples; at least 4.
    q : number of targets; only 1 has this closed form.

    >>> round(null_maximum_information(30), 5)
    0.02975
    """
    if q != 1:
        raise ValueError(f"q must be 1 for the null maximum; got {q!r}.")
    _enough(n, 4, "the null maximum", "4")

    def above(x: float) -> float:
        tail = float(null_information_tail(x / n, n))
        return tail * (2 - tail)

    # in units of 1/n, the scale of the information: the quadrature would miss what lies near zero
    return float(scipy.integrate.quad(above, 0, np.inf, epsabs=1e-13)[0]) / n


def _enough(n: int, least: int, purpose: str, formula: str) -> None:
    if count("n", n, least=0) < least:
        raise ValueError(
            f"n must be a whole number >= {formula} = {least} for {purpose}; got {n!r}. Use more "
            "samples, or fewer channels at a time."
        )


def _at_least_zero(name: str, value: ArrayLike) -> Float:
    array = finite_array(name, value, ndim=(0, 1))
    if array.size and float(array.min()) < 0:
        raise ValueError(f"{name} must be >= 0; got {array.min()}.")
    return array


def _share(name: str, value: ArrayLike) -> Float:
    array = finite_array(name, value, ndim=(0, 1))
    if array.size and float(array.max()) > 1:
        raise ValueError(f"{name} must be at most 1, a share of variance; got {array.max()}.")
    return array


def _correlation(name: str, value: ArrayLike) -> Float:
    rho = finite_array(name, value, ndim=(0, 1))
    if rho.size and float(np.abs(rho).max()) > 1:
        raise ValueError(f"{name} must be between -1 and 1; got {rho.flat[np.abs(rho).argmax()]}.")
    return rho


def likeness_of(design_effect: float, samples_per_image: float) -> float:
    """ρ of equally correlated samples of one image whose design effect is this, 1 + (m - 1) ρ².

    >>> likeness_of(1 + 15 * 0.25, 16)
    0.5
    """
    if samples_per_image <= 1:
        return 0.0
    return float(np.sqrt(np.clip((design_effect - 1) / (samples_per_image - 1), 0.0, 1.0)))


def in_out_product(ratio: float, likeness: float, samples_per_image: float) -> float:
    """E inside · E outside / σ⁴ of a regression on all peers, in the limit of many channels.

    Parameters
    ----------
    ratio : channels / samples
    likeness : ρ, correlation of any two samples of one image
    samples_per_image : m

    The sample covariance is then that of a Wishart matrix with weights d: 1 + (m - 1) ρ for a share
    1/m of its terms and 1 - ρ for the rest. Its resolvent at zero has the mean m₁ that solves
    1/m₁ = E[d / (1 + γ d m₁)], γ the ratio, a quadratic equation, and the product of 1/m₁ (inside)
    and m₂/m₁² (outside) is 1 / (m₁ (1 - γ m₁² E[d² / (1 + γ d m₁)²])): 1 for independent samples,
    ρ = 0, and 0 where fewer samples are independent than there are channels.

    Source: Silverstein and Bai, J. Multivariate Anal. 54 (1995), the equation of the resolvent.

    >>> round(in_out_product(0.4, 0.0, 16), 12), round(in_out_product(0.4, 0.5, 16), 3)
    (1.0, 0.621)
    """
    d = np.array([1 + (samples_per_image - 1) * likeness, 1 - likeness])
    share = np.array([1 / samples_per_image, 1 - 1 / samples_per_image])
    # E d = 1, so that m₁ solves γ(1 - γ) d₁d₂ m₁² + (1 - γ(d₁ + d₂)) m₁ = 1
    square, linear = ratio * (1 - ratio) * d[0] * d[1], 1 - ratio * d.sum()
    if square < 0 or (square == 0 and linear <= 0):  # fewer independent samples than channels
        return 0.0
    root = np.sqrt(linear**2 + 4 * square)
    mean = 2 / (linear + root) if linear > 0 else (root - linear) / (2 * square)
    spread = ratio * mean**2 * float(share @ ((d / (1 + ratio * d * mean)) ** 2))
    return float(1 / (mean * (1 - spread)))
