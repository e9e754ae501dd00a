"""Symmetric products and inverses in place: against NumPy's, and what is refused."""

import numpy as np
import pytest

from theory.shared.lapack import add_product, factor, invert_triangle, mirror, multiply_triangle

WIDTHS = [1, 2, 63, 64, 65, 150]


@pytest.mark.parametrize("n", WIDTHS)
@pytest.mark.parametrize("m", [0, 1, 40])
def test_a_product_is_added_to_the_lower_triangle_alone(n, m):
    rng = np.random.default_rng(n)
    total, rows = rng.standard_normal((n, n)), rng.standard_normal((m, n))
    found = total.copy()
    add_product(found, rows)
    np.testing.assert_allclose(np.tril(found), np.tril(total + rows.T @ rows), atol=1e-12)
    np.testing.assert_array_equal(np.triu(found, 1), np.triu(total, 1))


@pytest.mark.parametrize("n", WIDTHS)
def test_the_upper_triangle_is_filled_from_the_lower_one(n):
    matrix = np.random.default_rng(n).standard_normal((n, n))
    expected = np.tril(matrix) + np.tril(matrix, -1).T
    np.testing.assert_array_equal(mirror(matrix), expected)
    np.testing.assert_array_equal(matrix, expected)


@pytest.mark.parametrize("n", WIDTHS)
def test_factor_inverse_and_product_of_triangles(n):
    rows = np.random.default_rng(n).standard_normal((2 * n + 5, n))
    matrix = rows.T @ rows / len(rows)
    given = matrix.copy()
    lower = factor(matrix)
    assert lower is not None
    np.testing.assert_array_equal(matrix, given)
    np.testing.assert_allclose(np.tril(lower) @ np.tril(lower).T, matrix, atol=1e-12)
    inverse = lower.copy()
    invert_triangle(inverse)
    np.testing.assert_allclose(np.tril(inverse) @ np.tril(lower), np.eye(n), atol=1e-11)
    product = np.tril(inverse).T @ np.tril(inverse)
    np.testing.assert_allclose(multiply_triangle(inverse), product, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("last", [0.0, -1.0])
def test_what_is_not_positive_has_no_factor(last):
    assert factor(np.diag([2.0, 1.0, last])) is None


def test_layouts_that_would_be_misread_are_refused():
    total, rows = np.zeros((3, 3)), np.ones((4, 3))
    for wrong in (rows.astype(np.float32), np.asfortranarray(rows), np.ones((4, 6))[:, ::2]):
        with pytest.raises(ValueError, match=r"array must be float64 with consecutive rows; got"):
            add_product(total, wrong)
    with pytest.raises(ValueError, match=r"total must have shape \(3, 3\); got \(2, 2\)"):
        add_product(np.zeros((2, 2)), rows)
    np.testing.assert_array_equal(total, 0.0)
