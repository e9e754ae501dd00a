import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

from empirical import measure
from empirical.reading.layers import find_layers
from empirical.reading.unmeasured import FOLDED

IMAGE = torch.zeros(2, 3, 32, 32)


class Residual(nn.Module):
    """Attributes named and ordered to mislead: nothing but the flow of tensors tells the norm."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 5)
        self.bn1 = nn.BatchNorm2d(8)
        self.bn2 = nn.BatchNorm2d(8)
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        y = functional.relu(self.bn2(self.first(x)))
        y = y + self.bn1(self.second(y))
        return self.head(y.mean((2, 3)))


def names_and_norms(model, image=IMAGE):
    return [(layer.name, layer.norm) for layer in find_layers(model, image)]


def test_execution_order_and_norms_follow_the_tensors():
    assert names_and_norms(Residual()) == [("first", "bn2"), ("second", "bn1")]


def test_norm_after_an_in_place_activation_is_not_the_layers_norm():
    head = [nn.Flatten(), nn.Linear(8 * 32 * 32, 5)]
    conv = nn.Conv2d(3, 8, 3, padding=1)
    late = nn.Sequential(conv, nn.ReLU(inplace=True), nn.BatchNorm2d(8), *head)
    assert names_and_norms(late) == [("0", None)]
    assert names_and_norms(nn.Sequential(conv, nn.BatchNorm2d(8), *head)) == [("0", "1")]


def test_norm_of_half_the_output_is_not_the_layers_norm():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 8, 1), nn.BatchNorm2d(4)
            self.head = nn.Linear(4, 5)

        def forward(self, x):
            return self.head(self.norm(self.conv(x).chunk(2, dim=1)[0]).mean((2, 3)))

    assert names_and_norms(Half()) == [("conv", None)]


def test_permuted_layer_norm_of_convnext_is_found_with_its_channel_dimension():
    layers = find_layers(torchvision.models.convnext_tiny(num_classes=10), IMAGE)
    depthwise = next(layer for layer in layers if layer.name == "features.1.0.block.0")
    assert depthwise.norm == "features.1.0.block.2"
    assert (depthwise.channel_dim, depthwise.norm_channel_dim) == (1, 3)
    hidden = next(layer for layer in layers if layer.name == "features.1.0.block.3")
    assert (hidden.n_channels, hidden.channel_dim) == (384, -1)
    assert not any(layer.name == "classifier.2" for layer in layers)


def test_every_batch_norm_of_a_resnet_belongs_to_one_convolution():
    model = torchvision.models.resnet18(num_classes=10)
    norms = [norm for _, norm in names_and_norms(model)]
    all_norms = {n for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert len(norms) == 20
    assert set(norms) == all_norms


def test_hidden_linear_layers_stay_and_the_classifier_goes():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 7), nn.ReLU(), nn.Linear(7, 5))
    assert [layer.name for layer in find_layers(model, IMAGE)] == ["1"]
    assert [layer.name for layer in find_layers(model, IMAGE, ["3"])] == ["3"]


class Biased(nn.Module):
    """A table of biases, and tokens folded into the batch, are computed by layers of their own."""

    def __init__(self):
        super().__init__()
        self.bias, self.conv = nn.Linear(2, 4), nn.Conv2d(3, 4, 3)
        self.fold, self.head = nn.Linear(4, 6), nn.Linear(6, 5)

    def forward(self, images):
        maps = self.conv(images) + self.bias(torch.ones(1, 2))[:, :, None, None]
        tokens = self.fold(maps.flatten(2).transpose(1, 2).reshape(-1, 4)).relu()
        return self.head(tokens.reshape(len(images), -1, 6).mean(1))


def test_layers_that_do_not_keep_images_apart_are_skipped_with_the_reason():
    model, images = Biased(), torch.randn(40, 3, 6, 6)
    assert [layer.name for layer in find_layers(model, images)] == ["conv"]
    table = measure(model, [(images, torch.arange(40) % 5)], positions=2)
    assert table.layers == ["conv"]
    assert table.skipped == {"bias": FOLDED, "fold": FOLDED}
    with pytest.raises(ValueError, match="keep images along the first dimension"):
        measure(model, [(images, torch.arange(40) % 5)], layers=["fold"])


def test_shared_module_is_one_layer_with_its_number_of_calls():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
            self.head = nn.Linear(3, 5)

        def forward(self, x):
            return self.head(self.conv(self.norm(self.conv(x))).mean((2, 3)))

    (layer,) = find_layers(Shared(), IMAGE)
    assert (layer.name, layer.calls, layer.norm) == ("conv", 2, None)


def test_looking_leaves_the_model_as_it_was():
    model = Residual().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    find_layers(model, IMAGE)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_model_without_layers_says_so():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 5))
    with pytest.raises(ValueError, match="must have a convolution or a hidden linear layer"):
        find_layers(model, IMAGE)


def test_depthwise_layers_are_seen_where_they_take_an_activation_alone():
    class Each(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
            self.b, self.c = (nn.Conv2d(4, 4, 3, padding=1, groups=4) for _ in range(2))
            self.two = nn.Conv2d(4, 4, 1, groups=2)
            self.head = nn.Linear(4, 5)

        def forward(self, x):
            x = self.b(self.norm(self.a(x)).relu_()).relu()
            return self.head(self.two(self.c(x + 1).relu()).relu().mean((2, 3)))

    takes = {layer.name: layer.depthwise for layer in find_layers(Each(), IMAGE)}
    assert takes.pop("a").name == "b"
    assert set(takes.values()) == {None}


def test_names_may_come_from_a_generator():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3))
    found = find_layers(model, IMAGE, (name for name in ["1"]))
    assert [layer.name for layer in found] == ["1"]


class Views(nn.Module):
    """Two views of each image, folded into the batch."""

    def __init__(self):
        super().__init__()
        self.conv, self.read = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)

    def forward(self, images):
        maps = self.conv(images.flatten(0, 1)).relu().mean((2, 3))
        return self.read(maps.unflatten(0, (len(images), -1)).mean(1))


def test_layers_that_do_not_keep_images_apart_are_named():
    with pytest.raises(ValueError, match=r"Images are not kept apart in 'conv'\."):
        find_layers(Views(), torch.zeros(3, 2, 3, 6, 6))
