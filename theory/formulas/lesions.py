"""T5: what removing channels costs a linear readout f = aᵀY, as a rise of E(T − f)².

a* = K⁻¹k is the least-squares readout. Of a set S of channels, R are the remaining ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy
from scipy.optimize import brentq
from sympy.matrices.expressions.matexpr import MatrixElement

from theory.closed_form import ClosedForm, Oracle, Proof
from theory.formulas import _points
from theory.formulas._derivation import (
    Derivation,
    explicit,
    same_log,
    scalar,
    symmetric_of,
    vector_of,
)
from theory.formulas._oracles import LINEAR_ALGEBRA, QUADRATURE, data_set, mutual_information

C, S, i = sympy.symbols("C S i", integer=True, positive=True)
K = sympy.MatrixSymbol("K", C, C)
k, a = sympy.MatrixSymbol("k", C, 1), sympy.MatrixSymbol("a", C, 1)
A, D = sympy.MatrixSymbol("K_SS", S, S), sympy.MatrixSymbol("K_RR", C, C)
B, own = sympy.MatrixSymbol("K_SR", S, C), sympy.MatrixSymbol("a_S", S, 1)
E, information = sympy.symbols("E I", nonnegative=True)
power, norm = sympy.symbols("J N", positive=True)
x, mu, bias = sympy.symbols("a mu e", real=True)
BEST, GAP = MatrixElement(K.I * k, i, 0), MatrixElement(k - K * a, i, 0)
AT = "block inversion; derived here"
OPTIMUM = "K positive definite, a = K⁻¹k"
ANYWHERE = "K positive definite, any readout a"
SIZES = (2, 3)


def error(cov: Any, cross: Any, readout: Any) -> Any:
    """E(T − f)² without Var T, for sympy matrices."""
    return (readout.T * cov * readout)[0] - 2 * (readout.T * cross)[0]


def _held(readout: Any) -> Any:
    return sympy.Matrix([0, *readout[1:, 0]])


def _replaced(cov: Any, readout: Any) -> Any:
    """Readout on the peers once the first channel is replaced by its regression on them."""
    slopes = cov[1:, 1:].inv() * cov[1:, 0]
    return sympy.Matrix([0, *(readout[1:, 0] + readout[0] * slopes)])


def _by_cases(expr: Any, edit: Any, *, optimal: bool) -> Derivation:
    """The rise of the error under an edit of the readout, on explicit layers."""
    steps = Derivation()
    for size in SIZES:
        cov, readout = symmetric_of("s", size), vector_of("a", size)
        cross = cov * readout if optimal else vector_of("k", size)
        rise = error(cov, cross, edit(cov, readout)) - error(cov, cross, readout)
        form = explicit(expr.subs(i, 1), K=cov, k=cross, a=readout)
        where = "at a = K⁻¹k" if optimal else "at any a"
        steps.case(f"removed outright {where}, C = {size}", rise - form)
    return steps


def _partition(expr: Any, *, optimal: bool) -> tuple[Any, Any]:
    """Y_i against the rest of f, any C: (rise of the error, the form in the same scalars)."""
    cross, rest, own_power = sympy.symbols("k_i r K_ii", real=True)
    before = x**2 * own_power + 2 * x * rest - 2 * x * cross
    gap = cross - own_power * x - rest
    form = expr.xreplace({a[i, 0]: x, K[i, i]: own_power, GAP: gap})
    solved = {cross: own_power * x + rest} if optimal else {}
    return (-before).subs(solved), form.subs(solved)


def _derive_mean(expr: Any) -> Proof:
    steps = _by_cases(expr, lambda _, readout: _held(readout), optimal=True)
    rise, form = _partition(expr, optimal=True)
    return steps.general("f split into a_iY_i and the rest, any C", rise - form).proof()


def _derive_mean_general(expr: Any) -> Proof:
    steps = _by_cases(expr, lambda _, readout: _held(readout), optimal=False)
    rise, form = _partition(expr, optimal=False)
    return steps.general("f split into a_iY_i and the rest, any C", rise - form).proof()


def _residual_rise(best: Any) -> Any:
    """f loses a_i ε, ε = Y_i less its regression: Var ε = 1/(K⁻¹)_ii, Cov(T, ε) = a*_i Var ε."""
    variance = 1 / K.I[i, i]
    return 2 * x * (best * variance - x * variance) + x**2 * variance


def _derive_replacement(expr: Any) -> Proof:
    steps = _by_cases(expr, _replaced, optimal=True)
    form = expr.xreplace({a[i, 0]: x})
    return steps.general("f loses a_i ε_i, any C", _residual_rise(x) - form).proof()


def _derive_replacement_general(expr: Any) -> Proof:
    steps = _by_cases(expr, _replaced, optimal=False)
    best = sympy.Symbol("best", real=True)
    form = expr.xreplace({a[i, 0]: x, BEST: best})
    return steps.general("f loses a_i ε_i, any C", _residual_rise(best) - form).proof()


def _derive_refit(expr: Any) -> Proof:
    steps = Derivation()
    for size in SIZES:
        cov, cross = symmetric_of("s", size), vector_of("k", size)
        rest, short = cov[1:, 1:], cross[1:, 0]
        rise = (cross.T * cov.inv() * cross)[0] - (short.T * rest.inv() * short)[0]
        form = explicit(expr.subs(i, 1), K=cov, k=cross)
        steps.case(f"kᵀK⁻¹k less the same without channel i, C = {size}", rise - form)
    return steps.proof()


def _derive_zero(expr: Any) -> Proof:
    """E[(e + aY)²] − E[e²], e = T − f with mean −bias, at Cov(e, Y) = 0."""
    rise = x**2 * (power + mu**2) + 2 * x * (-bias) * mu
    return Derivation().general("moments of Y and of the residual, any C", expr - rise).proof()


def _derive_ratio(expr: Any) -> Proof:
    corner = sympy.Symbol("P", positive=True)
    ratio = (x**2 / corner) / (x**2 * power)
    explained = 1 - 1 / (power * corner)
    return (
        Derivation()
        .general(
            "replacement over mean damage, E = 1 − 1/(K_ii(K⁻¹)_ii)",
            ratio - expr.subs(E, explained),
        )
        .proof()
    )


def _derive_refit_ratio(expr: Any) -> Proof:
    before, after, variance = sympy.symbols("m_0 m_1 tau2", positive=True)
    gained = sympy.log(before / after) / 2
    steps = Derivation().general(
        "I = ½ log(MSE without / MSE with)",
        same_log(sympy.log(expr.subs(information, gained)) / 2, gained),
    )
    for size in SIZES:
        cov, cross = symmetric_of("s", size), vector_of("k", size)
        joint = cov.row_join(cross).col_join(cross.T.row_join(sympy.Matrix([[variance]])))
        entropies = joint.det() / cov.det()
        mse = variance - (cross.T * cov.inv() * cross)[0]
        steps.case(f"e^(2h(T|Y)) is the mean squared error, C = {size}", mse - entropies)
    return steps.proof()


def _derive_set_mean(expr: Any) -> Proof:
    steps = Derivation()
    for size in SIZES:
        cov, readout = symmetric_of("s", size), vector_of("a", size)
        cross = cov * readout
        held = sympy.Matrix([0, 0, *readout[2:, 0]])
        rise = error(cov, cross, held) - error(cov, cross, readout)
        form = explicit(expr, K_SS=cov[:2, :2], a_S=readout[:2, 0])
        steps.case(f"two of {size} channels held", rise - form)
    return steps.proof()


def _derive_set_replacement(expr: Any) -> Proof:
    """f loses a_Sᵀε_S with ε_S = Y_S − K_SR K_RR⁻¹ Y_R; its variance by expansion, any sizes."""
    slopes = B * D.I
    variance = A - slopes * B.T - B * slopes.T + slopes * D * slopes.T
    steps = Derivation()
    steps.general("a_Sᵀ Var(ε_S) a_S, any sizes", scalar(own.T * variance * own) - expr)
    cov, readout = symmetric_of("s", 3), vector_of("a", 2)
    block = cov.inv()[:2, :2].inv()
    form = explicit(expr, K_SS=cov[:2, :2], K_SR=cov[:2, 2:], K_RR=cov[2:, 2:], a_S=readout)
    steps.case("a_Sᵀ ((K⁻¹)_SS)⁻¹ a_S, two of three", (readout.T * block * readout)[0] - form)
    return steps.proof()


def _derive_merge(expr: Any) -> Proof:
    """One target per unit of the next layer: the damages add up."""
    parts = sympy.symbols("a1:4", real=True)
    corner = sympy.Symbol("P", positive=True)
    damage = sum(p**2 for p in parts) / corner
    squared = sum(p**2 for p in parts)
    form = expr.subs({norm: squared, E: 1 - 1 / (power * corner)}, simultaneous=True)
    steps = Derivation().case("three units of the next layer", damage - form)
    n = sympy.Symbol("n", positive=True)
    whole = expr.subs({norm: n, E: 1 - 1 / (power * corner)}, simultaneous=True)
    return steps.general("Σ_o a_o² / (K⁻¹)_ii, any number", n / corner - whole).proof()


def _layer(rng: np.random.Generator) -> dict[str, Any]:
    joint = _points.covariance(rng, 5)
    return {"K": joint[:4, :4], "k": joint[:4, 4], "i": int(rng.integers(1, 5))}


def _with_readout(rng: np.random.Generator) -> dict[str, Any]:
    return {**_layer(rng), "a": rng.standard_normal(4)}


def _optimal(rng: np.random.Generator) -> dict[str, Any]:
    values = _with_readout(rng)
    del values["k"]
    return values


def _data(K: Any, k: Any) -> tuple[Any, Any]:
    """Centered data (Y, T) with these second moments, noise in T."""
    tau2 = float(k @ np.linalg.solve(K, k)) + 1.0
    data = data_set(np.block([[K, k[:, None]], [k[None], np.array([[tau2]])]]))
    return data[:, :-1], data[:, -1]


def _rise(edit: Any) -> Any:
    """Rise of the squared error on a data set when channel i's column is edited."""

    def oracle(K: Any, a: Any, i: int, k: Any = None) -> float:
        y, target = _data(K, K @ a if k is None else k)
        edited = y.copy()
        edited[:, i - 1] = edit(y, i - 1)
        return float(np.sum((target - edited @ a) ** 2) - np.sum((target - y @ a) ** 2))

    return oracle


def _regressed(y: Any, i: int) -> Any:
    peers = np.delete(y, i, axis=1)
    return peers @ np.linalg.lstsq(peers, y[:, i], rcond=None)[0]


def _fit_error(y: Any, target: Any) -> float:
    rest = target - y @ np.linalg.lstsq(y, target, rcond=None)[0]
    return float(rest @ rest)


def _refit_oracle(K: Any, k: Any, i: int) -> float:
    y, target = _data(K, k)
    return _fit_error(np.delete(y, i - 1, axis=1), target) - _fit_error(y, target)


def _zero_oracle(J: float, a: float, mu: float, e: float) -> float:
    """Two equally likely values of Y, and a residual with mean −e that ignores Y."""
    y = mu + np.sqrt(J) * np.array([1.0, -1.0, 1.0, -1.0])
    residual = -e + 0.7 * np.array([1.0, 1.0, -1.0, -1.0])
    return float(np.mean((residual + a * y) ** 2) - np.mean(residual**2))


def _set_point(rng: np.random.Generator) -> dict[str, Any]:
    cov = _points.covariance(rng, 5)
    return {
        "K_SS": cov[:2, :2],
        "K_SR": cov[:2, 2:],
        "K_RR": cov[2:, 2:],
        "a_S": rng.standard_normal(2),
    }


def _set_oracle(K_SS: Any, K_SR: Any, K_RR: Any, a_S: Any) -> float:
    """Variance of a_Sᵀ(residuals of regressions on the remaining channels), on a data set."""
    data = data_set(np.block([[K_SS, K_SR], [K_SR.T, K_RR]]))
    gone, kept = data[:, :2], data[:, 2:]
    rest = gone - kept @ np.linalg.lstsq(kept, gone, rcond=None)[0]
    return float(np.sum((rest @ a_S) ** 2))


def _ratio_oracle(E: float) -> float:
    """One peer of R² = E: error of the replaced channel over its variance, on a data set."""
    y = data_set(np.array([[1.0, np.sqrt(E)], [np.sqrt(E), 1.0]]))
    rest = y[:, 0] - _regressed(y, 0)
    return float(rest @ rest / (y[:, 0] @ y[:, 0]))


def _refit_ratio_oracle(I: float) -> float:  # noqa: E741 - the symbol's name
    """ρ² by inverting the quadrature of the information, then 1/(1 − ρ²)."""

    def gap(rho: float) -> float:
        return mutual_information(np.array([[1, rho], [rho, 1.0]]), (0,), (1,)) - I

    rho = brentq(gap, 1e-6, 0.99, xtol=1e-12)
    return float(1 / (1 - rho**2))


def _merge_oracle(N: float, E: float, J: float) -> float:
    y = data_set(J * np.array([[1.0, np.sqrt(E)], [np.sqrt(E), 1.0]]))
    outgoing = np.sqrt(N) * np.array([0.6, 0.8])
    rest = y[:, 0] - _regressed(y, 0)
    return float(np.sum(np.outer(rest, outgoing) ** 2))


def _form(name: str, title: str, lhs: str, symbols: Any, expr: Any, **rest: Any) -> ClosedForm:
    """A T5 entry; their source is the same."""
    return ClosedForm(
        name=name, item="T5", title=title, lhs=lhs, symbols=symbols, expr=expr, source=AT, **rest
    )


FORMS = (
    _form(
        "mean_ablation",
        "Holding a channel at its mean, at the least-squares readout.",
        r"\Delta_i^{\text{mean}}",
        (K, a, i),
        a[i, 0] ** 2 * K[i, i],
        domain=OPTIMUM,
        derive=_derive_mean,
        point=_optimal,
        oracle=Oracle("editing a data set", _rise(lambda y, i: 0.0), LINEAR_ALGEBRA),
    ),
    _form(
        "mean_ablation_general",
        "Holding a channel at its mean, away from the optimum: with its cross term.",
        r"\Delta_i^{\text{mean}}",
        (K, k, a, i),
        a[i, 0] ** 2 * K[i, i] + 2 * a[i, 0] * GAP,
        domain=ANYWHERE,
        derive=_derive_mean_general,
        point=_with_readout,
        oracle=Oracle("editing a data set", _rise(lambda y, i: 0.0), LINEAR_ALGEBRA),
    ),
    _form(
        "zero_ablation_damage",
        "Zeroing a channel of mean μ, the readout's constant kept; e is the mean of f − T.",
        r"\Delta_i^{\text{zero}}",
        (power, x, mu, bias),
        x**2 * power + (x * mu) ** 2 - 2 * x * mu * bias,
        domain="residual uncorrelated with the channel, as at the optimum; e = 0 there too",
        derive=_derive_zero,
        point=lambda rng: {
            "J": float(rng.uniform(0.3, 2)),
            **{n: float(rng.standard_normal()) for n in ("a", "mu", "e")},
        },
        oracle=Oracle("a discrete distribution", _zero_oracle, LINEAR_ALGEBRA),
    ),
    _form(
        "replacement",
        "Replacing a channel by its regression on its peers, at the least-squares readout.",
        r"\Delta_i^{\text{peer}}",
        (K, a, i),
        a[i, 0] ** 2 / K.I[i, i],
        domain=OPTIMUM,
        derive=_derive_replacement,
        point=_optimal,
        oracle=Oracle("regression on a data set", _rise(_regressed), LINEAR_ALGEBRA),
    ),
    _form(
        "replacement_general",
        "Replacing a channel by its regression on its peers, away from the optimum.",
        r"\Delta_i^{\text{peer}}",
        (K, k, a, i),
        a[i, 0] * (2 * BEST - a[i, 0]) / K.I[i, i],
        domain=ANYWHERE,
        derive=_derive_replacement_general,
        point=_with_readout,
        oracle=Oracle("regression on a data set", _rise(_regressed), LINEAR_ALGEBRA),
    ),
    _form(
        "refit_damage",
        "Refitting the readout without the channel costs the same as replacing it.",
        r"\Delta_i^{\text{refit}}",
        (K, k, i),
        BEST**2 / K.I[i, i],
        domain="K positive definite",
        derive=_derive_refit,
        point=_layer,
        oracle=Oracle("two regressions", _refit_oracle, LINEAR_ALGEBRA),
    ),
    _form(
        "damage_ratio",
        "Damage with peers over damage without: exactly what peers do not predict.",
        r"\Delta_i^{\text{peer}} / \Delta_i^{\text{mean}}",
        (E,),
        1 - E,
        domain=OPTIMUM,
        derive=_derive_ratio,
        point=lambda rng: {"E": float(rng.uniform(0.05, 0.95))},
        oracle=Oracle("regression on a data set", _ratio_oracle, LINEAR_ALGEBRA),
    ),
    _form(
        "refit_ratio",
        "Error without a channel (or set) over error with it, from conditional information.",
        r"\text{MSE}_{-i} / \text{MSE}",
        (information,),
        sympy.exp(2 * information),
        domain="I = I(T; Y_i | Y_-i), refitted readouts, scalar target, Gaussian",
        derive=_derive_refit_ratio,
        point=lambda rng: {"I": float(rng.uniform(0.05, 0.8))},
        oracle=Oracle("inverted quadrature", _refit_ratio_oracle, QUADRATURE),
    ),
    _form(
        "set_mean_ablation",
        "Holding a set of channels at their means.",
        r"\Delta_S^{\text{mean}}",
        (A, own),
        scalar(own.T * A * own),
        domain=OPTIMUM,
        derive=_derive_set_mean,
        point=lambda rng: {n: v for n, v in _set_point(rng).items() if n in ("K_SS", "a_S")},
        oracle=Oracle(
            "variance on a data set",
            lambda K_SS, a_S: float(np.sum((data_set(K_SS) @ a_S) ** 2)),
            LINEAR_ALGEBRA,
        ),
    ),
    _form(
        "set_replacement",
        "Replacing a set by its regression on the rest, or refitting without it.",
        r"\Delta_S^{\text{peer}} = a_S^T ((K^{-1})_{SS})^{-1} a_S",
        (A, B, D, own),
        scalar(own.T * A * own) - scalar(own.T * B * D.I * B.T * own),
        domain=OPTIMUM,
        derive=_derive_set_replacement,
        point=_set_point,
        oracle=Oracle("regression on a data set", _set_oracle, LINEAR_ALGEBRA),
    ),
    _form(
        "peer_merge_damage",
        "Merging a channel into its peers: N is its squared outgoing weight norm.",
        r"\sum_o \Delta_{i,o}^{\text{peer}}",
        (norm, E, power),
        norm * (1 - E) * power,
        domain="each unit of the next layer a target; also away from the optimum, against f itself",
        derive=_derive_merge,
        point=lambda rng: {
            "N": float(rng.uniform(0.5, 2)),
            "E": float(rng.uniform(0.05, 0.9)),
            "J": float(rng.uniform(0.5, 2)),
        },
        oracle=Oracle("regression on a data set", _merge_oracle, LINEAR_ALGEBRA),
    ),
)
