"""torch's attention again, with an output projection that is called and any number of heads."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class HeadedAttention(nn.Module):
    """What `nn.MultiheadAttention` computes, from four linear layers.

    That one hands its weights to one function, so that nothing between them can be read; here the
    input of `out_proj` is the heads' outputs side by side, head h in the channels h d .. (h+1) d.

    Parameters
    ----------
    source : the module, which is left alone; without `add_bias_kv` and `add_zero_attn`

    Examples
    --------
    >>> source = nn.MultiheadAttention(6, 3, batch_first=True).eval()
    >>> tokens = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))
    >>> headed = HeadedAttention(source)
    >>> found, expected = headed(tokens, tokens, tokens)[0], source(tokens, tokens, tokens)[0]
    >>> bool(torch.allclose(found, expected, atol=1e-6))
    True
    """

    in_proj_bias = None
    _qkv_same_embed_dim = False
    """Both are what nn.TransformerEncoderLayer looks at before it takes a path of its own."""

    def __init__(self, source: nn.MultiheadAttention) -> None:
        super().__init__()
        self.embed_dim, self.num_heads = source.embed_dim, source.num_heads
        self.head_dim, self.dropout = source.head_dim, source.dropout
        self.batch_first = source.batch_first
        if source._qkv_same_embed_dim:
            weights = source.in_proj_weight.detach().chunk(3)
        else:
            found = (source.q_proj_weight, source.k_proj_weight, source.v_proj_weight)
            weights = tuple(weight.detach() for weight in found)
        bias = source.in_proj_bias
        biases = (None,) * 3 if bias is None else bias.detach().chunk(3)
        self.query, self.key, self.value = (
            _linear(weight, offset) for weight, offset in zip(weights, biases, strict=True)
        )
        out = source.out_proj
        self.out_proj = _linear(out.weight.detach(), None if out.bias is None else out.bias)
        self.train(source.training)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the output and the attention weights, as `nn.MultiheadAttention` does.

        A mask (n heads, L, S) of each head by itself is refused once heads are gone.
        """
        if is_causal and attn_mask is None:
            raise ValueError("attn_mask must be given with is_causal=True, which is but a hint.")
        heads, weights = attended_heads(
            self, query, key, value, key_padding_mask, attn_mask, need_weights, average_attn_weights
        )
        return in_layout_of(query, self.out_proj(heads), self.batch_first), weights

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Outputs (n, h, L, d) and, where they are needed, weights (n, h, L, S)."""
        dropout = self.dropout if self.training else 0.0
        if not need_weights:
            return functional.scaled_dot_product_attention(q, k, v, mask, dropout), None
        scores = (q * self.head_dim**-0.5) @ k.transpose(-2, -1)
        weights = (scores if mask is None else scores + mask).softmax(-1)
        weights = functional.dropout(weights, dropout)
        return weights @ v, weights

    def split(self, tokens: Tensor) -> Tensor:
        """(n, L, h d) as (n, h, L, d)."""
        heads: Tensor = tokens.unflatten(-1, (self.num_heads, self.head_dim))
        return heads.transpose(1, 2)

    def mask(self, q: Tensor, attn_mask: Tensor | None, padding: Tensor | None) -> Tensor | None:
        """Both masks as one to be added to the scores (n, h, L, S)."""
        total = None
        if attn_mask is not None:
            total = _additive(attn_mask, q)
            if total.dim() == 3:
                if len(total) != len(q) * self.num_heads:
                    raise ValueError(
                        f"attn_mask must have {self.num_heads} heads for each of {len(q)} "
                        f"sequences; got {len(total)} masks. Pass one of shape (L, S)."
                    )
                total = total.unflatten(0, (len(q), self.num_heads))
        if padding is not None:
            of_keys = _additive(padding, q)[:, None, None]
            total = of_keys if total is None else total + of_keys
        return total


@torch.fx.wrap  # layouts depend on the number of dimensions: one operation to a tracer
def attended_heads(
    module: HeadedAttention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    padding: Tensor | None,
    attn_mask: Tensor | None,
    need_weights: bool,
    average: bool,
) -> tuple[Tensor, Tensor | None]:
    """Outputs of the heads (n, L, h d), and the attention weights in the layout of the inputs."""
    unbatched = query.dim() == 2
    if unbatched:
        query, key, value = (part.unsqueeze(0) for part in (query, key, value))
        padding = None if padding is None else padding.unsqueeze(0)
    elif not module.batch_first:
        query, key, value = (part.transpose(0, 1) for part in (query, key, value))
    q, k = module.split(module.query(query)), module.split(module.key(key))
    mask = module.mask(q, attn_mask, padding)
    heads, weights = module.attend(q, k, module.split(module.value(value)), mask, need_weights)
    if weights is not None:
        weights = weights.mean(1) if average else weights
        weights = weights[0] if unbatched else weights
    return heads.transpose(1, 2).flatten(2), weights


@torch.fx.wrap
def in_layout_of(query: Tensor, output: Tensor, batch_first: bool) -> Tensor:
    """(n, L, C) in the layout of the queries."""
    if query.dim() == 2:
        return output[0]
    return output if batch_first else output.transpose(0, 1)


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    """A mask of truth values, True where nothing is attended to, as one of -inf and 0."""
    if mask.dtype is not torch.bool:
        return mask.to(like.dtype)
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, -torch.inf)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.clone())
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone())
    return layer


def headed(source: nn.Module) -> nn.Module:
    """Return a module that computes the same, whose output projection is called.

    Changes `source` itself where that is one of torchvision's window attentions. A module whose
    projection is called already comes back as it is.
    """
    if type(source) is nn.MultiheadAttention:
        return HeadedAttention(source)
    if type(source).__module__ == WINDOWED:
        from empirical.reading.window_attention import headed_windows  # imports torchvision

        return headed_windows(source)
    return source


WINDOWED = "torchvision.models.swin_transformer"
"""Known by its name, since importing torchvision takes seconds."""
