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
# # What a lesion costs
#
# Every channel of an ensemble is held at its mean, replaced by its regression on the others, or
# left out with the readout fitted anew, all along training. The edited network is evaluated
# again; the identities predict the damage from the intact one.

# %%
from sim.experiments import lesion
from sim.experiments.estimates import estimate

# %%
result = lesion(seeds=8)
for finding in result.findings():
    print("-", finding)
result.figure()

# %%
assert all(result.deviation(kind) < 1e-10 for kind in ("mean", "replacement", "refit"))

# %% [markdown]
# What ranks channels by the damage of their replacement? Once the readout fits, the conditional
# task information does, exactly; neither axis alone does.

# %%
replaced = {
    name: estimate(result.rank_correlation("replacement", name, -1))
    for name in ("conditional_task_information", "task_information", "peer_predictability")
}
assert replaced["conditional_task_information"].mean > 0.999
assert replaced["task_information"].high < 0.8
assert abs(replaced["peer_predictability"].mean) < 0.5
