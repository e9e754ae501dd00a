"""Peers from few samples: against known truths and large random matrices."""

import numpy as np
import pytest

from theory import Moments, channel_axes, merge
from theory.few_samples import estimate_peers
from theory.sampling import in_out_product, likeness_of

GROUPS = 10


def draw(rng, channels, images, positions, likeness, truth):
    """(images, positions, channels): pairs of channels with E = truth, positions alike."""
    shape = (images, positions, channels)
    z = np.sqrt(likeness) * rng.standard_normal((images, 1, channels))
    z = z + np.sqrt(1 - likeness) * rng.standard_normal(shape)
    y = z.copy()
    y[..., 1::2] = np.sqrt(truth) * z[..., 0::2] + np.sqrt(1 - truth) * z[..., 1::2]
    return y


def grouped(y, t=None):
    group = np.arange(len(y)) % GROUPS
    flat = y.reshape(len(y), -1, y.shape[-1])
    return [
        Moments.from_samples(
            flat[group == g].reshape(-1, y.shape[-1]),
            None if t is None else np.repeat(t[group == g], flat.shape[1], axis=0),
        )
        for g in range(GROUPS)
    ]


@pytest.mark.parametrize(
    ("channels", "images", "positions", "likeness", "truth"),
    [
        (256, 320, 1, 0.0, 0.0),
        (256, 512, 1, 0.0, 0.5),
        (256, 128, 16, 0.5, 0.0),
        (256, 256, 16, 0.9, 0.5),
        (64, 128, 16, 0.9, 0.0),
        (64, 128, 16, 0.9, 0.5),
        (64, 256, 16, 0.9, 0.5),
        (64, 128, 16, 1.0, 0.5),
    ],
)
def test_the_mean_over_channels_is_near_the_truth(channels, images, positions, likeness, truth):
    """Within .05; the plug-in estimate is off by .08 to .85 in all of these."""
    rng = np.random.default_rng(1)
    parts = grouped(draw(rng, channels, images, positions, likeness, truth))
    found = estimate_peers(parts, samples_per_image=positions).predictability.mean()
    assert abs(found - truth) < 0.05
    assert channel_axes(merge(parts), hull=False).peer_predictability.mean() > truth + 0.08


def test_conditional_information_of_independent_channels_is_none():
    rng = np.random.default_rng(2)
    y, t = rng.standard_normal((200, 1, 60)), rng.standard_normal((200, 2))
    parts = grouped(y, t)
    axes = channel_axes(merge(parts), groups=parts, hull=False, estimate="in_out")
    plug_in = channel_axes(merge(parts), hull=False, estimate="plug_in")
    assert abs(axes.conditional_task_information.mean()) < 0.002
    assert plug_in.conditional_task_information.mean() > 0.005


@pytest.mark.parametrize(("ratio", "likeness"), [(0.2, 0.0), (0.4, 0.5), (0.8, 0.5), (0.25, 0.9)])
def test_the_product_is_that_of_large_random_matrices(ratio, likeness):
    rng, m, c = np.random.default_rng(4), 8, 400
    images = round(c / ratio / m)
    z = draw(rng, c, images, m, likeness, 0.0).reshape(-1, c)
    values = np.linalg.eigvalsh(z.T @ z / len(z))
    first, second = (1 / values).mean(), (1 / values**2).mean()
    assert in_out_product(c / len(z), likeness, m) == pytest.approx(second / first**3, rel=0.06)
    assert likeness_of(1 + (m - 1) * likeness**2, m) == pytest.approx(likeness)


def test_independent_samples_are_corrected_by_their_degrees_of_freedom():
    """One sample per image: as good a mean from 300 samples of 256 channels, with less scatter."""
    rng = np.random.default_rng(11)
    for _ in range(3):
        parts = grouped(draw(rng, 256, 300, 1, 0.0, 0.0))
        axes = channel_axes(merge(parts), groups=parts, hull=False)
        inside = channel_axes(merge(parts), estimate="corrected", hull=False)
        np.testing.assert_array_equal(axes.peer_predictability, inside.peer_predictability)
        assert abs(axes.peer_predictability.mean()) < 0.05


def test_determined_channels_stay_determined_and_others_are_judged_without_them():
    rng = np.random.default_rng(5)
    y = rng.standard_normal((400, 1, 6))
    y[..., 4], y[..., 5] = y[..., 0] + y[..., 1], 7.0
    parts = grouped(y)
    axes = channel_axes(merge(parts), groups=parts)
    assert axes.affected["collinear"] == (0, 1, 4)
    assert axes.affected["dead"] == (5,)
    np.testing.assert_array_equal(axes.peer_predictability[[0, 1, 4]], 1.0)
    assert np.abs(axes.peer_predictability[[2, 3]]).max() < 0.05


@pytest.mark.parametrize("images", [30, 64, 66])
def test_too_few_samples_are_said_not_estimated(images):
    parts = grouped(np.random.default_rng(6).standard_normal((images, 1, 64)))
    axes = channel_axes(merge(parts), groups=parts, hull=False)
    assert axes.affected["few_samples"] == tuple(range(64))
    assert "collinear" not in axes.affected
    assert np.isnan(axes.peer_predictability).all()


def test_a_layer_of_fewer_than_four_effective_samples_per_channel_is_listed():
    rng = np.random.default_rng(7)
    for images, likeness, listed in ((25, 0.0, False), (25, 1.0, True), (250, 1.0, False)):
        parts = grouped(draw(rng, 20, images, 8, likeness, 0.0))
        axes = channel_axes(merge(parts), groups=parts, samples_per_image=8, hull=False)
        assert ("few_samples" in axes.affected) is listed


def test_bias_correction_counts_what_samples_are_worth():
    """16 positions per image that are alike: 0.8 by their number, 0.5 by their worth."""
    parts = grouped(draw(np.random.default_rng(8), 64, 512, 16, 0.9, 0.5))
    axes = channel_axes(
        merge(parts), groups=parts, samples_per_image=16, bias_correction=True, hull=False
    )
    assert axes.peer_predictability.mean() == pytest.approx(0.5, abs=0.03)


def test_bias_correction_counts_the_rank_of_the_peers():
    rng = np.random.default_rng(9)
    found = []
    for _ in range(40):
        peers = rng.standard_normal((60, 20))
        y = np.hstack([rng.standard_normal((60, 1)), peers, peers])
        axes = channel_axes(Moments.from_samples(y), bias_correction=True, hull=False)
        found.append(axes.peer_predictability[0])
    # the standard error of the mean is .03; 40 peers instead of 20 give -1.05
    assert abs(np.mean(found)) < 0.12


def test_estimates_that_cannot_be_had_are_refused():
    moments = Moments.from_samples(np.random.default_rng(0).standard_normal((50, 4)))
    with pytest.raises(ValueError, match=r"estimate='in_out' needs moments of groups.*no groups"):
        channel_axes(moments, estimate="in_out")
    with pytest.raises(ValueError, match=r"estimate='in_out' needs .* no ridge; got ridge=0.1"):
        channel_axes(moments, groups=[moments, moments], ridge=0.1, estimate="in_out")
    with pytest.raises(ValueError, match=r"estimate must be one of .*'in_out'; got 'inout'"):
        channel_axes(moments, estimate="inout")
