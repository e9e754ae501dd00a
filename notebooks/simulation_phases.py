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

from sim.experiments import phase

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
