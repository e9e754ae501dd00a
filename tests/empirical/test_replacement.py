"""Peer replacement: the regressions, the recovered fraction, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from empirical import replace
from theory import Moments, channel_axes
from theory.peer_regression import regress_on_peers

SAME = 1e-9
"""Relative: one inverse against one regression a channel, condition numbers up to 1e4."""


def moments(c: int = 7, n: int = 200, seed: int = 0) -> Moments:
    rng = np.random.default_rng(seed)
    return Moments.from_samples(
        rng.standard_normal((n, c)) @ rng.standard_normal((c, c)) + 3 * rng.standard_normal(c)
    )


@pytest.mark.parametrize("ridge", [0.0, 0.01])
def test_all_peers_are_one_ridge_regression_each(ridge: float) -> None:
    found = moments()
    fit = regress_on_peers(found, peers="all", ridge=ridge)
    deviation = np.sqrt(np.diagonal(found.cov))
    r = found.cov / np.outer(deviation, deviation)
    for i in range(7):
        others = np.delete(np.arange(7), i)
        slopes = np.linalg.solve(r[np.ix_(others, others)] + ridge * np.eye(6), r[others, i])
        np.testing.assert_allclose(
            fit.coefficients[i, others], slopes * deviation[i] / deviation[others], rtol=SAME
        )
        assert fit.coefficients[i, i] == 0
    at_mean = fit.coefficients @ found.mean + fit.intercepts
    np.testing.assert_allclose(at_mean, found.mean, rtol=SAME)


def test_recovered_variance_is_peer_predictability() -> None:
    found = moments()
    fit = regress_on_peers(found, peers="all", ridge=0.0)
    np.testing.assert_allclose(fit.recovered, channel_axes(found).peer_predictability, rtol=SAME)


def test_hull_overlap_and_random_sets_have_one_size_and_ordered_power() -> None:
    found = moments(12)
    fits = {
        kind: regress_on_peers(found, peers=kind, ridge=0.0, rng=np.random.default_rng(1))
        for kind in ("all", "hull", "overlap", "random")
    }
    assert (fits["hull"].n_peers == channel_axes(found).hull_size).all()
    for kind in ("overlap", "random"):
        np.testing.assert_array_equal(fits[kind].n_peers, fits["hull"].n_peers)
        assert ((fits[kind].coefficients != 0).sum(axis=1) == fits[kind].n_peers).all()
        assert (np.diagonal(fits[kind].coefficients) == 0).all()
        assert (fits[kind].recovered <= fits["all"].recovered + 1e-12).all()
    # the hull reaches 95 % of E_i, or has its most, ten of eleven
    reached = fits["hull"].recovered >= 0.95 * fits["all"].recovered - 1e-12
    assert (reached | (fits["hull"].n_peers == 10)).all()
    assert fits["hull"].recovered.mean() > fits["random"].recovered.mean()


def test_overlap_takes_the_strongest_correlations() -> None:
    found = moments(6)
    fit = regress_on_peers(found, peers="overlap", size=2)
    deviation = np.sqrt(np.diagonal(found.cov))
    r = np.abs(found.cov / np.outer(deviation, deviation)) - np.eye(6)
    for i in range(6):
        assert set(np.flatnonzero(fit.coefficients[i])) == set(np.argsort(-r[i])[:2])


def test_copies_and_dead_channels_give_finite_regressions() -> None:
    rng = np.random.default_rng(0)
    y = rng.standard_normal((100, 4))
    y[:, 1] = 2 * y[:, 0]
    y[:, 3] = 5.0
    for ridge in (0.0, 1e-4):
        fit = regress_on_peers(Moments.from_samples(y), peers="all", ridge=ridge)
        assert np.isfinite(fit.coefficients).all()
        assert fit.recovered[0] == pytest.approx(1.0, abs=1e-6)
        assert np.isnan(fit.recovered[3])
        assert fit.intercepts[3] == pytest.approx(5.0)
        assert not fit.coefficients[3].any()
        assert not fit.coefficients[:, 3].any()


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"peers": "hulls"}, "peers must be one of .* got 'hulls'. Did you mean 'hull'"),
        ({"ridge": -1.0}, "ridge must be >= 0 and finite; got -1.0"),
        ({"draws": 0}, "draws must be a whole number >= 1; got 0"),
        ({"size": 0}, "size must be a whole number >= 1; got 0"),
        ({"point": "after"}, "point must be one of 'pre_norm', 'post_activation'; got 'after'"),
        ({"point": "post_activation"}, "layers must be followed by an activation .* 'conv' is not"),
        ({"channels": {"conv": [(0, 1)]}}, "must be single channels; got sets of 2"),
    ],
)
def test_bad_arguments_are_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(Redundant(), data(20, 1), data(50, 2), **options)


def test_a_layer_of_one_channel_is_refused() -> None:
    model = nn.Sequential(
        nn.Conv2d(4, 1, 1), nn.ReLU(), nn.Conv2d(1, 3, 1), nn.Flatten(), nn.Linear(3, 3)
    )
    with pytest.raises(ValueError, match="layers must have at least 2 channels; '0' has 1"):
        replace(model, data(20, 1), data(50, 2))


def test_moments_of_another_model_are_refused() -> None:
    with pytest.raises(ValueError, match=r"calibration has 7 channels .* which has 6"):
        replace(Redundant(), data(20, 1), {"conv": moments(7)})
