"""Outputs that are large or infinite by design hide no difference from what compares networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from empirical import lesion, lesion_heads, prune_heads
from empirical.reading.outputs import apart, moved_by_images
from tests.empirical.attention_networks import WIDTH, Fused, image_batches, transformer

LOW = [0.0, -1e9]


class Never(nn.Module):
    """The last class is never predicted."""

    def __init__(self, network: nn.Module, low: float) -> None:
        super().__init__()
        self.network, self.low = network, low

    def forward(self, images: Tensor) -> Tensor:
        logits = self.network(images)
        return logits.masked_fill(torch.arange(logits.shape[1]) == logits.shape[1] - 1, self.low)


class HeadMajor(Fused):
    """Queries, keys and values of one head side by side, which cannot be cut part by part."""

    def forward(self, tokens: Tensor) -> Tensor:
        qkv = self.qkv(tokens).unflatten(-1, (self.num_heads, 3, self.head_dim))
        q, k, v = qkv.permute(3, 0, 2, 1, 4)
        heads = functional.scaled_dot_product_attention(q, k, v)
        return self.proj(heads.transpose(1, 2).flatten(2))


class Mixing(nn.Module):
    """Images of a batch are centered on each other, or channels dropped at random."""

    def __init__(self, *, drop: bool = False) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3), nn.Linear(6, 4)
        self.drop = drop

    def forward(self, images: Tensor) -> Tensor:
        maps = self.a(images).relu()
        maps = functional.dropout(maps, 0.5, True) if self.drop else maps - maps.mean(0, True)
        return self.out(5 * self.b(maps).relu().mean((2, 3)))


def loader() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(30, 3, 8, 8, generator=generator), torch.arange(30) % 3)]


def test_what_images_move_is_what_counts() -> None:
    model = Never(nn.Linear(3, 3), -1e9)
    images = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        outputs = model(images)
        assert 0.1 < moved_by_images(model, images, outputs) < 10
        blank = torch.zeros(1, 3)
        assert 0 < moved_by_images(model, blank, model(blank)) < 10
    for expected in (outputs, outputs.masked_fill(outputs < -1e8, -torch.inf)):
        assert apart(expected, expected, 1.0) == 0
        assert apart(expected + 0.01, expected, 1.0) == pytest.approx(0.01, rel=0.1)
        assert np.isnan(apart(torch.full_like(expected, torch.nan), expected, 1.0))
    unknown = torch.full((1, 2), torch.nan)
    assert apart(torch.zeros(1, 2), unknown, 1.0) == 0  # where it is known to be no number


@pytest.mark.parametrize("low", LOW)
def test_heads_that_are_not_rows_by_part_are_refused(low: float) -> None:
    model = Never(transformer(HeadMajor, Fused), low)
    with pytest.raises(ValueError, match=r"without them outputs differ by"):
        prune_heads(
            model, image_batches(80, 1), heads={"network.attention.0": [1]}, compensate=False
        )
    assert prune_heads(
        model, image_batches(80, 1), heads={"network.attention.1": [1]}, compensate=False
    ).kept


@pytest.mark.parametrize("low", LOW)
def test_what_is_random_or_mixes_images_is_found(low: float) -> None:
    torch.manual_seed(0)
    with pytest.raises(ValueError, match="must be deterministic in evaluation mode"):
        lesion(Never(Mixing(drop=True), low), loader(), kinds=["zero"], method="naive")
    with pytest.warns(RuntimeWarning, match="it mixes images or keeps state"):
        found = lesion(Never(Mixing(), low), loader(), kinds=["zero"], layers=["network.a"])
    assert set(found.fallback) == {"network.a"}


class SequenceFirst(nn.Module):
    """torch's attention as it is by default: tokens come before images."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.attention = nn.Linear(6, WIDTH), nn.MultiheadAttention(WIDTH, 3)
        self.out = nn.Linear(WIDTH, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = self.embed(tokens)
        first = tokens.transpose(0, 1)
        return self.out((tokens + self.attention(first, first, first)[0].transpose(0, 1)).mean(1))


def test_tokens_before_images_are_lesioned_whole() -> None:
    torch.manual_seed(0)
    model = SequenceFirst().eval()
    some, others = (
        [(torch.randn(n, 7, 6, generator=torch.Generator().manual_seed(n)), torch.arange(n) % 4)]
        for n in (24, 60)
    )
    with pytest.warns(RuntimeWarning, match="not one of each image"):
        fast = lesion_heads(model, some, others)
    naive = lesion_heads(model, some, others, method="naive")
    for damage, values in naive.damage.items():
        np.testing.assert_allclose(fast.damage[damage], values, rtol=1e-4, atol=1e-6)
