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
# # When training separates the two axes
#
# Two-layer linear networks start *coupled*: a channel with much power also says much about the
# network's own output. Theory names, from the settings alone, a regime that will separate and two
# that will not. Then ensembles are trained.

# %%
from sim.experiments import initial, separate
from sim.experiments.estimates import estimate

# %% [markdown]
# ## At initialization
#
# The coupling of the power J with the squared covariance b² is κ, exactly; that with the squared
# correlation q = b²/(Jτ²) is a one-dimensional integral. Both hold at every setting.

# %%
start = initial(seeds=100)
for finding in start.findings():
    print("-", finding)
start.figure()

# %%
assert abs(start.deviations).max() < 4

# %% [markdown]
# ## Over training
#
# Above: the rank coupling of input capture with task information, for the label and for the
# network's own output, and within the local axis. Stars: theory, before anything is trained. Below:
# the correlation of J with b² on the law of the filters. The dip on the way is where the output's
# largest component changes its sign: then it says nothing about the strongest input.

# %%
result = separate(width=128, dimension=16, seeds=16, steps=80_000, records=18)
for finding in result.findings():
    print("-", finding)
result.figure()

# %%
even, aligned, rich = result.regimes
for regime in result.regimes:
    assert estimate(regime.coupling[:, 0]).mean > 0.5
assert even.verdict == "separates"
assert abs(estimate(even.coupling[:, -1]).mean) < 0.2
assert estimate(aligned.coupling[:, -1]).low > 0.4
assert estimate(rich.coupling[:, -1]).low > 0.4
# The local axis keeps its own order while the axes part.
assert estimate(even.coherence[:, -1]).low > 0.5
