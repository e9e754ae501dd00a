"""`ClosedForm`: formula, assumptions, source, derivation, numeric function and oracle in one.

The formulas are in the files beside this one, one subject each; `theory.formulas` gathers them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import sympy

from theory.formulas._expression import evaluate_exactly, evaluate_float, typeset
from theory.shared.validation import Float

Value = float | Float
Status = Literal[
    "proven", "partly general", "cases proven", "asymptotic", "definition", "undecided", "refuted"
]
DEFINITION = "definition"
"""What a proof rests on where a name is given and nothing is claimed."""


@dataclass(frozen=True)
class Step:
    """One claim of a derivation, as sympy decided it.

    Attributes
    ----------
    claim : what is shown, in words and symbols.
    general : True if it holds for symbols of any size; False if for the cases named in `claim`.
    holds : True (reduced to zero), False (a counterexample was found), None (undecided).
    needed : False for a case that confirms what the general steps prove by themselves.
    """

    claim: str
    general: bool
    holds: bool | None
    needed: bool = True


@dataclass(frozen=True)
class Proof:
    """The steps that sympy carried out for one closed form.

    Attributes
    ----------
    steps : in order.
    rests_on : what is not proven here: a theorem on a limit, with its source, or `DEFINITION`.
    """

    steps: tuple[Step, ...]
    rests_on: str = ""

    @property
    def status(self) -> Status:
        """What the steps amount to.

        "proven": general steps alone. "partly general": general steps, and cases without which a
        part of the formula would go unproven. "cases proven": cases alone. "asymptotic": the steps
        hold, and lead from a limit theorem to the formula. "definition": nothing is claimed.
        "undecided" (any step) and "refuted" are failures.
        """
        if any(step.holds is False for step in self.steps):
            return "refuted"
        if not self.steps or any(step.holds is None for step in self.steps):
            return "undecided"
        if self.rests_on:
            return "definition" if self.rests_on == DEFINITION else "asymptotic"
        kinds = {step.general for step in self.steps if step.needed}
        if kinds == {True}:
            return "proven"
        return "partly general" if True in kinds else "cases proven"


@dataclass(frozen=True)
class Oracle:
    """An independent route to the number.

    Attributes
    ----------
    route : how, in words: quadrature, regression, complex-step differentiation, sampling.
    function : takes the symbols' values by name; returns the value, or for sampling the pair
        (estimate, standard error).
    tolerance : largest relative deviation; for sampling, of how many standard errors.
    sampling : whether `function` returns a standard error.
    """

    route: str
    function: Callable[..., Any]
    tolerance: float
    sampling: bool = False


@dataclass(frozen=True)
class ClosedForm:
    """One closed form of the theory; calling it evaluates it on numbers.

    Attributes
    ----------
    name : its key in the catalogue.
    item : "T1" to "T8", the part of the theory it belongs to.
    title : one sentence in words.
    lhs : LaTeX of the left-hand side.
    symbols : the free symbols, with their assumptions, in the order of the call.
    expr : the sympy expression; sizes such as d stay symbolic.
    domain : where it holds, in words.
    source : where it is from.
    derive : carries out the derivation of `expr` (which it is given) with sympy.
    point : draws random values of the symbols inside the domain.
    oracle : the independent route.
    stable : hand-written numeric function where direct float64 evaluation cancels; by default
        the expression itself is evaluated.

    >>> from theory import catalogue
    >>> form = catalogue()["task_information"]
    >>> round(form(rho=0.6), 6), form.derive(form.expr).status
    (0.223144, 'proven')
    """

    name: str
    item: str
    title: str
    lhs: str
    symbols: tuple[Any, ...]
    expr: Any
    domain: str
    source: str
    derive: Callable[[Any], Proof]
    point: Callable[[np.random.Generator], dict[str, Any]]
    oracle: Oracle
    stable: Callable[..., Any] | None = None

    @property
    def latex(self) -> str:
        """The formula as LaTeX, left-hand side included."""
        return f"{self.lhs} = {typeset(self.expr)}"

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the symbols, in the order of a positional call."""
        return tuple(symbol_name(symbol) for symbol in self.symbols)

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What each symbol is assumed to be, in words."""
        return tuple(_describe(symbol) for symbol in self.symbols)

    def numeric(self, **values: Any) -> Value:
        """Float64 value at the given symbols; nats where it is an information."""
        if self.stable is not None:
            result: Value = self.stable(**values)
            return result
        value: Value = evaluate_float(self.expr, values)
        return value

    def exact(self, values: Mapping[str, Any], digits: int = 50) -> Value:
        """The expression at `digits` decimal digits, from these float64 values, then rounded."""
        value: Value = evaluate_exactly(self.expr, values, digits)
        return value

    def __call__(self, *args: Any, **kwargs: Any) -> Value:
        """Value at the symbols given by position or by name."""
        names = self.parameters
        values = dict(zip(names, args, strict=False), **kwargs)
        if len(args) > len(names) or set(values) != set(names):
            raise TypeError(
                f"{self.name} takes {', '.join(names)}; got {len(args)} positional values and "
                f"{', '.join(kwargs) or 'no names'}."
            )
        return self.numeric(**values)


def symbol_name(symbol: Any) -> str:
    """Python name of a symbol: that of its letter."""
    return str(symbol.name if hasattr(symbol, "name") else symbol.base.label)


def _describe(symbol: Any) -> str:
    name = symbol_name(symbol)
    if isinstance(symbol, sympy.MatrixSymbol):
        return f"{name}: real, {symbol.shape[0]} × {symbol.shape[1]}"
    if isinstance(symbol, sympy.IndexedBase):
        return f"{name}: real vector of length {symbol.shape[0]}"
    kinds = [
        kind
        for kind in ("integer", "positive", "nonnegative", "real")
        if getattr(symbol, f"is_{kind}")
    ]
    words = [k for k in kinds if not (k in ("nonnegative", "real") and "positive" in kinds)]
    return f"{name}: {' '.join(words) or 'complex'}"
