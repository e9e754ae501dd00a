"""One inverse for all regressions of a layer, and what decides that there is none."""

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory._precision import WELL_CONDITIONED, precision, well_conditioned_inverse


def pair(reciprocal_condition):
    """Two channels of correlation (1 - r) / (1 + r): their reciprocal condition is r."""
    rho = (1 - reciprocal_condition) / (1 + reciprocal_condition)
    return np.array([[1.0, rho], [rho, 1.0]])


def test_a_matrix_is_inverted_as_it_is_from_a_reciprocal_condition_of_one_billionth_on():
    """1e-9, to a fifth of it: rounding of the pair changes the condition by 1e-7 of itself."""
    assert WELL_CONDITIONED == 1e-9
    assert well_conditioned_inverse(pair(1.2e-9)) is not None
    assert well_conditioned_inverse(pair(0.8e-9)) is None
    assert well_conditioned_inverse(np.array([[1.0, 2.0], [2.0, 1.0]])) is None
    assert well_conditioned_inverse(np.diag([2.0, 1.0, np.nan])) is None
    # a second half that is singular, after a first that is not
    assert well_conditioned_inverse(np.kron(np.ones((2, 2)), np.eye(3))) is None


@pytest.mark.parametrize("channels", [1, 63, 64, 65, 129, 300])
def test_the_inverse_of_layers_of_any_width(channels):
    rows = np.random.default_rng(channels).standard_normal((2 * channels + 5, channels))
    matrix = rows.T @ rows / len(rows)
    inverse = well_conditioned_inverse(matrix)
    np.testing.assert_allclose(inverse @ matrix, np.eye(channels), atol=1e-12)
    np.testing.assert_array_equal(inverse, inverse.T)


@pytest.mark.parametrize("channels", [2, 3, 8])
@pytest.mark.parametrize("seed", range(5))
def test_conditional_variances_keep_seven_digits_where_the_matrix_is_inverted(channels, seed):
    """Against 50 digits, at a reciprocal condition of 1.2e-9."""
    matrix = correlation_of_condition(1.2e-9, channels, seed)
    with mpmath.workdps(50):
        exact = mpmath.matrix(matrix.tolist()) ** -1
    inverse = well_conditioned_inverse(matrix)
    assert inverse is not None
    expected = [float(exact[i, i]) for i in range(channels)]
    np.testing.assert_allclose(np.diagonal(inverse), expected, rtol=1e-7)


def test_wide_layers_keep_as_many_digits_beside_the_threshold():
    """Against Cholesky's recurrence in extended precision."""
    matrix = correlation_of_condition(1.2e-8, 150, seed=0)
    lower = np.zeros(matrix.shape, dtype=np.longdouble)
    root = np.zeros_like(lower)
    for k in range(len(matrix)):
        column = matrix[k:, k] - lower[k:, :k] @ lower[k, :k]
        lower[k:, k] = column / np.sqrt(column[0])
        unit = (np.arange(len(matrix)) == k) - lower[k, :k] @ root[:k]
        root[k] = unit / lower[k, k]
    expected = (root**2).sum(axis=0)
    inverse = well_conditioned_inverse(matrix)
    assert inverse is not None
    np.testing.assert_allclose(np.diagonal(inverse), expected.astype(float), rtol=1e-7)


def correlation_of_condition(reciprocal_condition, channels, seed):
    """Correlation matrix with one small eigenvalue, moved until the condition is the one asked."""
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.standard_normal((channels, channels)))
    smallest = reciprocal_condition
    for _ in range(4):
        values = np.append(np.ones(channels - 1), smallest)
        matrix = (basis * values) @ basis.T
        scale = 1 / np.sqrt(np.diagonal(matrix))
        matrix = (matrix + matrix.T) / 2 * np.outer(scale, scale)
        np.fill_diagonal(matrix, 1.0)
        norms = np.linalg.norm(matrix, 1) * np.linalg.norm(np.linalg.inv(matrix), 1)
        smallest *= reciprocal_condition * norms
    return matrix


def test_both_routes_agree_beside_the_threshold_and_only_a_copy_is_collinear():
    """Var(Y_1 | Y_2) = 1 - rho² = 4r / (1 + r)²; float64 leaves 1e-16 / r of it."""
    for r in (1.2e-9, 0.8e-9, 1e-11):
        found = precision(pair(r), np.zeros((2, 1)), 0.0)
        assert not found.collinear.any()
        np.testing.assert_allclose(1 / found.diagonal, 4 * r / (1 + r) ** 2, rtol=1e-15 / r)
    copies = precision(pair(1e-13), np.zeros((2, 1)), 0.0)
    assert copies.collinear.all()
    np.testing.assert_array_equal(copies.predictability(0.0), 1.0)


@pytest.mark.parametrize(("weight", "involved"), [(1.2e-6, True), (0.8e-6, False)])
def test_a_channel_is_collinear_from_a_part_of_one_millionth_in_another_on(weight, involved):
    """Y_3 ∝ Y_1 + w Y_2 exactly, Y_4 apart: what has a part in Y_3 below 1e-6 has none."""
    rows = np.array([[1, 0, 0], [0, 1, 0], [1, weight, 0], [0, 0, 1]])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found = precision(rows @ rows.T, np.zeros((4, 1)), 0.0)
    np.testing.assert_array_equal(found.collinear, [True, involved, True, False])


def by_eigenvalues(matrix, loadings):
    """The pseudo-inverse, and who has a part in the null space: the naive version."""
    values, vectors = np.linalg.eigh(matrix)
    null = values <= 1e-10 * values[-1]
    collinear = np.sqrt((vectors[:, null] ** 2).sum(axis=1)) > 1e-6
    kept = vectors[:, ~null]
    inverse = (kept / values[~null]) @ kept.T
    return np.diagonal(inverse), inverse @ loadings, collinear


@given(st.integers(2, 16), st.integers(0, 3), st.integers(0, 2), st.integers(0, 2**32 - 1))
def test_a_singular_layer_against_its_eigenvalues(c, copies, sums, seed):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((40, c))
    first = rng.integers(0, c, copies)
    planted = [rows[:, first]]
    planted += [rows[:, rng.integers(0, c, 2)].sum(1, keepdims=True) for _ in range(sums)]
    rows = np.concatenate([rows, *planted], axis=1)
    rows = (rows - rows.mean(0)) / rows.std(0)
    target = rng.standard_normal((40, 2))
    matrix, loadings = rows.T @ rows / 40, rows.T @ (target - target.mean(0)) / 40
    found = precision(matrix, loadings, 0.0)
    diagonal, coefficients, collinear = by_eigenvalues(matrix, loadings)
    np.testing.assert_array_equal(found.collinear, collinear)
    np.testing.assert_allclose(found.diagonal[~collinear], diagonal[~collinear], rtol=1e-6)
    np.testing.assert_allclose(
        found.coefficients[~collinear], coefficients[~collinear], rtol=1e-5, atol=1e-7
    )
    np.testing.assert_allclose(
        loadings.T @ found.coefficients, loadings.T @ coefficients, rtol=1e-5, atol=1e-7
    )
