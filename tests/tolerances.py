"""Named tolerances with their reasons. None is widened to make a test pass."""

EXACT = 1e-12
"""Two float64 routes to one number, without cancellation: rounding of some thousand operations."""

NAIVE = 1e-10
"""Relative, fast route against its naive twin."""

NAIVE_FLOOR = 1e-13
"""Absolute, below which the naive twin's own differences of logarithms are rounding."""

STANDARD_ERRORS = 4.5
"""Sampling, as a multiple of a stated standard error: one false alarm in 150,000 comparisons."""
