import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

from empirical import measure
from empirical.reading.hooks import capture, evaluating
from empirical.reading.layers import find_layers
from empirical.reading.points import taps
from theory import Moments, channel_axes


class Net(nn.Module):
    """One layer with norm and functional activation, one with a shortcut, one without a norm."""

    def __init__(self):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.conv2, self.norm2 = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.hidden, self.head = nn.Linear(6, 7), nn.Linear(7, 4)

    def forward(self, x):
        y = functional.relu(self.norm1(self.conv1(x)), inplace=True)
        y = functional.relu(y + self.norm2(self.conv2(y)))
        return self.head(functional.gelu(self.hidden(y.mean((2, 3)))))


@pytest.fixture
def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Net()
        for norm in (model.norm1, model.norm2):
            norm.running_mean.normal_()
            nn.init.uniform_(norm.weight, 0.5, 2.0)
    return model.eval()


@pytest.fixture(scope="module")
def data():
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(40, 3, 8, 8, generator=generator)
    return images, torch.randint(4, (40,), generator=generator)


def axes_of(stored, logits, labels):
    rows = stored.double().movedim(1, -1).reshape(len(labels), -1, stored.shape[1])
    z = logits.double()
    true = z[torch.arange(len(labels)), labels]
    t = (true - z.scatter(1, labels[:, None], -torch.inf).amax(1)).repeat_interleave(rows.shape[1])
    return channel_axes(Moments.from_samples(rows.flatten(0, 1).numpy(), t.numpy()))


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        ("pre_norm", ["conv1", "conv2", "hidden"]),
        ("post_norm", ["conv1", "conv2"]),
        ("post_activation", ["conv1", "hidden"]),
    ],
)
@pytest.mark.parametrize("sampling", ["positions", "pooled"])
def test_points_equal_what_is_stored_there_by_hand(net, data, point, expected, sampling):
    images, labels = data
    stored = {}
    keep = {
        name: lambda y, name=name: stored.update({name: y.clone()})
        for name in ("conv1", "norm1", "conv2", "norm2", "hidden")
    }
    with evaluating(net), capture(net, keep):
        logits = net(images)
    by_hand = {
        "pre_norm": {name: stored[name] for name in ("conv1", "conv2", "hidden")},
        "post_norm": {"conv1": stored["norm1"], "conv2": stored["norm2"]},
        "post_activation": {
            "conv1": stored["norm1"].relu(),
            "hidden": functional.gelu(stored["hidden"]),
        },
    }[point]
    options = {"positions": 64, "standard_errors": False, "exact": True}
    table = measure(net, [data], point=point, sampling=sampling, **options)
    assert table.layers == expected
    assert set(table.skipped) == {"conv1", "conv2", "hidden"} - set(expected)
    for name, output in by_hand.items():
        if sampling == "pooled" and output.ndim == 4:
            output = output.double().mean((2, 3))
        reference = axes_of(output, logits, labels)
        for quantity in ("signal_power", "peer_predictability", "hull_size", "task_information"):
            np.testing.assert_allclose(
                getattr(table[name], quantity), getattr(reference, quantity), rtol=1e-8
            )


def test_rayleigh_quotient_belongs_to_the_layers_own_output(net, data):
    before = measure(net, [data], standard_errors=False)
    norms = net.conv1.weight.detach().double().flatten(1).square().sum(1)
    np.testing.assert_allclose(
        before["conv1"].rayleigh_quotient, before["conv1"].signal_power / norms.numpy(), rtol=1e-12
    )
    after = measure(net, [data], standard_errors=False, point="post_norm")
    assert np.isnan(after["conv1"].rayleigh_quotient).all()


def test_convnext_norm_is_read_along_its_own_channel_dimension():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torchvision.models.convnext_tiny(num_classes=4).eval()
        images, labels = torch.randn(12, 3, 64, 64), torch.randint(4, (12,))
    name, norm = "features.1.0.block.0", "features.1.0.block.2"
    stored = []
    with evaluating(model), capture(model, {norm: lambda y: stored.append(y.clone())}):
        model(images)
    table = measure(
        model, [(images, labels)], layers=[name], point="post_norm", positions=256, groups=2
    )
    rows = stored[0].double().flatten(0, 2)
    np.testing.assert_allclose(table[name].signal_power, rows.var(0).numpy(), rtol=1e-10)


def test_activations_are_found_as_modules_and_as_functions():
    layers = find_layers(torchvision.models.mobilenet_v2(num_classes=4), torch.zeros(1, 3, 32, 32))
    first = layers[0].activation(torch.tensor([-1.0, 3.0, 9.0]))
    assert first.tolist() == [0.0, 3.0, 6.0]
    projection = next(layer for layer in layers if layer.name == "features.1.conv.1")
    assert projection.activation is None


def test_missing_point_of_a_named_layer_says_so(net, data):
    with pytest.raises(ValueError, match="'conv2' has no activation that receives its output"):
        measure(net, [data], layers=["conv1", "conv2"], point="post_activation")
    with pytest.raises(ValueError, match="'hidden' has no norm"):
        measure(net, [data], layers=["hidden"], point="post_norm")
    with pytest.raises(ValueError, match="point must be one of 'pre_norm'"):
        measure(net, [data], point="pre-norm")


def test_one_channel_is_left_out_or_refused_by_name():
    model = nn.Sequential(nn.Conv2d(3, 1, 1), nn.Conv2d(1, 4, 1), nn.Flatten(), nn.Linear(256, 5))
    layers = find_layers(model, torch.zeros(1, 3, 8, 8))
    found, skipped = taps(layers, "pre_norm", strict=False)
    assert [tap.module for tap in found] == ["1"]
    assert skipped == {"0": "one channel, and so no peers"}
    with pytest.raises(ValueError, match="'0' has one channel"):
        taps(layers, "pre_norm", strict=True)
