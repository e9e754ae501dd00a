"""A sentence of a report together with the numbers it was worded from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Finding:
    """A sentence as a format string, and the values that fill it.

    The report prints the sentence and writes the values at full precision to a table, so no
    number in a report is without its source.

    >>> str(Finding("The coupling is {rho:+.2f}.", {"rho": -0.153}))
    'The coupling is -0.15.'
    """

    template: str
    values: Mapping[str, float | int | str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.template.format(**self.values)
