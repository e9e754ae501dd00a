"""What measuring both axes costs, as a multiple of a plain forward pass of the same images.

There are two plain passes. One takes the images as a loader gives them, in batches of 200, which on
a CPU leave its caches: `<model>_ratio`, and `<model>_ratio_with_se` with standard errors. The other
is the fastest that there is, the best of some batch sizes and of both layouts in memory, in
inference mode, chosen on the first images: `<model>_fastest_ratio` and
`<model>_fastest_ratio_with_se`.

Passes and measurements alternate in one process, and each ratio is of the least time of each over
repeats. No repeat begins after five minutes of one network, and `<model>_repeats` says how many
there were. `--all` covers five networks: about 30 minutes on two cores. `--processor` counts
processor time, which other work on the machine disturbs less; it needs `--threads 1`. The last line
is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from itertools import product

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
SIZES = (16, 25, 50, 100)  # of batches, tried for the fastest pass
TRIED = 200  # images on which it is chosen
CLASSES = 100
ENOUGH = 300.0  # seconds of one network after which no repeat begins

Batches = list[tuple[Tensor, Tensor]]
Clock = Callable[[], float]


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


def inference_pass(model: nn.Module, parts: Sequence[Tensor]) -> None:
    """The same in inference mode."""
    model.eval()
    with torch.inference_mode():
        for images in parts:
            model(images)


def seconds(action: Callable[[], object], device: str, clock: Clock) -> float:
    """Time of one call, the device's queue included."""
    start = clock()
    action()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - start


def fastest(
    model: nn.Module, images: Tensor, device: str, clock: Clock
) -> tuple[Callable[[], None], str]:
    """The fastest plain pass over all images, and its batch size and layout."""
    layouts = {"": model, " channels last": deepcopy(model).to(memory_format=torch.channels_last)}

    def action(size: int, layout: str, images: Tensor) -> Callable[[], None]:
        kind = torch.channels_last if layout else torch.contiguous_format
        parts = images.contiguous(memory_format=kind).split(size)
        return lambda: inference_pass(layouts[layout], parts)

    found: dict[tuple[int, str], float] = {}
    for _ in range(3):
        for size, layout in product(SIZES, layouts):
            run = action(size, layout, images[:TRIED])
            cost = seconds(run, device, clock)
            found[size, layout] = min(cost, found.get((size, layout), np.inf))
    size, layout = min(found, key=lambda key: found[key])
    return action(size, layout, images), f"{size}{layout}"


def ratios(name: str, options: argparse.Namespace) -> dict[str, float | str]:
    """Time one network; see the module's text for the protocol."""
    device, clock = options.device, time.process_time if options.processor else time.perf_counter
    size = IMAGE_SIZE[name]
    model = create_model(name, classes=CLASSES, image_size=size, width=options.width).to(device)
    batches = random_batches(options.images, options.batch, size, device)
    quick, how = fastest(model, torch.cat([images for images, _ in batches]), device, clock)
    actions = {
        "plain": lambda: plain_pass(model, batches),
        "fastest": quick,
        "measured": lambda: measure(model, batches, standard_errors=False),
        "with_se": lambda: measure(model, batches),
    }
    plain_pass(model, batches[:1])
    with warnings.catch_warnings():  # of few samples
        warnings.simplefilter("ignore")
        measure(model, batches[:1])
        least: dict[str, float] = {}
        start, repeats = time.perf_counter(), 0
        while repeats < options.repeats and time.perf_counter() - start < ENOUGH:
            for key, action in actions.items():
                least[key] = min(seconds(action, device, clock), least.get(key, np.inf))
            repeats += 1
            print(name, {key: f"{value:.2f} s" for key, value in least.items()}, flush=True)
    found = {
        "ratio": least["measured"] / least["plain"],
        "ratio_with_se": least["with_se"] / least["plain"],
        "fastest_ratio": least["measured"] / least["fastest"],
        "fastest_ratio_with_se": least["with_se"] / least["fastest"],
        "plain_seconds": least["plain"],
        "fastest_seconds": least["fastest"],
    }
    told: dict[str, float | str] = {f"{name}_{key}": round(v, 3) for key, v in found.items()}
    return {f"{name}_repeats": repeats, f"{name}_fastest_batch": how} | told


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--all", action="store_true", help="all five networks")
    parser.add_argument("--models", nargs="+", choices=IMAGE_SIZE, default=["resnet18"])
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--repeats", type=int, default=3, help="at most so many per network")
    parser.add_argument("--width", type=float, default=1.0, help="of every layer")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument("--processor", action="store_true", help="processor time, of one thread")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.processor and torch.get_num_threads() > 1:
        parser.error("--processor counts threads that wait; pass --threads 1 as well")
    result: dict[str, object] = {
        "images": options.images,
        "batch": options.batch,
        "device": torch.cuda.get_device_name() if options.device != "cpu" else "cpu",
        "threads": torch.get_num_threads(),
        "width": options.width,
    }
    for name in IMAGE_SIZE if options.all else options.models:
        result |= ratios(name, options)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
