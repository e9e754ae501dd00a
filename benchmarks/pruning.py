"""How long pruning takes, and how long the factorial will: seconds, last line JSON.

    python benchmarks/pruning.py [--images 2000] [--report 2000]

`replaceability_512_seconds` is the greedy order of one layer of 512 channels (budget 2 s). The
factorial's time is that of its own cells on a ResNet-18 of width 0.25 with random weights, which
cost what trained ones cost: per cell a removal, a recovery and an evaluation.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time

import numpy as np
import torch

from empirical.models import create_model
from empirical.pruning.calibration import Calibration
from empirical.pruning.comparison import Factorial, run_factorial
from empirical.pruning.pruner import prune
from empirical.pruning.replaceability import removal_order

NETWORKS = 9
"""Three architectures of three seeds each."""


def seconds_of_order(channels: int) -> float:
    """Time the greedy order of one layer with one consumer."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4 * channels, channels)) @ rng.standard_normal((channels, channels))
    weights = rng.standard_normal((channels, channels))
    cov, gram = np.cov(x.T), weights.T @ weights
    started = time.perf_counter()
    removal_order([cov], [gram])
    return time.perf_counter() - started


def batches(images: int, seed: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Noise of CIFAR's shape."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(images, 3, 32, 32, generator=generator)
    labels = torch.randint(10, (images,), generator=generator)
    return list(zip(drawn.split(250), labels.split(250), strict=True))


def main() -> None:
    """Measure, and print one JSON object last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000, help="calibration images")
    parser.add_argument("--report", type=int, default=2000, help="report images")
    options = parser.parse_args()
    found = {f"replaceability_{c}_seconds": round(seconds_of_order(c), 4) for c in (64, 512)}

    model = create_model("resnet18", classes=10, image_size=32, width=0.25, seed=0).eval()
    known = Calibration(model, batches(options.images, 0))
    for name in ("graph", "axes", "input_moments", "map_ranks", "map_independence"):
        started = time.perf_counter()
        getattr(known, name)
        found[f"{name}_seconds"] = round(time.perf_counter() - started, 3)
    for recovery in ("none", "recalibrate", "compensate"):
        started = time.perf_counter()
        prune(model, known, macs=0.5, criterion="replaceability", recovery=recovery)
        found[f"prune_{recovery}_seconds"] = round(time.perf_counter() - started, 3)

    small = Factorial(criteria=("l2", "replaceability"), shares=(0.7, 0.2))
    report = batches(options.report, 1)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        rows = run_factorial(known, report, folder, network="probe", seed=0, factorial=small)
        per_cell = (time.perf_counter() - started) / len(rows)
    cells = len(list(Factorial().cells()))
    found["factorial_seconds_per_cell"] = round(per_cell, 3)
    found["factorial_cells_per_network"] = cells
    found["factorial_hours_for_9_networks"] = round(per_cell * cells * NETWORKS / 3600, 2)
    found["threads"] = torch.get_num_threads()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
