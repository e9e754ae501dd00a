"""T3, special cases: isotropic, spiked and power-law inputs; the network's own random output."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import sympy

from theory import coupling_law
from theory.formulas import _points
from theory.formulas._derivation import Derivation, explicit, scalar, symmetric_of, vector_of
from theory.formulas._oracles import (
    DRAWS,
    SAMPLING,
    correlation_and_error,
    mean_and_error,
)
from theory.formulas.closed_form import ClosedForm, Oracle, Proof
from theory.formulas.coupling import (
    ISSERLIS,
    KAPPA,
    Sigma,
    as_powers,
    as_sums,
    c,
    cross,
    d,
    k,
    lam,
    m,
    t,
    total,
)

theta, alpha, delta = sympy.symbols("theta alpha delta", positive=True)
gamma = sympy.Symbol("gamma", nonnegative=True)
share = sympy.Symbol("a", nonnegative=True)
SELF = "c = Σm in κ; derived here"


def _derive_isotropic(expr: Any) -> Proof:
    general = as_sums(KAPPA)
    flat = general.subs(as_powers(total(lam[k] * cross[k] ** 2)), as_powers(total(cross[k] ** 2)))
    flat = flat.subs(as_powers(total(lam[k] ** 2)), total(sympy.Integer(1)).doit())
    return Derivation().general("κ with every λ_k = 1, any d", flat - expr).proof()


def _derive_isotropic_normalized(expr: Any) -> Proof:
    """E[b²/D] = ‖c‖²/d makes the covariance ‖c‖² − tr Σ · E[b²/D] vanish."""
    steps = Derivation().general("the value claimed", expr)
    norm = sympy.Symbol("n", positive=True)
    integral = sympy.integrate((1 + 2 * t) ** (-d / 2 - 1), (t, 0, sympy.oo), conds="none")
    steps.general("‖c‖² − d ∫ (1 + 2t)^(−d/2 − 1) ‖c‖² dt, any d", norm - d * norm * integral)
    return steps.proof()


def _derive_spiked(expr: Any) -> Proof:
    v = sympy.MatrixSymbol("v", d, 1)
    spiked = sympy.Identity(d) + theta * v * v.T
    steps = Derivation().general(
        "cᵀ(I + θvvᵀ)c = ‖c‖² + θ(cᵀv)², any d",
        scalar(c.T * spiked * c) - scalar(c.T * c) - theta * scalar(c.T * v) ** 2,
    )
    for size in (2, 3):
        axis = sympy.Matrix([1] + [0] * (size - 1))
        cov = sympy.eye(size) + theta * axis * axis.T
        rest = [sympy.sqrt((1 - share) / (size - 1))] * (size - 1)
        vector = sympy.Matrix([sympy.sqrt(share), *rest])
        steps.case(
            f"κ itself, d = {size}",
            sympy.simplify(explicit(KAPPA, Sigma=cov, c=vector)) - expr.subs(d, size),
        )
    return steps.proof()


def _derive_power_law(expr: Any) -> Proof:
    """κ with λ_k = k^−γ and c_k² = k^−δ, sums compared term by term."""
    steps = Derivation()
    spectral = (total(lam[k] * cross[k] ** 2), total(cross[k] ** 2), total(lam[k] ** 2))
    substituted = [
        s.xreplace({lam[k]: k**-gamma, cross[k]: sympy.sqrt(k**-delta)}) for s in spectral
    ]
    inner, norm, square = (total(sympy.powsimp(s.function)) for s in substituted)
    steps.general("κ = Σλc² / (Σc² √Σλ²)", as_sums(KAPPA) - as_powers(_kappa(*spectral)))
    steps.general("with the powers put in", expr / _kappa(inner, norm, square) - 1)
    return steps.proof()


def _kappa(inner: Any, norm: Any, square: Any) -> Any:
    return inner / (norm * sympy.sqrt(square))


def _derive_output(expr: Any) -> Proof:
    steps = Derivation()
    for size in (2, 3):
        full, vector = symmetric_of("s", size), vector_of("m", size)
        cov = full if size == 2 else sympy.diag(*full.diagonal())
        direct = explicit(KAPPA, Sigma=cov, c=cov * vector)
        steps.confirm(
            f"κ with c = Σm, d = {size}", direct**2 - explicit(expr, Sigma=cov, m=vector) ** 2
        )
    inner, norm = scalar(m.T * Sigma * Sigma * Sigma * m), scalar(m.T * Sigma * Sigma * m)
    image = Sigma * m
    steps.general("cᵀΣc and ‖c‖² at c = Σm, any d", scalar(image.T * Sigma * image) - inner)
    steps.general("the form itself", expr * norm * sympy.sqrt(sympy.Trace(Sigma * Sigma)) - inner)
    return steps.proof()


def _derive_many(expr: Any) -> Proof:
    """E mᵀAm = tr A for m ~ N(0, I) and the law of large numbers in both sums."""
    steps = Derivation()
    cov = sympy.diag(*sympy.symbols("l1:4", positive=True))
    draws = sympy.Matrix(sympy.symbols("m1:4", real=True))
    form = explicit(
        scalar(m.T * Sigma * Sigma * Sigma * m) / scalar(m.T * Sigma * Sigma * m),
        Sigma=cov,
        m=draws,
    )
    numerator, denominator = (_expect(part, draws) for part in sympy.fraction(form))
    frobenius = sympy.sqrt((cov * cov).trace())
    limit = numerator / denominator / frobenius
    steps.case("ratio of the expectations, d = 3", limit - explicit(expr, Sigma=cov))
    return steps.proof()


def _expect(form: Any, draws: Any) -> Any:
    """Expectation of a quadratic form in standard normal variables."""
    polynomial = sympy.Poly(sympy.expand(form), *draws)
    return sum(
        coefficient
        for powers, coefficient in polynomial.terms()
        if all(p in (0, 2) for p in powers)
    )


EXPECTED_DENSITY = 1 / sympy.sqrt(sympy.Product(1 + 2 * t * lam[k] ** 2, (k, 1, d)))
EXPECTED = sympy.Integral(
    EXPECTED_DENSITY * total(lam[k] ** 3 / (1 + 2 * t * lam[k] ** 2)), (t, 0, sympy.oo)
) / sympy.sqrt(total(lam[k] ** 2))


def _derive_expected(expr: Any) -> Proof:
    """E m_k² e^(−t Σ λ_j² m_j²), one Gaussian integral per coordinate."""
    x, a = sympy.symbols("x a", positive=True)
    gauss = sympy.exp(-(x**2) / 2 - t * a**2 * x**2) / sympy.sqrt(2 * sympy.pi)
    plain = 2 * sympy.integrate(gauss, (x, 0, sympy.oo))
    weighted = 2 * sympy.integrate(x**2 * gauss, (x, 0, sympy.oo))
    factor = 1 / sympy.sqrt(1 + 2 * t * a**2)
    steps = Derivation()
    steps.general("E e^(−tλ²m²) = (1 + 2tλ²)^(−1/2)", plain - factor)
    steps.general("E m² e^(−tλ²m²) = (1 + 2tλ²)^(−3/2)", weighted - factor**3)
    body = next(iter(expr.atoms(sympy.Integral))).function
    whole = EXPECTED_DENSITY * total(lam[k] ** 3 / (1 + 2 * t * lam[k] ** 2))
    steps.general("summed over coordinates, weights λ_k³", body / whole - 1)
    steps.general("over ‖Σ‖_F", expr / EXPECTED - 1)
    return steps.proof()


def _spiked_oracle(d: float, theta: float, a: float) -> tuple[float, float]:
    size = int(d)
    w = np.random.default_rng(6).standard_normal((DRAWS, size))
    vector = np.zeros(size)
    vector[:2] = np.sqrt(a), np.sqrt(1 - a)
    return correlation_and_error((w**2).sum(1) + theta * w[:, 0] ** 2, (w @ vector) ** 2)


def _isotropic_oracle(d: float) -> tuple[float, float]:
    w = np.random.default_rng(7).standard_normal((DRAWS, int(d)))
    return correlation_and_error((w**2).sum(1), w[:, 0] ** 2)


def _isotropic_normalized_oracle(d: float) -> tuple[float, float]:
    w = np.random.default_rng(8).standard_normal((DRAWS, int(d)))
    power = (w**2).sum(1)
    return correlation_and_error(power, w[:, 0] ** 2 / power)


def _many_oracle(Sigma: Any) -> tuple[float, float]:
    """Many outputs drawn; ratio of sums with its delta-method error."""
    c = np.random.default_rng(12).standard_normal((DRAWS, len(Sigma))) @ Sigma
    inner, norm = np.einsum("ni,ij,nj->n", c, Sigma, c), (c**2).sum(1)
    ratio = inner.mean() / norm.mean()
    error = (inner - ratio * norm).std() / norm.mean() / np.sqrt(DRAWS)
    frobenius = np.linalg.norm(Sigma)
    return float(ratio / frobenius), float(error / frobenius)


def _expected_oracle(**values: Any) -> tuple[float, float]:
    eigenvalues = np.asarray(values["lambda"])
    draws = np.random.default_rng(9).standard_normal((DRAWS, eigenvalues.size)) ** 2
    ratio = draws @ eigenvalues**3 / (draws @ eigenvalues**2)
    return mean_and_error(ratio / np.linalg.norm(eigenvalues))


def _size(rng: np.random.Generator) -> int:
    return int(rng.integers(3, 9))


def _output_oracle(Sigma: Any, m: Any) -> tuple[float, float]:
    w = np.random.default_rng(10).standard_normal((DRAWS, len(m)))
    f = w @ Sigma @ m
    return correlation_and_error(np.einsum("ni,ij,nj->n", w, Sigma, w), f**2)


def _power_law_oracle(d: int, gamma: float, delta: float) -> tuple[float, float]:
    rank = np.arange(1.0, d + 1)
    w = np.random.default_rng(5).standard_normal((DRAWS, int(d)))
    return correlation_and_error(w**2 @ rank**-gamma, (w @ rank ** (-delta / 2)) ** 2)


form = partial(ClosedForm, item="T3")

FORMS = (
    form(
        name="coupling_isotropic",
        title="Isotropic inputs: the coupling falls with dimension, whatever the target.",
        lhs=r"\kappa(I, c)",
        symbols=(d,),
        expr=1 / sympy.sqrt(d),
        domain="Σ ∝ I",
        source=ISSERLIS,
        derive=_derive_isotropic,
        point=lambda rng: {"d": _size(rng)},
        oracle=Oracle("sampling channels", _isotropic_oracle, SAMPLING, sampling=True),
    ),
    form(
        name="coupling_isotropic_normalized",
        title="Isotropic inputs: power and squared correlation are uncorrelated, exactly.",
        lhs=r"\operatorname{corr}(D, q)\big|_{\Sigma \propto I}",
        symbols=(d,),
        expr=sympy.Integer(0) * d,
        domain="Σ ∝ I, d ≥ 2",
        source="direction and length of an isotropic Gaussian are independent; derived here",
        derive=_derive_isotropic_normalized,
        point=lambda rng: {"d": _size(rng)},
        oracle=Oracle("sampling channels", _isotropic_normalized_oracle, SAMPLING, sampling=True),
        stable=lambda d: 0.0,
    ),
    form(
        name="coupling_spiked",
        title="One spike θ, of which the target has the squared cosine a.",
        lhs=r"\kappa(I + \theta v v^T, c)",
        symbols=(d, theta, share),
        expr=(1 + theta * share) / sympy.sqrt(d + 2 * theta + theta**2),
        domain="θ > 0, ‖v‖ = 1, 0 ≤ a ≤ 1",
        source=ISSERLIS,
        derive=_derive_spiked,
        point=lambda rng: {
            "d": _size(rng),
            "theta": float(rng.uniform(0.5, 4)),
            "a": float(rng.uniform(0.1, 0.9)),
        },
        oracle=Oracle("sampling channels", _spiked_oracle, SAMPLING, sampling=True),
    ),
    form(
        name="coupling_power_law",
        title="Spectrum k^−γ with target powers c_k² = k^−δ: generalized harmonic numbers.",
        lhs=r"\kappa(\lambda_k = k^{-\gamma}, c_k^2 = k^{-\delta})",
        symbols=(d, gamma, delta),
        expr=_kappa(total(k ** (-gamma - delta)), total(k**-delta), total(k ** (-2 * gamma))),
        domain="γ ≥ 0; δ of any sign",
        source=ISSERLIS,
        derive=_derive_power_law,
        point=lambda rng: {
            "d": _size(rng),
            "gamma": float(rng.uniform(0.2, 2)),
            "delta": float(rng.uniform(0.2, 2)),
        },
        oracle=Oracle("sampling channels", _power_law_oracle, SAMPLING, sampling=True),
    ),
    form(
        name="output_coupling",
        title="Coupled initialization: the network's own output mᵀX as the target.",
        lhs=r"\kappa(\Sigma, \Sigma m)",
        symbols=(Sigma, m),
        expr=scalar(m.T * Sigma * Sigma * Sigma * m)
        / (scalar(m.T * Sigma * Sigma * m) * sympy.sqrt(sympy.Trace(Sigma * Sigma))),
        domain="Σm ≠ 0",
        source=SELF,
        derive=_derive_output,
        point=lambda rng: {"Sigma": _points.covariance(rng, 4), "m": rng.standard_normal(4)},
        oracle=Oracle("sampling channels", _output_oracle, SAMPLING, sampling=True),
        stable=lambda Sigma, m: coupling_law.output_coupling(Sigma, m),
    ),
    form(
        name="many_outputs_coupling",
        title="Many random outputs: the mean of their κ weighted by ‖c_o‖² tends to this.",
        lhs=r"\lim_{K \to \infty} \kappa(\Sigma, \Sigma M)",
        symbols=(Sigma,),
        expr=sympy.Trace(Sigma * Sigma * Sigma)
        / (sympy.Trace(Sigma * Sigma) * sympy.sqrt(sympy.Trace(Sigma * Sigma))),
        domain="outputs m ~ N(0, I), independent; also one output, as tr Σ² grows self-averaging",
        source=SELF,
        derive=_derive_many,
        point=lambda rng: {"Sigma": _points.covariance(rng, 4)},
        oracle=Oracle("sampling outputs", _many_oracle, SAMPLING, sampling=True),
    ),
    form(
        name="expected_output_coupling",
        title="One random output: the expectation of κ(Σ, Σm) over m, as one integral.",
        lhs=r"E_m \kappa(\Sigma, \Sigma m)",
        symbols=(lam,),
        expr=EXPECTED,
        domain="m ~ N(0, I)",
        source=SELF,
        derive=_derive_expected,
        point=lambda rng: {"lambda": rng.uniform(0.3, 2.0, 4)},
        oracle=Oracle("sampling outputs", _expected_oracle, SAMPLING, sampling=True),
        stable=lambda **v: coupling_law.expected_output_coupling(v["lambda"]),
    ),
)
