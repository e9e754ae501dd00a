import numpy as np
import pytest

from theory import _lapack


def test_rows_that_are_not_consecutive_are_refused():
    with pytest.raises(ValueError, match="consecutive columns"):
        _lapack.add_symmetric_product(np.zeros((3, 3)), np.zeros((4, 6))[:, ::2])
    with pytest.raises(ValueError, match=r"total must have shape \(3, 3\); got \(2, 2\)"):
        _lapack.add_symmetric_product(np.zeros((2, 2)), np.zeros((4, 3)))
