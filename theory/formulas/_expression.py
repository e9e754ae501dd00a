"""One walk over a sympy expression with matrices of any size: float64, 50 digits, or symbols.

sympy's own lambdify does not take matrices of symbolic size, nor integrals and sums at
high precision; the walk below reads them directly. Indices count from 1, as in the formulas.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
import scipy
import sympy
from sympy.matrices.expressions.matexpr import MatrixElement
from sympy.printing.latex import LatexPrinter
from sympy.printing.str import StrPrinter


@dataclass(frozen=True)
class Arithmetic:
    """What differs between evaluating with floats, with mpmath and with symbols."""

    number: Callable[[Any], Any]
    function: Callable[[Any, list[Any]], Any]
    eye: Callable[[int], Any]
    trace: Callable[[Any], Any]
    determinant: Callable[[Any], Any]
    inverse: Callable[[Any], Any]
    integral: Callable[[Callable[[Any], Any], Any, Any], Any]


def walk(expr: Any, values: Mapping[str, Any], how: Arithmetic) -> Any:
    """Evaluate `expr`, symbols replaced by `values` (keys are the symbols' names)."""
    integrals: dict[Any, Any] = {}

    def rec(e: Any, local: Mapping[Any, Any]) -> Any:
        if e in local:
            value = local[e]
            return how.number(value) if isinstance(value, sympy.Integer) else value
        if isinstance(e, sympy.Symbol | sympy.MatrixSymbol):
            return values[e.name]
        if e.is_Number or isinstance(e, sympy.core.numbers.NumberSymbol):
            return how.number(e)
        if isinstance(e, sympy.Indexed):
            index = [int(rec(i, local)) - 1 for i in e.indices]
            array = values[str(e.base.label)]
            return array[index[0]] if len(index) == 1 else array[index[0], index[1]]
        if isinstance(e, sympy.Sum | sympy.Product):
            variable, low, high = e.limits[-1]  # the outermost one comes last
            inner = e.func(e.function, *e.limits[:-1]) if e.limits[1:] else e.function
            span = range(int(rec(low, local)), int(rec(high, local)) + 1)
            terms = [rec(inner, {**local, variable: sympy.Integer(i)}) for i in span]
            total = how.number(sympy.Integer(0 if isinstance(e, sympy.Sum) else 1))
            for term in terms:
                total = total + term if isinstance(e, sympy.Sum) else total * term
            return total
        if isinstance(e, sympy.Integral):
            bound = tuple((s, local[s]) for s in sorted(e.free_symbols & local.keys(), key=str))
            if (e, bound) not in integrals:  # what enters a formula twice is integrated once
                variable, low, high = e.limits[0]
                body = e.function
                integrals[e, bound] = how.integral(
                    lambda t: rec(body, {**local, variable: t}), rec(low, local), rec(high, local)
                )
            return integrals[e, bound]
        if isinstance(e, MatrixElement):
            row = int(rec(e.i, local)) - 1
            column = 0 if e.parent.shape[1] == 1 else int(rec(e.j, local)) - 1
            return rec(e.parent, local)[row, column]
        if isinstance(e, sympy.MatrixExpr | sympy.Trace | sympy.Determinant):
            return _matrix_node(e, lambda x: rec(x, local), how)
        return how.function(e.func, [rec(a, local) for a in e.args])

    return rec(expr, _dimensions(expr, values))


def _matrix_node(e: Any, rec: Callable[[Any], Any], how: Arithmetic) -> Any:
    if isinstance(e, sympy.Trace):
        return how.trace(rec(e.arg))
    if isinstance(e, sympy.Determinant):
        return how.determinant(rec(e.arg))
    if isinstance(e, sympy.Inverse):
        return how.inverse(rec(e.arg))
    if isinstance(e, sympy.Transpose):
        return rec(e.arg).T
    if isinstance(e, sympy.Identity):
        return how.eye(int(rec(e.shape[0])))
    if isinstance(e, sympy.MatPow):
        base, power = rec(e.base), int(e.exp)
        result = base
        for _ in range(power - 1):
            result = result @ base if isinstance(base, np.ndarray) else result * base
        return result
    parts = [rec(a) for a in e.args]
    result = parts[0]
    for part in parts[1:]:
        if isinstance(e, sympy.MatAdd):
            result = result + part
        elif isinstance(result, np.ndarray) and isinstance(part, np.ndarray):
            result = result @ part
        else:
            result = result * part
    return result


def _dimensions(expr: Any, values: Mapping[str, Any]) -> dict[Any, Any]:
    """Values of the size symbols (d, C, ...), read off the arrays that were passed."""
    sizes: dict[Any, Any] = {}
    bases = expr.atoms(sympy.MatrixSymbol) | {i.base for i in expr.atoms(sympy.Indexed)}
    for base in bases:
        array = values.get(base.name if hasattr(base, "name") else str(base.label))
        if array is None:
            continue
        shape = (array.rows, array.cols) if isinstance(array, mpmath.matrix) else np.shape(array)
        for symbol, size in zip(base.shape or (), shape, strict=False):
            if isinstance(symbol, sympy.Symbol):
                sizes[symbol] = sympy.Integer(size)
    return sizes


_MPMATH: dict[Any, Any] = {
    sympy.log: mpmath.log,
    sympy.exp: mpmath.exp,
    sympy.Abs: abs,
    sympy.sign: mpmath.sign,
    sympy.Max: max,
    sympy.Min: min,
    sympy.gamma: mpmath.gamma,
    sympy.betainc_regularized: lambda a, b, x, y: mpmath.betainc(a, b, x, y, regularized=True),
    sympy.polygamma: lambda m, x: mpmath.psi(int(m), x),
    sympy.Heaviside: lambda x, at_zero=0: mpmath.mpf(1 if x > 0 else 0),
    sympy.KroneckerDelta: lambda i, j: mpmath.mpf(1 if i == j else 0),
}


def _mpmath_function(kind: Any, args: list[Any]) -> Any:
    if kind is sympy.Add:
        return sum(args[1:], args[0])
    if kind is sympy.Mul:
        return mpmath.fprod(args)
    if kind is sympy.Pow:
        return mpmath.power(*args)
    return _MPMATH[kind](*args)


def _mpmath_integral(f: Callable[[Any], Any], low: Any, high: Any) -> Any:
    points = [low, high] if mpmath.isfinite(high) else [0, 0.1, 1, 10, 100, mpmath.inf]
    return mpmath.quad(f, points)


def _mpmath_number(e: Any) -> Any:
    return mpmath.inf if e is sympy.oo else mpmath.mpmathify(e.evalf(mpmath.mp.dps + 5))


MPMATH = Arithmetic(
    number=_mpmath_number,
    function=_mpmath_function,
    eye=mpmath.eye,
    trace=lambda m: mpmath.fsum(m[i, i] for i in range(m.rows)),
    determinant=mpmath.det,
    inverse=lambda m: m**-1,
    integral=_mpmath_integral,
)

_NUMPY: dict[Any, Any] = {
    sympy.log: np.log,
    sympy.exp: np.exp,
    sympy.Abs: abs,
    sympy.sign: np.sign,
    sympy.Max: max,
    sympy.Min: min,
    sympy.gamma: lambda x: scipy.special.gamma(x),
    sympy.betainc_regularized: lambda a, b, x, y: (
        scipy.special.betainc(a, b, y) - scipy.special.betainc(a, b, x)
    ),
    sympy.polygamma: lambda m, x: scipy.special.polygamma(int(m), x),
    sympy.Heaviside: lambda x, at_zero=0: float(x > 0),
    sympy.KroneckerDelta: lambda i, j: float(i == j),
    sympy.Pow: lambda base, power: base**power,
}


def _numpy_function(kind: Any, args: list[Any]) -> Any:
    if kind in (sympy.Add, sympy.Mul):
        result = args[0]
        for a in args[1:]:
            result = result + a if kind is sympy.Add else result * a
        return result
    return _NUMPY[kind](*args)


NUMPY = Arithmetic(
    number=float,
    function=_numpy_function,
    eye=np.eye,
    trace=np.trace,
    determinant=np.linalg.det,
    inverse=np.linalg.inv,
    integral=lambda f, low, high: scipy.integrate.quad(f, low, high, epsabs=0, epsrel=1e-11)[0],
)

SYMBOLIC = Arithmetic(
    number=lambda e: e,
    function=lambda kind, args: kind(*args),
    eye=sympy.eye,
    trace=lambda m: m.trace(),
    determinant=lambda m: m.det(),
    inverse=lambda m: m.inv(),
    integral=lambda f, low, high: _symbolic_integral(f, low, high),
)


def _symbolic_integral(f: Callable[[Any], Any], low: Any, high: Any) -> Any:
    t = sympy.Symbol("t", positive=True)
    return sympy.Integral(f(t), (t, low, high))


def evaluate_float(expr: Any, values: Mapping[str, Any]) -> Any:
    """Float64 value of `expr`; column vectors may be passed as (d,) arrays and come back so."""
    result = walk(expr, _columns(expr, values, np.asarray), NUMPY)
    if np.ndim(result) == 0:
        return float(result)
    return result[:, 0] if result.shape[1] == 1 else result


def evaluate_exactly(expr: Any, values: Mapping[str, Any], digits: int) -> Any:
    """Value of `expr` computed with `digits` decimal digits and rounded to float64 at the end."""
    with mpmath.workdps(digits):
        result = walk(expr, _columns(expr, values, mpmath.matrix), MPMATH)
        if not isinstance(result, mpmath.matrix):
            return float(result)
        array = np.array(result.tolist(), dtype=object).astype(float)
    return array[:, 0] if array.shape[1] == 1 else array


def _columns(expr: Any, values: Mapping[str, Any], matrix: Callable[[Any], Any]) -> dict[str, Any]:
    """Arrays for matrix symbols as matrices (vectors as columns), numbers as they are."""
    names = {m.name for m in expr.atoms(sympy.MatrixSymbol)}
    exact = matrix is not np.asarray

    def convert(name: str, value: Any) -> Any:
        if name in names:
            array = np.asarray(value, dtype=float)
            array = array.reshape(array.shape[0], -1) if array.ndim else array.reshape(1, 1)
            return matrix(array.tolist()) if exact else array
        if np.ndim(value):
            return [mpmath.mpf(float(v)) for v in value] if exact else np.asarray(value, float)
        return mpmath.mpf(value) if exact else float(value)

    return {name: convert(name, value) for name, value in values.items()}


class _Plain(StrPrinter):  # type: ignore[misc]
    """Text in which the trace of a 1 × 1 product is printed as the product."""

    def _print_Trace(self, expr: Any) -> str:  # noqa: N802 - sympy's dispatch by class name
        body = self._print(expr.arg)
        return f"({body})" if expr.arg.shape == (1, 1) else f"tr({body})"


def plain(expr: Any) -> str:
    """One line of text."""
    return str(_Plain().doprint(expr))


class _Typesetter(LatexPrinter):  # type: ignore[misc]
    """LaTeX in which the trace of a 1 × 1 product is printed as the product."""

    def _print_Trace(self, expr: Any) -> str:  # noqa: N802 - sympy's dispatch by class name
        if expr.arg.shape == (1, 1):
            return str(self._print(expr.arg))
        return rf"\operatorname{{tr}}\left({self._print(expr.arg)}\right)"

    def _print_MatrixElement(self, expr: Any) -> str:  # noqa: N802
        parent, row = expr.parent, self._print(expr.i)
        body = self._print(parent)
        if not isinstance(parent, sympy.MatrixSymbol):
            body = rf"\left({body}\right)"
        return f"{body}_{{{row}}}" if parent.shape[1] == 1 else f"{body}_{{{row}{row}}}"

    def _print_Determinant(self, expr: Any, exp: str | None = None) -> str:  # noqa: N802
        body = rf"\left|{self._print(expr.arg)}\right|"
        return body if exp is None else f"{body}^{{{exp}}}"


def typeset(expr: Any) -> str:
    """LaTeX of an expression."""
    return str(_Typesetter({"mat_symbol_style": "plain", "ln_notation": False}).doprint(expr))
