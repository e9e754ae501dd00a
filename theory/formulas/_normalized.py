"""Symbols, derivations and oracles of batch-normalized channels: f = Σ_i a_i Y_i/√D_i.

One channel w of a layer, with readout a (K, 1). r (d, K) = Cov(X, T − f) is what the whole layer
leaves, g = r + Σw aᵀ/√D what its peers leave. The loss is ½ E‖T − f‖², of which the channel's part
is ½‖a‖² − wᵀga/√D: the variance of a normalized channel is 1, whatever w.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy
import sympy

from theory.formulas import _points
from theory.formulas._derivation import Derivation, gradient, scalar
from theory.formulas._oracles import complex_step
from theory.formulas.closed_form import Proof

d, K, n = sympy.symbols("d K n", integer=True, positive=True)
Sigma = sympy.MatrixSymbol("Sigma", d, d)
w, a = sympy.MatrixSymbol("w", d, 1), sympy.MatrixSymbol("a", K, 1)
r, g = sympy.MatrixSymbol("r", d, K), sympy.MatrixSymbol("g", d, K)
X, e = sympy.MatrixSymbol("X", n, d), sympy.MatrixSymbol("e", n, K)
tau, eta, mu, G, s, epsilon = sympy.symbols("tau eta mu G s epsilon", positive=True)
steps_made, norm0 = sympy.symbols("N w_0", positive=True)

D = scalar(w.T * Sigma * w)
LAYER = "loss ½ E‖T − f‖², f = Σ a_i Y_i/√D_i, wᵀΣw > 0"
HERE = "differentiated here with sympy's matrix calculus"
PEERS = 3
"""Other channels of the layer that an oracle builds around one channel."""


def velocity(cov: Any, residual: Any) -> Any:
    """(1/√D)(ra − (wᵀra/D) Σw), D = wᵀΣw: along the residualized direction."""
    power = scalar(w.T * cov * w)
    along = scalar(w.T * residual * a) / power
    return (residual * a - along * cov * w) / sympy.sqrt(power)


VELOCITY = velocity(Sigma, r)


def channel_loss(weights: Any = w, eps: Any = 0) -> Any:
    """The part of the loss that depends on one channel, at what its peers leave."""
    power = scalar(weights.T * Sigma * weights)
    norm = power + eps
    return scalar(a.T * a) * power / norm / 2 - scalar(weights.T * g * a) / sympy.sqrt(norm)


def by_the_layer(expr: Any) -> Any:
    """An expression in r, written in what the peers leave: r = g − Σw aᵀ/√D."""
    return expr.xreplace({r: g - Sigma * w * a.T / sympy.sqrt(D)})


def derive_velocity(expr: Any) -> Proof:
    steps = Derivation()
    steps.general(
        "−∂L/∂w by the chain rule, r = g − Σw aᵀ/√D, any d and K",
        gradient(-channel_loss(), w) - by_the_layer(expr),
    )
    return steps.proof()


def derive_weight_product(expr: Any) -> Proof:
    steps = Derivation()
    steps.general("wᵀ times the velocity", expr - scalar(w.T * VELOCITY))
    steps.general("b − (b/D) D = 0, any d and K", expr)
    return steps.proof()


def derive_information_rate(expr: Any) -> Proof:
    """The velocity of one output against ∇I(Y; T − f), the residual held."""
    b = scalar(w.T * r * a)
    information = (b / (D * tau**2 - b**2)) * (r * a - (b / D) * Sigma * w)
    function = -sympy.log(1 - b**2 / (D * tau**2)) / 2
    steps = Derivation()
    steps.general("∇I of ra by the chain rule", gradient(function, w) - information)
    steps.general("velocity = rate · ∇I", VELOCITY - expr * information)
    return steps.proof()


def derive_norm_conserved(expr: Any) -> Proof:
    steps = Derivation()
    steps.general("its derivative along the velocity is 0", scalar(gradient(expr, w).T * VELOCITY))
    steps.general("‖w‖² at t = 0", expr - scalar(w.T * w))
    return steps.proof()


def derive_norm_step(expr: Any) -> Proof:
    moved = w + eta * VELOCITY
    steps = Derivation()
    steps.general("‖w + ηv‖² multiplied out, wᵀv = 0", scalar(moved.T * moved) - expr)
    return steps.proof()


def derive_scale(expr: Any) -> Proof:
    scaled = channel_loss(s * w)
    steps = Derivation()
    steps.general("L(sw) = L(w)", scaled - channel_loss())
    steps.general("so s ∇L(sw) = ∇L(w)", s * by_the_layer(expr) + gradient(channel_loss(), w))
    return steps.proof()


def derive_power_velocity(expr: Any) -> Proof:
    steps = Derivation()
    steps.general("∂D/∂w along the velocity", scalar(gradient(D, w).T * VELOCITY) - expr)
    steps.general(
        "twice the Euclidean product of the capture and the residualized direction",
        expr - 2 * scalar(w.T * Sigma * VELOCITY),
    )
    isotropic = expr.xreplace({Sigma: sympy.Identity(d)}).doit()
    steps.general("0 where Σ = I", isotropic)
    return steps.proof()


def derive_plain_power_velocity(expr: Any) -> Proof:
    """Without the norm the channel moves along ra, and its power with it."""
    loss = scalar(a.T * a) * D / 2 - scalar(w.T * g * a)
    moved = gradient(-loss, w)
    steps = Derivation()
    steps.general(
        "∂D/∂w along −∂L/∂w, r = g − Σw aᵀ",
        scalar(gradient(D, w).T * moved) - expr.xreplace({r: g - Sigma * w * a.T}),
    )
    return steps.proof()


def derive_epsilon(expr: Any) -> Proof:
    slope = gradient(-channel_loss(eps=epsilon), w)
    left = g - Sigma * w * a.T / sympy.sqrt(D + epsilon)  # what the layer leaves
    steps = Derivation()
    steps.general("wᵀ(−∂L/∂w) with D + ε", scalar(w.T * slope) - expr.xreplace({r: left}))
    steps.general("0 without ε", expr.xreplace({epsilon: sympy.Integer(0)}))
    return steps.proof()


def derive_readout_velocity(expr: Any) -> Proof:
    steps = Derivation()
    steps.general("−∂L/∂a, any d and K", gradient(-channel_loss(), a) - by_the_layer(expr))
    return steps.proof()


def derive_batch_velocity(expr: Any) -> Proof:
    """The same identity with the moments of the batch, S = XᵀX/n and Xᵀe/n."""
    names = {Sigma: X.T * X / n, r: X.T * e / n}
    steps = Derivation()
    steps.general(
        "the velocity with the batch's own moments", VELOCITY.xreplace(names).doit() - expr
    )
    steps.general("orthogonal to w in every batch", scalar(w.T * expr))
    return steps.proof()


def derive_norm_growth(expr: Any) -> Proof:
    """d‖w‖²/dN = η²‖∇L(w)‖² with ‖∇L(w)‖ = G/‖w‖."""
    steps = Derivation()
    steps.general("d‖w‖²/dN = η²G²/‖w‖²", (expr**2).diff(steps_made) - eta**2 * G**2 / expr**2)
    steps.general("‖w‖ = w0 at the start", expr.subs(steps_made, 0) - norm0)
    return steps.proof()


def derive_decay_norm(expr: Any) -> Proof:
    """A step makes ‖w‖² to (1 − ημ)²‖w‖² + η²G²/‖w‖²."""
    after = (1 - eta * mu) ** 2 * expr**2 + eta**2 * G**2 / expr**2
    steps = Derivation()
    steps.general("a step leaves it as it is", after - expr**2)
    return steps.proof()


def derive_decay_cosine(expr: Any) -> Proof:
    """Step (1 − ημ)w + ηv with v ⟂ w, ‖w‖ unchanged."""
    norm = (eta * G**2 / (mu * (2 - eta * mu))) ** sympy.Rational(1, 4)
    after = sympy.sqrt((1 - eta * mu) ** 2 * norm**2 + eta**2 * G**2 / norm**2)
    steps = Derivation()
    steps.general("wᵀw₊ = (1 − ημ)‖w‖², over ‖w‖ ‖w₊‖", (1 - eta * mu) * norm / after - expr)
    return steps.proof()


def layer_around(Sigma: Any, w: Any, r: Any, a: Any, *, plain: bool = False) -> Any:
    """Cov(X, T) and peers such that the layer of w with readout a leaves r; loss as f(w, a)."""
    rng = np.random.default_rng(7)
    peers, readout = rng.standard_normal((PEERS, len(w))), rng.standard_normal((PEERS, len(a)))

    def output(own: Any, out: Any) -> Any:
        rows = [(own, out), *zip(peers, readout, strict=True)]
        scale = [1.0 if plain else np.sqrt(v @ Sigma @ v) for v, _ in rows]
        return sum(np.outer(v / q, o) for (v, o), q in zip(rows, scale, strict=True))

    cross = r + Sigma @ output(w, a)

    def loss(own: Any, out: Any) -> Any:
        m = output(own, out)
        return 0.5 * np.trace(m.T @ Sigma @ m) - np.trace(m.T @ cross)

    return loss


def network_velocity(Sigma: Any, w: Any, r: Any, a: Any, **how: Any) -> Any:
    """−∂L/∂w of a whole layer, by complex steps."""
    loss = layer_around(Sigma, w, r, a, **how)
    return complex_step(lambda x: -loss(x, a), w)


def scale_slope(Sigma: Any, w: Any, r: Any, a: Any) -> float:
    """d/ds of −L(sw) at s = 1."""
    loss = layer_around(Sigma, w, r, a)
    return float(complex_step(lambda s: -loss(s[0] * w, a), np.ones(1))[0])


def power_slope(plain: bool) -> Any:
    def oracle(Sigma: Any, w: Any, r: Any, a: Any) -> float:
        moved = network_velocity(Sigma, w, r, a, plain=plain)
        along = complex_step(lambda s: (w + s[0] * moved) @ Sigma @ (w + s[0] * moved), np.zeros(1))
        return float(along[0])

    return oracle


def readout_slope(Sigma: Any, w: Any, r: Any) -> Any:
    a = np.linspace(-1.0, 2.0, r.shape[1])
    loss = layer_around(Sigma, w, r, a)
    return complex_step(lambda x: -loss(w, x), a)


def information_rate(Sigma: Any, w: Any, r: Any, a: Any, tau: float) -> float:
    """Velocity over ∇I, both by complex steps; they are parallel."""
    moved = network_velocity(Sigma, w, r, a)
    cross = r @ a
    slope = complex_step(
        lambda x: -0.5 * np.log(1 - (x @ cross) ** 2 / (x @ Sigma @ x * tau**2)), w
    )
    rest = moved - slope * (moved @ slope) / (slope @ slope)
    if np.linalg.norm(rest) > 1e-9 * np.linalg.norm(moved):
        return float("nan")
    return float(moved @ slope / (slope @ slope))


def norm_after(w: Any) -> float:
    """‖w(t)‖² of the layer's own gradient flow at t = 1, w moving and its peers held."""
    around = channel(np.random.default_rng(3))
    loss = layer_around(**{**around, "w": w})
    path = scipy.integrate.solve_ivp(
        lambda _, x: complex_step(lambda y: -loss(y, around["a"]), x),
        (0.0, 1.0), w, method="DOP853", rtol=1e-11, atol=1e-13,
    )  # fmt: skip
    return float(path.y[:, -1] @ path.y[:, -1])


def norm_of_step(Sigma: Any, w: Any, r: Any, a: Any, eta: float) -> float:
    return float(np.sum((w + eta * network_velocity(Sigma, w, r, a)) ** 2))


def epsilon_slope(Sigma: Any, w: Any, r: Any, a: Any, epsilon: float) -> float:
    """d/ds of −L(sw) at s = 1, the channel divided by √(D + ε)."""
    norm = np.sqrt(w @ Sigma @ w + epsilon)
    cross = r + np.outer(Sigma @ w / norm, a)

    def loss(scale: Any) -> Any:
        x = scale[0] * w
        m = np.outer(x / np.sqrt(x @ Sigma @ x + epsilon), a)
        return 0.5 * np.trace(m.T @ Sigma @ m) - np.trace(m.T @ cross)

    return float(complex_step(lambda x: -loss(x), np.ones(1))[0])


def batch_slope(X: Any, w: Any, e: Any, a: Any) -> Any:
    """Batch norm carried out: y less its mean over its deviation; the error at w is e."""

    def normalized(x: Any) -> Any:
        y = X @ x
        y = y - y.mean()
        return y / np.sqrt((y * y).mean())

    target = e + np.outer(normalized(w), a)

    def loss(x: Any) -> Any:
        return 0.5 * np.sum((target - np.outer(normalized(x), a)) ** 2) / len(X)

    return complex_step(lambda x: -loss(x), w)


def _turned(weights: Any, rate: float, decay: float, force: float) -> Any:
    """One step of a plane filter whose gradient is orthogonal to it, of norm G/‖w‖."""
    across = np.array([-weights[1], weights[0]]) / (weights @ weights)
    return (1 - rate * decay) * weights + rate * force * across


def settled(eta: float, mu: float, G: float) -> Any:
    weights = np.array([1.0, 0.0])
    for _ in range(int(30 / (eta * mu))):
        weights = _turned(weights, eta, mu, G)
    return weights


def settled_norm(eta: float, mu: float, G: float) -> float:
    return float(np.linalg.norm(settled(eta, mu, G)))


def settled_cosine(eta: float, mu: float) -> float:
    weights = settled(eta, mu, 1.3)
    after = _turned(weights, eta, mu, 1.3)
    return float(weights @ after / np.linalg.norm(weights) / np.linalg.norm(after))


def grown_norm(w_0: float, eta: float, G: float, N: float) -> float:
    weights = np.array([w_0, 0.0])
    for _ in range(int(N)):
        weights = _turned(weights, eta, 0.0, G)
    return float(np.linalg.norm(weights))


def channel(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "Sigma": _points.covariance(rng, 4),
        "w": rng.standard_normal(4),
        "r": rng.standard_normal((4, 2)),
        "a": rng.standard_normal(2),
    }


def channel_with(**more: Any) -> Any:
    """A channel and further numbers, each drawn evenly from its range."""

    def point(rng: np.random.Generator) -> dict[str, Any]:
        return channel(rng) | {k: float(rng.uniform(*v)) for k, v in more.items()}

    return point


def batch(rng: np.random.Generator) -> dict[str, Any]:
    samples = rng.standard_normal((7, 3))
    return {
        "X": samples - samples.mean(0),
        "w": rng.standard_normal(3),
        "e": rng.standard_normal((7, 2)),
        "a": rng.standard_normal(2),
    }
