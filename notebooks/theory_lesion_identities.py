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
# # Lesion identities
#
# At the least-squares readout, holding channel $i$ at its mean costs $a_i^2K_{ii}$; replacing it
# by its regression on its peers costs $a_i^2/(K^{-1})_{ii}$, as does refitting without it. The
# ratio is $1-E_i$, and $\mathrm{MSE}_{-i}/\mathrm{MSE} = e^{2I(T;Y_i|Y_{-i})}$: removability with
# peers is neither $I_T$ nor $E_i$ alone.

# %%
import numpy as np
from matplotlib import style
from matplotlib.figure import Figure

import theory

style.use("theory.shared.twoaxis")
rng = np.random.default_rng(0)
channels, samples = 24, 400
mixing = rng.standard_normal((channels, 12)) * np.geomspace(2, 0.3, 12)
hidden = rng.standard_normal((samples, 12))
y = hidden @ mixing.T + rng.uniform(0.2, 1.5, channels) * rng.standard_normal((samples, channels))
t = hidden @ rng.standard_normal(12) + rng.standard_normal(samples)
y, t = y - y.mean(0), t - t.mean(0)
moments = theory.Moments.from_samples(y, t)
axes = theory.channel_axes(moments)

# %% [markdown]
# Measured: lesion the data set itself, channel by channel.

# %%
readout = np.linalg.lstsq(y, t, rcond=None)[0]
before = np.sum((t - y @ readout) ** 2)
mean, replaced, refit = np.empty((3, channels))
for i in range(channels):
    rest = np.delete(np.arange(channels), i)
    held, regressed = y.copy(), y.copy()
    held[:, i] = 0
    regressed[:, i] = y[:, rest] @ np.linalg.lstsq(y[:, rest], y[:, i], rcond=None)[0]
    fitted = y[:, rest] @ np.linalg.lstsq(y[:, rest], t, rcond=None)[0]
    mean[i] = np.sum((t - held @ readout) ** 2) - before
    replaced[i] = np.sum((t - regressed @ readout) ** 2) - before
    refit[i] = np.sum((t - fitted) ** 2) / before

# %%
figure = Figure(figsize=(11, 3.5))
first, second, third = figure.subplots(1, 3)
limit = float(1 - axes.peer_predictability.min())
first.plot([0, limit], [0, limit], "-", color="0.6")
first.plot(1 - axes.peer_predictability, replaced / mean, "o")
first.set(xlabel="1 − E_i (from moments)", ylabel="replacement / mean damage (measured)")
second.plot([1, refit.max()], [1, refit.max()], "-", color="0.6")
second.plot(np.exp(2 * axes.conditional_task_information), refit, "s")
second.set(xlabel="exp(2 I(T; Y_i | Y_-i))", ylabel="MSE without / with (measured)")
third.loglog(axes.task_information, replaced / samples, "o", label="with peers")
third.loglog(axes.task_information, mean / samples, "^", mfc="none", label="held at mean")
third.set(xlabel="task information I_T (nats)", ylabel="damage (units of T²)")
third.legend()
figure

# %%
assert np.allclose(replaced / mean, 1 - axes.peer_predictability, rtol=1e-8)
assert np.allclose(refit, np.exp(2 * axes.conditional_task_information), rtol=1e-8)
rank_coupling = float(theory.spearman(axes.task_information, replaced))
assert rank_coupling < 0.9, "task information alone does not rank removability"
