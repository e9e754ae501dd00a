"""Symbols, derivations and oracles of T4: the flow of f = aᵀWx with loss ½ E‖T − f‖².

Modes: λ is an eigenvalue of Σ, A = ‖a‖² (or an eigenvalue of aᵀa), and β, m0, r0, γ are the mode's
coordinates of Σ⁻¹c, m(0), r(0), c.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy
import sympy

from theory.formulas import _points
from theory.formulas._derivation import (
    Derivation,
    explicit,
    gradient,
    scalar,
    symmetric_of,
    vector_of,
)
from theory.formulas._oracles import complex_step
from theory.formulas.closed_form import Proof

C, d, k, K = sympy.symbols("C d k K", integer=True, positive=True)
A, t, rate = sympy.symbols("A t lambda", positive=True)
beta, m0, r0, a = sympy.symbols("beta m_0 r_0 a", real=True)
gamma, u0 = sympy.symbols("gamma u_0", positive=True)
tau, share = sympy.symbols("tau s", positive=True)
w0 = sympy.Symbol("w_0", real=True)
Sigma, W = sympy.MatrixSymbol("Sigma", d, d), sympy.MatrixSymbol("W", C, d)
c, readout = sympy.MatrixSymbol("c", d, K), sympy.MatrixSymbol("a", C, K)
lam = sympy.IndexedBase("lambda", shape=(d,), positive=True)
modes, starts = (sympy.IndexedBase(name, shape=(d,), real=True) for name in ("beta", "m"))

SOLVER = 1e-7
"""Relative tolerance of a numerically integrated flow, run at 1e-11 per step."""
SAXE = "Saxe, McClelland and Ganguli (2014), arXiv:1312.6120, with the input variance kept"
FLOW = "gradient flow of a two-layer linear network; derived here"
FIT = "A, λ > 0, t ≥ 0; readout fixed"

DECAY = sympy.exp(-A * rate * t)
OUTPUT = beta + DECAY * (m0 - beta)
GAIN = r0 * (1 - DECAY) / (A * rate)
BALANCED = gamma * u0 / (rate * u0 + (gamma - rate * u0) * sympy.exp(-2 * gamma * t))
gap = sympy.Symbol("G", positive=True)
RELAXING = sympy.sqrt(4 * gamma**2 + rate**2 * gap**2)
HIGH = (2 * gamma + RELAXING) / (rate * gap)
START = (2 * u0 + sympy.sqrt(gap**2 + 4 * u0**2)) / gap
AWAY = (HIGH - START) / (START + 1 / HIGH) * sympy.exp(-RELAXING * t)
RICCATI = (HIGH - AWAY / HIGH) / (1 + AWAY)
TWO_LAYER = gap / 4 * (RICCATI - 1 / RICCATI)
RESIDUAL = c - Sigma * W.T * readout


def derive_velocity(expr: Any) -> Proof:
    """−∂L/∂w_i for one channel w with readout a; g is Cov(X, T) less what the peers deliver."""
    w, g = sympy.MatrixSymbol("w", d, 1), sympy.MatrixSymbol("g", d, 1)
    loss = (a**2 * scalar(w.T * Sigma * w) - 2 * a * scalar(w.T * g)) / 2
    steps = Derivation().general(
        "−∂L/∂w = a (g − aΣw), any d", gradient(-loss, w) - a * (g - a * Sigma * w)
    )
    W2 = sympy.Matrix(2, 2, sympy.symbols("w11 w12 w21 w22", real=True))
    at = {
        "Sigma": symmetric_of("s", 2),
        "W": W2,
        "c": sympy.Matrix(2, 2, sympy.symbols("c11 c12 c21 c22", real=True)),
        "a": sympy.Matrix(2, 2, sympy.symbols("a11 a12 a21 a22", real=True)),
    }
    m = at["W"].T * at["a"]
    whole = ((m.T * at["Sigma"] * m).trace() - 2 * (m.T * at["c"]).trace()) / 2
    slopes = sympy.Matrix(2, 2, lambda i, j: -whole.diff(W2[i, j]))
    return steps.case("C = d = K = 2, entry by entry", slopes - explicit(expr, **at)).proof()


def derive_readout_velocity(expr: Any) -> Proof:
    at = {
        "Sigma": symmetric_of("s", 2),
        "W": sympy.Matrix(2, 2, sympy.symbols("w11 w12 w21 w22", real=True)),
        "c": vector_of("c", 2),
        "a": vector_of("a", 2),
    }
    m = at["W"].T * at["a"]
    loss = ((m.T * at["Sigma"] * m)[0] - 2 * (m.T * at["c"])[0]) / 2
    slopes = sympy.Matrix([-loss.diff(x) for x in at["a"]])
    return Derivation().case("C = d = 2, K = 1", slopes - explicit(expr, **at)).proof()


def derive_conserved(expr: Any) -> Proof:
    """Both Gram matrices, differentiated with the two velocities put in."""
    hidden = (readout * RESIDUAL.T) * W.T + W * (readout * RESIDUAL.T).T
    outer = (W * RESIDUAL) * readout.T + readout * (W * RESIDUAL).T
    return (
        Derivation()
        .general("d/dt(WWᵀ), any C, d, K", hidden - expr)
        .general("d/dt(aaᵀ), any C, d, K", outer - expr)
        .proof()
    )


def derive_output(expr: Any) -> Proof:
    steps = Derivation()
    steps.general("dm/dt = Aλ(β − m)", expr.diff(t) - A * rate * (beta - expr))
    steps.general("m(0) = m0", expr.subs(t, 0) - m0)
    steps.general("m(∞) = β", sympy.limit(expr, t, sympy.oo) - beta)
    return steps.proof()


def derive_gain(expr: Any) -> Proof:
    """G' = r, r' = −Aλ r, G(0) = 0; and W = W(0) + aGᵀ then moves with a rᵀ."""
    steps = Derivation()
    steps.general("dG/dt = e^(−Aλt) r0", expr.diff(t) - DECAY * r0)
    steps.general("G(0) = 0", expr.subs(t, 0))
    steps.general("λ → 0: G = r0 t", sympy.limit(expr, rate, 0) - r0 * t)
    return steps.proof()


def derive_weight(expr: Any) -> Proof:
    steps = Derivation()
    steps.general("dw/dt = a r(t)", expr.diff(t) - a * DECAY * r0)
    steps.general("w(0) = w0", expr.subs(t, 0) - w0)
    return steps.proof()


def derive_residual(expr: Any) -> Proof:
    steps = Derivation()
    steps.general(
        "r = λ(β − m(t)), r0 = λ(β − m0)",
        expr.subs(r0, rate * (beta - m0)) - rate * (beta - OUTPUT),
    )
    steps.general("dr/dt = −Aλ r", expr.diff(t) + A * rate * expr)
    return steps.proof()


def derive_loss(expr: Any) -> Proof:
    """dL/dt = −A ‖r‖² along the flow, and the value at t = 0."""
    excess = next(x for x in expr.atoms(sympy.Sum) if x.has(t))
    explained = next(x for x in expr.atoms(sympy.Sum) if not x.has(t))
    summand = excess.function
    still, moving = sympy.symbols("still moving", positive=True)
    mode_rate = A * lam[k]
    residual = lam[k] * (modes[k] - starts[k]) * sympy.exp(-mode_rate * t)
    steps = Derivation()
    steps.general(
        "L = ½(τ² − Σλβ²) + ½ of the excess",
        expr.xreplace({excess: moving, explained: still}) - (tau**2 - still + moving) / 2,
        explained.function - lam[k] * modes[k] ** 2,
    )
    steps.general(
        "mode by mode: d/dt of the excess = −A r_k²", summand.diff(t) / 2 + A * residual**2
    )
    start = lam[k] * (starts[k] - modes[k]) ** 2
    steps.general("at t = 0: λ(m0 − β)²", summand.subs(t, 0) - start)
    b, s, x = sympy.symbols("b s x", real=True)
    complete = tau**2 - 2 * x * (s * b) + s * x**2 - (tau**2 - s * b**2) - s * (x - b) ** 2
    steps.general("½E(T − f)² is the unexplained part plus ½Σλ(m − β)²", complete)
    return steps.proof()


def derive_several(expr: Any) -> Proof:
    """dr/dt = −Σ r aᵀa: entries decouple in the eigenbases of Σ and of aᵀa."""
    one, two = sympy.symbols("l1 l2", positive=True)
    p, q = sympy.symbols("p q", positive=True)
    spectrum, outputs = sympy.diag(one, two), sympy.diag(p, q)
    start = sympy.Matrix(2, 2, sympy.symbols("r11 r12 r21 r22", real=True))
    solution = sympy.Matrix(
        2,
        2,
        lambda i, j: expr.subs(
            {rate: spectrum[i, i], A: outputs[j, j], r0: start[i, j]}, simultaneous=True
        ),
    )
    steps = Derivation()
    steps.general("mode: dr/dt = −αλ r", expr.diff(t) + A * rate * expr)
    steps.case(
        "dr/dt = −Σ r aᵀa, d = K = 2, both diagonal",
        solution.diff(t) + spectrum * solution * outputs,
    )
    steps.case("r(0)", solution.subs(t, 0) - start)
    return steps.proof()


MOVING = starts[k] * sympy.exp(-A * lam[k] * t) + modes[k] * (1 - sympy.exp(-A * lam[k] * t))
ALONG = sympy.Sum(lam[k] ** 3 * MOVING**2, (k, 1, d)) / (
    sympy.Sum(lam[k] ** 2 * MOVING**2, (k, 1, d)) * sympy.sqrt(sympy.Sum(lam[k] ** 2, (k, 1, d)))
)


def derive_along(expr: Any) -> Proof:
    moving = beta + DECAY * (m0 - beta)
    same = MOVING.xreplace({lam[k]: rate, modes[k]: beta, starts[k]: m0}) - moving
    steps = Derivation().general("m_k(t) solves dm/dt = Aλ(β − m)", same)
    sums = {s.function / MOVING**2 for s in expr.atoms(sympy.Sum) if s.has(t)}
    steps.general(
        "κ(Σ, Σm) = Σλ³m²/(Σλ²m² √Σλ²)", sum(sums) - lam[k] ** 3 - lam[k] ** 2, expr / ALONG - 1
    )
    return steps.proof()


def derive_balanced(expr: Any) -> Proof:
    """u = wa with w = a kept by the conserved quantity: du/dt = 2u(γ − λu)."""
    x, y = sympy.symbols("x y", positive=True)
    speed = y * (gamma - rate * x * y) * y + x * (gamma - rate * x * y) * x
    balanced = speed.subs(y, x) - 2 * x**2 * (gamma - rate * x**2)
    steps = Derivation().general("d(wa)/dt at w = a", balanced)
    steps.general("du/dt = 2u(γ − λu)", expr.diff(t) - 2 * expr * (gamma - rate * expr))
    steps.general("u(0) = u0", expr.subs(t, 0) - u0)
    steps.general("u(∞) = γ/λ", sympy.limit(expr, t, sympy.oo) - gamma / rate)
    return steps.proof()


def derive_balanced_time(expr: Any) -> Proof:
    solution = BALANCED.subs(t, expr)
    return Derivation().general("u at this time is s γ/λ", solution - share * gamma / rate).proof()


def derive_two_layer(expr: Any) -> Proof:
    """S = ‖w‖² + ‖a‖² with dS/dt = 4u(γ − λu), du/dt = S(γ − λu): S² − 4u² = G² is conserved."""
    u, total, z, high = sympy.symbols("u S z h", positive=True)
    push = gamma - rate * u
    steps = Derivation().general(
        "d(S² − 4u²)/dt = 0", 2 * total * 4 * u * push - 8 * u * total * push
    )
    # S = (G/2)(z + 1/z) where u = (G/4)(z − 1/z): both sides of du/dt in z, with dz/dt as below.
    strength = gap / 4 * (z - 1 / z)
    speed = 2 * gamma * z - rate * gap / 2 * (z**2 - 1)
    steps.general("S² − 4u² = G²", gap**2 / 4 * (z + 1 / z) ** 2 - 4 * strength**2 - gap**2)
    steps.general(
        "dz/dt = 2γz − (λG/2)(z² − 1) is du/dt = S(γ − λu)",
        strength.diff(z) * speed - gap / 2 * (z + 1 / z) * (gamma - rate * strength),
    )
    # The roots h and −1/h of that speed, of which the first gives γ; x is what decays.
    x = sympy.Symbol("x", positive=True)
    path = (high - x / high) / (1 + x)
    of_high = {gamma: rate * gap * (high - 1 / high) / 4}
    relaxing = rate * gap * (high + 1 / high) / 2
    steps.general("h is a root", speed.subs(z, HIGH))
    steps.general("its rate is ρ", relaxing.subs(high, HIGH) - RELAXING)
    steps.general(
        "z(t) = (h − x/h)/(1 + x) solves it with dx/dt = −ρx",
        path.diff(x) * -relaxing * x - speed.subs(z, path).subs(of_high),
    )
    decaying = expr.subs(sympy.exp(-RELAXING * t), x)
    steps.general("dx/dt = −ρx", sympy.log(AWAY).diff(t) + RELAXING)
    steps.general("u(t) = (G/4)(z − 1/z)", decaying - TWO_LAYER.subs(sympy.exp(-RELAXING * t), x))
    at_start = path.subs(x, (high - z) / (z + 1 / high)) - z
    steps.general("z(0) = z0", at_start)
    steps.general("z0 gives u0", strength.subs(z, START) - u0)
    return steps.proof()


def ode(speed: Any, start: float, end: float) -> float:
    """Numerical solution of dx/dt = speed(x) at t = end."""
    path = scipy.integrate.solve_ivp(
        lambda _, x: speed(x), (0.0, end), [start], method="DOP853", rtol=1e-11, atol=1e-13
    )
    return float(path.y[0, -1])


def positive(rng: np.random.Generator, *names: str) -> dict[str, float]:
    return {name: float(rng.uniform(0.3, 1.5)) for name in names}


def real(rng: np.random.Generator, *names: str) -> dict[str, float]:
    return {name: float(rng.standard_normal()) for name in names}


def network(rng: np.random.Generator) -> dict[str, Any]:
    sizes = {"W": (3, 4), "c": (4, 2), "a": (3, 2)}
    drawn = {name: rng.standard_normal(shape) for name, shape in sizes.items()}
    return {"Sigma": _points.covariance(rng, 4), **drawn}


def _loss(Sigma: Any, W: Any, c: Any, a: Any) -> Any:
    m = W.T @ a
    return 0.5 * np.trace(m.T @ Sigma @ m) - np.trace(m.T @ c)


def gradient_in(name: str) -> Any:
    def oracle(**values: Any) -> Any:
        shape = values[name].shape
        flat = complex_step(
            lambda x: -_loss(**{**values, name: x.reshape(shape)}), values[name].ravel()
        )
        return flat.reshape(shape)

    return oracle


def gram_velocity(**values: Any) -> Any:
    """d/dt(aaᵀ) from the numerical gradient of the loss in a."""
    step = gradient_in("a")(**values) @ values["a"].T
    return step + step.T
