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
# # From coupled to separated: the chain in one figure
#
# At initialization the target that a layer faces is the network's own random output, which varies
# most where the inputs do: channels of high power say most about it. Training replaces that output
# by the label, and the coupling goes where the label's variance lies. Theory says so for fresh
# random channels (left); batch-normalized linear networks do it (middle); and so does a small
# convolutional network, asked also with its features held (right).

# %%
from matplotlib import style

style.use("theory.shared.twoaxis")

import numpy as np
import pandas as pd

import theory
from empirical import image_loader, load_data, train
from empirical.analysis.carriers import carrier_sentence, carriers, crossed_couplings
from empirical.models import ModelSpec
from empirical.training.recipes import PHOTOGRAPHS
from sim import Network, Regression, power_law, simulate
from sim.experiments.plotting import band
from theory.shared.style import label, mark, sheet

ALIGNMENTS = {"on weak inputs": -1.0, "even": 0.0, "on strong inputs": 1.0}
SPECTRUM = power_law(32, 2.0)
figure, ((left, middle, right),) = sheet(1, 3, width=12.0, height=3.4, sharey=True)

# %% [markdown]
# ## Theory
#
# Spearman of input capture and task information across the channels of the flow, its readout fixed,
# in closed form at every time.

# %%
rng = np.random.default_rng(0)
weights = rng.standard_normal((256, 32)) / np.sqrt(32)
readout = rng.standard_normal(256) / np.sqrt(256)
times = np.geomspace(1e-2, 1e4, 60)
foretold = {}
for number, (name, alignment) in enumerate(ALIGNMENTS.items()):
    task = Regression(SPECTRUM, alignment=alignment)
    flow = theory.fixed_readout_flow(
        np.diag(task.spectrum), task.population.cross[:, 0], readout, weights
    )
    foretold[name] = np.array([flow.rank_coupling(t, "output") for t in times])
    left.semilogx(times, foretold[name], label=name, markevery=6, **mark(number))
label(left, "time (steps × learning rate)", "coupling of the axes", "theory, readout fixed")
left.legend(title="label's variance", loc="upper right", ncols=3, fontsize=7, columnspacing=1.0)

# %% [markdown]
# ## Simulation
#
# Both layers learn, behind a batch norm, where the loss gradient of every filter is the
# residualized direction. Spearman across 64 channels, with 95 % over 24 networks.

# %%
ends = {}
for number, (name, alignment) in enumerate(ALIGNMENTS.items()):
    run = simulate(
        Regression(SPECTRUM, alignment=alignment),
        Network(width=64, norm=True),
        steps=6000,
        learning_rate=0.02,
        seeds=24,
        quantities=False,
    )
    band(middle, run.time, run.coupling(), number, name)
    ends[name] = run.coupling()[:, -1].mean()
label(middle, "time (steps × learning rate)", "", "batch-normalized linear networks")

# %% [markdown]
# ## A network on photographs
#
# Features of one step are asked about the logits of another. With `turning=False` filters keep
# their directions: behind a norm nothing of a filter's gradient is left, all of it is residualized.

# %%
train_set, _ = load_data("photographs")
loader = image_loader(train_set, batch_size=250)
spec = ModelSpec("small_convnet", train_set.classes, train_set.image_size, train_set.channels)
found = []
for turning in (True, False):
    for seed in range(5):
        kept = {}
        train(
            spec.build(seed),
            train_set,
            recipe=PHOTOGRAPHS.but(epochs=8, turning=turning),
            seed=seed,
            on_checkpoint=lambda step, model, kept=kept: (
                kept.update({step: spec.build(0)}) or kept[step].load_state_dict(model.state_dict())
            ),
        )
        own = crossed_couplings({s: kept[s] for s in (min(kept), max(kept))}, loader)
        found.append(own.assign(seed=seed, turning=turning))
found = pd.concat(found)
tables = {turning: carriers(own) for turning, own in found.groupby("turning")}
names = ["first features, first target", "last features, first target"]
names += ["first features, last target", "last features, last target"]
for number, (turning, title) in enumerate({True: "filters turn", False: "filters held"}.items()):
    table = tables[turning].set_index("what").loc[names]
    place = np.arange(4) + 0.15 * (2 * number - 1)
    error = np.abs(table[["low", "high"]].to_numpy().T - table["mean"].to_numpy())
    look = mark(number, linestyle="none")
    right.errorbar(place, table["mean"], error, label=title, **look)
right.set_xticks(range(4), [name.replace(", ", "\n") for name in names], fontsize=7)
label(right, "", "", "three convolutions on photographs")
right.legend()
figure

# %%
for turning, table in tables.items():
    print("-", "filters turn:" if turning else "filters held:", carrier_sentence(table))

# %%
for curve in foretold.values():
    assert curve[0] > 0.5, "coupled at initialization, whatever the label"
assert foretold["on strong inputs"][-1] > 0.4
assert abs(foretold["even"][-1]) < 0.2
assert foretold["on weak inputs"][-1] < 0
assert ends["on strong inputs"] > 0.4 > 0.2 > abs(ends["even"]) > ends["on weak inputs"]
