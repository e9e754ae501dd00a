"""Attentions written again compute the same, and their heads are found or the reason is said."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import nn
from torchvision.models.swin_transformer import ShiftedWindowAttention, ShiftedWindowAttentionV2

from empirical import find_layers, measure
from empirical.reading.attention import with_readable_heads
from empirical.reading.attention_modules import HeadedAttention, headed
from empirical.reading.hooks import edit_inputs
from empirical.reading.unmeasured import IN_ONE_FUNCTION, NOT_CALLED, unmeasured
from tests.empirical.attention_networks import (
    HEADS,
    WIDTH,
    Fused,
    Separate,
    Torch,
    image_batches,
    transformer,
)

SAME = 1e-6
"""Of float32 outputs near one, sums in another order."""


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def multihead(**options: object) -> nn.MultiheadAttention:
    torch.manual_seed(0)
    module = nn.MultiheadAttention(WIDTH, HEADS, **options).eval()
    for name, weight in module.named_parameters():
        if "bias" in name:
            nn.init.normal_(weight)
    return module


MASKS = {
    "none": (None, None),
    "padding": (None, torch.tensor([[False] * 6, [False] * 4 + [True] * 2])),
    "additive": (drawn(5, 6, seed=1), drawn(2, 6, seed=2)),
    "boolean": (drawn(5, 6, seed=3) > 1, torch.tensor([[False] * 6, [False] * 5 + [True]])),
    "of each head": (drawn(2 * HEADS, 5, 6, seed=4), None),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("dims", [{}, {"kdim": 5, "vdim": 7}], ids=["one width", "three widths"])
@pytest.mark.parametrize("bias", [True, False])
def test_headed_attention_is_multihead_attention(bias, dims, batch_first, mask):
    source = multihead(bias=bias, batch_first=batch_first, **dims)
    given = (
        drawn(2, 5, WIDTH),
        drawn(2, 6, dims.get("kdim", WIDTH)),
        drawn(2, 6, dims.get("vdim", WIDTH)),
    )
    if not batch_first:
        given = tuple(part.transpose(0, 1) for part in given)
    attn_mask, padding = MASKS[mask]
    for need_weights, average in itertools.product([True, False], repeat=2):
        options = {
            "attn_mask": attn_mask, "key_padding_mask": padding,
            "need_weights": need_weights, "average_attn_weights": average,
        }  # fmt: skip
        expected, found = source(*given, **options), HeadedAttention(source)(*given, **options)
        torch.testing.assert_close(found[0], expected[0], atol=SAME, rtol=SAME)
        assert (found[1] is None) == (expected[1] is None)
        if found[1] is not None:
            torch.testing.assert_close(found[1], expected[1], atol=SAME, rtol=SAME)


def test_headed_attention_without_a_batch_and_with_a_causal_hint():
    source, tokens = multihead(), drawn(5, WIDTH)
    headed_one = HeadedAttention(source)
    torch.testing.assert_close(
        headed_one(tokens, tokens, tokens)[0], source(tokens, tokens, tokens)[0]
    )
    with pytest.raises(ValueError, match="attn_mask must be given with is_causal=True"):
        headed_one(tokens, tokens, tokens, is_causal=True)
    with pytest.raises(ValueError, match=r"3 heads for each of 1 sequences; got 4 masks"):
        headed_one(tokens, tokens, tokens, attn_mask=torch.zeros(4, 5, 5))


@pytest.mark.parametrize("norm_first", [True, False])
def test_torchs_encoder_calls_it(norm_first):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 4, 24, batch_first=True, norm_first=norm_first)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    twin = copy.deepcopy(encoder)
    for each in twin.layers:
        each.self_attn = headed(each.self_attn)
    tokens, padding = drawn(2, 5, 16), torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    with torch.no_grad():
        expected, found = (e(tokens, src_key_padding_mask=padding) for e in (encoder, twin))
    torch.testing.assert_close(found[:, :3], expected[:, :3], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [(8, 12), (9, 10), (4, 6), (3, 13)], ids=str)
@pytest.mark.parametrize("shift", [[0, 0], [2, 3], [0, 3]], ids=str)
@pytest.mark.parametrize("kind", [ShiftedWindowAttention, ShiftedWindowAttentionV2])
def test_headed_windows_are_torchvisions(kind, shift, size):
    torch.manual_seed(0)
    source = kind(WIDTH, [4, 6], shift, HEADS).eval()
    for weight in source.parameters():
        nn.init.normal_(weight, std=0.3)
    maps = drawn(2, *size, WIDTH)
    expected, twin = source(maps), headed(copy.deepcopy(source))
    torch.testing.assert_close(twin(maps), expected, atol=1e-5, rtol=1e-5)
    seen = []
    with edit_inputs(twin, {"proj": lambda heads: seen.append(heads.shape) or heads}):
        twin(maps)
    assert seen == [(2, *size, WIDTH)]


def test_heads_of_every_form_are_found():
    for first, second in ((Torch, Fused), (Separate, Fused)):
        model = transformer(first, second)
        before = copy.deepcopy(model.state_dict())
        twin, found, skipped = with_readable_heads(model, image_batches(2, 0)[0][0])
        assert [(h.n_heads, h.width) for h in found] == [(HEADS, WIDTH // HEADS)] * 2
        assert skipped == {}
        assert found[0].name == ("attention.0.inner" if first is Torch else "attention.0")
        for heads in found:
            assert heads.layer(twin).module is twin.get_submodule(heads.projection)
        after = model.state_dict()
        assert all(torch.equal(value, after[name]) for name, value in before.items())


class Silent(Fused):
    """Uses the projection's weights without calling it."""

    def forward(self, tokens):
        weight, self.proj = self.proj, nn.Identity()
        try:
            heads = super().forward(tokens)
        finally:
            self.proj = weight
        return nn.functional.linear(heads, weight.weight, weight.bias)


class TokensFirst(Fused):
    def forward(self, tokens):
        qkv = self.qkv(tokens.transpose(0, 1)).unflatten(-1, (3, HEADS, -1))
        q, k, v = qkv.permute(2, 1, 3, 0, 4)
        heads = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.proj(heads.permute(2, 0, 1, 3).flatten(2)).transpose(0, 1)


class Extended(Torch):
    def __init__(self):
        super().__init__()
        self.inner = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, add_zero_attn=True)


@pytest.mark.parametrize(
    ("kind", "name", "reason"),
    [
        (Silent, "attention.0", "does not run through its own forward"),
        (TokensFirst, "attention.0", "does not read tokens image by image"),
        (Extended, "attention.0.inner", "add_bias_kv or add_zero_attn"),
    ],
)
def test_what_cannot_be_read_is_said(kind, name, reason):
    model, images = transformer(kind, Fused), image_batches(2, 0)[0][0]
    _, found, skipped = with_readable_heads(model, images)
    assert [heads.name for heads in found] == ["attention.1"]
    assert reason in skipped[name]
    with pytest.raises(ValueError, match=reason):
        with_readable_heads(model, images, [name])
    with pytest.raises(ValueError, match=r"must be one of 'attention\.1'"):
        with_readable_heads(model, images, ["attention.2"])
    with pytest.raises(ValueError, match=r"none was found\..*" + reason):
        with_readable_heads(transformer(kind, kind), images)


def test_edited_inputs_are_what_the_module_reads():
    model, tokens = nn.Sequential(nn.Linear(3, 2)), drawn(4, 3)
    with edit_inputs(model, {"0": lambda inputs: 2 * inputs}):
        found = model(tokens)
        by_name = model[0](input=tokens)
    torch.testing.assert_close(found, model(2 * tokens))
    torch.testing.assert_close(by_name, model(2 * tokens))


def test_what_measure_leaves_out_is_named_with_its_reason():
    model = nn.ModuleDict(
        {
            "conv": nn.Conv2d(1, 6, 3),
            "up": nn.ConvTranspose2d(6, 4, 2),
            "idle": nn.Linear(3, 3),
            "norm": nn.LayerNorm([4, 4]),
        }
    )

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = model
            self.table, self.cell = nn.Embedding(3, 12), nn.GRU(12, 5, batch_first=True)
            self.head = nn.Linear(5, 4)

        def forward(self, images):
            maps = self.parts["up"](self.parts["conv"](images))
            tokens = maps[:, :, :11, :].reshape(len(images), 11, -1)[..., :12]
            return self.head(self.cell(tokens + self.table.weight[0])[0].mean(1))

    table = measure(Decoder().eval(), image_batches(60, 0), hull=False)
    assert table.layers == ["parts.conv", "parts.up"]
    assert table.skipped == {
        "parts.idle": NOT_CALLED,
        "table": "neither a convolution nor a linear layer but a Embedding",
        "cell": "a recurrent layer",
    }
    network, images = transformer(Torch, Fused), image_batches(2, 0)[0][0]
    found = find_layers(network, images)
    assert unmeasured(network, images, found) == {"attention.0.inner": IN_ONE_FUNCTION}
