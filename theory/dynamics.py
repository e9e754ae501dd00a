"""Residualized-gradient dynamics of a two-layer linear network with its readout held fixed.

f = aᵀWx, loss L = ½ E‖T − f‖², gradient flow on W. Every channel is driven by what the whole layer
has not yet explained: dw_i/dt = a_i r with r = Cov(X, T − f). Everything is closed form in t.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from theory.coupling_law import channel_coupling, initial_coupling
from theory.moments import Moments
from theory.rank_coupling import spearman
from theory.settling import settling_time
from theory.shared.validation import (
    Float,
    columns,
    finite_array,
    instance,
    positive,
    real_array,
    symmetric_psd,
)


def _target(value: str) -> str:
    if value not in ("label", "output"):
        raise ValueError(f"target must be 'label' or 'output'; got {value!r}.")
    return value


def checked_network(
    sigma: ArrayLike, cross: ArrayLike, readout: ArrayLike, weights: ArrayLike
) -> tuple[Float, Float, Float, Float]:
    """Return Σ (d, d), Cov(X, T) (d, K), a (C, K) and W (C, d), or say which shapes do not fit."""
    s = symmetric_psd("sigma", sigma)
    c = columns("cross", cross)
    a = columns("readout", readout)
    w = finite_array("weights", weights, ndim=2)
    if c.shape[0] != s.shape[0] or w.shape != (a.shape[0], s.shape[0]) or a.shape[1] != c.shape[1]:
        raise ValueError(
            "Shapes must be sigma (d, d), cross (d, K), readout (C, K), weights (C, d); got "
            f"{s.shape}, {c.shape}, {a.shape}, {w.shape}."
        )
    return s, c, a, w


def exponential_gain(rate: ArrayLike, t: ArrayLike) -> Float:
    """∫₀ᵗ e^(−rate·s) ds = (1 − e^(−rate·t)) / rate, and t where the rate is 0.

    >>> exponential_gain([0.0, 2.0], 1.0).round(6)
    array([1.      , 0.432332])
    """
    rates, times = np.broadcast_arrays(np.asarray(rate, float), np.asarray(t, float))
    safe = np.where(rates == 0, 1.0, rates)
    return np.where(rates == 0, times, -np.expm1(-safe * times) / safe)


@dataclass(frozen=True, eq=False)
class FixedReadoutFlow:
    """The closed-form flow of W for a fixed readout. Build it with `fixed_readout_flow`.

    Attributes
    ----------
    sigma : (d, d) input covariance Σ.
    cross : (d, K) Cov(X, T).
    target_cov : (K, K) covariance of T.
    readout : (C, K) a.
    start : (C, d) W at t = 0.
    input_rates : (d,) eigenvalues λ_k of Σ, with eigenvectors the columns of `input_modes`.
    output_rates : (K,) eigenvalues α_p of aᵀa, with eigenvectors `output_modes`.
    residual_modes : (d, K) r(0) in both eigenbases; mode (k, p) decays as e^(−α_p λ_k t).
    """

    sigma: Float
    cross: Float
    target_cov: Float
    readout: Float
    start: Float
    input_rates: Float
    input_modes: Float
    output_rates: Float
    output_modes: Float
    residual_modes: Float

    def _rates(self) -> Float:
        return np.multiply.outer(self.input_rates, self.output_rates)

    def _from_modes(self, modes: Float) -> Float:
        product: Float = self.input_modes @ modes @ self.output_modes.T
        return product

    def residual(self, t: float) -> Float:
        """r(t) = Cov(X, T − f), shape (d, K): e^(−α_p λ_k t) r(0) mode by mode."""
        return self._from_modes(
            np.exp(-self._rates() * positive("t", t, zero=True)) * self.residual_modes
        )

    def gain(self, t: float) -> Float:
        """G(t) = ∫₀ᵗ r ds, shape (d, K); for one output ‖a‖⁻² Σ⁻¹(I − e^(−‖a‖²Σt)) r(0)."""
        return self._from_modes(
            exponential_gain(self._rates(), positive("t", t, zero=True)) * self.residual_modes
        )

    def weights(self, t: float) -> Float:
        """W(t) = W(0) + a G(t)ᵀ, shape (C, d): w_i(t) = w_i(0) + a_i G(t) for one output."""
        moved: Float = self.start + self.readout @ self.gain(t).T
        return moved

    def output(self, t: float) -> Float:
        """m(t) = W(t)ᵀ a, shape (d, K): end-to-end weights, f = m(t)ᵀ x."""
        product: Float = self.weights(t).T @ self.readout
        return product

    def loss(self, t: float) -> float:
        """½ E‖T − f‖² at time t."""
        m = self.output(t)
        explained = 2 * np.sum(m * self.cross) - np.sum(m * (self.sigma @ m))
        return 0.5 * float(np.trace(self.target_cov) - explained)

    def moments(self, t: float, target: str = "label") -> Moments:
        """Population Moments of the channels Y = W(t) x with the label T, or the output f, last.

        >>> flow = fixed_readout_flow(np.eye(2), [1.0, 0.0], [1.0], [[0.0, 1.0]], target_cov=2.0)
        >>> flow.moments(50.0, "output").cov.round(6)
        array([[1., 1.],
               [1., 1.]])
        """
        w = self.weights(t)
        if _target(target) == "label":
            cross, within = w @ self.cross, self.target_cov
        else:
            m = self.output(t)
            cross, within = w @ self.sigma @ m, m.T @ self.sigma @ m
        cov = np.block([[w @ self.sigma @ w.T, cross], [cross.T, within]])
        return Moments.from_covariance((cov + cov.T) / 2, n_targets=self.cross.shape[1])

    def coupling(self, t: float, target: str = "output") -> float:
        """κ at time t for fresh random channels: κ(Σ, Σm(t)), or κ(Σ, c) for the label.

        Several outputs enter as in `initial_coupling`: weighted by ‖c_o‖².
        """
        c = self.cross if _target(target) == "label" else self.cross - self.residual(t)
        return initial_coupling(self._diagonal_rates(), self.input_modes.T @ c)

    def _diagonal_rates(self) -> Float:
        return np.maximum(self.input_rates, 0.0)

    def rank_coupling(self, t: float, target: str = "output") -> float:
        """Spearman of I_X with I_T across the flow's own channels at time t; NaN below three."""
        filters, m = self.weights(t), self.output(t)
        label = _target(target) == "label"
        pulled = self.cross if label else self.sigma @ m
        within = self.target_cov if label else m.T @ pulled
        power, cross = np.sum((filters @ self.sigma) * filters, axis=1), filters @ pulled
        explained = np.sum((cross @ np.linalg.pinv(within, hermitian=True)) * cross, axis=1)
        return float(spearman(power, explained / power))

    def layer_coupling(self, t: float, scale: float, target: str = "label") -> float:
        """corr(D_i, b_i²) across channels w_i(t) = w_i(0) + a_i G(t), with w_i(0) ~ N(0, s²I).

        The layer's own motion is included, which `coupling` leaves out; one output only. In the
        limit of many channels this is the correlation across the layer itself.

        Parameters
        ----------
        t : time.
        scale : s, the standard deviation of the initial weights.
        target : "label" or "output".
        """
        if self.cross.shape[1] != 1:
            raise ValueError(f"layer_coupling is for one output; got {self.cross.shape[1]}.")
        c = self.cross if _target(target) == "label" else self.cross - self.residual(t)
        centers = self.readout @ self.gain(t).T
        return channel_coupling(self.sigma, c[:, 0], centers, scale)


GRID = 400
"""Times at which a separation is looked for: under 6 % of it apart over ten decades."""


def fixed_readout_flow(
    sigma: ArrayLike,
    cross: ArrayLike,
    readout: ArrayLike,
    weights: ArrayLike,
    *,
    target_cov: ArrayLike | None = None,
) -> FixedReadoutFlow:
    """Solve dW/dt = a r(t)ᵀ, r = Cov(X, T − f), in closed form.

    Parameters
    ----------
    sigma : (d, d) input covariance.
    cross : (d,) or (d, K) Cov(X, T).
    readout : (C,) or (C, K), the fixed a of f = aᵀWx. Where aᵀa is singular (K > C, or a = 0)
        the documented limit holds: the outputs that a cannot move keep their residual.
    weights : (C, d) W at t = 0.
    target_cov : variance (or (K, K) covariance) of T; by default that of a noiseless linear
        target, cᵀΣ⁺c.

    Raises
    ------
    ValueError
        shapes that do not fit, or Σ not symmetric positive semidefinite.

    Source: catalogue entries `fixed_readout_output`, `fixed_readout_gain` and
    `several_outputs_residual`.

    >>> flow = fixed_readout_flow(np.eye(2), [1.0, 0.0], [1.0], [[0.0, 1.0]])
    >>> flow.weights(1.0).round(6)
    array([[0.632121, 0.367879]])
    """
    s, c, a, w = checked_network(sigma, cross, readout, weights)
    rates, modes = np.linalg.eigh(s)
    rates = np.where(rates > 1e-14 * rates[-1], rates, 0.0)
    output_rates, output_modes = np.linalg.eigh(a.T @ a)
    output_rates = np.where(output_rates > 1e-14 * output_rates[-1], output_rates, 0.0)
    if target_cov is None:
        half = np.divide(1.0, rates, out=np.zeros_like(rates), where=rates > 0)[:, None]
        projected = modes.T @ c
        t_cov = projected.T @ (half * projected)
    else:
        t_cov = symmetric_psd("target_cov", np.atleast_2d(real_array("target_cov", target_cov)))
        if t_cov.shape[0] != c.shape[1]:
            raise ValueError(f"target_cov must be {c.shape[1]} x {c.shape[1]}; got {t_cov.shape}.")
    residual = modes.T @ (c - s @ w.T @ a) @ output_modes
    return FixedReadoutFlow(s, c, t_cov, a, w, rates, modes, output_rates, output_modes, residual)


def separation_time(
    flow: FixedReadoutFlow, fraction: float = 0.5, *, target: str = "output"
) -> float:
    """Time from which the layer's rank coupling keeps `fraction` of its fall behind it, for good.

    Of the Spearman coupling of the flow's own channels (`rank_coupling`), in gradient-flow time
    (steps × learning rate), by `theory.settling_time` on a fine grid: the same definition as in
    simulations and networks.

    Returns
    -------
    The time; NaN where the coupling does not end lower than it starts, or there are fewer than
    three channels.

    Raises
    ------
    ValueError
        fraction outside (0, 1); an unknown target.

    >>> rng = np.random.default_rng(0)
    >>> sigma = np.diag(np.arange(1.0, 17) ** -2)
    >>> beta = np.arange(1.0, 17) / 4
    >>> flow = fixed_readout_flow(
    ...     sigma, sigma @ beta, rng.standard_normal(400) / 20, rng.standard_normal((400, 16)))
    >>> round(separation_time(flow), 1)
    1.7
    """
    instance("flow", flow, FixedReadoutFlow, "Build one with fixed_readout_flow.")
    if not 0 < positive("fraction", fraction, zero=True) < 1:
        raise ValueError(f"fraction must be between 0 and 1; got {fraction!r}.")
    _target(target)
    rates = flow._rates()
    moving = rates[rates > 0]
    if moving.size == 0:
        return float("nan")
    last = 40.0 / float(moving.min())
    times = np.concatenate([[0.0], np.geomspace(1e-3 / float(moving.max()), last, GRID)])
    curve = np.array([flow.rank_coupling(float(t), target) for t in times])
    if not curve[-1] < curve[0]:
        return float("nan")
    return settling_time(times, curve, fraction=fraction)
