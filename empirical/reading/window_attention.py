"""torchvision's shifted-window attention again, with an output projection that is called.

Swin (Liu et al., arXiv:2103.14030) and its second version with cosine attention (arXiv:2111.09883).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.swin_transformer import ShiftedWindowAttention, ShiftedWindowAttentionV2

OUT_OF_SIGHT = -100.0
"""Added to the score of two tokens whose windows met only by the cyclic shift."""


@torch.fx.wrap  # its windows depend on the size of the map: one operation to a tracer
def window_heads(module: _Windows, images: Tensor, position_bias: Tensor) -> Tensor:
    """(n, H, W, h d) outputs of the heads at each position of the map (n, H, W, C)."""
    height, width = images.shape[1:3]
    window: list[int] = module.window_size
    padded = functional.pad(images, (0, 0, 0, -width % window[1], 0, -height % window[0]))
    size = padded.shape[1:3]
    # one window over the whole map has nothing to shift
    shift = [0 if w >= s else by for w, s, by in zip(window, size, module.shift_size, strict=True)]
    tokens = _windows(padded.roll((-shift[0], -shift[1]), (1, 2)), window)
    q, k, v = _projected(module, tokens)  # each (n, windows, h, tokens, d)
    if module.cosine:
        scale = module.logit_scale.clamp(max=math.log(100.0)).exp()
        scores = functional.normalize(q, dim=-1) @ functional.normalize(k, dim=-1).mT * scale
    else:
        scores = (q * module.head_dim**-0.5) @ k.mT
    scores = scores + position_bias
    if any(shift):
        scores = scores + _borders(size, window, shift, scores)[:, None]
    weights = functional.dropout(
        scores.softmax(-1), module.attention_dropout, training=module.training
    )
    heads = (weights @ v).transpose(2, 3).flatten(3)
    maps = _maps(heads, size, window).roll((shift[0], shift[1]), (1, 2))
    return maps[:, :height, :width]


def _windows(maps: Tensor, window: Sequence[int]) -> Tensor:
    """(n, H, W, C) as (n, windows, tokens, C)."""
    rows: Tensor = maps.unflatten(2, (-1, window[1])).unflatten(1, (-1, window[0]))
    return rows.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def _maps(tokens: Tensor, size: Sequence[int], window: Sequence[int]) -> Tensor:
    """(n, windows, tokens, C) as (n, H, W, C)."""
    grid = (size[0] // window[0], size[1] // window[1])
    rows: Tensor = tokens.unflatten(2, tuple(window)).unflatten(1, grid)
    return rows.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def _projected(module: _Windows, tokens: Tensor) -> Tensor:
    """(3, n, windows, h, tokens, d) queries, keys and values."""
    bias: Tensor | None = module.qkv.bias
    if module.cosine and bias is not None:
        # the second version has keys without a bias
        of_queries, of_keys, of_values = bias.chunk(3)
        bias = torch.cat([of_queries, torch.zeros_like(of_keys), of_values])
    rows = functional.linear(tokens, module.qkv.weight, bias)
    parts: Tensor = rows.unflatten(-1, (3, module.num_heads, module.head_dim))
    return parts.permute(3, 0, 1, 4, 2, 5)


def _borders(
    size: Sequence[int], window: Sequence[int], shift: Sequence[int], like: Tensor
) -> Tensor:
    """(windows, tokens, tokens) what is added where two tokens are of different parts of a map."""
    parts = []
    for length, wide, by in zip(size, window, shift, strict=True):
        place = torch.arange(length, device=like.device)
        parts.append((place >= length - wide).long() + (place >= length - by).long())
    part = _windows((3 * parts[0][:, None] + parts[1])[None, :, :, None], window)[0, :, :, 0]
    apart = part[:, :, None] != part[:, None]
    return torch.zeros_like(apart, dtype=like.dtype).masked_fill(apart, OUT_OF_SIGHT)


class _Windows(nn.Module):
    """The forward pass, with the projection called on the map."""

    window_size: list[int]
    shift_size: list[int]
    num_heads: int
    head_dim: int
    attention_dropout: float
    dropout: float
    qkv: nn.Linear
    proj: nn.Linear
    cosine: bool
    logit_scale: Tensor
    get_relative_position_bias: Callable[[], Tensor]

    def forward(self, x: Tensor) -> Tensor:
        """(n, H, W, C) to (n, H, W, C)."""
        heads = window_heads(self, x, self.get_relative_position_bias())
        return functional.dropout(self.proj(heads), self.dropout, training=self.training)


class HeadedWindows(_Windows, ShiftedWindowAttention):  # type: ignore[misc]
    """`ShiftedWindowAttention` with any number of heads."""

    cosine = False


class HeadedWindowsV2(_Windows, ShiftedWindowAttentionV2):  # type: ignore[misc]
    """`ShiftedWindowAttentionV2` with any number of heads."""

    cosine = True


def headed_windows(source: nn.Module) -> nn.Module:
    """Give a window attention of torchvision's the class whose projection is called."""
    kinds: dict[type[nn.Module], type[_Windows]] = {
        ShiftedWindowAttention: HeadedWindows,
        ShiftedWindowAttentionV2: HeadedWindowsV2,
    }
    if type(source) in kinds:
        source.__class__ = kinds[type(source)]
        assert isinstance(source, _Windows)
        source.head_dim = source.proj.in_features // source.num_heads
    return source
