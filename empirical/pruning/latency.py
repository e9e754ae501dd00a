"""Measured time of a forward pass, in seconds and as a share of a dense network's."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from empirical.pruning.export import as_numpy, export_onnx, onnx_session
from empirical.reading.hooks import evaluating, run_on
from theory.shared.validation import count, instance, positive


@dataclass(frozen=True)
class Latency:
    """Seconds per forward pass of one batch: median and quartiles over `repeats`."""

    median: float
    low: float
    high: float
    repeats: int
    images: int


def latencies(
    models: Sequence[nn.Module],
    images: Tensor,
    *,
    repeats: int = 20,
    warmup: int = 3,
    seconds: float = 0.0,
) -> list[Latency]:
    """Time several networks on the same batch, in turns, so that a drift hits all alike.

    `repeats` passes each, and more until so many `seconds` are spent in all, after `warmup`.

    >>> a, b = latencies([nn.Flatten(), nn.Flatten()], torch.zeros(1, 2, 2), repeats=2)
    >>> a.repeats, a.median >= 0
    (2, True)
    """
    count("repeats", repeats)
    count("warmup", warmup, least=0)
    positive("seconds", seconds, zero=True)
    instance("models", models, (list, tuple), "Pass [model] for one.")
    for model in models:
        with evaluating(model):
            run_on(model, "images", images)

    def once(model: nn.Module) -> float:
        with evaluating(model):
            return time_once(model, images)

    return _in_turns(
        [partial(once, model) for model in models], len(images), repeats, warmup, seconds
    )


def onnx_latencies(
    models: Sequence[nn.Module],
    images: Tensor,
    *,
    repeats: int = 20,
    warmup: int = 3,
    seconds: float = 0.0,
) -> list[Latency]:
    """The same by ONNX Runtime on the CPU, with as many threads as torch uses.

    Every network is exported, and what it computes compared with torch, by `export_onnx`.
    """
    count("repeats", repeats)
    count("warmup", warmup, least=0)
    positive("seconds", seconds, zero=True)
    instance("models", models, (list, tuple), "Pass [model] for one.")
    batch = as_numpy("images", images)

    def once(session: Any) -> float:
        started = time.perf_counter()
        session.run(None, {"images": batch})
        return time.perf_counter() - started

    with tempfile.TemporaryDirectory() as folder:
        calls = []
        for number, model in enumerate(models):
            file = Path(folder) / f"{number}.onnx"
            with evaluating(model):
                run_on(model, "images", images[:2])
            export_onnx(file, model, images[:2])
            calls.append(partial(once, onnx_session(file, torch.get_num_threads())))
        return _in_turns(calls, len(images), repeats, warmup, seconds)


def _in_turns(
    calls: Sequence[Callable[[], float]], images: int, repeats: int, warmup: int, least: float
) -> list[Latency]:
    """Latencies of what returns its seconds, each called once a turn, until `least` are spent.

    >>> _in_turns([lambda: 1.0, lambda: 3.0], 16, 2, 0, 12.0)[1]
    Latency(median=3.0, low=3.0, high=3.0, repeats=3, images=16)
    """
    for call in calls:
        for _ in range(warmup):
            call()
    seconds: list[list[float]] = [[] for _ in calls]
    spent = 0.0
    while calls and (len(seconds[0]) < repeats or spent < least):
        for call, own in zip(calls, seconds, strict=True):
            own.append(call())
            spent += own[-1]
    found = []
    for own in seconds:
        low, median, high = np.quantile(own, [0.25, 0.5, 0.75])
        found.append(Latency(float(median), float(low), float(high), len(own), images))
    return found


SECONDS = 2.0
"""That the networks behind a share are timed for at least: of short passes twenty repeat badly."""


def time_share(
    timed: Callable[..., list[Latency]],
    dense: nn.Module,
    pruned: nn.Module,
    images: Tensor,
    seconds: float = SECONDS,
) -> float:
    """Median time of the pruned network over the dense one's, by `latencies` or another clock."""
    slow, fast = timed([dense, pruned], images, seconds=seconds)
    return fast.median / slow.median


class LatencyShares:
    """Latency of pruned networks over that of the dense one, every structure timed once.

    Parameters
    ----------
    dense : the network as it was
    images : the batch that is timed, twenty times with either network
    """

    def __init__(self, dense: nn.Module, images: Tensor) -> None:
        self._dense, self._images = dense, images
        self._known: dict[Hashable, float] = {}

    def of(self, pruned: nn.Module, structure: Hashable) -> float:
        """Return the share; networks of the same `structure` (their channel counts) share one."""
        if structure not in self._known:
            share = time_share(latencies, self._dense, pruned, self._images, seconds=0.0)
            self._known[structure] = share
        return self._known[structure]


def time_once(model: nn.Module, images: Tensor) -> float:
    """Seconds of one call, waited for on a GPU."""
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
    started = time.perf_counter()
    model(images)
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
    return time.perf_counter() - started
