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
# # Coupling of the axes at initialization
#
# Channels $w \sim N(0, s^2 I)$: power $D = w^T\Sigma w$ and target covariance $b = w^T c$ are
# coupled by $\kappa = c^T\Sigma c/(\|c\|^2\|\Sigma\|_F)$, exactly. The squared *correlation* $q =
# b^2/(D\tau^2)$, on which task information depends, is coupled less: dividing by the power takes
# the common scale out.

# %%
import numpy as np
from matplotlib import style
from matplotlib.figure import Figure

import theory

style.use("theory.shared.twoaxis")
dimension = 64
exponents = np.linspace(0, 3, 25)
rank = np.arange(1.0, dimension + 1)

# %%
figure = Figure(figsize=(9.5, 3.6))
left, right = figure.subplots(1, 2)
targets = {"top mode": 0, "middle mode (k = 8)": 7, "last mode": dimension - 1}
kappa, normalized = {}, {}
for (label, mode), line in zip(targets.items(), ("-", "--", ":"), strict=True):
    c = np.zeros(dimension)
    c[mode] = 1.0
    kappa[label] = [theory.initial_coupling(rank**-g, c) for g in exponents]
    normalized[label] = [theory.initial_coupling_normalized(rank**-g, c) for g in exponents]
    left.plot(exponents, kappa[label], line, label=label)
    right.plot(exponents, normalized[label], line, label=label)
many = [theory.many_outputs_coupling(rank**-g) for g in exponents]
one = [theory.expected_output_coupling(rank**-g) for g in exponents]
left.plot(exponents, many, "-", marker="s", markevery=4, color="0.25", label="own outputs, many")
left.plot(exponents, one, "-.", marker="o", markevery=4, color="0.55", label="own output, mean")

# %% [markdown]
# Points: correlations over 20,000 sampled channels, the target in the top mode.

# %%
rng = np.random.default_rng(0)
w = rng.standard_normal((20_000, dimension))
sampled = []
for g in (0.0, 1.0, 2.0, 3.0):
    power = w**2 @ rank**-g
    sampled.append(
        (
            np.corrcoef(power, w[:, 0] ** 2)[0, 1],
            np.corrcoef(power, w[:, 0] ** 2 / power)[0, 1],
        )
    )
for axis, index in ((left, 0), (right, 1)):
    points = [pair[index] for pair in sampled]
    axis.plot((0, 1, 2, 3), points, "k^", linestyle="none", label="sampled")
    axis.set_xlabel("spectrum exponent γ  (λ ∝ k^−γ)")
left.set(ylabel="κ = corr(D, b²)", title=f"coupling with squared covariance, d = {dimension}")
right.set(ylabel="corr(D, q)", title="coupling with squared correlation")
left.legend(fontsize=7.5)
right.legend()
figure

# %%
exact = [(kappa["top mode"][i], normalized["top mode"][i]) for i in (0, 8, 16, 24)]
assert np.allclose(exponents[[0, 8, 16, 24]], [0, 1, 2, 3])
assert np.abs(np.array(exact) - sampled).max() < 0.05
assert abs(normalized["top mode"][0]) < 1e-9, "zero at an isotropic input, where κ is 1/√d"
assert np.isclose(kappa["top mode"][0], 1 / np.sqrt(dimension))
assert np.isclose(many[8], 0.58, atol=0.005)
assert np.isclose(many[16], 0.90, atol=0.005)
assert normalized["last mode"][8] < 0, "a target in a weak mode couples negatively"
