"""T3: coupling of the axes over channels w ~ N(0, s²I). D = wᵀΣw, b = wᵀc, q = b²/(Dτ²).

Where eigenvalues λ_k are written, c_k are the coordinates of c in the eigenbasis of Σ.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import sympy

from theory import coupling_law
from theory._spectrum import gaussian_ratio_moments
from theory.formulas import _points
from theory.formulas._derivation import (
    Derivation,
    explicit,
    scalar,
    symmetric_of,
    vector_of,
)
from theory.formulas._oracles import DRAWS, SAMPLING, correlation_and_error, mean_and_error
from theory.formulas.closed_form import ClosedForm, Oracle, Proof

d, K, k = sympy.symbols("d K k", integer=True, positive=True)
t, u, s = sympy.symbols("t u s", positive=True)
Sigma, c = sympy.MatrixSymbol("Sigma", d, d), sympy.MatrixSymbol("c", d, 1)
B = sympy.MatrixSymbol("B", d, K)
m = sympy.MatrixSymbol("m", d, 1)
lam = sympy.IndexedBase("lambda", shape=(d,), positive=True)
cross = sympy.IndexedBase("c", shape=(d,), real=True)

ISSERLIS = "Isserlis' theorem, here through the joint cumulant generating function"
TRICK = "1/D = ∫₀^∞ e^(−tD) dt; derived here"
KAPPA = scalar(c.T * Sigma * c) / (scalar(c.T * c) * sympy.sqrt(sympy.Trace(Sigma * Sigma)))
DENSITY = 1 / sympy.sqrt(sympy.Product(1 + 2 * t * lam[k], (k, 1, d)))
FORM = sympy.Sum(cross[k] ** 2 / (1 + 2 * t * lam[k]), (k, 1, d))
FIRST = sympy.Integral(DENSITY * FORM, (t, 0, sympy.oo))
SECOND = sympy.Integral(3 * t * DENSITY * FORM**2, (t, 0, sympy.oo))


def total(term: Any) -> Any:
    """Σ over k = 1 … d."""
    return sympy.Sum(term, (k, 1, d))


NORMALIZED = (total(cross[k] ** 2) - total(lam[k]) * FIRST) / sympy.sqrt(
    2 * total(lam[k] ** 2) * (SECOND - FIRST**2)
)


def cumulants() -> tuple[Any, Any, Any]:
    """Cov(D, b²), Var D and Var b², any d, from log E exp(uD + v b²) in the eigenbasis.

    −½ Σ log(1 − 2uλ_k) − ½ log(1 − 2v Σ c_k²/(1 − 2uλ_k)), by the determinant lemma.
    """
    x, y = sympy.symbols("x y", real=True)
    form = total(cross[k] ** 2 / (1 - 2 * x * lam[k]))
    generating = -total(sympy.log(1 - 2 * x * lam[k])) / 2 - sympy.log(1 - 2 * y * form) / 2
    at = {x: 0, y: 0}
    derivatives = (generating.diff(x, y), generating.diff(x, 2), generating.diff(y, 2))
    return tuple(as_powers(g.subs(at).doit()) for g in derivatives)


def as_powers(expr: Any) -> Any:
    """Sums with their constants pulled out, each Σ of a monomial as one symbol."""

    def pull(node: Any) -> Any:
        constant, rest = sympy.expand(node.function).as_independent(lam, cross, k, as_Add=False)
        return constant * sympy.Symbol(f"<{sympy.powsimp(rest)}>", positive=True)

    return sympy.simplify(expr.replace(lambda e: isinstance(e, sympy.Sum), pull))


def as_sums(expr: Any) -> Any:
    """A matrix form of Σ and c in the eigenbasis, as the same symbols as `as_powers`."""
    spectral = {
        scalar(c.T * Sigma * c): total(lam[k] * cross[k] ** 2),
        scalar(c.T * c): total(cross[k] ** 2),
        sympy.Trace(Sigma * Sigma): total(lam[k] ** 2),
    }
    return as_powers(expr.xreplace(spectral))


def determinant_lemma(steps: Derivation) -> Derivation:
    """|M − 2v ccᵀ| = |M| (1 − 2v cᵀM⁻¹c) on explicit matrices."""
    y = sympy.Symbol("v", real=True)
    for size in (2, 3):
        matrix, vector = symmetric_of("m", size), vector_of("c", size)
        direct = (matrix - 2 * y * vector * vector.T).det()
        lemma = matrix.det() - 2 * y * (vector.T * matrix.adjugate() * vector)[0]
        steps.case(f"determinant lemma, d = {size}", direct - lemma)
    return steps


def _derive_kappa(expr: Any) -> Proof:
    covariance, power, target = cumulants()
    steps = Derivation()
    steps.general(
        "Cov(D, b²)² / (Var D · Var b²) from the cumulants, any d",
        as_sums(expr) ** 2 - covariance**2 / (power * target),
    )
    return determinant_lemma(steps).proof()


def _derive_first(expr: Any) -> Proof:
    return _derive_moment(expr, 1)


def _derive_second(expr: Any) -> Proof:
    return _derive_moment(expr, 2)


def _derive_moment(expr: Any, order: int) -> Proof:
    """E b^(2n)/D^n: the n-th v-derivative of |M|^(−1/2)(1 − 2vs)^(−1/2), against t^(n−1)."""
    y, power, density, form = sympy.symbols("v D |M|^(-1/2) s", positive=True)
    weight = t ** (order - 1) / sympy.factorial(order - 1)
    inverse = sympy.integrate(weight * sympy.exp(-t * power), (t, 0, sympy.oo))
    derivative = (density / sympy.sqrt(1 - 2 * y * form)).diff(y, order).subs(y, 0)
    body = expr.function.xreplace({DENSITY: density, FORM: form})
    steps = Derivation()
    steps.general(f"∫ t^{order - 1} e^(−tD) dt = D^−{order}", inverse - power**-order)
    steps.general("E b²ⁿ e^(−tD) by differentiating E e^(−tD + vb²)", weight * derivative - body)
    return determinant_lemma(steps).proof()


def _derive_normalized(expr: Any) -> Proof:
    first, second = sympy.symbols("E_1 E_2", positive=True)
    plain = expr.xreplace({FIRST: first, SECOND: second})
    _, power, _ = cumulants()
    norm, trace = as_powers(total(cross[k] ** 2)), as_powers(total(lam[k]))
    covariance = norm - trace * first  # E[D · b²/D] = E b² = ‖c‖²
    steps = Derivation().general(
        "E[D · b²/D] = ‖c‖², Var D = 2 tr Σ² from the cumulants",
        as_powers(plain) ** 2 - covariance**2 / (power * (second - first**2)),
    )
    return _merge(steps.proof(), _derive_first(FIRST), _derive_second(SECOND))


def _merge(*proofs: Proof) -> Proof:
    return Proof(tuple(step for proof in proofs for step in proof.steps))


def _derive_joint(expr: Any) -> Proof:
    """Two quadratic forms wᵀAw, wᵀCw: cumulants −½ log|I − 2uA − 2vC|, differentiated."""
    steps = Derivation()
    x, y = sympy.symbols("x y", real=True)
    for size, targets in ((2, 2), (3, 1)):
        first = sympy.diag(*sympy.symbols(f"l1:{size + 1}", positive=True))
        outputs = sympy.Matrix(
            size, targets, lambda i, j: sympy.Symbol(f"b{i + 1}{j + 1}", real=True)
        )
        second = outputs * outputs.T
        generating = -sympy.log((sympy.eye(size) - 2 * x * first - 2 * y * second).det()) / 2
        at = {x: 0, y: 0}
        covariance = generating.diff(x, y).subs(at)
        variances = generating.diff(x, 2).subs(at) * generating.diff(y, 2).subs(at)
        form = explicit(expr, Sigma=first, B=outputs)
        steps.case(f"squared, d = {size}, K = {targets}", form**2 * variances - covariance**2)
    return steps.proof()


def _draws(size: int) -> Any:
    return np.random.default_rng(5).standard_normal((DRAWS, size))


def _kappa_oracle(Sigma: Any, c: Any) -> tuple[float, float]:
    w = _draws(len(c))
    return correlation_and_error(np.einsum("ni,ij,nj->n", w, Sigma, w), (w @ c) ** 2)


def _joint_oracle(Sigma: Any, B: Any) -> tuple[float, float]:
    w = _draws(len(B))
    power = np.einsum("ni,ij,nj->n", w, Sigma, w)
    return correlation_and_error(power, np.sum((w @ B) ** 2, axis=1))


def _ratio(values: Any, vector: Any) -> tuple[Any, Any]:
    w = _draws(len(vector))
    power = w**2 @ np.asarray(values)
    return power, (w @ np.asarray(vector)) ** 2 / power


def _point(rng: np.random.Generator) -> dict[str, Any]:
    sigma, vector, _ = _points.input_and_target(rng, 4)
    return {"Sigma": sigma, "c": vector}


def _spectral_point(rng: np.random.Generator) -> dict[str, Any]:
    return {"lambda": rng.uniform(0.3, 2.0, 4), "c": rng.standard_normal(4)}


def _moment(index: int) -> Any:
    def numeric(**values: Any) -> float:
        eigenvalues, vector = np.asarray(values["lambda"]), np.asarray(values["c"])
        scale, size = eigenvalues.max(), float(vector @ vector)
        ratio = gaussian_ratio_moments(eigenvalues / scale, vector**2 / size)[index]
        return float(ratio * (size / scale) ** (index + 1))

    return numeric


form = partial(ClosedForm, item="T3")

FORMS = (
    form(
        name="initial_coupling",
        title="Correlation of power with squared target covariance over random channels.",
        lhs=r"\kappa(\Sigma, c) = \operatorname{corr}(D, b^2)",
        symbols=(Sigma, c),
        expr=KAPPA,
        domain="w ~ N(0, s²I), Σ ≠ 0, c ≠ 0",
        source=ISSERLIS,
        derive=_derive_kappa,
        point=_point,
        oracle=Oracle("sampling channels", _kappa_oracle, SAMPLING, sampling=True),
        stable=lambda Sigma, c: coupling_law.initial_coupling(Sigma, c),
    ),
    form(
        name="initial_coupling_joint",
        title="The same for several targets at once: corr(D, Σ_o b_o²).",
        lhs=r"\operatorname{corr}(D, \|B^T w\|^2)",
        symbols=(Sigma, B),
        expr=sympy.Trace(Sigma * B * B.T)
        / sympy.sqrt(sympy.Trace(Sigma * Sigma) * sympy.Trace(B * B.T * B * B.T)),
        domain="w ~ N(0, s²I), Σ ≠ 0, B ≠ 0",
        source=ISSERLIS,
        derive=_derive_joint,
        point=lambda rng: {"Sigma": _points.covariance(rng, 4), "B": rng.standard_normal((4, 3))},
        oracle=Oracle("sampling channels", _joint_oracle, SAMPLING, sampling=True),
        stable=lambda Sigma, B: coupling_law.initial_coupling_joint(Sigma, B),
    ),
    form(
        name="normalized_first_moment",
        title="Mean of b²/D over random channels, as one integral.",
        lhs=r"E[b^2 / D]",
        symbols=(lam, cross),
        expr=FIRST,
        domain="c in the range of Σ",
        source=TRICK,
        derive=_derive_first,
        point=_spectral_point,
        oracle=Oracle(
            "sampling channels",
            lambda **v: mean_and_error(_ratio(v["lambda"], v["c"])[1]),
            SAMPLING,
            sampling=True,
        ),
        stable=_moment(0),
    ),
    form(
        name="normalized_second_moment",
        title="Mean of (b²/D)² over random channels, as one integral.",
        lhs=r"E[b^4 / D^2]",
        symbols=(lam, cross),
        expr=SECOND,
        domain="c in the range of Σ",
        source=TRICK,
        derive=_derive_second,
        point=_spectral_point,
        oracle=Oracle(
            "sampling channels",
            lambda **v: mean_and_error(_ratio(v["lambda"], v["c"])[1] ** 2),
            SAMPLING,
            sampling=True,
        ),
        stable=_moment(1),
    ),
    form(
        name="initial_coupling_normalized",
        title="Correlation of power with the squared correlation q over random channels.",
        lhs=r"\operatorname{corr}(D, q)",
        symbols=(lam, cross),
        expr=NORMALIZED,
        domain="rank of Σ at least 2, c in its range",
        source=TRICK,
        derive=_derive_normalized,
        point=_spectral_point,
        oracle=Oracle(
            "sampling channels",
            lambda **v: correlation_and_error(*_ratio(v["lambda"], v["c"])),
            SAMPLING,
            sampling=True,
        ),
        stable=lambda **v: coupling_law.initial_coupling_normalized(v["lambda"], v["c"]),
    ),
)
