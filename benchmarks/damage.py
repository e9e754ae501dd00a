"""The law of damage against the fast exact lesions, and against a plain forward and backward pass.

For each network (full width, 32 x 32, 10 classes, random weights and batch statistics): `damage` of
every channel of every layer, alone and with its peers, both passes and all regressions included;
one training step's forward and backward on the same images in batches of the same size; and the
fast exact mean lesions of a stated sample of each layer's channels, scaled to all of them. Times
are per image, and the exact lesions give damage alone only. The last line is JSON.

    python benchmarks/damage.py [--images 256] [--lesioned 8] [--channels 2] [--models resnet18 ...]
                                [--device cuda]
"""

from __future__ import annotations

import argparse
import json

import torch
from lesion import MEMORY, prepared, stopwatch
from torch.nn import functional

from empirical import damage
from empirical.devices import full_precision, room
from empirical.lesions.interventions import Job, ToConstant
from empirical.lesions.plan import plan_runs
from empirical.reading.hooks import evaluating
from empirical.reading.layers import find_layers


def main() -> None:
    """Parse the command line, time each network, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lesioned", type=int, default=16, help="images of exact lesions")
    parser.add_argument("--channels", type=int, default=4, help="lesions timed in each layer")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--models", nargs="+", default=["resnet18", "vgg16", "mobilenetv2"])
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    result: dict[str, object] = {
        name: vars(options)[name] for name in ("threads", "images", "device")
    }
    with full_precision():
        for name in options.models:
            result |= benchmark(name, options)
    print(json.dumps(result))


def benchmark(name: str, options: argparse.Namespace) -> dict[str, object]:
    """Seconds per image of each, and their ratios."""
    generator, device = torch.Generator().manual_seed(0), options.device
    model = prepared(name, generator).to(device)
    images = torch.randn(options.images, 3, 32, 32, generator=generator).to(device)
    labels = torch.arange(options.images, device=device) % 10
    loader = list(zip(images.split(options.batch), labels.split(options.batch), strict=True))
    damage(model, loader[:2])
    with stopwatch(device) as of_law:
        damage(model, loader)
    for batch, own in loader[:1]:
        functional.cross_entropy(model(batch), own).backward()
    with stopwatch(device) as of_step:
        for batch, own in loader:
            functional.cross_entropy(model(batch), own).backward()
    law, plain = of_law[0] / options.images, of_step[0] / options.images
    few = images[: options.lesioned]
    jobs = []
    for layer in find_layers(model, images):
        channels = torch.arange(min(options.channels, layer.n_channels))[:, None]
        zeros = ToConstant(torch.zeros(layer.n_channels, device=device))
        jobs.append(Job(layer, "mean", "pre_norm", zeros, channels))
    plan = plan_runs(model, few[:4], jobs, "fast", room(few.device, MEMORY))
    exact = 0.0
    with evaluating(model):
        for job, run in zip(jobs, plan.runners, strict=True):
            for _ in run(few, job):  # also the intact network's values, once per batch
                pass
            with stopwatch(device) as elapsed:
                for _ in run(few, job):
                    pass
            exact += elapsed[0] / len(job.channels) * job.layer.n_channels / len(few)
    print(f"{name:12} law {law * 1e3:.1f} ms, plain {plain * 1e3:.1f} ms, exact {exact:.2f} s")
    return {
        f"{name}_speedup_over_lesions_ratio": round(exact / law, 1),
        f"{name}_of_forward_and_backward_ratio": round(law / plain, 2),
        f"{name}_law_milliseconds_per_image": round(law * 1e3, 2),
    }


if __name__ == "__main__":
    main()
