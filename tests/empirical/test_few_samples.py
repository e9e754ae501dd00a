"""What a measurement says of few images: estimates that are right, and warnings."""

import numpy as np
import pytest
import torch
from torch import nn

from empirical import measure, replace
from theory import channel_axes, regress_on_peers


def orthogonal(channels):
    """A linear layer whose channels are independent for white images: every E_i is 0."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = nn.Linear(3 * channels, channels, bias=False)
        nn.init.orthogonal_(layer.weight)
        return nn.Sequential(nn.Flatten(), layer, nn.Tanh(), nn.Linear(channels, 4))


def test_independent_channels_have_no_predictability_also_from_few_images():
    generator = torch.Generator().manual_seed(5)
    images, labels = torch.randn(300, 192, 2, 2, generator=generator), torch.arange(300) % 4
    with pytest.warns(UserWarning, match=r"fewer than 10.*'1'.*about 2560 images \(here 300"):
        table = measure(orthogonal(256), [(images, labels)], hull=False)
    assert abs(table["1"].peer_predictability.mean()) < 0.05
    assert table["1"].affected["few_samples"] == tuple(range(256))
    with pytest.warns(UserWarning, match="fewer than 10 samples"):
        plain = measure(orthogonal(256), [(images, labels)], hull=False, estimate="plug_in")
    assert plain["1"].peer_predictability.mean() > 0.8


def test_without_groups_the_estimate_is_plug_in_and_in_out_is_refused():
    data = torch.randn(200, 12, 2, 2), torch.arange(200) % 4
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.Tanh(), nn.Linear(8, 4))
    table = measure(model, [data], standard_errors=False, layers=["1"])
    by_hand = channel_axes(table.moments["1"], estimate="plug_in")
    np.testing.assert_array_equal(table["1"].peer_predictability, by_hand.peer_predictability)
    with pytest.raises(ValueError, match="estimate='in_out' needs moments of groups"):
        measure(model, [data], standard_errors=False, layers=["1"], estimate="in_out")


def test_replacement_foretells_what_a_regression_recovers_on_other_images():
    """64 independent channels, 100 images: peers in place of a channel do harm, as foretold."""
    generator = torch.Generator().manual_seed(1)
    images, labels = torch.randn(500, 48, 2, 2, generator=generator), torch.arange(500) % 4
    model = orthogonal(64)
    with pytest.warns(UserWarning, match="fewer than 10 samples"):
        table = measure(model, [(images[:100], labels[:100])], layers=["1"])
    frame = replace(model, [(images[100:], labels[100:])], table, peers="all").to_frame()
    foretold = frame[frame.kind == "all"].predicted
    known = table.moments["1"]
    fit = regress_on_peers(known)
    fresh = images[100:].flatten(1).double() @ model[1].weight.detach().double().T
    residual = fresh.numpy() @ (np.eye(64) - fit.coefficients).T - fit.intercepts
    outside = 1 - (residual**2).mean(0) / fresh.numpy().var(0)
    # regressions on nine tenths of the samples foretell a little worse than on all of them
    assert outside.mean() - 0.8 < foretold.mean() < outside.mean() + 0.1 < 0
