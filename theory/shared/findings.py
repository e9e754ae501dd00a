"""A sentence of a report together with the numbers it was worded from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Any


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

        >>> @dataclass(frozen=True)
        ... class Estimate:
        ...     mean: float
        ...     low: float
        >>> Finding("{start}", {"start": Estimate(0.5, 0.25)}).numbers()
        {'start_mean': 0.5, 'start_low': 0.25}
        """
        flat: dict[str, Any] = {}
        for name, value in self.values.items():
            if is_dataclass(value) and not isinstance(value, type):
                flat |= {f"{name}_{part}": number for part, number in asdict(value).items()}
            else:
                flat[name] = value
        return flat
