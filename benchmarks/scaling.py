"""How the cost of each computation grows: measured exponents beside those of theory.

Each curve is timed at several sizes, in turns, and its exponent is the least-squares slope of log
time on log size; beside it stand the slopes between neighbouring sizes. Processor time of one
thread, the least of some repeats, so that other work on the machine disturbs little. A size whose
time the curve's theory puts beyond a minute is left out, and said. Prints the rows of
docs/benchmarks.md; the last line is one JSON object. Some four minutes of processor time.

    OMP_NUM_THREADS=1 python benchmarks/scaling.py [--only merge] [--scale 1]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from empirical import lesion, measure
from empirical.measuring.estimation import merge_tables
from empirical.pruning.replaceability import removal_order
from sim import Network, Regression, power_law, simulate
from theory import Moments, channel_axes, merge, regress_on_peers

LONGEST = 60.0  # seconds: larger sizes are left out
ENOUGH = 1.0  # seconds of one size after which it is not repeated
REPEATS = 5
ALIKE = 0.3  # by which the exponent, or that of the largest sizes, may differ from theory's
ROOT = Path(__file__).parent.parent

Batches = list[tuple[Tensor, Tensor]]
Action = Callable[[], object]


@dataclass(frozen=True)
class Curve:
    """One computation over one size; `prepared(size)` returns what is timed."""

    name: str
    theory: float
    sizes: Sequence[int]
    bound: str
    prepared: Callable[[int], Action]


def batches(n: int, *shape: int, first: int = 0) -> Batches:
    """Normal images and labels, in batches of 100."""
    generator = torch.Generator().manual_seed(first)
    images = torch.randn(n, *shape, generator=generator)
    return list(zip(images.split(100), (torch.arange(n) % 10).split(100), strict=True))


def convolutions(channels: int, depth: int) -> nn.Module:
    """`depth` convolutions of 3 × 3 after a first one of 1 × 1, on 8 × 8 images, and a readout."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(3, channels, 1)]
    for _ in range(depth):
        layers += [nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1, bias=False)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


def perceptron(channels: int) -> nn.Module:
    """Two hidden layers: little to run, so that what is made of their moments counts."""
    torch.manual_seed(0)
    hidden = [m for _ in range(2) for m in (nn.Linear(channels, channels), nn.Tanh())]
    return nn.Sequential(*hidden, nn.Linear(channels, 10))


def layer(channels: int, rank: int | None = None) -> Moments:
    """Moments of channels with common structure, and of one target; of a stated rank."""
    rng = np.random.default_rng(0)
    n = rank or 2 * channels
    hidden = rng.standard_normal((n + 1, n))
    y = hidden @ rng.standard_normal((n, channels)) / np.sqrt(n)
    return Moments.from_samples(y, hidden[:, :8].sum(axis=1))


def measured(images: int, channels: int, depth: int) -> Action:
    """`measure` without standard errors."""
    model, loader = convolutions(channels, depth), batches(images, 3, 8, 8)
    return lambda: measure(model, loader, standard_errors=False, hull=False)


def in_groups(groups: int) -> Action:
    """`measure` with standard errors over so many groups of images."""
    model, loader = perceptron(256), batches(1600, 256)
    return lambda: measure(model, loader, groups=groups, hull=False)


def product(channels: int) -> Action:
    """What most cubes are made of."""
    matrix = np.random.default_rng(0).standard_normal((channels, channels))
    return lambda: matrix @ matrix


def axes(channels: int, *, hull: bool) -> Action:
    """Every quantity of one layer."""
    moments = layer(channels)
    return lambda: channel_axes(moments, hull=hull)


def merged(channels: int) -> Action:
    """The moments of 8 shares."""
    part = layer(channels)
    return lambda: merge([part] * 8)


def merged_tables(channels: int) -> Action:
    """Two shares of a measurement, each of 100 images in 10 groups."""
    model = perceptron(channels)
    parts = [
        measure(model, batches(100, channels, first=start), hull=False, first_image=start)
        for start in (0, 100)
    ]
    return lambda: merge_tables(parts)


def removed(channels: int) -> Action:
    """The whole order of removal by replaceability."""
    cov = layer(channels).cov[:channels, :channels]
    return lambda: removal_order([cov], [np.eye(channels)])


def peers(channels: int) -> Action:
    """All regressions on peers of a layer of half rank."""
    moments = layer(channels, rank=channels // 2)
    return lambda: regress_on_peers(moments, ridge=0.0)


def lesioned(images: int, channels: int, wanted: int) -> Action:
    """Zero lesions of some channels of the first of three layers."""
    model, loader = convolutions(channels, 2), batches(images, 3, 8, 8)
    chosen = {"0": list(range(wanted))}
    return lambda: lesion(model, loader, channels=chosen, kinds=["zero"])


def simulated(channels: int, steps: int, members: int) -> Action:
    """Training of linear networks on the population's gradient."""
    task = Regression(power_law(32, 1.0), alignment=0.5)
    network = Network(width=channels)
    options = {"records": 2, "quantities": False, "threads": 1, "learning_rate": 1e-3}
    return lambda: simulate(task, network, steps=steps, seeds=members, **options)


CURVES = (
    Curve(
        "a product of two matrices, for comparison",
        3,
        (512, 1024, 2048, 4096),
        "the processor",
        product,
    ),
    Curve("`measure`, images", 1, (400, 800, 1600, 3200), "the forward pass",
          lambda n: measured(n, 64, 4)),
    Curve("`measure`, channels", 2, (128, 256, 512, 1024),
          "convolutions and products of samples; the inverses of a layer are its cube",
          lambda c: measured(100, c, 2)),
    Curve("`measure`, depth", 1, (4, 8, 16, 32), "the forward pass",
          lambda d: measured(200, 64, d)),
    Curve("`measure` with standard errors, groups", 1, (10, 20, 40, 80),
          "an inverse per group and layer", in_groups),
    Curve("`channel_axes` without hull, channels", 3, (512, 1024, 2048, 4096),
          "one inverse; half is a few sweeps over the pairs", lambda c: axes(c, hull=False)),
    Curve("`channel_axes` with hull, channels", 3, (512, 1024, 2048, 4096),
          "the inverse; greedy hulls of at most ten peers look at each pair some times",
          lambda c: axes(c, hull=True)),
    Curve("`merge` of 8 moments, channels", 2, (512, 1024, 2048, 4096), "reading the parts",
          merged),
    Curve("merging two tables of 10 groups, channels", 2, (512, 1024, 2048),
          "evaluating the whole and ten replicates, of rank 200 here; of full rank their cube",
          merged_tables),
    Curve("order of `replaceability`, channels", 3, (256, 512, 1024, 2048),
          "an update of rank two per removal", removed),
    Curve("peers of a singular layer without ridge, channels", 3, (256, 512, 1024, 2048),
          "one eigendecomposition", peers),
    Curve("`lesion`, channels lesioned", 1, (32, 64, 128, 256),
          "what follows the lesion, run again",
          lambda k: lesioned(32, 256, k)),
    Curve("`lesion`, images", 1, (64, 128, 256, 512), "the same", lambda n: lesioned(n, 64, 16)),
    Curve("`lesion` of every channel of a layer, width", 3, (64, 128, 256),
          "as many lesions as channels, each through convolutions of their square",
          lambda c: lesioned(8, c, c)),
    Curve("`simulate`, channels", 1, (256, 512, 1024, 2048),
          "products with the 32 inputs; a record takes the square",
          lambda c: simulated(c, 10_000, 4)),
    Curve("`simulate`, steps", 1, (2000, 4000, 8000, 16000), "the steps",
          lambda n: simulated(128, n, 4)),
    Curve("`simulate`, members", 1, (16, 32, 64, 128), "the members",
          lambda m: simulated(128, 1000, m)),
)  # fmt: skip


def seconds(action: Action) -> float:
    """Processor time of one call."""
    start = time.process_time()
    action()
    return time.process_time() - start


def timed(curve: Curve, scale: float) -> dict[int, float]:
    """Size -> least seconds; sizes beyond the guard are left out."""
    sizes = [max(2, int(size * scale)) for size in curve.sizes]
    actions, least, spent = {}, dict.fromkeys(sizes, np.inf), dict.fromkeys(sizes, 0.0)
    for number in range(REPEATS):
        for place, size in enumerate(sizes):
            if number == 0:
                before = sizes[place - 1]
                if place and least[before] * (size / before) ** curve.theory > LONGEST:
                    del least[size]
                    sizes = sizes[:place]
                    print(f"{curve.name}: {size} and beyond left out", flush=True)
                    break
                actions[size] = curve.prepared(size)
                if place == 0:
                    actions[size]()  # compiles, and fills caches
            if spent[size] < ENOUGH:
                found = seconds(actions[size])
                least[size], spent[size] = min(least[size], found), spent[size] + found
    return {size: least[size] for size in sizes}


def slopes(least: dict[int, float]) -> tuple[float, list[float]]:
    """Exponent by least squares, and between neighbouring sizes."""
    x, y = np.log(list(least)), np.log(list(least.values()))
    return float(np.polyfit(x, y, 1)[0]), (np.diff(y) / np.diff(x)).tolist()


def import_seconds(statement: str) -> float:
    """Processor time of a fresh interpreter that runs one statement; the median of three."""
    code = f"import time; {statement}; print(time.process_time())"
    runs = [
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
        for _ in range(4)
    ]
    return float(np.median([float(run.stdout) for run in runs[1:]]))


def main() -> None:
    """Parse the command line, time each curve, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", help="curves whose name holds this")
    parser.add_argument("--scale", type=float, default=1.0, help="of all sizes, to try it out")
    options = parser.parse_args()
    torch.set_num_threads(1)
    start, result = time.perf_counter(), {}
    print("| what | sizes | exponent | between neighbours | theory | largest | bounded by |")
    print("|---|---|---|---|---|---|---|")
    for curve in CURVES:
        if options.only not in curve.name:
            continue
        with warnings.catch_warnings():  # of few samples
            warnings.simplefilter("ignore")
            least = timed(curve, options.scale)
        slope, between = slopes(least)
        sizes = list(least)
        print(
            f"| {curve.name} | {sizes[0]:,} to {sizes[-1]:,} | {slope:.2f} | "
            f"{', '.join(f'{value:.2f}' for value in between)} | {curve.theory:g} "
            f"| {least[sizes[-1]]:.2g} s | {curve.bound} |",
            flush=True,
        )
        result[curve.name.replace("`", "")] = {
            "exponent": round(slope, 3),
            "between": [round(value, 3) for value in between],
            "theory": curve.theory,
            "alike": min(abs(x - curve.theory) for x in (slope, between[-1])) <= ALIKE,
            "seconds": {size: float(f"{value:.3g}") for size, value in least.items()},
        }
    imports = ("import twoaxis", "import torch", "from empirical import measure")
    found = {what: round(import_seconds(what), 2) for what in imports if not options.only}
    print(
        json.dumps(
            {
                "curves": result,
                "imports": found,
                "wall": round(time.perf_counter() - start),
                "processor": round(time.process_time()),
            }
        )
    )


if __name__ == "__main__":
    main()
