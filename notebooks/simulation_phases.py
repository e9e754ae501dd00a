# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # Phase diagrams of separation
#
# Each cell is an ensemble. Hatched: the two axes are *not* separated at the end. A small grid runs
# here; `twoaxis sim phase` runs 20 × 20 settings of 16 networks.

# %%
import numpy as np
from matplotlib import style

from sim.experiments import phase
from theory.shared.style import label, mark, sheet

style.use("theory.shared.twoaxis")

# %% [markdown]
# ## Spectrum against alignment of the target
#
# Lazy networks: the end coupling follows the task. Between a target on the strong input directions
# (coupled) and one on the weak directions (inverted) lies the band that separates.

# %%
spectrum = phase(points=4, seeds=6, steps=8000, dimension=16)
for finding in spectrum.findings():
    print("-", finding)
spectrum.figure()

# %%
steepest = spectrum.end[:, -1]
assert steepest[0] < -0.2 < 0.2 < steepest[-1]
assert np.abs(spectrum.end - spectrum.predicted_end).max() < 0.2

# %% [markdown]
# ## With intervals
#
# The same settings as cuts: end coupling against alignment with its 95 % interval over networks,
# and what the exact law of the filters says of it, from the settings alone.

# %%
cuts, ((panel,),) = sheet(1, 1, width=6.0, height=3.2)
for number, exponent in enumerate(spectrum.x_values):
    look = mark(number)
    ends, half = spectrum.end[:, number], spectrum.end_half[:, number]
    law = spectrum.predicted_end[:, number]
    panel.errorbar(spectrum.y_values, ends, half, capsize=2, **look | {"linestyle": "none"})
    panel.plot(spectrum.y_values, law, label=f"{exponent:g}", **look | {"marker": ""})
panel.axhspan(-0.2, 0.2, color="0.92", zorder=0)
label(panel, "alignment of the target", "end coupling", "points: simulation; lines: law")
panel.legend(title="spectrum exponent")
cuts

# %%
inside = np.abs(spectrum.end - spectrum.predicted_end) < 1.5 * spectrum.end_half
assert inside.mean() > 0.8

# %% [markdown]
# ## Initialization scale
#
# From a small initialization all filters learn the same direction: power and task information both
# measure how much of it a channel has, and the axes are coupled whatever the target.

# %%
scale = phase("scale", "alignment", points=4, seeds=6, steps=8000, dimension=16)
for finding in scale.findings():
    print("-", finding)
scale.figure()

# %%
assert (scale.end[:, 0] > 0.5).all()
assert np.abs(scale.end[1, -1]) < 0.35
