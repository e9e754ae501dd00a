"""A bad call is a good one with one argument changed, and its error says all about it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

NAN, INF = float("nan"), float("inf")

COUNTS: Sequence[Any] = (None, "text", NAN, INF, -1, 0, 1.5, True, [3])
"""Values of an argument that is a whole number from 1."""
INDICES: Sequence[Any] = (None, "text", NAN, -1, 1.5)
"""Values of one that is a whole number from 0."""
SEEDS: Sequence[Any] = (*INDICES, 2**63)
"""Values of a seed, which generators keep in 63 bits."""
RATES: Sequence[Any] = (None, "text", NAN, INF, -1, 0, True)
"""Values of one that is a finite number above 0."""
SIZES: Sequence[Any] = (None, "text", NAN, INF, -1)
"""Values of one that is a finite number from 0."""
SHARES: Sequence[Any] = (None, "text", NAN, -0.1, 1.5)
"""Values of one that is a share between 0 and 1."""
ARRAYS: Sequence[Any] = (None, "text", [[[1.0]]], [[1.0], [1.0, 2.0]], [1j, 0.0])
"""Values of one that is an array of one or two dimensions."""

REFUSED = (ValueError, TypeError, OSError, MemoryError)
REMEDY = re.compile(
    r"must|[Pp]ass |Choose|Did you mean|Give |Check|Take |Use |Remove|needs|Ask for|Measure|Run "
    r"|Add |Call |Build|Load|Write it again"
)


@dataclass(frozen=True)
class Good:
    """A call that works, and per argument the values that are refused.

    Attributes
    ----------
    call : the public function.
    keywords : arguments with which it works; a function of no arguments makes one anew.
    bad : argument -> values. A value may be a function of no arguments that makes it; a key
        "name as word" names the argument by another word in the message.
    """

    call: Callable[..., Any]
    keywords: Mapping[str, Any]
    bad: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def run(self, **changes: Any) -> Any:
        return self.call(**{k: _made(v) for k, v in {**self.keywords, **changes}.items()})


class Made:
    """A value that is made when the call is."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make


def _made(value: Any) -> Any:
    return value.make() if isinstance(value, Made) else value


def rows(table: Mapping[str, Good]) -> list[Any]:
    """One parameter set per bad call."""
    return [
        pytest.param(name, argument, value, id=f"{name}-{argument}-{index}")
        for name, good in table.items()
        for argument, values in good.bad.items()
        for index, value in enumerate(values)
    ]


def checks_of(table: Mapping[str, Good]) -> tuple[Callable[..., None], Callable[..., None]]:
    """Return two tests: of every good call of a table, and of every bad one."""

    @pytest.mark.parametrize("name", table)
    def good(name: str) -> None:
        table[name].run()

    @pytest.mark.parametrize(("name", "argument", "value"), rows(table))
    def bad(name: str, argument: str, value: Any) -> None:
        assert_refused(table[name], argument, value)

    return good, bad


def assert_refused(good: Good, argument: str, value: Any) -> None:
    """The call raises, and the message names argument, value and remedy."""
    name, _, word = argument.partition(" as ")
    made = _made(value)
    with pytest.raises(REFUSED) as caught:
        good.run(**{name: made})
    message = str(caught.value)
    assert re.search(rf"(?<![a-z])({word or re.escape(name)})(?![a-z])", message), message
    assert any(re.search(text, message) for text in shown(made)), message
    assert REMEDY.search(message), message
    assert "\n" not in message.strip(), message


def shown(value: Any) -> list[str]:
    """Patterns of how a message may show a value: as it is, its kind, what of it is wrong."""
    texts = [repr(value), str(value), type(value).__name__]
    patterns = []
    if isinstance(value, Mapping):
        texts += [repr(item) for pair in value.items() for item in pair]
        texts += [str(item) for pair in value.items() for item in pair]
    elif isinstance(value, float):
        texts.append(f"{value:g}")
    elif hasattr(value, "shape") or isinstance(value, (list, tuple)):
        texts += [repr(item) for item in value]
        # of what has many entries: its shape, or the first or extreme one that is wrong
        patterns.append(r"\b(got|is|are|has|have|holds)\b.*(\d|none|empty)")
    return patterns + [rf"(?<![\w.]){re.escape(text)}(?!\w)" for text in texts if text]
