"""What a finite sample does to Gaussian information: bias, null distributions, variance. In nats.

With n samples and an estimated mean, the scatter matrix of jointly Gaussian data is Wishart with
ν = n − 1 degrees of freedom, so everything here is exact except the functions named `delta_*`.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from theory._validation import count


def gaussian_information_bias(n: int, p: int, q: int) -> float:
    """Exact bias of the plug-in estimate of I(X; Y), X of size p and Y of size q, jointly Gaussian.

    ½ Σ_{i<q} [ψ((ν−i)/2) − ψ((ν−p−i)/2)] with ν = n − 1, from E log|Wishart|. It does not depend on
    the covariance, so subtracting it leaves an unbiased estimate at any dependence. A conditional
    information I(T; Y_i | Y_-i) is a difference of two such terms, and so is its bias.

    Args:
        n: number of samples; at least p + q + 1, below which the estimate itself is infinite.
        p: size of X.
        q: size of Y.

    Returns:
        The bias in nats; positive, and symmetric in p and q.

    Raises:
        ValueError: n is below p + q + 1, or a size is not a positive whole number.

    Source: the mean of log|Wishart| (Anderson, Multivariate Statistical Analysis, section 7.5).

    >>> round(gaussian_information_bias(30, 1, 1), 6)
    0.018176
    """
    p, q = count("p", p), count("q", q)
    if int(n) != n or n < p + q + 1:
        raise ValueError(
            f"n must be a whole number >= p + q + 1 = {p + q + 1} for the bias correction of "
            f"I(X_{p}; Y_{q}); got {n!r}. Use more samples, or fewer channels at a time."
        )
    p, q = max(p, q), min(p, q)
    nu = n - 1 - np.arange(q, dtype=np.float64)
    return float(0.5 * np.sum(special.digamma(nu / 2) - special.digamma((nu - p) / 2)))
