"""What measuring both axes costs, as a multiple of a plain forward pass of the same images.

Plain passes and measurements alternate in one process; each ratio is the median over repeats of
one measurement against the mean of the plain passes before and after it. No repeat begins after
five minutes of one network, and `<model>_repeats` says how many there were. `--all` covers five
networks: about 30 minutes on two cores. The last line is one JSON object: `<model>_ratio`
without standard errors, `<model>_ratio_with_se` with them, seconds, and the images used. Batches
of 200 leave a CPU's caches and `measure` runs them in parts, so that a ratio may be below 1;
`<model>_ratio_over_small` and `<model>_ratio_with_se_over_small` are to plain passes in batches of
25, about the fastest that there is.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from empirical import measure
from empirical.models import create_model
from empirical.reading.hooks import evaluating

IMAGE_SIZE = {
    "resnet18": 32,
    "vgg16": 32,
    "mobilenetv2": 32,
    "resnet50": 64,
    "convnext_tiny": 64,
}
IMAGES = 2000
BATCH = 200
SMALL = 25
CLASSES = 100
ENOUGH = 300.0  # seconds of one network after which no repeat begins

Batches = list[tuple[Tensor, Tensor]]


def random_batches(images: int, batch: int, size: int, device: str) -> Batches:
    """Normal images and random labels: the cost does not depend on what is seen."""
    generator = torch.Generator().manual_seed(0)
    return [
        (
            torch.randn(n, 3, size, size, generator=generator).to(device),
            torch.randint(CLASSES, (n,), generator=generator).to(device),
        )
        for n in np.diff([*range(0, images, batch), images])
    ]


def plain_pass(model: nn.Module, batches: Batches) -> None:
    """Run the model in evaluation mode and do nothing with the logits."""
    with evaluating(model):
        for images, _ in batches:
            model(images)


def seconds(action: Callable[[], object], device: str) -> float:
    """Wall time of one call, the device's queue included."""
    start = time.perf_counter()
    action()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def ratios(name: str, images: int, batch: int, repeats: int, device: str) -> dict[str, float]:
    """Time one network; see the module's text for the protocol."""
    model = create_model(name, classes=CLASSES, image_size=IMAGE_SIZE[name]).to(device)
    batches = random_batches(images, batch, IMAGE_SIZE[name], device)

    def plain() -> float:
        return seconds(lambda: plain_pass(model, batches), device)

    def measured(errors: bool) -> float:
        return seconds(lambda: measure(model, batches, standard_errors=errors), device)

    warm_up = batches[:1]
    start = time.perf_counter()
    plain_pass(model, warm_up)
    measure(model, warm_up, standard_errors=False)
    small = [pair for x, y in batches for pair in zip(x.split(SMALL), y.split(SMALL), strict=True)]
    plain_pass(model, small[:2])
    fastest = seconds(lambda: plain_pass(model, small), device)
    found: dict[str, list[float]] = {"plain_seconds": [], "small_seconds": [fastest]}
    before = plain()
    for done in range(repeats):
        if done and time.perf_counter() - start > ENOUGH:
            break
        for key, errors in (("ratio", False), ("ratio_with_se", True)):
            cost, after = measured(errors), plain()
            found.setdefault(key, []).append(cost / ((before + after) / 2))
            found.setdefault(f"{key}_over_small", []).append(cost / fastest)
            found["plain_seconds"].append(after)
            before = after
        print(name, {key: f"{values[-1]:.3f}" for key, values in found.items()}, flush=True)
    medians = {f"{name}_{key}": round(float(np.median(v)), 3) for key, v in found.items()}
    return {f"{name}_repeats": len(found["ratio"])} | medians


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--all", action="store_true", help="all five networks")
    parser.add_argument("--models", nargs="+", choices=IMAGE_SIZE, default=["resnet18"])
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--repeats", type=int, default=3, help="at most so many per network")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    result: dict[str, object] = {
        "images": options.images,
        "batch": options.batch,
        "device": torch.cuda.get_device_name() if options.device != "cpu" else "cpu",
        "threads": torch.get_num_threads(),
    }
    for name in IMAGE_SIZE if options.all else options.models:
        result |= ratios(name, options.images, options.batch, options.repeats, options.device)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
