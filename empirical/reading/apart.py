"""Which layers read their inputs image by image, also where several parts of one are folded.

Windows and patches of an image are often folded into the first dimension: (n k, ...) for n images,
image after image. Inputs that belong to no image (tables of positions) cannot be told apart.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from empirical.reading.hooks import capture_calls, evaluating


def image_by_image(model: nn.Module, example: Tensor, names: Iterable[str]) -> dict[str, bool]:
    """Whether layers get as many rows of every image, one image after the other.

    Of twice as many images they get twice as many, and the same of the first half. Not of two and
    one: what squeezes its tensors loses the first dimension of a single image.

    Parameters
    ----------
    example : at least two images
    names : of the layers; those that do not run are left out
    """
    once, twice = (
        _calls(model, x, names) for x in (example, torch.cat([example, example.flip(0)]))
    )
    return {
        name: len(calls) == len(twice[name])
        and all(len(rows) % len(example) == 0 for rows in calls)
        and all(map(_first_half, calls, twice[name]))
        for name, calls in once.items()
    }


def _calls(model: nn.Module, images: Tensor, names: Iterable[str]) -> dict[str, list[Tensor]]:
    """What layers read, call by call."""
    seen: dict[str, list[Tensor]] = {}
    readers = {
        name: lambda inputs, _output, name=name: seen.setdefault(name, []).append(inputs)
        for name in names
    }
    with evaluating(model), capture_calls(model, readers):
        model(images)
    return seen


def _first_half(one: Tensor, two: Tensor) -> bool:
    if len(two) != 2 * len(one) or one.shape[1:] != two.shape[1:]:
        return False
    one, two = one.nan_to_num(), two.nan_to_num()
    return torch.allclose(two[: len(one)], one, rtol=1e-3, atol=1e-4 * float(one.abs().max()))


def channels_last(inputs: Tensor, channel_dim: int, images: int) -> Tensor:
    """(images, P, C) of inputs image by image, parts of an image one after the other.

    >>> channels_last(torch.zeros(6, 5, 4), -1, 3).shape
    torch.Size([3, 10, 4])
    """
    last = inputs.movedim(channel_dim, -1)
    return last.reshape(images, -1, last.shape[-1])
