"""Moments of wide linear layers from those of their inputs: the same as from their outputs."""

import numpy as np
import pytest
import torch
from torch import nn

from empirical import measure
from empirical.reading.expansion import expansions
from empirical.reading.hooks import edit
from empirical.reading.layers import find_layers
from empirical.reading.points import taps

IMAGES = torch.randn(60, 3, 9, 9, generator=torch.Generator().manual_seed(0)).double()
LABELS = torch.arange(60) % 4


class Widening(nn.Module):
    """A strided 1 × 1 convolution, and a linear layer that is used twice."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.stem = nn.Conv2d(3, 4, 3)
            self.wide = nn.Conv2d(4, 12, 1, stride=2)
            self.narrow = nn.Conv2d(12, 3, 1)
            self.hidden = nn.Linear(3, 9)
            self.back = nn.Linear(9, 3)
            self.head = nn.Linear(3 * 16, 4)

    def forward(self, x):
        x = torch.relu(self.wide(torch.relu(self.stem(x))))
        x = self.narrow(x).movedim(1, -1)
        for _ in range(2):
            x = x + self.back(torch.relu(self.hidden(x)))
        return self.head(x.flatten(1))


def measured(monkeypatch, widening, **options):
    monkeypatch.setattr("empirical.reading.expansion.WIDENING", widening)
    return measure(Widening().double(), [(IMAGES, LABELS)], positions=5, groups=6, **options)


@pytest.mark.parametrize("options", [{}, {"sampling": "pooled"}, {"target": "label"}, {"null": 4}])
def test_inputs_give_what_outputs_give(monkeypatch, options):
    pushed = measured(monkeypatch, 3, **options)
    sampled = measured(monkeypatch, 10**9, **options)
    for name, moments in sampled.moments.items():
        np.testing.assert_allclose(pushed.moments[name].mean, moments.mean, atol=1e-12)
        np.testing.assert_allclose(pushed.moments[name].cov, moments.cov, rtol=1e-9, atol=1e-12)
        assert pushed.moments[name].n == moments.n
        for quantity, errors in sampled.standard_errors(name).items():
            np.testing.assert_allclose(
                pushed.standard_errors(name)[quantity], errors, rtol=1e-5, atol=1e-8
            )
        for quantity, draws in sampled.null.get(name, {}).items():
            np.testing.assert_allclose(pushed.null[name][quantity], draws, rtol=1e-5, atol=1e-8)


def of(model, point="pre_norm"):
    found = find_layers(model, IMAGES[:2].to(next(model.parameters()).dtype), None)
    return set(expansions(taps(found, point, strict=False)[0]))


def test_only_plain_wide_layers_count():
    assert of(Widening()) == {"wide", "hidden"}
    assert not of(Widening(), "post_activation")
    assert not of(Widening().bfloat16())

    class Own(nn.Conv2d):
        def forward(self, x):
            return super().forward(x) + 1

    model = Widening()
    model.wide = Own(4, 12, 1, stride=2)
    assert of(model) == {"hidden"}
    model = Widening()
    nn.utils.parametrizations.weight_norm(model.wide)
    assert of(model) == {"hidden"}
    model = Widening()
    model.wide = nn.Conv2d(4, 12, 1, stride=2, padding=1)
    model.head = nn.Linear(3 * 25, 4)
    assert of(model) == {"hidden"}
    model = Widening()
    model.wide.weight.data[0, 0] = torch.nan
    assert of(model) == {"hidden"}


def test_an_edited_layer_is_measured_as_it_is_edited():
    model = Widening().double()
    with edit(model, {"wide": lambda output: output * 2}):
        doubled = measure(model, [(IMAGES, LABELS)], groups=6)
    plain = measure(model, [(IMAGES, LABELS)], groups=6)
    np.testing.assert_allclose(
        doubled["wide"].signal_power, 4 * plain["wide"].signal_power, rtol=1e-9
    )


def test_a_lower_precision_is_measured_as_it_computes():
    model, data = Widening(), [(IMAGES.float(), LABELS)]
    within = measure(model, data, groups=6, autocast=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        around = measure(model, data, groups=6)
    full = measure(model, data, groups=6)
    np.testing.assert_array_equal(within["wide"].signal_power, around["wide"].signal_power)
    assert not np.allclose(within["wide"].signal_power, full["wide"].signal_power, rtol=1e-6)
    np.testing.assert_allclose(within["wide"].signal_power, full["wide"].signal_power, rtol=0.05)


def test_a_weight_that_is_not_finite_is_named():
    model = Widening().double()
    model.wide.weight.data[3] = torch.inf
    with pytest.raises(ValueError, match=r"layer 'wide' on batch 0 hold NaN or infinity"):
        measure(model, [(IMAGES, LABELS)], groups=6)
