"""Batches with their digests, the next one read and hashed while a device computes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch

from empirical.devices import queued
from empirical.reading.batches import Batch


def hashed(stream: Iterator[Batch], device: torch.device) -> Iterator[tuple[Batch, list[bytes]]]:
    """Yield each batch with one digest per image.

    On a CPU, which has no time to spare, when it is asked for; else one batch ahead, in a thread:
    decoding, checks, hashing and the upload then cost the device nothing.

    >>> from empirical.reading.batches import batches
    >>> loader = [(torch.zeros(2, 3), torch.arange(2))] * 2
    >>> [len(digests) for _, digests in hashed(batches(loader), torch.device("cpu"))]
    [2, 2]
    """

    def read() -> tuple[Batch, list[bytes]] | None:
        batch = next(stream, None)
        return None if batch is None else (batch, batch.digests())

    if not queued(device):
        yield from iter(read, None)
        return
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(read)
        while (found := coming.result()) is not None:
            coming = reader.submit(read)
            yield found
