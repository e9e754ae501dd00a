"""Coverage of 95 % intervals: delta method and delete-one-group jackknife, against simulation.

Channels and target are jointly Gaussian with known quantities. Each data set gives bias-corrected
estimates, an interval from the delta-method variance at the estimate (normal quantile), and one
from a jackknife over 10 groups (Student quantile with 9 degrees of freedom). Printed: the share of
intervals that hold the truth. The last line is one JSON object.

    python benchmarks/interval_coverage.py [--sets 2000] [--n 400]
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
from scipy import stats

from theory import (
    Moments,
    channel_axes,
    delta_information_variance,
    delta_predictability_variance,
    jackknife,
    merge,
)

GROUPS = 10
QUANTITIES = (
    "task_information",
    "peer_information",
    "peer_predictability",
    "conditional_task_information",
)
COVARIANCE = np.array(
    [
        [1.0, 0.5, 0.3, 0.2, 0.5],
        [0.5, 1.0, 0.4, 0.1, 0.2],
        [0.3, 0.4, 1.0, 0.3, 0.3],
        [0.2, 0.1, 0.3, 1.0, -0.1],
        [0.5, 0.2, 0.3, -0.1, 1.0],
    ]
)
"""Four channels, then the target; channel 1 is looked at, away from zero in every quantity."""


def estimates(moments: Moments, corrected: bool = True) -> np.ndarray:
    """The quantities of the first channel."""
    axes = channel_axes(moments, bias_correction=corrected)
    return np.array([getattr(axes, name)[0] for name in QUANTITIES])


def delta_variances(values: np.ndarray, n: int) -> np.ndarray:
    """Delta-method variances at the estimates: ρ²/n = (1 − e^(−2I))/n, or 4E(1 − E)²/n."""
    result = []
    for name, value in zip(QUANTITIES, values, strict=True):
        if name == "peer_predictability":
            result.append(float(delta_predictability_variance(np.clip(value, 0, 1), n)))
        else:
            rho = np.sqrt(-np.expm1(-2 * max(value, 0.0)))
            result.append(float(delta_information_variance(rho, n)))
    return np.array(result)


def main() -> None:
    """Simulate, count, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=2000, help="data sets per sample size")
    parser.add_argument("--n", type=int, nargs="+", default=[200, 400, 1000])
    options = parser.parse_args()
    truth = estimates(Moments.from_covariance(COVARIANCE), corrected=False)
    rng = np.random.default_rng(0)
    begin = time.perf_counter()
    report: dict[str, dict[str, float]] = {}
    print(f"{'n':>6} {'quantity':32} {'truth':>8} {'bias/se':>8} {'delta':>7} {'jackknife':>10}")
    for n in options.n:
        hits = np.zeros((2, len(QUANTITIES)))
        found = []
        for _ in range(options.sets):
            data = rng.multivariate_normal(np.zeros(5), COVARIANCE, n, method="cholesky")
            groups = [Moments.from_samples(g[:, :4], g[:, 4]) for g in np.array_split(data, GROUPS)]
            value = estimates(merge(groups))
            found.append(value)
            delta = stats.norm.ppf(0.975) * np.sqrt(delta_variances(value, n))
            jack = stats.t.ppf(0.975, GROUPS - 1) * jackknife(groups, estimates)
            hits += np.abs(value - truth) <= np.stack([delta, jack])
        share = hits / options.sets
        drawn = np.array(found)
        bias = (drawn.mean(0) - truth) / (drawn.std(0) / np.sqrt(options.sets))
        for k, name in enumerate(QUANTITIES):
            row = {"delta": share[0, k], "jackknife": share[1, k], "bias_se": bias[k]}
            report[f"{name}@{n}"] = {key: round(float(x), 4) for key, x in row.items()}
            print(
                f"{n:6d} {name:32} {truth[k]:8.4f} {bias[k]:8.2f} {share[0, k]:7.3f} "
                f"{share[1, k]:10.3f}"
            )
    shares = [row[m] for row in report.values() for m in ("delta", "jackknife")]
    summary = {
        "benchmark": "coverage",
        "sets": options.sets,
        "lowest": min(shares),
        "highest": max(shares),
        "within_92_97": bool(min(shares) >= 0.92 and max(shares) <= 0.97),
        "seconds": round(time.perf_counter() - begin, 1),
        "rows": report,
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
