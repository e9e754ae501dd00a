"""Every single-channel lesion: only what changes is run again, against a whole forward pass each.

For each network (full width, 32 x 32, 10 classes, random weights and batch statistics) the mean
lesion is run on a stated sample of the channels of every layer, both ways; a layer's time is its
time per lesion times its number of channels, and the ratio is that of the sums over all layers.
A naive pass is timed before each layer, so that both ways see the same load of the machine.
Random weights are the slowest case: in a trained network a channel is silent on many images, which
are then skipped. The last line is JSON. Reference run: see docs/lesions.md.

    python benchmarks/lesion.py [--images 64] [--channels 6] [--threads 2] [--models resnet18 ...]
                                [--device cuda]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from empirical.devices import full_precision, room
from empirical.lesions.interventions import Job, ToConstant
from empirical.lesions.plan import plan_runs
from empirical.models import create_model
from empirical.reading.hooks import evaluating
from empirical.reading.layers import find_layers

MEMORY = 2 << 30


def main() -> None:
    """Parse the command line, time each network, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--channels", type=int, default=6, help="lesions timed in each layer")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--models", nargs="+", default=["resnet18", "vgg16", "mobilenetv2"])
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    result: dict[str, object] = {
        "threads": arguments.threads,
        "images": arguments.images,
        "lesions_timed_per_layer": arguments.channels,
        "torch": torch.__version__,
        "device": arguments.device,
    }
    with full_precision():
        for name in arguments.models:
            result |= benchmark(name, arguments.images, arguments.channels, arguments.device)
    print(json.dumps(result))


def benchmark(name: str, n_images: int, n_channels: int, device: str) -> dict[str, object]:
    """Time all layers of one network and compare the logits of both ways."""
    generator = torch.Generator().manual_seed(0)
    model = prepared(name, generator).to(device)
    images = torch.randn(n_images, 3, 32, 32, generator=generator).to(device)
    jobs = []
    for layer in find_layers(model, images):
        # one block of neighbours, as a run over all channels would have it
        channels = torch.arange(min(n_channels, layer.n_channels))[:, None]
        zeros = ToConstant(torch.zeros(layer.n_channels, device=device))
        jobs.append(Job(layer, "mean", "pre_norm", zeros, channels))
    memory = room(images.device, MEMORY)
    fast = plan_runs(model, images[:4], jobs, "fast", memory)
    naive = plan_runs(model, images[:4], jobs, "naive", memory)
    lesions = sum(job.layer.n_channels for job in jobs)
    seconds, naive_seconds, difference = np.zeros(2), np.zeros(2), 0.0
    with evaluating(model):
        model(images)
        for job, run in zip(jobs, fast.runners, strict=True):
            first = Job(job.layer, job.kind, job.point, job.change, job.channels[:1])
            with stopwatch(device) as whole:
                reference = next(naive.runners[0](images, first)).logits
            obtained = model(images)
            for part in run(images, first):  # also the intact network's values, once per batch
                obtained[part.image] = part.logits
            difference = max(difference, float((obtained - reference).abs().max()))
            with stopwatch(device) as parts:
                for _ in run(images, job):
                    pass
            each = np.array(parts) / len(job.channels)
            seconds += each * job.layer.n_channels
            naive_seconds += np.array(whole) * job.layer.n_channels
            print(
                f"{name:12} {job.layer.name:28} {job.layer.n_channels:5} channels "
                f"{each[0] * 1e3:9.2f} ms per lesion, whole pass {whole[0] * 1e3:9.2f} ms",
                flush=True,
            )
        with stopwatch(device) as intact:
            model(images)
        seconds += intact  # the intact network's own pass
    return {
        f"{name}_speedup_ratio": round(naive_seconds[0] / seconds[0], 2),
        f"{name}_processor_time_ratio": round(naive_seconds[1] / seconds[1], 2),
        f"{name}_lesions": lesions,
        f"{name}_fast_seconds": round(seconds[0], 2),
        f"{name}_naive_seconds": round(naive_seconds[0], 2),
        f"{name}_largest_logit_difference": float(f"{difference:.3g}"),
        f"{name}_fallback_layers": len(fast.fallback),
    }


def prepared(name: str, generator: torch.Generator) -> nn.Module:
    """A network whose batch norms have seen some batches."""
    model = create_model(name, classes=10, image_size=32)
    with torch.no_grad():
        for _ in range(3):
            model.train()(torch.randn(32, 3, 32, 32, generator=generator))
    return model.eval()


@contextmanager
def stopwatch(device: str) -> Iterator[list[float]]:
    """Time the block: seconds of the clock and of the processors are in the list once it ends."""
    elapsed = [0.0, 0.0]
    if device != "cpu":
        torch.cuda.synchronize()
    wall, processor = time.perf_counter(), time.process_time()
    yield elapsed
    if device != "cpu":
        torch.cuda.synchronize()
    elapsed[:] = time.perf_counter() - wall, time.process_time() - processor


if __name__ == "__main__":
    main()
