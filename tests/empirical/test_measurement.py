import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from empirical import measure
from empirical.reading.hooks import capture, evaluating
from theory import QUANTITIES, Moments, channel_axes

SMALL = {"positions": 4, "groups": 5}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def random_data(n, size=8, classes=5, seed=0):
    images = torch.randn(n, 3, size, size, generator=seeded(seed))
    return images, torch.randint(classes, (n,), generator=seeded(seed + 1))


def in_batches(images, labels, size):
    return [(images[i : i + size], labels[i : i + size]) for i in range(0, len(images), size)]


def small_net(classes=5, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(inplace=True),
            nn.Conv2d(6, 8, 3, stride=2),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 7),
            nn.ReLU(),
            nn.Linear(7, classes),
        )


def plain_measurement(model, images, labels, layers, hull=True):
    """Store all activations of all images at all positions; then one covariance per layer."""
    stored = {}

    def store(name):
        def read(output):
            rows = output.movedim(1, -1) if output.ndim == 4 else output
            stored[name] = rows.reshape(len(images), -1, rows.shape[-1]).double()

        return read

    with evaluating(model), capture(model, {name: store(name) for name in layers}):
        logits = model(images).double()
    true = logits[torch.arange(len(labels)), labels]
    logits[torch.arange(len(labels)), labels] = -torch.inf
    margin = true - logits.max(1).values
    for name, rows in stored.items():
        t = margin.repeat_interleave(rows.shape[1])
        weights = model.get_submodule(name).weight.detach().double().numpy()
        moments = Moments.from_samples(rows.flatten(0, 1).numpy(), t.numpy())
        yield name, channel_axes(moments, weights=weights, hull=hull)


def assert_equal_axes(found, expected, tolerance):
    for quantity in QUANTITIES:
        np.testing.assert_allclose(
            getattr(found, quantity),
            getattr(expected, quantity),
            rtol=tolerance,
            atol=tolerance,
            err_msg=quantity,
        )


def test_every_quantity_of_a_resnet18_equals_a_plain_script_that_stores_everything():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torchvision.models.resnet18(num_classes=10).eval()
    model.maxpool = nn.Identity()
    images, labels = random_data(40, size=32, classes=10)
    table = measure(
        model,
        in_batches(images, labels, 16),
        positions=10_000,
        standard_errors=False,
        hull=False,
        exact=True,
    )
    assert len(table.layers) == 20
    expected = dict(plain_measurement(model, images, labels, table.layers, hull=False))
    for name in table.layers:
        for quantity in QUANTITIES:
            # 1e-8: both are float64 on the same float32 activations
            np.testing.assert_allclose(
                getattr(table[name], quantity),
                getattr(expected[name], quantity),
                rtol=1e-8,
                atol=1e-8,
                err_msg=f"{name} {quantity}",
            )


def test_hull_and_sampled_run_of_a_small_net_equal_the_plain_script():
    model, (images, labels) = small_net(), random_data(50)
    options = {"positions": 10_000, "groups": 5, "estimate": "plug_in", "exact": True}
    table = measure(model, in_batches(images, labels, 20), **options)
    assert table.layers == ["0", "3", "8"]
    assert table.norms == {"0": "1", "3": "4", "8": None}
    for name, expected in plain_measurement(model, images, labels, table.layers):
        assert_equal_axes(table[name], expected, 1e-8)


def gaussian_layer(kind, seed=0):
    """A linear layer or a 1 x 1 convolution on Gaussian inputs of known covariance."""
    rng = np.random.default_rng(seed)
    d, c = 4, 6
    root = rng.standard_normal((d, d))
    weight = rng.standard_normal((c, d))
    readout = rng.standard_normal((2, c))
    layer = nn.Linear(d, c) if kind == "linear" else nn.Conv2d(d, c, 1)
    head = nn.Linear(c, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight).reshape(layer.weight.shape))
        layer.bias.fill_(3.0)
        head.weight.copy_(torch.from_numpy(readout))
    x = rng.standard_normal((20_000, d)) @ root.T
    images = torch.from_numpy(x).float()
    if kind == "conv":
        images = images[:, :, None, None]
    model = nn.Sequential(layer, nn.Flatten(), head)
    target = readout[0] - readout[1]
    sigma = root @ root.T
    return model, images, weight, sigma, target


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_three_routes_to_one_quantity(kind):
    """Population formula, samples in numpy, and `measure` on the layer agree.

    d = 4 inputs make 6 channels collinear, so noise in the channels is the ridge here.
    """
    model, images, weight, sigma, target = gaussian_layer(kind)
    labels = torch.zeros(len(images), dtype=torch.long)
    noisy = lambda z, y: z[:, 0] - z[:, 1]  # noqa: E731
    table = measure(model, [(images, labels)], target=noisy, layers=["0"], ridge=0.3)

    k = weight @ sigma @ weight.T
    joint = np.block([[k, (k @ target)[:, None]], [k @ target, target @ k @ target]])
    population = channel_axes(Moments.from_covariance(joint), ridge=0.3)
    y = images.double().flatten(1).numpy() @ weight.T
    sampled = channel_axes(Moments.from_samples(y, y @ target), ridge=0.3)
    smooth = ("signal_power", "input_capture", "peer_overlap", "peer_predictability")
    for quantity in (*smooth, "peer_information", "task_information"):
        measured = getattr(table["0"], quantity)
        # float32 forward pass
        np.testing.assert_allclose(measured, getattr(sampled, quantity), rtol=2e-5, atol=1e-6)
        # five standard errors of sampling 20,000 images
        error = np.maximum(table.standard_errors("0")[quantity], 1e-6)
        deviation = np.abs(measured - getattr(population, quantity)) / error
        assert deviation.max() < 8, quantity


def test_standard_errors_cover_the_spread_over_fresh_data():
    """The jackknife error is about the spread of estimates over independent sets of images."""
    model = small_net()
    tables = [measure(model, [random_data(300, seed=10 * s)], positions=4) for s in range(30)]
    frames = [table.to_frame() for table in tables]
    for quantity in ("signal_power", "input_capture", "peer_overlap"):
        spread = np.std([frame[quantity] for frame in frames], axis=0, ddof=1)
        claimed = np.sqrt(np.mean([frame[f"{quantity}_se"] ** 2 for frame in frames], axis=0))
        ratio = np.median(claimed / spread)
        assert 0.75 < ratio < 1.35, (quantity, ratio)


def test_frame_has_one_row_per_channel_and_every_column():
    table = measure(small_net(), [random_data(40)], **SMALL)
    frame = table.to_frame()
    assert list(frame.columns[:2]) == ["layer", "channel"]
    assert set(QUANTITIES) | {f"{name}_se" for name in QUANTITIES} < set(frame.columns)
    assert frame.groupby("layer", sort=False).size().tolist() == [6, 8, 7]
    assert not frame[["input_capture", "task_information"]].isna().any(axis=None)


def test_copies_and_dead_channels_are_listed_and_nothing_is_infinite():
    model, data = small_net(), random_data(60)
    with torch.no_grad():
        model[3].weight[1] = model[3].weight[0]
        model[3].bias[1] = model[3].bias[0]
        model[3].weight[2] = 0
    table = measure(model, [data], **SMALL, layers=["3"])
    assert table.affected["3"]["dead"] == (2,)
    assert table.affected["3"]["copies"] == (0, 1)
    assert not np.isinf(table.to_frame().drop(columns="layer").to_numpy()).any()


def test_depthwise_and_grouped_convolutions():
    model = nn.Sequential(
        nn.Conv2d(3, 6, 1),
        nn.Conv2d(6, 6, 3, groups=6, padding=1),
        nn.Conv2d(6, 4, 3, groups=2),
        nn.Flatten(),
        nn.Linear(4 * 36, 5),
    )
    images, labels = random_data(40)
    options = {"positions": 100, "groups": 5, "estimate": "plug_in", "exact": True}
    table = measure(model, [(images, labels)], **options)
    assert table.layers == ["0", "1", "2"]
    for name, expected in plain_measurement(model, images, labels, table.layers):
        assert_equal_axes(table[name], expected, 1e-8)


def test_the_model_is_left_as_it_was():
    model = small_net().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    measure(model, [random_data(40)], **SMALL)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_same_seed_same_table_and_batch_size_does_not_matter():
    model, data = small_net(), random_data(50)
    frames = [
        measure(model, in_batches(*data, size), **SMALL, seed=3).to_frame() for size in (50, 50, 7)
    ]
    assert frames[0].equals(frames[1])
    for column in frames[0].columns[1:]:
        np.testing.assert_allclose(frames[0][column], frames[2][column], rtol=1e-5, atol=1e-6)


def test_first_component_of_the_logits_equals_that_target_given_by_hand():
    model, (images, labels) = small_net(), random_data(60)
    with evaluating(model):
        logits = model(images).double().numpy()
    direction = np.linalg.svd(logits - logits.mean(0), full_matrices=False)[2][0]
    exact = {**SMALL, "exact": True}
    by_hand = measure(
        model, [(images, labels)], target=lambda z, y: z @ torch.from_numpy(direction), **exact
    )
    table = measure(model, [(images, labels)], target="logit_pc1", **exact)
    for name in table.layers:
        for quantity in ("task_information", "target_excess", "conditional_task_information"):
            np.testing.assert_allclose(
                getattr(table[name], quantity), getattr(by_hand[name], quantity), rtol=1e-8
            )


class Returns(nn.Module):
    def __init__(self, change):
        super().__init__()
        self.net, self.change = small_net(), change

    def forward(self, x):
        return self.change(self.net(x))


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (Returns(lambda z: (z, z)), {}, "returned a tuple"),
        (small_net(), {"groups": 50}, "at least groups = 50 images .* it gave 40"),
        (small_net(), {"target": lambda z, y: z[:, 0] * 0}, "layer '0': the target is constant"),
        (small_net(classes=3), {}, r"gives [34] and the model has 3 outputs"),
    ],
)
def test_bad_arguments_are_named(model, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        measure(model, [random_data(40)], **{"groups": 5, **options})


def test_activations_that_overflow_name_layer_and_batch():
    model, data = small_net(), random_data(40)
    with torch.no_grad():
        model[3].weight[0] = 3e38
    with pytest.raises(ValueError, match="layer '3' on batch 0 hold NaN or infinity"):
        measure(model, [data], **SMALL)
