"""Several processes under torchrun: each takes its share of every batch. Alone, all is identity."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

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
