import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import solve_triangular

from theory import _lapack
from theory._precision import precision


def positive(c, rng):
    rows = rng.standard_normal((c + 5, c))
    return rows.T @ rows / (c + 5)


@given(st.integers(1, 20), st.integers(0, 4), st.integers(0, 2**32 - 1))
def test_each_routine_against_numpy(c, m, seed):
    rng = np.random.default_rng(seed)
    matrix, right = positive(c, rng), rng.standard_normal((c, m))
    factor = _lapack.cholesky(matrix)
    np.testing.assert_allclose(np.tril(factor), np.linalg.cholesky(matrix), atol=1e-12)
    inverse = np.linalg.inv(matrix)
    np.testing.assert_allclose(_lapack.solve(factor, right), inverse @ right, atol=1e-7)
    np.testing.assert_allclose(_lapack.inverse_diagonal(factor), np.diagonal(inverse), rtol=1e-8)
    np.testing.assert_allclose(
        _lapack.solve_transposed(factor, right),
        solve_triangular(np.tril(factor), right, lower=True, trans="T"),
        atol=1e-9,
    )
    exact = 1 / (np.abs(matrix).sum(0).max() * np.abs(inverse).sum(0).max())
    estimate = _lapack.reciprocal_condition(factor, np.abs(matrix).sum(0).max())
    assert exact * (1 - 1e-9) <= estimate <= 10 * exact


def test_a_matrix_that_is_not_positive_has_no_factor():
    assert _lapack.cholesky(np.array([[1.0, 2.0], [2.0, 1.0]])) is None


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_pivoting_finds_the_rank(c, rank, seed):
    rng = np.random.default_rng(seed)
    rank = min(c, rank)
    loadings = rng.standard_normal((c, rank))
    matrix = loadings @ loadings.T
    factor, order, found = _lapack.pivoted_cholesky(matrix, 1e-9 * np.trace(matrix))
    lower = np.tril(factor)[:, :found]
    assert found <= rank
    np.testing.assert_allclose(
        lower @ lower.T, matrix[np.ix_(order, order)], atol=1e-8 * np.trace(matrix)
    )


def test_rows_that_are_not_consecutive_are_refused():
    with pytest.raises(ValueError, match="consecutive columns"):
        _lapack.add_symmetric_product(np.zeros((3, 3)), np.zeros((4, 6))[:, ::2])
    with pytest.raises(ValueError, match=r"total must have shape \(3, 3\); got \(2, 2\)"):
        _lapack.add_symmetric_product(np.zeros((2, 2)), np.zeros((4, 3)))


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
