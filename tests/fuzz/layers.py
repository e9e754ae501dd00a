"""Random small layers of every kind that can go wrong, each from its own seed."""

import numpy as np

KINDS = (
    "plain", "dead", "copies", "wide", "one_more", "singular", "determined", "determined_by_pair",
    "ties", "scales", "nearly_singular", "nearly_determined", "offset", "one_hot",
)  # fmt: skip
"""`wide`: C > n; `one_more`: n = C + 1, where the channels determine any target; `ties`: rectified
small whole numbers; `scales`: channels of 1e-60 to 1e60; `offset`: means far above deviations."""


def samples(seed):
    """Return kind, (n, C) channels and (n, q) targets."""
    rng = np.random.default_rng([15, seed])
    kind = KINDS[seed % len(KINDS)]
    c, q = int(rng.integers(2, 8)), int(rng.integers(1, 4))
    n = int(rng.integers(c + q + 3, 40))
    n = {"wide": int(rng.integers(3, c + 2)), "one_more": max(c + 1, 3)}.get(kind, n)
    y = rng.standard_normal((n, c)) @ (np.eye(c) + rng.standard_normal((c, c)) / 2)
    t = y @ rng.standard_normal((c, q)) + rng.standard_normal((n, q))
    i, j = rng.choice(c, 2, replace=False)
    if kind == "dead":
        y[:, i] = rng.standard_normal()
    elif kind == "copies":
        y[:, i] = y[:, j] * rng.choice([-1.0, 2.0, 1.0])
    elif kind == "singular":
        y[:, i] = y @ np.where(np.arange(c) == i, 0.0, rng.standard_normal(c))
    elif kind == "determined":
        t[:, 0] = 3 * y[:, i] - 1
    elif kind == "determined_by_pair":
        t[:, 0] = y[:, i] - y[:, j]
    elif kind == "ties":
        y = np.maximum(rng.integers(-2, 3, (n, c)), 0.0)
        y[0], y[1] = 0.0, np.arange(c) + 1.0
    elif kind == "scales":
        y *= 10.0 ** rng.integers(-60, 61, c)
    elif kind == "nearly_singular":
        y[:, i] = y[:, j] + 10.0 ** rng.uniform(-7, -2) * y[:, i]
    elif kind == "nearly_determined":
        t = y[:, [i]] + 10.0 ** rng.uniform(-5, -2) * t[:, :1]
    elif kind == "offset":
        y += 10.0 ** rng.integers(0, 6, c)
    elif kind == "one_hot":
        t = np.eye(3)[rng.permutation(np.arange(n) % 3)]
    return kind, y, t
