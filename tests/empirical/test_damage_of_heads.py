"""The law of damage for heads, against the definition written out for one head at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.swin_transformer import SwinTransformer

from empirical import damage_heads, measure_heads
from empirical.reading.attention import with_readable_heads
from empirical.reading.hooks import capture_calls, edit_inputs
from tests.empirical.attention_networks import (
    HEADS,
    WIDTH,
    Fused,
    Separate,
    Torch,
    image_batches,
    transformer,
)

N, D = 120, WIDTH // HEADS
STEP = 1e-4
"""Of a central difference in float64: errors of some 1e-8."""


def lost(
    heads: np.ndarray, head: int, *, peers: bool, others: np.ndarray | None = None
) -> np.ndarray:
    """(n, ..., C) what a head loses, by a fit on `others`.

    Without them, image i takes a fit on those that share no i modulo 5.
    """
    own, width = np.zeros_like(heads), heads.shape[-1]
    mine = np.arange(width) // D == head
    for fold in range(5):
        inside = np.arange(len(heads)) % 5 == fold
        known = (heads[~inside] if others is None else others).reshape(-1, width)
        mean = known.mean(0)
        change = (heads[inside] - mean)[..., mine]
        if peers:
            fit = np.linalg.lstsq((known - mean)[:, ~mine], (known - mean)[:, mine], rcond=None)
            change = change - (heads[inside] - mean)[..., ~mine] @ fit[0]
        for at, values in zip(np.flatnonzero(inside), change, strict=True):
            own[at][..., mine] = values
    return own


def foretold(model: nn.Module, projection: str, images: Tensor, change: np.ndarray) -> float:
    """Mean divergence of the intact prediction from the one whose logits move linearly."""

    def logits(share: float) -> Tensor:
        less = share * torch.from_numpy(change)
        with torch.no_grad(), edit_inputs(model, {projection: lambda tokens: tokens - less}):
            return model(images)

    moved = (logits(STEP) - logits(-STEP)) / (2 * STEP)
    before, after = (z.log_softmax(1) for z in (logits(0.0), logits(0.0) + moved))
    return float(functional.kl_div(after, before, log_target=True, reduction="batchmean"))


def swin() -> nn.Module:
    torch.manual_seed(0)
    return SwinTransformer([4, 4], 3 * D, [2], [3], [4, 4], num_classes=4).eval()


@pytest.mark.parametrize("kind", [Separate, Fused, swin])
def test_definition_written_out(kind: type[nn.Module]) -> None:
    windows = kind is swin
    model = (swin() if windows else transformer(kind, Fused)).double()
    name, projection = {
        Separate: ("attention.0", "to_out.0"),
        Fused: ("attention.0", "proj"),
        swin: ("features.1.1.attn", "proj"),
    }[kind]
    batches = [
        (images.double().expand(-1, 3 if windows else 1, -1, -1), labels)
        for images, labels in image_batches(N, 1)
    ]
    images = torch.cat([part for part, _ in batches])
    twin, _, _ = with_readable_heads(model, images[:2], [name])
    seen: list[Tensor] = []
    projection = f"{name}.{projection}"
    with torch.no_grad(), capture_calls(twin, {projection: lambda x, _: seen.append(x)}):
        twin(images)
    heads = seen[0].numpy()
    table = damage_heads(
        model, batches, form="linearized", ridge=0.0, positions=heads[0, ..., 0].size, layers=[name]
    )
    found = table[name].values()
    for head in range(HEADS):
        alone, peers = (
            foretold(twin, projection, images, lost(heads, head, peers=with_peers))
            for with_peers in (False, True)
        )
        assert found["damage_alone"][head] == pytest.approx(alone, rel=1e-5)
        assert found["damage_with_peers"][head] == pytest.approx(peers, rel=1e-5)
    frame = table.to_frame()
    assert frame["head"].tolist() == list(range(HEADS))
    recovered = 1 - frame["damage_with_peers"] / frame["damage_alone"]
    np.testing.assert_allclose(frame["recovered"], recovered)
    assert (frame["recovered_se"] > 0).all()


def test_a_calibration_of_other_images_is_used_as_it_is() -> None:
    model, projection = transformer(Separate, Fused).double(), "attention.1.proj"
    known, told = (
        [(images.double(), labels) for images, labels in image_batches(N, seed)] for seed in (1, 2)
    )
    seen: list[Tensor] = []
    images = torch.cat([part for part, _ in told])
    with torch.no_grad(), capture_calls(model, {projection: lambda x, _: seen.append(x)}):
        model(torch.cat([part for part, _ in known]))
        model(images)
    others, heads = (tokens.numpy() for tokens in seen)
    table = measure_heads(model, known)
    found = damage_heads(model, told, calibration=table, form="linearized", ridge=0.0)
    expected = [
        foretold(model, projection, images, lost(heads, head, peers=True, others=others))
        for head in range(HEADS)
    ]
    values = found["attention.1"].values()["damage_with_peers"]
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_the_quadratic_form_is_the_linearized_one_of_small_damage() -> None:
    model = transformer(Torch, Fused).double()
    with torch.no_grad():
        model.head.weight *= 0.02  # logits that move little
    batches = [(images.double(), labels) for images, labels in image_batches(N, 1)]
    one = damage_heads(model, batches, draws=200).to_frame()
    other = damage_heads(model, batches, form="linearized").to_frame()
    assert one["layer"].unique().tolist() == ["attention.0.inner", "attention.1"]
    for name in ("damage_alone", "damage_with_peers"):
        np.testing.assert_allclose(one[name], other[name], rtol=0.1)
