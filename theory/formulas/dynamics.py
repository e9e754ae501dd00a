"""T4: residualized-gradient dynamics of f = aᵀWx with loss ½ E‖T − f‖², in gradient-flow time t.

Modes: λ is an eigenvalue of Σ, A = ‖a‖² (or an eigenvalue of aᵀa), and β, m0, r0, γ are the mode's
coordinates of Σ⁻¹c, m(0), r(0), c.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import scipy
import sympy

from theory import trained_readout
from theory.dynamics import exponential_gain, fixed_readout_flow
from theory.formulas import _flow as flow
from theory.formulas._flow import (
    ALONG,
    BALANCED,
    DECAY,
    FIT,
    FLOW,
    GAIN,
    OUTPUT,
    RESIDUAL,
    SAXE,
    SOLVER,
    TWO_LAYER,
    A,
    Sigma,
    W,
    a,
    beta,
    c,
    gamma,
    gap,
    k,
    lam,
    m0,
    modes,
    ode,
    positive,
    r0,
    rate,
    readout,
    real,
    share,
    starts,
    t,
    tau,
    u0,
    w0,
)
from theory.formulas._oracles import DIFFERENTIATION
from theory.formulas.closed_form import ClosedForm, Oracle


def _rates(**values: Any) -> float:
    return float(values["A"] * values["lambda"])


def _output_oracle(**v: Any) -> float:
    return ode(lambda m: _rates(**v) * (v["beta"] - m), v["m_0"], v["t"])


def _gain_oracle(**v: Any) -> float:
    decay = _rates(**v)
    return float(
        scipy.integrate.quad(lambda s: v["r_0"] * np.exp(-decay * s), 0, v["t"], epsrel=1e-12)[0]
    )


def _spectral_point(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "lambda": rng.uniform(0.3, 1.5, 4),
        "beta": rng.standard_normal(4),
        "m": rng.standard_normal(4),
        **positive(rng, "A", "t"),
    }


def _flow_of(values: dict[str, Any]) -> Any:
    """The same modes as a network of one channel with readout √A."""
    sigma = np.diag(values["lambda"])
    gain = np.sqrt(values["A"])
    noise = values.get("tau")
    return fixed_readout_flow(
        sigma,
        sigma @ values["beta"],
        [gain],
        [values["m"] / gain],
        target_cov=None if noise is None else noise**2,
    )


def _loss_point(rng: np.random.Generator) -> dict[str, Any]:
    values = _spectral_point(rng)
    unexplained = float(np.sum(values["lambda"] * values["beta"] ** 2))
    return {**values, "tau": float(np.sqrt(unexplained + 0.5))}


def _integrated(values: dict[str, Any]) -> Any:
    """m(t) of the flow dW/dt = a rᵀ, integrated numerically."""
    rates, target = np.asarray(values["lambda"]), np.asarray(values["beta"])
    path = scipy.integrate.solve_ivp(
        lambda _, m: values["A"] * rates * (target - m),
        (0.0, values["t"]),
        values["m"],
        method="DOP853",
        rtol=1e-11,
        atol=1e-13,
    )
    return path.y[:, -1]


def _along_oracle(**values: Any) -> float:
    m, rates = _integrated(values), np.asarray(values["lambda"])
    c = rates * m
    return float(c @ (rates * c) / (c @ c) / np.linalg.norm(rates))


def _loss_oracle(**values: Any) -> float:
    m, rates, target = _integrated(values), np.asarray(values["lambda"]), values["beta"]
    explained = 2 * m @ (rates * target) - m @ (rates * m)
    return float(0.5 * (values["tau"] ** 2 - explained))


def _balanced_point(rng: np.random.Generator) -> dict[str, float]:
    return {**positive(rng, "gamma", "lambda", "t"), "u_0": float(rng.uniform(0.01, 0.1))}


def _two_layers(**v: Any) -> float:
    """u = wa of the two-layer flow itself, started balanced."""
    root = np.sqrt(v["u_0"])
    path = trained_readout.trained_readout_flow(
        [[v["lambda"]]], [v["gamma"]], [root], [[root]], [v["t"]], rtol=1e-11
    )
    return float(path.output[0, 0, 0])


def _channels(**v: Any) -> float:
    """u = a·w of three channels with this start and gap, both layers integrated."""
    u, gap_of = v["u_0"], v["G"]
    total = np.sqrt(gap_of**2 + 4 * u**2)
    # ‖a‖² = ‖w‖² = S/2, at the angle that u asks for, in a plane that is not that of the axes.
    length, cosine = np.sqrt(total / 2), 2 * u / total
    plane = np.linalg.qr([[1.0, 0.3], [0.5, -1.0], [-0.2, 0.4]])[0]
    w, a = length * plane @ [1.0, 0.0], length * plane @ [cosine, np.sqrt(1 - cosine**2)]
    path = trained_readout.trained_readout_flow(
        [[v["lambda"]]], [v["gamma"]], a, w[:, None], [v["t"]], rtol=1e-11
    )
    return float(path.output[0, 0, 0])


def _reaching(**v: Any) -> float:
    """Time at which the integrated sigmoid reaches the share of its limit."""
    speed = lambda u: 1 / (2 * u * (v["gamma"] - v["lambda"] * u))  # noqa: E731 - the integrand
    end = v["s"] * v["gamma"] / v["lambda"]
    return float(scipy.integrate.quad(speed, v["u_0"], end, epsrel=1e-12)[0])


def _stable_balanced(**v: Any) -> float:
    return float(trained_readout.balanced_mode(v["t"], v["gamma"], v["lambda"], v["u_0"]))


form = partial(ClosedForm, item="T4", source=FLOW)

FORMS = (
    form(
        name="channel_velocity",
        title="Every channel is driven by what the layer has not yet explained.",
        lhs=r"\dot W = -\partial L / \partial W",
        symbols=(Sigma, W, c, readout),
        expr=readout * RESIDUAL.T,
        domain="any C, d and number of outputs",
        derive=flow.derive_velocity,
        point=flow.network,
        oracle=Oracle("complex-step differentiation", flow.gradient_in("W"), DIFFERENTIATION),
    ),
    form(
        name="readout_velocity",
        title="The readout follows each channel's covariance with the residual.",
        lhs=r"\dot a = -\partial L / \partial a",
        symbols=(Sigma, W, c, readout),
        expr=W * RESIDUAL,
        domain="any C, d and number of outputs",
        derive=flow.derive_readout_velocity,
        point=flow.network,
        oracle=Oracle("complex-step differentiation", flow.gradient_in("a"), DIFFERENTIATION),
    ),
    form(
        name="conserved_balance",
        title="WWᵀ and aaᵀ move together when both layers learn: WWᵀ − aaᵀ is conserved.",
        lhs=r"\tfrac{d}{dt} W W^T = \tfrac{d}{dt} a a^T",
        symbols=(Sigma, W, c, readout),
        expr=readout * RESIDUAL.T * W.T + W * RESIDUAL * readout.T,
        domain="gradient flow of both layers, any number of outputs",
        derive=flow.derive_conserved,
        point=flow.network,
        oracle=Oracle("complex-step velocity of aaᵀ", flow.gram_velocity, DIFFERENTIATION),
    ),
    form(
        name="fixed_readout_output",
        title="End-to-end weights relax to the regression weights, mode by mode.",
        lhs="m(t)",
        symbols=(A, rate, t, beta, m0),
        expr=OUTPUT,
        domain=FIT,
        derive=flow.derive_output,
        point=lambda rng: {**positive(rng, "A", "lambda", "t"), **real(rng, "beta", "m_0")},
        oracle=Oracle("numerical integration", _output_oracle, SOLVER),
    ),
    form(
        name="fixed_readout_residual",
        title="The residual decays, each mode at its own rate.",
        lhs="r(t)",
        symbols=(A, rate, t, r0),
        expr=DECAY * r0,
        domain=FIT,
        derive=flow.derive_residual,
        point=lambda rng: {**positive(rng, "A", "lambda", "t"), **real(rng, "r_0")},
        oracle=Oracle(
            "numerical integration",
            lambda **v: ode(lambda r: -_rates(**v) * r, v["r_0"], v["t"]),
            SOLVER,
        ),
    ),
    form(
        name="fixed_readout_gain",
        title="Accumulated residual: the common direction in which all channels move.",
        lhs=r"G(t) = \int_0^t r \, ds",
        symbols=(A, rate, t, r0),
        expr=GAIN,
        domain=f"{FIT}; r0 t in the limit λ → 0",
        derive=flow.derive_gain,
        point=lambda rng: {**positive(rng, "A", "lambda", "t"), **real(rng, "r_0")},
        oracle=Oracle("quadrature of the residual", _gain_oracle, SOLVER),
        stable=lambda **v: float(v["r_0"] * exponential_gain(_rates(**v), v["t"])),
    ),
    form(
        name="fixed_readout_weight",
        title="A channel's weight: its start plus its readout times the common direction.",
        lhs="w_i(t) = w_i(0) + a_i G(t)",
        symbols=(w0, a, A, rate, t, r0),
        expr=w0 + a * GAIN,
        domain=FIT,
        derive=flow.derive_weight,
        point=lambda rng: {**positive(rng, "A", "lambda", "t"), **real(rng, "w_0", "a", "r_0")},
        oracle=Oracle(
            "quadrature of the residual",
            lambda **v: v["w_0"] + v["a"] * _gain_oracle(**v),
            SOLVER,
        ),
        stable=lambda **v: float(
            v["w_0"] + v["a"] * v["r_0"] * exponential_gain(_rates(**v), v["t"])
        ),
    ),
    form(
        name="several_outputs_residual",
        title="Several outputs: r_kp decays at λ_k times the eigenvalue A of aᵀa.",
        lhs="r_{kp}(t)",
        symbols=(A, rate, t, r0),
        expr=DECAY * r0,
        domain="eigenbases of Σ and of aᵀa; an output that a cannot move keeps its residual",
        derive=flow.derive_several,
        point=lambda rng: {**positive(rng, "A", "lambda", "t"), **real(rng, "r_0")},
        oracle=Oracle(
            "numerical integration",
            lambda **v: ode(lambda r: -_rates(**v) * r, v["r_0"], v["t"]),
            SOLVER,
        ),
    ),
    form(
        name="fixed_readout_loss",
        title="Loss along training.",
        lhs="L(t)",
        symbols=(tau, A, t, lam, modes, starts),
        expr=(tau**2 - sympy.Sum(lam[k] * modes[k] ** 2, (k, 1, flow.d))) / 2
        + sympy.Sum(
            lam[k] * (starts[k] - modes[k]) ** 2 * sympy.exp(-2 * A * lam[k] * t), (k, 1, flow.d)
        )
        / 2,
        domain=FIT,
        derive=flow.derive_loss,
        point=_loss_point,
        oracle=Oracle("numerical integration", _loss_oracle, SOLVER),
        stable=lambda **v: float(_flow_of(v).loss(v["t"])),
    ),
    form(
        name="coupling_along_training",
        title="Coupling of the axes for the network's own output, along training.",
        lhs=r"\kappa(\Sigma, \Sigma m(t))",
        symbols=(A, t, lam, modes, starts),
        expr=ALONG,
        domain=f"{FIT}; fresh random channels",
        derive=flow.derive_along,
        point=_spectral_point,
        oracle=Oracle("numerical integration", _along_oracle, SOLVER),
        stable=lambda **v: float(_flow_of(v).coupling(v["t"])),
    ),
    form(
        name="balanced_mode",
        title="Both layers trained from a balanced start: each aligned mode is a sigmoid.",
        lhs="u(t)",
        symbols=(gamma, rate, u0, t),
        expr=BALANCED,
        domain="γ, λ, u0 > 0; w = a at t = 0 in the mode",
        source=SAXE,
        derive=flow.derive_balanced,
        point=_balanced_point,
        oracle=Oracle("the two-layer flow, integrated", _two_layers, SOLVER),
        stable=_stable_balanced,
    ),
    form(
        name="two_layer_mode",
        title="Both layers trained from any start, one input direction: between lazy and rich.",
        lhs="u(t)",
        symbols=(gamma, rate, u0, gap, t),
        expr=TWO_LAYER,
        domain="γ, λ, G > 0; G the gap between the eigenvalues of aaᵀ − wwᵀ; u0 = a·w",
        derive=flow.derive_two_layer,
        point=lambda rng: positive(rng, "gamma", "lambda", "u_0", "G", "t"),
        oracle=Oracle("the two-layer flow of three channels, integrated", _channels, SOLVER),
        stable=lambda **v: float(
            trained_readout.two_layer_mode(v["t"], v["gamma"], v["lambda"], v["u_0"], v["G"])
        ),
    ),
    form(
        name="balanced_time",
        title="Time at which a balanced mode has reached the share s of its limit.",
        lhs="t_s",
        symbols=(gamma, rate, u0, share),
        expr=sympy.log(share * (gamma - rate * u0) / (rate * u0 * (1 - share))) / (2 * gamma),
        domain="λ u0 / γ < s < 1",
        source=SAXE,
        derive=flow.derive_balanced_time,
        point=lambda rng: {
            "gamma": float(rng.uniform(0.5, 1.5)),
            "lambda": float(rng.uniform(0.5, 1.5)),
            "u_0": float(rng.uniform(0.01, 0.05)),
            "s": float(rng.uniform(0.4, 0.9)),
        },
        oracle=Oracle("quadrature of du/(2u(γ − λu))", _reaching, SOLVER),
    ),
)
