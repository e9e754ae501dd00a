import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from empirical.data.loading import load_data
from empirical.models import ModelSpec, create_model
from empirical.models.factory import MODELS
from empirical.models.probe import check_logits
from empirical.models.shared import scaled


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("channels", "classes"), [(3, 10), (1, 7)])
def test_every_network_maps_images_to_logits(name, channels, classes):
    size = 32 if name != "small_convnet" else 8
    model = create_model(name, classes=classes, image_size=size, channels=channels).eval()
    with torch.no_grad():
        assert model(torch.zeros(1, channels, size, size)).shape == (1, classes)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # Counted by hand from the published tables, for 10 classes and three colours.
        ("resnet18", 11_173_962),
        ("mobilenetv2", 2_236_682),
        # 14,728,266 with the convolutions' biases, which batch norm makes idle: 4,224 fewer.
        ("vgg16", 14_724_042),
    ],
)
def test_full_width_has_the_published_number_of_parameters(name, parameters):
    model = create_model(name, classes=10, image_size=32)
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize(
    ("name", "width", "parameters", "macs"),
    [
        ("resnet18", 1.0, 11_173_962, 555_422_720),
        ("resnet18", 0.25, 701_466, 35_046_656),
        ("vgg16", 1.0, 14_724_042, 313_201_664),
        ("vgg16", 0.25, 923_130, 19_907_840),
        ("mobilenetv2", 1.0, 2_236_682, 87_976_448),
        ("mobilenetv2", 0.25, 161_770, 7_497_344),
    ],
)
def test_a_network_costs_what_earlier_results_say_it_costs(name, width, parameters, macs):
    model = create_model(name, classes=10, image_size=32, width=width).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as operations:
        model(torch.zeros(1, 3, 32, 32))
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert operations.get_total_flops() == 2 * macs


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("resnet18", ["conv1", "layer1.0.conv1", "layer2.0.shortcut.0", "layer4.1.conv2", "fc"]),
        ("vgg16", ["features.0", "features.40", "classifier"]),
        ("mobilenetv2", ["features.0.0", "features.1.conv.1", "features.18.0", "classifier"]),
    ],
)
def test_layers_keep_the_names_that_checkpoints_and_results_have(name, layers):
    named = dict(create_model(name, classes=10, image_size=32, width=0.25).named_modules())
    assert all(isinstance(named[layer], nn.Conv2d | nn.Linear) for layer in layers)


@pytest.mark.parametrize("name", ["small_convnet", "resnet18", "vgg16", "mobilenetv2"])
def test_width_scales_every_layer(name):
    full, half = (create_model(name, classes=10, image_size=32, width=w) for w in (1.0, 0.5))
    ratio = sum(p.numel() for p in full.parameters()) / sum(p.numel() for p in half.parameters())
    assert 3.0 < ratio < 4.1


def test_scaled_rounds_to_the_divisor_and_keeps_at_least_one():
    assert [scaled(64, 0.25), scaled(3, 0.1), scaled(100, 0.25, divisor=8)] == [16, 1, 24]


def test_weights_depend_on_the_seed_and_leave_the_global_generator_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, again, other = (
        create_model("small_convnet", classes=10, image_size=8, channels=1, seed=seed)
        for seed in (1, 1, 2)
    )
    assert torch.equal(before, torch.random.get_rng_state())
    for mine, same in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(mine, same)
    assert not torch.equal(first[0].weight, other[0].weight)


def test_large_images_keep_the_published_stems():
    assert create_model("resnet50", classes=5, image_size=224).conv1.stride == (2, 2)
    assert create_model("resnet50", classes=5, image_size=32).conv1.stride == (1, 1)
    stem = create_model("convnext_tiny", classes=5, image_size=224).features[0][0]
    assert stem.kernel_size == (4, 4)


def test_a_torchvision_network_unknown_to_the_project_is_built_by_path():
    model = create_model("torchvision.models:squeezenet1_1", classes=6, image_size=64).eval()
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 6)


def test_a_file_of_the_user_is_a_model_source(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from torch import nn\n"
        "def build(classes, in_channels):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * 64, classes))\n"
    )
    model = create_model(f"{file}:build", classes=4, image_size=8, channels=2)
    assert model[1].weight.shape == (4, 128)


def test_a_file_that_is_edited_stays_what_it_was_and_that_is_said(tmp_path, caplog):
    """As any module that a process has imported, and as its fingerprint says."""
    file = tmp_path / "edited.py"
    text = "from torch import nn\ndef build(classes):\n    return nn.Linear({}, classes)\n"
    for width in (5, 6):
        file.write_text(text.format(width))
        assert create_model(f"{file}:build", classes=4, image_size=8).in_features == 5
        assert ("edited.py' has changed since" in caplog.text) == (width == 6)


def test_images_of_one_class_and_a_file_without_its_callable_say_what_is_missing():
    with pytest.raises(ValueError, match=r"classes must be .* >= 2; got 1\. .*train/<class>"):
        create_model("small_convnet", classes=1, image_size=8)
    for name in ("net.py", "nets/net.py", r"C:\nets\net.py"):
        with pytest.raises(ValueError, match=r"which callable builds it; got .*net\.py:callable\."):
            create_model(name, classes=4, image_size=8)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("torchvision.models:resnet19", {}, r"Did you mean .*'resnet1"),
        ("resnet50", {"width": 0.5}, "width must be 1 for resnet50"),
        ("torchvision.models:resnet18", {"width": 0.5}, "has no width; got 0.5"),
        ("vgg16", {"image_size": 8}, "image_size must be >= 16 for vgg16; got 8"),
    ],
)
def test_bad_requests_are_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        create_model(name, **{"classes": 10, "image_size": 32, **options})


def test_a_callable_that_returns_no_module_is_refused(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def build(classes):\n    return classes\n")
    with pytest.raises(TypeError, match=r"must return a torch\.nn\.Module; it returned .*int"):
        create_model(f"{file}:build", classes=2, image_size=8)


class Pair(nn.Module):
    def forward(self, images):
        return images.sum((1, 2, 3)), images


def test_probe_names_what_does_not_fit():
    _, digits = load_data("digits")
    check_logits(ModelSpec("small_convnet", 10, 8, 1).build(), digits)
    with pytest.raises(TypeError, match=r"must return logits.*returned tuple.*Wrap it"):
        check_logits(Pair(), digits)
    with pytest.raises(ValueError, match=r"one logit for each of the 10 classes.*\(2, 7\)"):
        check_logits(ModelSpec("small_convnet", 7, 8, 1).build(), digits)
    with pytest.raises(ValueError, match=r"cannot read images of shape \(1, 8, 8\)"):
        check_logits(ModelSpec("small_convnet", 10, 8, 3).build(), digits)
