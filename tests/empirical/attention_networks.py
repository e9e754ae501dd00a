"""Small transformers with attention in each of its forms."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH = 12
HEADS = 3


class Fused(nn.Module):
    """One linear layer for queries, keys and values, and a projection that is called."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.head_dim = HEADS, WIDTH // HEADS
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        qkv = self.qkv(tokens).unflatten(-1, (3, self.num_heads, self.head_dim))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        heads = functional.scaled_dot_product_attention(q, k, v)
        return self.proj(heads.transpose(1, 2).flatten(2))


class Separate(nn.Module):
    """Three linear layers; no bias anywhere; the projection before a dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = HEADS
        for name in ("to_q", "to_k", "to_v"):
            setattr(self, name, nn.Linear(WIDTH, WIDTH, bias=False))
        self.to_out = nn.Sequential(nn.Linear(WIDTH, WIDTH, bias=False), nn.Dropout(0.1))

    def forward(self, tokens: Tensor) -> Tensor:
        def split(values: Tensor) -> Tensor:
            return values.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        q, k, v = (split(layer(tokens)) for layer in (self.to_q, self.to_k, self.to_v))
        heads = functional.scaled_dot_product_attention(q, k, v)
        return self.to_out(heads.transpose(1, 2).flatten(2))


class Torch(nn.Module):
    """nn.MultiheadAttention."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.inner(tokens, tokens, tokens, need_weights=False)[0]


class Rigid(Fused):
    """A forward pass that needs all of its heads."""

    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens) + 0 * self.qkv(tokens)[..., 2 * WIDTH :].reshape(
            tokens.shape
        )


class Transformer(nn.Module):
    """Patches of 4 × 4 pixels of images (n, 1, 12, 12), two blocks, the mean token."""

    def __init__(self, first: type[nn.Module], second: type[nn.Module]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, WIDTH, 4, 4)
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.attention = nn.ModuleList([first(), second()])
        self.head = nn.Linear(WIDTH, 4)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.stem(images).flatten(2).mT
        for norm, attention in zip(self.norms, self.attention, strict=True):
            tokens = tokens + attention(norm(tokens))
        return self.head(tokens.mean(1))


def transformer(first: type[nn.Module], second: type[nn.Module], seed: int = 0) -> Transformer:
    """Return a network in evaluation mode, with weights large enough for its heads to matter."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = Transformer(first, second).eval()
    for weight in model.parameters():
        with torch.no_grad():
            weight += 0.3 * torch.randn(weight.shape, generator=generator)
    return model


def image_batches(n: int, seed: int, size: int = 40) -> list[tuple[Tensor, Tensor]]:
    """Return batches of images (.., 1, 12, 12) and four classes."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(n, 1, 12, 12, generator=generator)
    labels = torch.randint(4, (n,), generator=generator)
    return list(zip(images.split(size), labels.split(size), strict=True))
