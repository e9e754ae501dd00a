"""A sentence of a report together with the numbers it was worded from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Any


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval, whose ends are NaN where there is none.

    >>> f"{Estimate(0.5, 0.25, 0.75):+.1f}; {Estimate(0.5, math.nan, math.nan):.0%}"
    '+0.5 [+0.2, +0.8]; 50% [no interval]'
    >>> f"{Estimate(math.nan, math.nan, math.nan):.0%}"
    'no value'
    """

    mean: float
    low: float
    high: float

    def __format__(self, form: str) -> str:
        """Format each of the three by `form`."""
        if math.isnan(self.mean):
            return "no value"
        if math.isnan(self.low) or math.isnan(self.high):
            return f"{self.mean:{form}} [no interval]"
        return f"{self.mean:{form}} [{self.low:{form}}, {self.high:{form}}]"

    def times(self, factor: float) -> Estimate:
        """Return it in another unit, or from the other side."""
        low, high = sorted((factor * self.low, factor * self.high))
        return Estimate(factor * self.mean, low, high)


def verdict(found: Estimate, enough: Estimate | None = None) -> str:
    """One of four words on a claim, from intervals alone.

    Parameters
    ----------
    found : the effect, above zero on the claim's side.
    enough : the effect less the size that the claim states; None where it states none.

    Examples
    --------
    >>> small = Estimate(0.2, 0.1, 0.3)
    >>> verdict(small), verdict(small, Estimate(-0.1, -0.3, 0.1)), verdict(small.times(-1))
    ('holds', 'holds in direction', 'contradicted')
    >>> verdict(Estimate(0.2, -0.1, 0.5))
    'not resolved'
    """
    beyond = found if enough is None else enough
    if beyond.low > 0 and found.low > 0:
        return "holds"
    if found.low > 0:
        return "holds in direction"
    return "contradicted" if beyond.high < 0 else "not resolved"


VERDICTS = ("contradicted", "not resolved", "holds in direction", "holds")


def weakest(*words: str) -> str:
    """The verdict on a claim of several parts.

    >>> weakest("holds", "not resolved")
    'not resolved'
    """
    return min(words, key=VERDICTS.index)


@dataclass(frozen=True)
class Finding:
    """A sentence as a format string, and the values that fill it.

    The report prints the sentence and writes the values at full precision to a table, so no
    number in a report is without its source.

    >>> str(Finding("The coupling is {rho:+.2f}.", {"rho": -0.153}))
    'The coupling is -0.15.'
    """

    template: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.template.format(**self.values)

    def numbers(self) -> dict[str, Any]:
        """Name -> plain value; a value that is a dataclass (a mean with its interval) by fields.

        >>> Finding("{start}", {"start": Estimate(0.5, 0.25, 0.75)}).numbers()
        {'start_mean': 0.5, 'start_low': 0.25, 'start_high': 0.75}
        """
        flat: dict[str, Any] = {}
        for name, value in self.values.items():
            if is_dataclass(value) and not isinstance(value, type):
                flat |= {f"{name}_{part}": number for part, number in asdict(value).items()}
            else:
                flat[name] = value
        return flat
