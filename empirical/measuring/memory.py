"""What a measurement will hold in memory, known before it starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import psutil
import torch

from empirical.reading.points import Tap

GIGABYTE = 1e9


def required_bytes(
    taps: Sequence[Tap],
    *,
    inputs: Mapping[str, int],
    n_targets: int,
    groups: int,
    batch: int,
    positions: int,
    kept_images: int = 0,
) -> int:
    """Upper bound of what `measure` adds to the model's own memory.

    The largest part are the moments, float64: of each layer one (C + q)² matrix per group, of D
    instead of C where inputs are sampled, twice that for the layer being converted, and one of
    their sum; then the samples of one batch, float64 in one layer and as they come in the others;
    and each image's sums for a permutation null.

    Parameters
    ----------
    taps : the tapped layers
    inputs : layer name -> D, of the layers whose D inputs are sampled
    n_targets, groups, batch, positions : q, G, images per batch, positions per image
    kept_images : number of images whose sums are kept
    """
    sizes = [tap.layer.n_channels for tap in taps]
    matrices = [(c + n_targets) ** 2 * 8 for c in sizes]
    held = [inputs.get(tap.layer.name, tap.layer.n_channels) + n_targets for tap in taps]
    summed = [(width**2) * 8 for width in held]
    moments = sum(matrices) + (groups + 1) * sum(summed) + groups * max(summed)
    # two delete-one replicates and their factorizations in flight
    working = 16 * max(matrices)
    rows = batch * positions
    samples = rows * (4 * sum(c * t.layer.calls for c, t in zip(sizes, taps, strict=True)))
    samples += rows * max(sizes) * 16
    return moments + working + samples + kept_images * (sum(sizes) + n_targets) * 8


def check_memory(required: int, device: torch.device) -> str:
    """Return a sentence on what is needed and what is free.

    Raises
    ------
    MemoryError
        more is needed than is free
    """
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = psutil.virtual_memory().available
    sentence = (
        f"measuring needs up to {required / GIGABYTE:.2f} GB besides the model; "
        f"{free / GIGABYTE:.1f} GB are free on {device}"
    )
    if required > free:
        raise MemoryError(
            f"{sentence}. Measure fewer layers at a time (layers=[...]), or use fewer groups."
        )
    return sentence
