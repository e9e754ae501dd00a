"""Seeds, and torch's global generators: seeded for a while, then as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from theory.shared.validation import count, shown

LARGEST_SEED = 2**63 - 1
"""What torch's generators, NumPy's and the positions' all take."""


def checked_seed(name: str, value: int) -> int:
    """Return `value` if it is a whole number from 0 to `LARGEST_SEED`.

    >>> checked_seed("seed", 2**63)
    Traceback (most recent call last):
    ValueError: seed must be a whole number from 0 to 2^63 - 1; got 9223372036854775808.
    """
    if count(name, value, least=0) > LARGEST_SEED:
        raise ValueError(f"{name} must be a whole number from 0 to 2^63 - 1; got {shown(value)}.")
    return int(value)


def folded(seed: int) -> int:
    """Return a seed as scikit-learn takes it, below 2^32: a smaller one is itself.

    >>> folded(7), folded(2**40) < 2**32
    (7, True)
    """
    return seed if seed < 2**32 else int(np.random.SeedSequence(seed).generate_state(1)[0])


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
