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
# # Bias and coverage against sample size
#
# Plug-in information is biased upwards by an amount that is known exactly and does not depend on
# the covariance. Corrected, it is centred at any sample size; its intervals still need enough
# samples.

# %%
import numpy as np
from matplotlib import style
from matplotlib.figure import Figure
from scipy import stats

import theory

style.use("theory.shared.twoaxis")
rng = np.random.default_rng(0)
sizes = np.array([12, 20, 40, 80, 160, 320])
peers, rho, groups, sets = 6, 0.5, 10, 200
truth = -0.5 * np.log1p(-(rho**2))


def data_set(n):
    """n samples of 7 channels, the first correlated with the target."""
    y = rng.standard_normal((n, peers + 1))
    t = rho * y[:, 0] + np.sqrt(1 - rho**2) * rng.standard_normal(n)
    return y, t


def corrected_information(moments):
    """Of the first channel with the target."""
    axes = theory.channel_axes(moments, bias_correction=True, hull=False, details=False)
    return axes.task_information[0]


# %%
shape = (sizes.size, sets)
plain, corrected, hits = np.empty((*shape, 2)), np.empty((*shape, 2)), np.zeros((sizes.size, 2))
for row, n in enumerate(sizes):
    for k in range(sets):
        y, t = data_set(n)
        moments = theory.Moments.from_samples(y, t)
        raw = theory.channel_axes(moments, hull=False)
        fair = theory.channel_axes(moments, bias_correction=True, hull=False)
        plain[row, k] = raw.task_information[0], raw.peer_information[0]
        corrected[row, k] = fair.task_information[0], fair.peer_information[0]
        if n >= 80:
            value = corrected[row, k, 0]
            variance = theory.delta_information_variance(np.sqrt(-np.expm1(-2 * max(value, 0))), n)
            parts = np.array_split(np.arange(n), groups)
            pieces = [theory.Moments.from_samples(y[p, :2], t[p]) for p in parts]
            error = theory.jackknife(pieces, corrected_information)
            halves = (
                stats.norm.ppf(0.975) * np.sqrt(variance),
                stats.t.ppf(0.975, groups - 1) * error,
            )
            hits[row] += np.abs(value - truth) <= np.array(halves, dtype=float)
coverage = hits / sets

# %%
figure = Figure(figsize=(11, 3.5))
first, second, third = figure.subplots(1, 3)
names = (f"task information (true {truth:.3f})", f"peer information, {peers} peers (true 0)")
for axis, k, true in ((first, 0, truth), (second, 1, 0.0)):
    axis.axhline(true, color="0.6", linestyle="-")
    predicted = [true + theory.gaussian_information_bias(int(n), 1, (1, peers)[k]) for n in sizes]
    axis.semilogx(sizes, predicted, "--", color="#d1495b", label="predicted plug-in mean")
    axis.semilogx(sizes, plain[:, :, k].mean(1), "s", color="#d1495b", label="plug-in")
    axis.semilogx(sizes, corrected[:, :, k].mean(1), "o", color="#00429d", label="corrected")
    axis.set(xlabel="samples n", ylabel="nats", title=names[k])
    axis.set_xticks(sizes, labels=[str(n) for n in sizes])
    axis.minorticks_off()
first.legend()
used = sizes >= 80
third.axhspan(0.92, 0.97, color="0.92")
third.axhline(0.95, color="0.6")
third.semilogx(sizes[used], coverage[used, 0], "o-", label="delta method")
third.semilogx(sizes[used], coverage[used, 1], "s--", label="jackknife, 10 groups")
third.set(xlabel="samples n", ylabel="share holding the truth", ylim=(0.8, 1.0))
third.set_xticks(sizes[used], labels=[str(n) for n in sizes[used]])
third.minorticks_off()
third.set_title("95 % intervals, task information")
third.legend(loc="lower right")
figure

# %%
error = corrected.std(axis=1) / np.sqrt(sets)
assert (np.abs(corrected.mean(1) - [truth, 0.0]) < 4 * error).all(), "centred at every n"
assert plain[0, :, 1].mean() > 10 * error[0, 1], "the plug-in estimate is not"
spread = 3 * np.sqrt(0.95 * 0.05 / sets)
assert (np.abs(coverage[-2:] - 0.95) < spread + 0.02).all()
