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
# # Coupling along training
#
# Two-layer linear network, readout fixed. Each mode of the end-to-end weights relaxes at its own
# rate, $m_k(t) = \beta_k + e^{-\|a\|^2\lambda_k t}(m_k(0) - \beta_k)$, so the network's own
# output starts as a random target, strongly coupled to the input spectrum, and ends as the label.
# Whether the axes separate depends on where the label lies: they do not, where the label itself
# is in the top modes.

# %%
import numpy as np
from matplotlib import style
from matplotlib.figure import Figure

import theory

style.use("theory.shared.twoaxis")
dimension, channels, scale = 32, 400, 0.05
rank = np.arange(1.0, dimension + 1)
sigma = np.diag(rank**-1.0)
rng = np.random.default_rng(1)
weights = scale * rng.standard_normal((channels, dimension))
readout = rng.standard_normal(channels) / np.sqrt(channels)
times = np.geomspace(1e-2, 1e3, 60)

# %%
figure = Figure(figsize=(9.5, 3.6))
left, right = figure.subplots(1, 2)
labels = {"weak modes (k > 8)": rank > 8, "all modes": rank > 0, "top mode": rank == 1}
looks = (("-", "#00429d"), ("--", "#d1495b"), (":", "#2e8b57"))
curves, separation = {}, {}
for (label, modes), (line, color) in zip(labels.items(), looks, strict=True):
    beta = np.where(modes, 1.0, 0.0) / np.sqrt(modes.sum())
    flow = theory.fixed_readout_flow(sigma, sigma @ beta, readout, weights)
    curves[label] = np.array([flow.coupling(t) for t in times])
    separation[label] = theory.separation_time(flow)
    left.semilogx(times, curves[label], linestyle=line, color=color, label=label)
    if np.isfinite(separation[label]):
        left.axvline(separation[label], color=color, linestyle=line, linewidth=0.8)
left.set(
    xlabel="time (steps × learning rate)",
    ylabel="κ(Σ, Σm(t))",
    ylim=(0, 1),
    title="fresh random channels; vertical: separation time",
)
left.legend(title="label in")

# %% [markdown]
# The layer's own channels all move along one common direction $G(t)$, each in proportion to its
# readout. Where that motion stays small beside the initial weights, the layer follows κ. Where it
# outweighs them (small initial scale), power and target covariance both measure how far a channel
# has moved, and the axes of the layer are coupled again, by the readout: they do not separate.

# %%
beta = np.where(rank > 8, 1.0, 0.0) / np.sqrt((rank > 8).sum())
moved = {}
for initial, (line, color) in zip((0.05, 0.01, 0.002), looks, strict=True):
    flow = theory.fixed_readout_flow(sigma, sigma @ beta, readout, weights * initial / scale)
    moved[initial] = np.array([flow.layer_coupling(t, initial, "output") for t in times])
    right.semilogx(times, moved[initial], linestyle=line, color=color, label=f"{initial}")
right.set(
    xlabel="time (steps × learning rate)",
    ylabel="corr(D, b²) across the layer",
    ylim=(0, 1.02),
    title="the layer itself, label in weak modes",
)
right.legend(title="initial scale s")
figure

# %%
assert separation["weak modes (k > 8)"] > 0
assert np.isnan(separation["top mode"]), "no separation where the label is in the top mode"
weak = curves["weak modes (k > 8)"]
assert weak[-1] < 0.5 * weak[0]
assert curves["top mode"][-1] > curves["top mode"][0]
assert np.abs(moved[0.05] - weak).max() < 0.1, "small motion: the layer follows κ"
assert moved[0.002][-1] > 0.7, "large motion: coupled again"
