"""Hypothesis strategies shared by the tests: covariances, layers and data sets.

Exclusions, each with its reason:
- condition numbers above 1e6: there an eigenvalue and its rounding differ by fewer than ten digits,
  so agreement to NAIVE cannot be asked for. Singular layers have tests of their own.
- targets that channels determine to more than 1 - 1e-6: their information diverges.
"""

import numpy as np
from hypothesis import strategies as st

from theory import Moments


@st.composite
def covariances(draw, sizes=st.integers(2, 12), condition=1e6):
    """(p, p) covariance with a spectrum between 1 and at most `condition`, at any scale."""
    size = draw(sizes)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    span = draw(st.floats(0, np.log10(condition)))
    basis, _ = np.linalg.qr(rng.standard_normal((size, size)))
    values = 10 ** (span * rng.random(size))
    cov = (basis * values) @ basis.T
    scale = 10 ** draw(st.floats(-3, 3))
    return scale * (cov + cov.T) / 2


@st.composite
def layers(draw, n_targets=st.integers(1, 3), channels=st.integers(2, 10), condition=1e4):
    """Population moments of a layer with one or several targets."""
    q = draw(n_targets)
    cov = draw(covariances(sizes=channels.map(lambda c: c + q), condition=condition))
    return Moments.from_covariance(cov, n_targets=q)


@st.composite
def samples(draw, least=3, most=40):
    """(n, C) channels and (n,) target from a random linear layer with an offset."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, c = draw(st.integers(least, most)), draw(st.integers(2, 6))
    y = rng.standard_normal((n, c)) @ rng.standard_normal((c, c)) + 10 * rng.standard_normal(c)
    return y, y @ rng.standard_normal(c) + rng.standard_normal(n)
