"""Time `channel_axes` at C = 512 against a plain double loop over pairs.

The naive route is the tests' twin, written from the equations. It takes hours at C = 512, so its
time is measured per pair and per channel on a sample of channels and scaled to all of them; the
sample is printed. Ratios come from one run; the last line is one JSON object.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.theory.naive_axes import information, r_squared
from theory import Moments, channel_axes

C, SAMPLES, REPEATS, SAMPLED_CHANNELS = 512, 20_000, 7, 6


def layer(seed=0):
    """A ReLU-like layer: low-rank common structure plus noise, and a margin-like target."""
    rng = np.random.default_rng(seed)
    hidden = rng.standard_normal((SAMPLES, 96)) * np.arange(1, 97) ** -0.5
    y = hidden @ rng.standard_normal((96, C)) + 0.3 * rng.standard_normal((SAMPLES, C))
    return Moments.from_samples(y, hidden[:, :8].sum(axis=1) + rng.standard_normal(SAMPLES))


def best(function):
    """Seconds of the median of several calls."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def naive_seconds(moments):
    """All quantities without the hull by a double loop, on some channels, scaled to C."""
    cov, targets = moments.cov, [C]
    start = time.perf_counter()
    for i in range(SAMPLED_CHANNELS):
        others = [j for j in range(C) if j != i]
        overlaps = [information(cov, [i], [j]) for j in others]
        near = [others[k] for k in np.argsort(overlaps)[::-1][:50]]
        for j in near:
            information(cov, [i, j], targets)
        information(cov, [i], targets)
        r_squared(cov, i, others)
        information(cov, [i, *others], targets)
        information(cov, others, targets)
    return (time.perf_counter() - start) * C / SAMPLED_CHANNELS


def main():
    """Print a table and the JSON line."""
    moments = layer()
    channel_axes(moments)
    plain = best(lambda: channel_axes(moments, hull=False))
    hulls = best(lambda: channel_axes(moments))
    naive = naive_seconds(moments)
    print(f"C = {C}; naive loop timed on {SAMPLED_CHANNELS} channels and scaled to {C}")
    print(f"channel_axes without hull {plain:.4f} s, with hull {hulls:.4f} s, naive {naive:.1f} s")
    result = {
        "channels": C,
        "without_hull_seconds": round(plain, 4),
        "with_hull_seconds": round(hulls, 4),
        "naive_seconds": round(naive, 2),
        "naive_to_fast_ratio": round(naive / plain, 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
