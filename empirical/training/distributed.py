"""Several processes under torchrun: each takes its share of every batch. Alone, all is identity."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel


def active() -> bool:
    """Return whether a process group is initialized."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """Return this process's number, 0 when alone."""
    return dist.get_rank() if active() else 0


def world_size() -> int:
    """Return the number of processes, 1 when alone."""
    return dist.get_world_size() if active() else 1


@contextmanager
def process_group(device: torch.device) -> Iterator[torch.device]:
    """Join the processes that torchrun started, and yield this one's device."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    # The others wait at a barrier while one measures: longer than the default of ten minutes.
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(hours=6))
    try:
        yield device
    finally:
        dist.destroy_process_group()


def parallel(model: nn.Module, device: torch.device) -> nn.Module:
    """Return `model` with gradients averaged over the processes."""
    if not active():
        return model
    devices = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=devices)


@contextmanager
def synchronized(model: nn.Module) -> Iterator[None]:
    """Let batch norms in training see the batches of all processes, on any device, as one would.

    The modules stay of their class, and are as they were afterwards.
    """
    batch_norm = nn.modules.batchnorm._BatchNorm
    changed = [m for m in model.modules() if isinstance(m, batch_norm)] if active() else []
    for norm in changed:
        norm.forward = partial(_normalize, norm)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in changed:
            del norm.forward


def _normalize(norm: Any, images: Tensor) -> Tensor:
    """The forward pass of a batch norm with mean and variance over all processes."""
    if not norm.training:
        return type(norm).forward(norm, images)  # type: ignore[no-any-return]
    c, over = images.shape[1], [d for d in range(images.ndim) if d != 1]
    values = images.float()
    n, total = values.new_full((1,), values.numel() / c), values.sum(over)
    n, total = _Summed.apply(torch.cat([n, total])).split([1, c])
    shape = (1, c, *(1,) * (images.ndim - 2))
    mean = total / n
    centred = values - mean.view(shape)
    variance = _Summed.apply(centred.square().sum(over)) / n
    if norm.track_running_stats:
        norm.num_batches_tracked.add_(1)
        rate = 1 / norm.num_batches_tracked if norm.momentum is None else norm.momentum
        with torch.no_grad():
            norm.running_mean.lerp_(mean, rate)
            norm.running_var.lerp_(variance * (n / (n - 1)), rate)
    result = centred * (variance + norm.eps).rsqrt().view(shape)
    if norm.affine:
        result = result * norm.weight.view(shape) + norm.bias.view(shape)
    found: Tensor = result.to(images.dtype)
    return found


class _Summed(torch.autograd.Function):
    """The sum over the processes; so is its gradient, since every process reads the sum."""

    @staticmethod
    def forward(_ctx: Any, values: Tensor) -> Tensor:
        return summed(values)

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:
        return summed(gradient)


def summed(values: Tensor) -> Tensor:
    """Return the sum of `values` over the processes."""
    if not active():
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total


def barrier() -> None:
    """Wait until every process has come here."""
    if active():
        dist.barrier()
