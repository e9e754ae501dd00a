# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Learning between lazy and rich, exactly
#
# Two linear layers of any width learn one input direction. The flow conserves
# $ww^T - aa^T$, hence the gap $G$ of its eigenvalues, and $u = a\cdot w$ obeys $\dot u =
# \sqrt{G^2 + 4u^2}\,(\gamma - \lambda u)$, a Riccati equation: it relaxes at the rate
# $\sqrt{4\gamma^2 + \lambda^2G^2}$. Large or unequal layers (large $G$) learn as an exponential,
# small balanced ones as a sigmoid, and nothing but $G$ decides which.

# %%
import numpy as np
from matplotlib import style
from matplotlib.figure import Figure

import theory
from sim import Network, Regression, simulate

style.use("theory.shared.twoaxis")
strength, variance = 2.0, 1.0
task = Regression(np.array([variance]), teacher=np.array([[strength / variance]]))
CHANNELS = 64
EVEN = CHANNELS**-0.5  # variance of W over that of A, by network, at which ‖W‖ = ‖A‖ for one input
looks = (("-", "#00429d"), ("--", "#d1495b"), ("-.", "#2e8b57"), (":", "#e08e0b"))


def trained(**network):
    """A simulated network of 64 channels: times, its end-to-end weight, and its start."""
    run = simulate(
        task,
        Network(width=CHANNELS, **{"balance": EVEN} | network),
        steps=40_000,
        learning_rate=1e-4,
        seeds=2,
        records=range(0, 40_001, 200),
        quantities=False,
    )
    return run.time, (run.readout @ run.filters)[..., 0, 0], run


def foretold(run, times):
    """The same of theory, from the initial weights of each network alone."""
    starts = zip(run.filters[:, 0, :, 0], run.readout[:, 0, 0], strict=True)
    return np.array(
        [
            theory.two_layer_mode(times, strength, variance, float(a @ w), theory.layer_gap(w, a))
            for w, a in starts
        ]
    )


# %% [markdown]
# ## Scale and imbalance, through one number
#
# Lines: theory, from the initial weights. Points: networks of 64 channels, trained. Left the
# scale of a balanced initialization goes from rich to lazy; right the layers are made unequal at
# one scale, which is lazy in the same way.

# %%
figure = Figure(figsize=(11.0, 3.4))
left, middle, right = figure.subplots(1, 3)
deviation, gaps = 0.0, {}
panels = (
    (left, "scale", (0.05, 0.2, 0.5, 1.0), "balanced; initial scale"),
    (middle, "balance", (EVEN, 8 * EVEN, 64 * EVEN), "scale 0.2; imbalance of the layers"),
)
for axes, name, values, title in panels:
    for value, (line, color) in zip(values, looks, strict=False):
        settings = {"scale": 0.2} | {name: value}
        times, found, run = trained(**settings)
        exact = foretold(run, times)
        deviation = max(deviation, np.abs(found - exact).max() / 2.0)
        w, a = run.filters[0, 0, :, 0], run.readout[0, 0, 0]
        gaps[name, value] = theory.layer_gap(w, a)
        said = f"{value / (EVEN if name == 'balance' else 1):g}"
        axes.plot(
            times,
            exact[0],
            linestyle=line,
            color=color,
            label=f"{said}, G = {gaps[name, value]:.2g}",
        )
        axes.plot(times[::5], found[0, ::5], ".", color=color, markersize=5)
    axes.set(xlabel="time (steps × learning rate)", ylabel="u(t) = a·w", title=title)
    axes.legend()

# %% [markdown]
# ## The rate
#
# How fast the last of the error goes, $-\dot u/(u - \gamma/\lambda)$ near the end, against the
# gap, with the two limits.

# %%
gap = np.geomspace(1e-2, 40, 60)
rates = np.hypot(2 * strength, variance * gap)
right.loglog(gap, rates, color="black", label="√(4γ² + λ²G²)")
right.axhline(2 * strength, color="0.6", lw=0.8, label="2γ, rich")
right.loglog(gap, variance * gap, ":", color="0.6", label="λG, lazy")
measured = {}
for scale in (0.05, 0.2, 0.4, 0.7, 1.0):
    times, found, run = trained(scale=scale)
    left_over = np.abs(found[0] - strength / variance)
    late = (left_over < 0.02) & (left_over > 1e-6)
    g = theory.layer_gap(run.filters[0, 0, :, 0], run.readout[0, 0, 0])
    measured[g] = -np.polyfit(times[late], np.log(left_over[late]), 1)[0]
right.plot(list(measured), list(measured.values()), "o", color="#d1495b", label="simulated")
right.set(
    xlabel="gap G", ylabel="relaxation rate", title="lazy and rich are two limits of one rate"
)
right.legend()
figure

# %%
assert deviation < 0.005, "theory, from the initial weights, over every simulated network"
assert gaps["balance", 64 * EVEN] > 5 * gaps["balance", EVEN], "unequal layers widen the gap"
for g, rate in measured.items():
    assert abs(rate / np.hypot(2 * strength, variance * g) - 1) < 0.02
