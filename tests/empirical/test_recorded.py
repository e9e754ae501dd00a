"""Activations recorded elsewhere give the table that the measurement gives."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from empirical import capture, from_activations, measure
from theory import LOCAL_AXIS, QUANTITIES, TARGET_AXIS


@pytest.fixture(scope="module")
def recorded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 5), nn.Linear(5, 3)
        )
        images, labels = torch.randn(120, 3, 6, 6), torch.arange(120) % 3
    kept = {}
    readers = {name: lambda output, name=name: kept.update({name: output}) for name in ("0", "3")}
    with torch.no_grad(), capture(model, readers):
        logits = model(images)
    return measure(model, [(images, labels)], target="true_logit"), kept, logits, labels


def test_the_table_is_that_of_the_measurement(recorded):
    table, kept, logits, labels = recorded
    found = from_activations(kept, logits[torch.arange(120), labels])
    assert found.layers == table.layers == ["0", "3"]
    for layer in table.layers:
        for name in set(QUANTITIES) - {"rayleigh_quotient"}:  # which asks for the filters
            expected = getattr(table[layer], name)
            np.testing.assert_allclose(getattr(found[layer], name), expected, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(
            found.standard_errors(layer)["task_information"],
            table.standard_errors(layer)["task_information"],
            rtol=1e-4,
        )
        np.testing.assert_array_equal(found[layer].hull.members, table[layer].hull.members)


@pytest.mark.parametrize("holder", ["activation", "tensor_contents", "value"])
def test_entries_of_recorders_are_opened(recorded, holder):
    _, kept, _, _ = recorded
    held = {name: SimpleNamespace(**{holder: value}) for name, value in kept.items()}
    np.testing.assert_array_equal(
        from_activations(held)["0"].signal_power, from_activations(kept)["0"].signal_power
    )


def test_without_a_target_the_local_axis_is_there_alone(recorded):
    found = from_activations({"0": recorded[1]["0"].numpy()})["0"]
    for name in set(LOCAL_AXIS) - {"rayleigh_quotient"}:
        assert np.isfinite(getattr(found, name)).all(), name
    for name in TARGET_AXIS:
        assert np.isnan(getattr(found, name)).all(), name


def test_tokens_have_their_channels_last():
    rng = np.random.default_rng(0)
    tokens = rng.standard_normal((50, 7, 4))
    last = from_activations({"block": tokens}, channel_dim=-1)
    first = from_activations({"block": tokens.transpose(0, 2, 1)})
    np.testing.assert_array_equal(last["block"].signal_power, first["block"].signal_power)


@pytest.mark.parametrize(
    ("activations", "target", "error", "message"),
    [
        ({}, None, ValueError, "activations must hold at least one layer"),
        ([np.zeros((4, 2))], None, TypeError, "activations must be"),
        ({"a": np.zeros(4)}, None, ValueError, r"activations\['a'\] must be \(n, C, ...\)"),
        ({"a": np.array([["x"]])}, None, TypeError, "must hold real numbers"),
        ({"a": np.full((30, 2), np.nan)}, None, ValueError, "must be finite"),
        ({"a": np.eye(30), "b": np.eye(29)}, None, ValueError, "layer 'b' has 29, the first 30"),
        ({"a": np.eye(30)}, np.arange(29.0), ValueError, "one row per image, 30; got 29"),
    ],
)
def test_what_cannot_be_read_is_named(activations, target, error, message):
    with pytest.raises(error, match=message):
        from_activations(activations, target)
    with pytest.raises(TypeError, match=r"options must be among .* got 'depth'"):
        from_activations({"a": np.eye(3)}, depth=3)
