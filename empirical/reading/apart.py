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
    """Whether layers get twice as many rows of two images, the first half those of the first.

    Parameters
    ----------
    example : at least two images
    names : of the layers; those that do not run are left out
    """
    seen: dict[str, list[Tensor]] = {}
    readers = {
        name: lambda inputs, _output, name=name: seen.setdefault(name, []).append(inputs)
        for name in names
    }
    with evaluating(model), capture_calls(model, readers):
        for images in (example[:1], example[:2]):
            model(images)
    return {
        name: all(
            _first_half(*pair)
            for pair in zip(calls[: len(calls) // 2], calls[len(calls) // 2 :], strict=True)
        )
        for name, calls in seen.items()
    }


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
