"""Whether the axes come apart between two measurements: rank correlations, and their change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from theory.rank_coupling import spearman
from theory.shared.findings import Estimate
from theory.shared.validation import Float

TARGET = "task_information"

CLEAR = 1.96

SPEARMAN = 1.06
"""Variance of Fisher's z of a rank correlation, times channels less 3 (Fieller, Hartley and
Pearson 1957)."""


@dataclass(frozen=True)
class CouplingChange:
    """Rank correlation of a quantity with task information, mean over layers, with 95 % intervals.

    Intervals are over channels as draws, by Fisher's z; that of the change takes both sides as
    independent (Zou 2007), which is wide where they go together.
    """

    before: Estimate
    after: Estimate
    change: Estimate

    @property
    def word(self) -> str:
        """Whether the axes came apart, closer or to the other side of zero: from the intervals."""
        if not (self.change.low > 0 or self.change.high < 0):
            return "a difference that is not resolved"
        lower, upper = sorted((self.before, self.after), key=lambda side: side.mean)
        if lower.high < 0 < upper.low:
            return "the coupling has turned to the other side of zero"
        if abs(self.after.mean) < abs(self.before.mean):
            return "the axes are further apart in the last"
        return "the axes are closer together in the last"


def coupling_change(
    before: Sequence[Mapping[str, Float]], after: Sequence[Mapping[str, Float]], name: str
) -> CouplingChange:
    """The coupling of `name` and task information in layers before and after.

    Parameters
    ----------
    before, after : of each layer, quantity -> (C,)
    name : which quantity

    Examples
    --------
    >>> a = {"input_capture": np.arange(50.0), "task_information": np.arange(50.0) % 7}
    >>> b = {"input_capture": np.arange(50.0), "task_information": np.arange(50.0)}
    >>> found = coupling_change([a], [b], "input_capture")
    >>> bool(found.before.high < 0.5 < found.after.low), bool(found.change.low > 0)
    (True, True)
    """
    one, other = _mean(before, name), _mean(after, name)
    low = np.hypot(other.mean - other.low, one.high - one.mean)
    high = np.hypot(other.high - other.mean, one.mean - one.low)
    middle = other.mean - one.mean
    return CouplingChange(one, other, Estimate(middle, middle - float(low), middle + float(high)))


def rank_coupling(values: Mapping[str, Float], name: str) -> tuple[float, int]:
    """Rank correlation of `name` and task information, and over how many channels.

    NaN of fewer than four.
    """
    known = np.isfinite(values[name]) & np.isfinite(values[TARGET])
    number = int(known.sum())
    if number < 4:
        return float("nan"), number
    return float(spearman(values[name][known], values[TARGET][known])), number


def _mean(layers: Sequence[Mapping[str, Float]], name: str) -> Estimate:
    """Mean of Fisher's z over the layers that have a coupling, as a correlation."""
    found = [rank_coupling(values, name) for values in layers]
    known = [(np.arctanh(np.clip(r, -0.999, 0.999)), n) for r, n in found if r == r]  # NaN is not
    if not known:
        return Estimate(np.nan, np.nan, np.nan)
    z = float(np.mean([own for own, _ in known]))
    error = float(np.sqrt(sum(SPEARMAN / (n - 3) for _, n in known))) / len(known)
    mean, low, high = (float(np.tanh(z + side * CLEAR * error)) for side in (0, -1, 1))
    return Estimate(mean, low, high)
