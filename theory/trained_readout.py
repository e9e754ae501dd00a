"""Both layers trained: gradient flow of f = aᵀWx with its conserved quantities, and single modes.

dW/dt = a rᵀ and da/dt = W r with r = Cov(X, T − f). WWᵀ − aaᵀ is conserved for any number of
outputs, and is what a numerical solution is checked by.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike

from theory.dynamics import checked_network
from theory.shared.validation import Float, finite_array, positive


@dataclass(frozen=True, eq=False)
class TrainedReadoutPath:
    """A solution of the two-layer flow at the requested times.

    Attributes
    ----------
    times : (T,) in units of gradient-flow time.
    weights : (T, C, d) W.
    readout : (T, C, K) a.
    drift : (T,) ‖(WWᵀ − aaᵀ)(t) − (WWᵀ − aaᵀ)(0)‖_F over the largest ‖WWᵀ‖_F + ‖aaᵀ‖_F: zero
        for the exact flow, so its size is the error of the integration.
    """

    times: Float
    weights: Float
    readout: Float
    drift: Float

    @property
    def output(self) -> Float:
        """(T, d, K) end-to-end weights m = Wᵀa."""
        product: Float = np.swapaxes(self.weights, 1, 2) @ self.readout
        return product


def trained_readout_flow(
    sigma: ArrayLike,
    cross: ArrayLike,
    readout: ArrayLike,
    weights: ArrayLike,
    times: ArrayLike,
    *,
    rtol: float = 1e-9,
) -> TrainedReadoutPath:
    """Integrate the flow of both layers with an eighth-order Runge-Kutta method.

    Parameters
    ----------
    sigma : (d, d) input covariance.
    cross : (d,) or (d, K) Cov(X, T).
    readout : (C,) or (C, K), a at t = 0.
    weights : (C, d), W at t = 0.
    times : (T,) increasing, starting at 0 or later.
    rtol : relative tolerance of each step.

    Raises
    ------
    ValueError
        shapes that do not fit; times that do not increase from 0 or later.
    RuntimeError
        the integrator stopped early, with its own message.

    Source: catalogue entries `trained_weights_velocity`, `trained_readout_velocity`,
    `conserved_balance`.

    >>> path = trained_readout_flow(np.eye(2), [1.0, 0.0], [0.1], [[0.1, 0.0]], [0.0, 20.0])
    >>> path.output[-1, :, 0].round(6), bool(path.drift.max() < 1e-7)
    (array([1., 0.]), True)
    """
    s, c, a, w = checked_network(sigma, cross, readout, weights)
    when = finite_array("times", times, ndim=1)
    if when.size == 0 or when[0] < 0 or np.any(np.diff(when) <= 0):
        raise ValueError(f"times must increase strictly from 0 or later; got {when[:5]}.")

    def velocity(_: float, state: Float) -> Float:
        now, out = state[: w.size].reshape(w.shape), state[w.size :].reshape(a.shape)
        residual = c - s @ now.T @ out
        return np.concatenate([(out @ residual.T).ravel(), (now @ residual).ravel()])

    solution = scipy.integrate.solve_ivp(
        velocity,
        (0.0, float(when[-1]) or 1e-12),
        np.concatenate([w.ravel(), a.ravel()]),
        method="DOP853",
        t_eval=when,
        rtol=positive("rtol", rtol),
        atol=rtol * 1e-3 * max(float(np.abs(w).max()), float(np.abs(a).max()), 1e-12),
    )
    if not solution.success:
        raise RuntimeError(f"The flow could not be integrated: {solution.message}")
    path = solution.y.T
    layers = path[:, : w.size].reshape(-1, *w.shape)
    readouts = path[:, w.size :].reshape(-1, *a.shape)
    return TrainedReadoutPath(when, layers, readouts, _drift(layers, readouts, w, a))


def _drift(layers: Float, readouts: Float, w: Float, a: Float) -> Float:
    hidden = layers @ np.swapaxes(layers, 1, 2)
    outer = readouts @ np.swapaxes(readouts, 1, 2)
    change = hidden - outer - (w @ w.T - a @ a.T)
    size = np.linalg.norm(hidden, axis=(1, 2)) + np.linalg.norm(outer, axis=(1, 2))
    drift: Float = np.linalg.norm(change, axis=(1, 2)) / max(float(size.max()), 1e-300)
    return drift


def balanced_mode(t: ArrayLike, strength: float, variance: float, start: float) -> Float:
    """Strength u(t) of one balanced, aligned mode: the sigmoid of du/dt = 2u(γ − λu).

    u(t) = γ u0 / (λ u0 + (γ − λ u0) e^(−2γt)); for γ = 0 its limit u0 / (1 + 2λ u0 t).

    Parameters
    ----------
    t : times >= 0, any shape.
    strength : γ > 0, the covariance of the mode's input with its target.
    variance : λ > 0, the variance of the mode's input.
    start : u0 > 0, the product of the two layers' strengths at t = 0.

    Source: Saxe, McClelland and Ganguli (2014), with the input variance kept; catalogue entry
    `balanced_mode`.

    >>> balanced_mode([0.0, 50.0], 1.0, 2.0, 1e-3).round(6)
    array([0.001, 0.5  ])
    """
    time = finite_array("t", t, ndim=(0, 1, 2))
    if time.size and time.min() < 0:
        raise ValueError(f"t must be >= 0; got {time.min()}.")
    gamma = positive("strength", strength, zero=True)
    rate, u0 = positive("variance", variance), positive("start", start)
    if gamma == 0:
        limit: Float = u0 / (1 + 2 * rate * u0 * time)
        return limit
    decay = np.exp(-2 * gamma * time)
    mode: Float = gamma * u0 / (-rate * u0 * np.expm1(-2 * gamma * time) + gamma * decay)
    return mode


def two_layer_mode(
    t: ArrayLike, strength: float, variance: float, start: float, gap: float
) -> Float:
    """u(t) = a·w of one input direction and any number of channels, from any start: lazy to rich.

    The flow conserves wwᵀ − aaᵀ and with it G, the difference of its two eigenvalues, so that
    du/dt = √(G² + 4u²)(γ − λu). With u = (G/4)(z − 1/z) this is a Riccati equation, which relaxes
    at the rate ρ = √(4γ² + λ²G²): λG of the exponential where the layers start large or unequal
    (lazy), 2γ of the sigmoid where G is small (rich).

    Parameters
    ----------
    t : times >= 0, any shape.
    strength : γ > 0, the covariance of the input with its target.
    variance : λ > 0, the variance of the input.
    start : u0, the product of the two layers at t = 0, of either sign.
    gap : G > 0, see `layer_gap`.

    Source: of the flow of Saxe, McClelland and Ganguli (2014), solved here; the rate's two limits
    are the regimes of Dominé et al. (2025). Catalogue entry `two_layer_mode`.

    >>> two_layer_mode([0.0, 50.0], 1.0, 2.0, -0.1, 1e-2).round(6)
    array([-0.1,  0.5])
    """
    time = finite_array("t", t, ndim=(0, 1, 2))
    if time.size and time.min() < 0:
        raise ValueError(f"t must be >= 0; got {time.min()}.")
    gamma, rate = positive("strength", strength), positive("variance", variance)
    width = positive("gap", gap)
    z0 = np.exp(np.arcsinh(2 * float(finite_array("start", start, ndim=0)) / width))
    rho = np.hypot(2 * gamma, rate * width)
    high = (2 * gamma + rho) / (rate * width)  # the other root is -1 / high
    away = (high - z0) / (z0 + 1 / high) * np.exp(-rho * time)
    z = (high - away / high) / (1 + away)
    mode: Float = width / 4 * (z - 1 / z)
    return mode


def layer_gap(weights: ArrayLike, readout: ArrayLike) -> float:
    """G = √((‖a‖² − ‖w‖²)² + 4(‖a‖²‖w‖² − (a·w)²)) of the weights (C,) of one input and output.

    The difference of the two eigenvalues of aaᵀ − wwᵀ that are not 0; about 2s² where both layers
    are wide and random with ‖a‖ = ‖w‖ = s, and 0 where w = ±a.

    >>> round(layer_gap([3.0, 0.0], [0.0, 2.0]), 9)
    13.0
    """
    w, a = finite_array("weights", weights, ndim=1), finite_array("readout", readout, ndim=1)
    if w.shape != a.shape:
        raise ValueError(f"weights and readout must be of one shape; got {w.shape} and {a.shape}.")
    # ‖a + w‖ ‖a − w‖, which does not cancel.
    return float(np.linalg.norm(a + w) * np.linalg.norm(a - w))
