"""Coverage of 95 % intervals: delta method and delete-one-group jackknife, against simulation.

Channels and target are jointly Gaussian with known quantities. Each data set gives bias-corrected
estimates, an interval from the delta-method variance at the estimate (normal quantile), and one
from a jackknife over 10 groups (Student quantile with 9 degrees of freedom). Printed: the share of
intervals that hold the truth.

Then E_i from few images: bias of the plug-in estimate and of the one that is taken by default, and
coverage of two intervals, over images, positions per image and how alike they are, for pairs of
channels with E = 0 or .5: around the estimate by the jackknife, and `predictability_interval` of
data sets that are not listed as of few samples. The last line is one JSON object.

    python benchmarks/interval_coverage.py [--sets 2000] [--n 400] [--few 40]
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import product

import numpy as np
from scipy import stats

from theory import (
    Moments,
    channel_axes,
    delta_information_variance,
    delta_predictability_variance,
    estimate_peers,
    jackknife,
    jackknife_standard_error,
    merge,
    predictability_interval,
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


def few_images(sets: int, channels: int = 64) -> list[dict[str, float | None]]:
    """One row per setting of images, positions, likeness and truth."""
    rows, rng = [], np.random.default_rng(1)
    columns = {
        "images": 7,
        "positions": 9,
        "alike": 6,
        "E": 4,
        "plug-in": 8,
        "bias": 7,
        "jackknife": 9,
        "held": 6,
    }
    print("\n" + " ".join(f"{name:>{width}}" for name, width in columns.items()))
    for per_channel, (positions, alike), truth in product(
        (1, 2, 4, 8), ((1, 0.0), (16, 0.0), (16, 0.5), (16, 0.9)), (0.0, 0.5)
    ):
        images = per_channel * channels
        found, plug_in, jack, held, listed = [], [], [], [], 0
        for _ in range(sets):
            z = np.sqrt(alike) * rng.standard_normal((images, 1, channels))
            z = z + np.sqrt(1 - alike) * rng.standard_normal((images, positions, channels))
            y = z.copy()
            y[..., 1::2] = np.sqrt(truth) * z[..., ::2] + np.sqrt(1 - truth) * z[..., 1::2]
            groups = [y[g::GROUPS].reshape(-1, channels) for g in range(GROUPS)]
            parts = [Moments.from_samples(group) for group in groups]
            known = estimate_peers(parts, samples_per_image=positions)
            options = {"samples_per_image": positions, "hull": False}
            axes = channel_axes(merge(parts), groups=known, **options)
            plain = channel_axes(merge(parts), hull=False).peer_predictability
            without = [
                channel_axes(
                    merge(parts[:g] + parts[g + 1 :]), groups=known.without(g), **options
                ).peer_predictability
                for g in range(GROUPS)
            ]
            error = jackknife_standard_error(np.stack(without))
            found.append(axes.peer_predictability)
            plug_in.append(plain)
            jack.append(np.abs(found[-1] - truth) <= stats.t.ppf(0.975, GROUPS - 1) * error)
            if "few_samples" in axes.affected:
                listed += 1
                continue
            n = known.effective_samples if positions > 1 else images
            low, high = predictability_interval(
                found[-1], error, n=n, peers=channels - 1, groups=GROUPS
            )
            held.append((low <= truth) & (truth <= high))
        row = {
            "images_per_channel": per_channel,
            "positions": positions,
            "alike": alike,
            "truth": truth,
            "plug_in_bias": float(np.mean(plug_in) - truth),
            "bias": float(np.mean(found) - truth),
            "jackknife": float(np.mean(jack)),
            "coverage": float(np.mean(held)) if held else np.nan,
            "listed": listed / sets,
        }
        rows.append({k: None if np.isnan(v) else round(v, 4) for k, v in row.items()})
        print(
            f"{images:7d} {positions:9d} {alike:6.1f} {truth:4.1f} {row['plug_in_bias']:8.3f} "
            f"{row['bias']:7.3f} {row['jackknife']:9.3f} {row['coverage']:6.3f}"
            f"{' listed' if row['listed'] > 0.5 else ''}",
            flush=True,
        )
    return rows


def main() -> None:
    """Simulate, count, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=2000, help="data sets per sample size")
    parser.add_argument("--few", type=int, default=40, help="data sets per setting of few images")
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
        "few_images": few_images(options.few),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
