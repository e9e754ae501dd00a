"""κ and the normalized coupling: against 10⁶ draws, high-precision quadrature, and bad input."""

from __future__ import annotations

import tracemalloc

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theory import (
    channel_coupling,
    expected_output_coupling,
    initial_coupling,
    initial_coupling_joint,
    initial_coupling_normalized,
    many_outputs_coupling,
    output_coupling,
)
from theory.formulas._oracles import correlation_and_error

DRAWS = 1_000_000
STANDARD_ERRORS = 4.0
QUADRATURE = 1e-6


def spectra() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    factor = rng.standard_normal((8, 8))
    axis = np.ones(8) / np.sqrt(8)
    return {
        "isotropic": 2.0 * np.eye(8),
        "spiked": np.eye(8) + 6 * np.outer(axis, axis),
        "power law": np.diag(np.arange(1.0, 9) ** -1.0),
        "random": factor @ factor.T,
    }


@pytest.mark.parametrize("kind", spectra())
def test_couplings_agree_with_a_million_draws(kind: str) -> None:
    sigma = spectra()[kind]
    rng = np.random.default_rng(1)
    c = sigma @ rng.standard_normal(8)
    w = rng.standard_normal((DRAWS, 8))
    power, squared = np.einsum("ni,ni->n", w @ sigma, w), (w @ c) ** 2
    for law, other in ((initial_coupling, squared), (initial_coupling_normalized, squared / power)):
        sampled, error = correlation_and_error(power, other)
        assert abs(law(sigma, c) - sampled) < STANDARD_ERRORS * error, law.__name__


def high_precision(values: np.ndarray, c: np.ndarray) -> float:
    with mpmath.workdps(40):
        lam, weight = [mpmath.mpf(v) for v in values], [mpmath.mpf(x) ** 2 for x in c]

        def parts(t: mpmath.mpf) -> tuple[mpmath.mpf, mpmath.mpf]:
            m = [1 + 2 * t * v for v in lam]
            density = 1 / mpmath.sqrt(mpmath.fprod(m))
            return density, mpmath.fsum(a / b for a, b in zip(weight, m, strict=True))

        ends = [0, 0.01, 0.1, 1, 10, 100, 10_000, mpmath.inf]
        first = mpmath.quad(lambda t: mpmath.fprod(parts(t)), ends)
        second = mpmath.quad(lambda t: 3 * t * parts(t)[0] * parts(t)[1] ** 2, ends)
        top = mpmath.fsum(weight) - mpmath.fsum(lam) * first
        return float(top / mpmath.sqrt(2 * mpmath.fsum(v**2 for v in lam) * (second - first**2)))


@pytest.mark.parametrize("decay", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("size", [2, 3, 12])
def test_quadrature_against_high_precision(decay: float, size: int) -> None:
    values = np.arange(1.0, size + 1) ** -decay
    c = np.cos(np.arange(size)) * values
    assert initial_coupling_normalized(values, c) == pytest.approx(
        high_precision(values, c), abs=QUADRATURE
    )


@pytest.mark.parametrize("law", [initial_coupling, initial_coupling_normalized])
def test_the_cost_of_eigenvalues_grows_with_their_number_not_with_its_square(law) -> None:
    peaks = []
    for size in (1024, 4096):
        values = np.arange(1.0, size + 1) ** -1.0
        tracemalloc.start()
        assert 0 < law(values, np.sqrt(values)) < 1
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 5 * peaks[0]


def test_matrix_and_spectrum_agree() -> None:
    sigma = spectra()["random"]
    c = sigma @ np.arange(8.0)
    values, vectors = np.linalg.eigh(sigma)
    for law in (initial_coupling, initial_coupling_normalized):
        assert law(sigma, c) == pytest.approx(law(values, vectors.T @ c), abs=1e-12)
    assert output_coupling(sigma, c) == pytest.approx(initial_coupling(sigma, sigma @ c))


@settings(max_examples=40)
@given(
    size=st.integers(2, 6),
    seed=st.integers(0, 10**6),
    scale=st.floats(1e-3, 1e3),
)
def test_scales_of_sigma_and_c_do_not_matter(size: int, seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    values, c = rng.uniform(0.1, 1, size), rng.standard_normal(size)
    for law in (initial_coupling, initial_coupling_normalized):
        assert law(scale * values, c / scale) == pytest.approx(law(values, c), abs=1e-9)
    assert 0 < initial_coupling(values, c) <= 1 + 1e-12


def test_several_targets() -> None:
    values, c = np.array([3.0, 1.0, 0.5]), np.random.default_rng(0).standard_normal((3, 4))
    norms = (c**2).sum(axis=0)
    each = np.array([initial_coupling(values, column) for column in c.T])
    assert initial_coupling(values, c) == pytest.approx(float(each @ norms / norms.sum()))
    one = c[:, :1]
    assert initial_coupling_joint(values, one) == pytest.approx(initial_coupling(values, one[:, 0]))


def test_many_random_outputs_reach_their_limit() -> None:
    values = np.arange(1.0, 65) ** -1.0
    m = np.random.default_rng(2).standard_normal((64, 20_000))
    assert output_coupling(values, m) == pytest.approx(many_outputs_coupling(values), abs=0.005)
    single = [output_coupling(values, column) for column in m.T[:4000]]
    error = float(np.std(single)) / np.sqrt(4000)
    assert abs(expected_output_coupling(values) - np.mean(single)) < STANDARD_ERRORS * error


def test_moved_channels_agree_with_draws() -> None:
    rng = np.random.default_rng(4)
    sigma, c, centers = spectra()["random"], rng.standard_normal(8), rng.standard_normal((5, 8))
    w = 0.7 * rng.standard_normal((DRAWS, 8)) + centers[rng.integers(0, 5, DRAWS)]
    sampled, error = correlation_and_error(np.einsum("ni,ni->n", w @ sigma, w), (w @ c) ** 2)
    assert abs(channel_coupling(sigma, c, centers, 0.7) - sampled) < STANDARD_ERRORS * error


def test_rank_one_and_singular_inputs() -> None:
    assert np.isnan(initial_coupling_normalized([2.0, 0.0], [1.0, 0.0]))
    full = initial_coupling_normalized([3.0, 1.0], [1.0, 2.0])
    assert initial_coupling_normalized([3.0, 1.0, 0.0], [1.0, 2.0, 0.0]) == pytest.approx(full)


def test_c_outside_the_range_is_named() -> None:
    with pytest.raises(ValueError, match="c must lie in the range of sigma"):
        initial_coupling_normalized([1.0, 2.0, 0.0], [1.0, 1.0, 1.0])
