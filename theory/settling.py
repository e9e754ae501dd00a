"""When a curve comes to stay nearer its end than its start: the one definition of separation time.

Theory, simulations and networks all take it of the Spearman coupling of two axes over training. A
coupling can dip and come back, so the first crossing is no separation; what counts is the last.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from theory.shared.validation import finite_array, positive, real_array


def settled_record(values: ArrayLike, *, apart: float = 0.0, fraction: float = 0.5) -> int | None:
    """Index of the first record from which a curve keeps that share of its way behind it.

    Parameters
    ----------
    values : (R,) the curve, from its start to its end.
    apart : start and end that differ by no more than this are one level: None.
    fraction : of the way from the first value to the last; between 0 and 1.

    Returns
    -------
    The index, at least 1; None as said above, or where an end is NaN.

    >>> settled_record([1.0, 0.1, 0.9, 0.2, 0.0])
    3
    """
    curve = real_array("values", values)
    if curve.ndim != 1 or curve.size < 2:
        raise ValueError(
            f"values must hold one curve of at least two records; got shape {curve.shape}."
        )
    if not 0 < positive("fraction", fraction, zero=True) < 1:
        raise ValueError(f"fraction must be between 0 and 1; got {fraction!r}.")
    way = curve[-1] - curve[0]
    if not abs(way) > positive("apart", apart, zero=True):
        return None
    passed = (curve - curve[0]) / way >= fraction - 1e-12
    stays = np.logical_and.accumulate(passed[::-1])[::-1]
    return int(np.argmax(stays))


def settling_time(
    times: ArrayLike, values: ArrayLike, *, apart: float = 0.0, fraction: float = 0.5
) -> float:
    """Time from which the curve keeps that share of its way behind it, between two records.

    Interpolated linearly in the curve and in log time; after a record at time 0, that of the next.

    Parameters
    ----------
    times : (R,) rising, from 0 or above.
    values, apart, fraction : as in `settled_record`.

    Returns
    -------
    The time; NaN where `settled_record` gives None.

    >>> settling_time([0.0, 1.0, 4.0, 16.0], [1.0, 1.0, 0.25, 0.0], fraction=0.375)
    2.0
    """
    when, curve = finite_array("times", times, ndim=1), real_array("values", values)
    if when.shape != curve.shape or (np.diff(when) <= 0).any() or when.min(initial=0.0) < 0:
        raise ValueError(
            f"times must rise from 0 or above, one per value; got {when.size} times for "
            f"{curve.size} values. Pass the recorded steps or times in order."
        )
    record = settled_record(curve, apart=apart, fraction=fraction)
    if record is None:
        return float("nan")
    before, after = when[record - 1], when[record]
    if before == 0:
        return float(after)
    level = curve[0] + fraction * (curve[-1] - curve[0])
    share = (curve[record - 1] - level) / (curve[record - 1] - curve[record])
    return float(before * (after / before) ** share)
