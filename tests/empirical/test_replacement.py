"""Peer replacement: the regressions, the recovered fraction, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from empirical import replace
from theory import Moments


class Redundant(nn.Module):
    """Two pairs of near-copies among six channels, then a readout."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.conv = nn.Conv2d(4, 6, 1, bias=False)
        self.head = nn.Linear(6, 3)
        with torch.no_grad():
            basis = torch.linalg.qr(torch.randn(4, 4, generator=generator)).Q
            noise = 0.1 * torch.randn(2, 4, generator=generator)
            weight = torch.cat([basis, basis[:2] + noise])
            self.conv.weight.copy_(weight[:, :, None, None])
            self.head.weight.copy_(torch.randn(3, 6, generator=generator))
            self.head.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).mean((2, 3)))


def data(n: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    images = 3 * torch.randn(n, 4, 1, 1, generator=generator)
    with torch.no_grad():
        return [(images, Redundant()(images).argmax(1))]  # so that lesions hurt


def test_near_copies_are_recovered_and_lone_channels_are_not() -> None:
    table = replace(Redundant(), data(400, 1), data(2000, 2), peers=("all", "hull", "random"))
    frame = table.to_frame()
    everyone = frame.query("kind == 'all'").set_index("channel")
    # six functions of four inputs: 0 and 4, 1 and 5 stand for each other; 2 and 3 for no one
    assert (everyone.recovered.loc[[0, 1, 4, 5]].dropna() > 0.9).all()
    assert everyone.recovered.loc[[0, 1, 4, 5]].notna().sum() >= 3
    hull, hull_error = table.pooled("hull")
    random, random_error = table.pooled("random")
    assert hull - random > 2 * np.hypot(hull_error, random_error)


def test_recovered_fraction_and_its_error_by_hand() -> None:
    table = replace(Redundant(), data(50, 1), data(300, 2), peers="hull")
    rows = {kind: np.flatnonzero(table.kind == kind) for kind in ("mean", "hull")}
    damage = table.damage["loss_increase"].astype(float)
    lesioned, replaced = damage[rows["mean"]].sum(0), damage[rows["hull"]].sum(0)
    fraction, error = table.pooled("hull")
    assert fraction == pytest.approx(1 - replaced.mean() / lesioned.mean())
    leave_one_out = 1 - (replaced.sum() - replaced) / (lesioned.sum() - lesioned)
    jackknife = np.sqrt(49 / 50 * ((leave_one_out - leave_one_out.mean()) ** 2).sum())
    assert error == pytest.approx(jackknife, rel=0.1)  # both are first order in 1/50


def test_several_random_draws_are_rows_of_their_own() -> None:
    frame = replace(Redundant(), data(20, 1), data(100, 2), peers="random", draws=3).to_frame()
    assert (
        frame.query("kind == 'random'").groupby("channel").draw.apply(list).tolist()
        == [[0, 1, 2]] * 6
    )


def test_selected_rows_keep_their_predictions() -> None:
    table = replace(Redundant(), data(20, 1), data(100, 2), peers="all")
    chosen = table.select(np.array([channels == (4,) for channels in table.channels]))
    assert chosen.to_frame().kind.tolist() == ["mean", "all"]
    assert chosen.predicted[1] == table.predicted[6 + 4]


def test_a_layer_of_one_channel_is_refused() -> None:
    model = nn.Sequential(
        nn.Conv2d(4, 1, 1), nn.ReLU(), nn.Conv2d(1, 3, 1), nn.Flatten(), nn.Linear(3, 3)
    )
    with pytest.raises(ValueError, match="layers must have at least 2 channels; '0' has 1"):
        replace(model, data(20, 1), data(50, 2))


def test_moments_of_another_model_are_refused() -> None:
    of_seven = Moments.from_samples(np.random.default_rng(0).standard_normal((50, 7)))
    with pytest.raises(ValueError, match=r"calibration has 7 channels .* which has 6"):
        replace(Redundant(), data(20, 1), {"conv": of_seven})


def test_a_layer_without_the_point_that_is_named_is_refused() -> None:
    with pytest.raises(ValueError, match=r"layers must be followed by an activation .*'conv' is"):
        replace(Redundant(), data(20, 1), data(50, 2), point="post_activation")
