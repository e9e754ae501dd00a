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
# # Geometry of the two gradient directions
#
# Input capture grows fastest along $\Sigma w$; task information along the *residualized*
# direction $c - (b/D)\Sigma w$, what the target still covaries with once the channel is regressed
# out. The two are orthogonal in the $\Sigma^{-1}$ inner product, always, and in the Euclidean one
# where $\Sigma \propto I$. A nearly zero Euclidean cosine is therefore no evidence of separate
# axes by itself: the cosine that geometry alone allows must be known first.

# %%
import numpy as np
from matplotlib import style
from matplotlib.figure import Figure

from theory import catalogue

style.use("theory.shared.twoaxis")
forms = catalogue()

# %% [markdown]
# ## Two dimensions: the arrows

# %%
figure = Figure(figsize=(9.0, 3.6))
left, right = figure.subplots(1, 2)
sigma, w, c = np.diag([2.0, 0.5]), np.array([0.9, 0.8]), np.array([0.2, 0.9])
arrows = {
    "w": (w, "-", "0.55"),
    "capture  Σw": (sigma @ w, "-", "#00429d"),
    "target  c": (c, ":", "#2e8b57"),
    "residualized": (forms["residualized_direction"](Sigma=sigma, w=w, c=c), "--", "#d1495b"),
}
for label, (vector, line, color) in arrows.items():
    left.annotate(
        "",
        vector,
        (0, 0),
        arrowprops={"arrowstyle": "->", "linestyle": line, "color": color, "lw": 1.8},
    )
    left.text(*(vector * 1.06), label, color=color, ha="center", va="bottom")
angle = np.linspace(0, 2 * np.pi, 200)
left.plot(*(np.sqrt(np.diag(sigma))[:, None] * [np.cos(angle), np.sin(angle)]), "-", color="0.8")
left.set(
    xlim=(-1.6, 2.4),
    ylim=(-0.9, 1.4),
    aspect="equal",
    xlabel="input 1",
    ylabel="input 2",
    title="grey: one standard deviation of the input",
)

# %% [markdown]
# ## Many dimensions: the Euclidean cosine of random channels depends on the spectrum

# %%
rng = np.random.default_rng(0)
dimension, cosine = 64, forms["gradient_cosine"]
exponents = np.array([0.0, 0.5, 1.0, 1.5, 2.0])
means = {}
for label, marker, line in (("label c random", "o", "-"), ("own output c = Σm", "s", "--")):
    means[label] = []
    for exponent in exponents:
        spectrum = np.arange(1.0, dimension + 1) ** -exponent
        cov = np.diag(spectrum)
        values = []
        for _ in range(40):
            w, m = rng.standard_normal((2, dimension))
            c = np.sqrt(spectrum) * m if label.startswith("label") else cov @ m
            values.append(abs(cosine(Sigma=cov, w=w, c=c)))
        means[label].append(float(np.mean(values)))
    right.plot(exponents, means[label], marker=marker, linestyle=line, label=label)
right.set(
    xlabel="spectrum exponent γ  (λ ∝ k^−γ)",
    ylabel="mean |cos(∇I_X, ∇I_T)|",
    ylim=(0, 1),
    title=f"random channels, d = {dimension}",
)
right.legend()
figure

# %%
w, c = np.array([0.9, 0.8]), np.array([0.2, 0.9])
assert abs(forms["residualized_precision_product"](Sigma=sigma, w=w, c=c)) < 1e-12
assert abs(forms["residualized_weight_product"](Sigma=sigma, w=w, c=c)) < 1e-12
assert all(curve[0] < 1e-9 for curve in means.values()), "zero at an isotropic input"
assert all(curve[-1] > 0.1 for curve in means.values()), "and not at a steep spectrum"
