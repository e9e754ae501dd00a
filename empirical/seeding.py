"""torch's global generators: seeded for a while, then as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def own_generators(device: torch.device) -> Iterator[None]:
    """Restore, on leaving, torch's global generators of the CPU and of `device`."""
    devices = [_index(device)] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield


def seed_generators(device: torch.device, seed: int) -> None:
    """Seed torch's global generators of the CPU and of `device`, and of no other device.

    Dropout and torch's own initializers draw from nothing else. Call within `own_generators`.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[_index(device)].manual_seed(seed)


def _index(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index
