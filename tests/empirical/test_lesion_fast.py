"""The fast way gives the naive one's numbers on any graph, and leaves the model as it was."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import empirical.lesions.plan as lesion_plan
from empirical import lesion, replace
from empirical.devices import full_precision
from empirical.models import create_model

ROUNDING = {"rtol": 1e-3, "atol": 2e-5}
"""Differences of float32 logits of order 1 through some twenty layers, summed in another order."""


class Residual(nn.Module):
    """A strided block with a projection, in-place sums and activations, and a reused ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.first = nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, padding=2, dilation=2, bias=False)
        self.second_norm = nn.BatchNorm2d(8, affine=False)
        self.project = nn.Conv2d(6, 8, 1, stride=2)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.stem(x)))
        branch = functional.relu(self.first_norm(self.first(x)), True)
        branch = self.second_norm(self.second(branch))
        branch += self.project(x)
        branch = self.relu(branch)
        return self.head(branch.mean([2, 3]))


class Branching(nn.Module):
    """Concatenation, gating, depthwise and grouped convolutions, sizes read from tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3)
        self.b = nn.Conv2d(3, 4, 3)
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8)
        self.grouped = nn.Conv2d(8, 8, 3, groups=2)
        self.gate = nn.Conv2d(8, 8, 1)
        self.scale = nn.Parameter(torch.full((8, 1, 1), 0.7))
        self.hidden = nn.Linear(8 * 9, 7)
        self.head = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        batch = x.shape[0]
        both = torch.cat([functional.relu(self.a(x)), torch.tanh(self.b(x))], 1)
        both = functional.gelu(self.depthwise(both))
        gate = torch.sigmoid(self.gate(functional.adaptive_avg_pool2d(both, 1)))
        both = self.grouped(both * gate) * self.scale
        pooled = functional.max_pool2d(both, 2).view(batch, -1)
        return self.head(functional.relu6(self.hidden(pooled)))


class Shared(nn.Module):
    """A convolution that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.other = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.other(self.conv(torch.relu(self.conv(x)))).mean((2, 3)))


class Deciding(nn.Module):
    """A forward pass that looks at values: it cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if float(y.abs().sum()) < 0:
            y = -y
        return self.head(y.mean((2, 3)))


class Mixing(nn.Module):
    """A forward pass in which images of a batch see each other."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.head((y - y.mean(0, keepdim=True)).mean((2, 3)).relu())


class Last(nn.Module):
    """Channels last, as in transformers: linear layers on maps and a layer norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 4, stride=4)
        self.norm = nn.LayerNorm(6)
        self.wide = nn.Linear(6, 12)
        self.narrow = nn.Linear(12, 6)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.stem(x).permute(0, 2, 3, 1))
        y = y + self.narrow(functional.gelu(self.wide(y)))
        return self.head(y.mean((1, 2)))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "residual": Residual,
    "branching": Branching,
    "last": Last,
    "small_convnet": lambda: create_model("small_convnet", classes=5, image_size=12, channels=3),
}


def prepared(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A model with batch statistics unlike the initial ones, so that norms do something."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build()
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    return model.eval()


def data(n: int, seed: int, size: int = 12) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(n, 3, size, size, generator=generator)
    labels = torch.randint(5, (n,), generator=generator)
    return [(images[: n - 3], labels[: n - 3]), (images[n - 3 :], labels[n - 3 :])]


@pytest.mark.parametrize("name", MODELS)
def test_lesions_equal_one_forward_pass_each(name: str) -> None:
    model = prepared(MODELS[name])
    options = {"kinds": ["mean", "zero", "resample"], "calibration": data(12, 1)}
    fast = lesion(model, data(13, 2), **options)
    naive = lesion(model, data(13, 2), method="naive", **options)
    assert fast.fallback == {}
    assert np.abs(naive.damage["loss_increase"]).max() > 1e-2
    for damage, values in naive.damage.items():
        np.testing.assert_allclose(fast.damage[damage], values, **ROUNDING)


@pytest.mark.parametrize("name", MODELS)
def test_replacements_equal_one_forward_pass_each(name: str) -> None:
    model = prepared(MODELS[name])
    fast, naive = (
        replace(model, data(13, 2), data(40, 1), peers=["all", "random"], method=method)
        for method in ("fast", "naive")
    )
    for damage, values in naive.damage.items():
        np.testing.assert_allclose(fast.damage[damage], values, **ROUNDING)


def test_replacement_after_the_activation_equals_one_pass_each() -> None:
    model = prepared(Residual)
    options = {"peers": ["all", "hull"], "point": "post_activation"}
    fast = replace(model, data(13, 2), data(40, 1), **options)
    naive = replace(model, data(13, 2), data(40, 1), method="naive", **options)
    assert list(dict.fromkeys(fast.layer)) == ["stem", "first"]  # the rest is summed first
    assert set(fast.point) == {"post_activation"}
    for damage, values in naive.damage.items():
        np.testing.assert_allclose(fast.damage[damage], values, **ROUNDING)
    before = replace(model, data(13, 2), data(40, 1), peers="all", layers=["stem"])
    assert not np.allclose(before.damage["loss_increase"][6:], fast.damage["loss_increase"][6:12])


def test_pairs_of_channels_equal_one_forward_pass_each() -> None:
    model = prepared(Residual)
    sets = {"stem": [(0, 1), (2, 5)], "first": [(3, 7), (0, 4)], "second": [(1, 2), (0, 7)]}
    fast, naive = (
        lesion(model, data(9, 2), channels=sets, kinds=["zero"], method=method)
        for method in ("fast", "naive")
    )
    assert fast.to_frame().channel.tolist() == ["0+1", "2+5", "3+7", "0+4", "1+2", "0+7"]
    for damage, values in naive.damage.items():
        np.testing.assert_allclose(fast.damage[damage], values, **ROUNDING)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "width"), [("resnet18", 0.25), ("vgg16", 0.25), ("mobilenetv2", 0.5)]
)
def test_named_models_equal_one_forward_pass_each(name: str, width: float) -> None:
    model = prepared(lambda: create_model(name, classes=5, image_size=32, width=width, seed=1))
    fast, naive = (
        lesion(model, data(7, 2, 32), calibration=data(9, 1, 32), method=method)
        for method in ("fast", "naive")
    )
    assert fast.fallback == {}
    for damage, values in naive.damage.items():
        np.testing.assert_allclose(fast.damage[damage], values, **ROUNDING)


@pytest.mark.parametrize(
    ("build", "layers", "reason"),
    [
        (Deciding, {"conv"}, "torch.fx cannot trace it"),
        (Mixing, {"conv"}, "it mixes images or keeps state"),
        (Shared, {"conv"}, "is called 2 times"),
    ],
)
def test_what_cannot_be_run_in_parts_is_run_whole_and_says_so(
    build: Callable[[], nn.Module], layers: set[str], reason: str
) -> None:
    model = prepared(build)
    with pytest.warns(RuntimeWarning, match=reason):
        table = lesion(model, data(9, 2), kinds=["zero"])
    assert layers <= set(table.fallback)
    naive = lesion(model, data(9, 2), kinds=["zero"], method="naive")
    for damage, values in naive.damage.items():
        np.testing.assert_allclose(table.damage[damage], values, **ROUNDING)


def test_a_channel_silent_on_an_image_costs_exactly_nothing_there() -> None:
    model = prepared(Residual)
    with torch.no_grad():
        model.norm.bias.copy_(torch.tensor([-50.0, 0, 0, 0, 0, 0]))
    table = lesion(model, data(9, 2), layers=["stem"], kinds=["zero", "resample"])
    rows = [channels == (0,) for channels in table.channels]
    assert not table.damage["loss_increase"][rows].any()
    assert table.damage["loss_increase"][~np.array(rows)].any()


def test_memory_bounds_what_is_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = prepared(Residual), data(13, 2)
    with pytest.raises(ValueError, match=r"memory must be at least \d+ bytes") as error:
        lesion(model, images, kinds=["zero"], memory=1000)
    least = int(str(error.value).split()[5])
    seen = []
    original = lesion_plan.Suffix.run

    def watched(self, dense, job, most_pairs):
        for part in original(self, dense, job, most_pairs):
            seen.append((len(part.image), most_pairs))
            yield part

    monkeypatch.setattr(lesion_plan.Suffix, "run", watched)
    small = lesion(model, images, kinds=["zero"], memory=least)
    assert all(pairs <= most for pairs, most in seen)
    assert min(most for _, most in seen) == 1  # the layer whose lesion takes most memory
    large = lesion(model, images, kinds=["zero"])
    np.testing.assert_allclose(
        small.damage["loss_increase"], large.damage["loss_increase"], **ROUNDING
    )


def snapshot(model: nn.Module) -> tuple[dict[str, Tensor], list[object]]:
    state = {name: value.clone() for name, value in model.state_dict().items()}
    rest = [
        (module, module.training, dict(module._forward_hooks), dict(module._forward_pre_hooks))
        for module in model.modules()
    ]
    return state, rest


class Interrupted(nn.Module):
    """A model that fails at its n-th forward pass."""

    def __init__(self, error: type[BaseException], at: int) -> None:
        super().__init__()
        self.inner, self.error, self.left = Residual(), error, at

    def forward(self, x: Tensor) -> Tensor:
        self.left -= 1
        if self.left == 0:
            raise self.error
        return self.inner(x)


@pytest.mark.parametrize("method", ["fast", "naive"])
def test_a_lesion_leaves_the_model_bitwise_as_it_was(method: str) -> None:
    model = prepared(Residual).train()
    model.norm.eval()
    model.stem.register_forward_hook(lambda *_: None)
    state, rest = snapshot(model)
    lesion(model, data(9, 2), calibration=data(8, 1), method=method)
    after, rest_after = snapshot(model)
    assert rest_after == rest
    assert all(torch.equal(after[name], value) for name, value in state.items())


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
@pytest.mark.parametrize("at", [2, 9, 14])
def test_an_interrupted_lesion_leaves_the_model_bitwise_as_it_was(
    error: type[BaseException], at: int
) -> None:
    model = Interrupted(error, at).train()
    state, rest = snapshot(model)
    with pytest.raises(error):
        lesion(model, data(9, 2), calibration=data(8, 1), method="naive")
    after, rest_after = snapshot(model)
    assert rest_after == rest
    assert all(torch.equal(after[name], value) for name, value in state.items())


def test_reduced_precision_is_off_inside_and_restored_after_an_exception() -> None:
    products = torch.backends.cuda.matmul
    before = products.allow_tf32
    seen = []

    def fail() -> None:
        with full_precision():
            seen.append(products.allow_tf32)
            raise ZeroDivisionError

    products.allow_tf32 = True
    try:
        with pytest.raises(ZeroDivisionError):
            fail()
        assert seen == [False]
        assert products.allow_tf32
    finally:
        products.allow_tf32 = before
