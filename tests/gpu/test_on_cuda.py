"""Everything that takes a network gives on a GPU what it gives on the CPU; `make test-gpu`."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

import empirical
from empirical.data.images import ImageSet, image_loader
from empirical.training.recipes import Recipe

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]

Batches = list[tuple[Tensor, Tensor]]
NETWORKS = {"resnet18": 0.125, "vgg16": 0.125, "mobilenetv2": 0.25}
RECOVERIES = [
    "auto", "none", "recalibrate", "compensate", "reconstruct", "fold", "distill", "finetune"
]  # fmt: skip
TARGETS = ["logit_margin", "true_logit", "logit_pc1", "label"]


def batches(images: int, seed: int = 0, size: int = 50) -> Batches:
    """Images whose classes differ in colour, on the host."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % 10
    colours = torch.randn(10, 3, 1, 1, generator=torch.Generator().manual_seed(99))
    pixels = torch.randn(images, 3, 32, 32, generator=generator) + colours[labels]
    return list(zip(pixels.split(size), labels.split(size), strict=True))


def image_set(images: int) -> ImageSet:
    """The same as bytes."""
    pixels, labels = (torch.cat(parts) for parts in zip(*batches(images, 3), strict=True))
    byte = (pixels.clamp(-4, 4) * 31 + 128).to(torch.uint8)
    names = tuple(map(str, range(10)))
    return ImageSet("colours", byte, labels, names, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


@pytest.fixture(scope="module", params=NETWORKS)
def pair(request: pytest.FixtureRequest) -> tuple[nn.Module, nn.Module]:
    """A network whose statistics are of these images, on the host and on the GPU."""
    torch.manual_seed(0)
    width = NETWORKS[request.param]
    model = empirical.create_model(request.param, classes=10, image_size=32, width=width)
    model.train()
    with torch.no_grad():
        for images, _ in batches(200, 3):
            model(images)
    return model.eval(), deepcopy(model).cuda().eval()


def agree(on_host, on_device, size: float = 2e-3) -> None:
    """Equal up to `size` of the largest value; what one of them does not know, neither does."""
    a, b = (np.asarray(x, dtype=float) for x in (on_host, on_device))
    np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
    scale = np.nanmax(np.abs(a)) if np.isfinite(a).any() else 1.0
    np.testing.assert_allclose(b, a, rtol=5e-3, atol=size * scale)


def frames_agree(on_host, on_device, names, size: float = 2e-3) -> None:
    assert len(on_host) == len(on_device)
    for name in names:
        agree(on_host[name], on_device[name], size)


# --- measuring -------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
def test_axes(pair, target: str) -> None:
    host, device = (empirical.measure(model, batches(400), target=target) for model in pair)
    names = ["input_capture", "peer_predictability", "peer_overlap", "task_information"]
    assert host.image_digests == device.image_digests
    frames_agree(host.to_frame(), device.to_frame(), names)


def test_axes_of_batches_that_are_there_already(pair) -> None:
    there = [(images.cuda(), labels.cuda()) for images, labels in batches(200)]
    host, device = (empirical.measure(pair[1], data, null=2) for data in (batches(200), there))
    assert host.image_digests == device.image_digests
    frames_agree(host.to_frame(), device.to_frame(), ["input_capture", "task_information"])


@pytest.mark.parametrize("options", [{"precision": "float32"}, {"exact": True}, {"hull": False}])
def test_axes_in_other_ways(pair, options: dict[str, object]) -> None:
    host, device = (empirical.measure(model, batches(200), **options) for model in pair)
    frames_agree(host.to_frame(), device.to_frame(), ["input_capture", "task_information"], 1e-2)


def test_angles_of_gradients(pair) -> None:
    host, device = (empirical.gradient_cosines(model, batches(200)) for model in pair)
    for layer, found in host.cosines.items():
        agree(found, device.cosines[layer], 1e-2)


@pytest.mark.parametrize("form", ["quadratic", "linearized"])
@pytest.mark.parametrize("point", ["pre_norm", "post_activation"])
def test_the_law_of_damage(pair, form: str, point: str) -> None:
    options = {"form": form, "point": point}
    host, device = (empirical.damage(model, batches(200), **options) for model in pair)
    a, b = host.to_frame(), device.to_frame()
    if form == "linearized":
        frames_agree(a, b, ["damage_alone", "damage_with_peers"], 1e-2)
    for name in ("damage_alone", "damage_with_peers"):  # labels are drawn on either device
        assert a[name].corr(b[name], method="spearman") > 0.8
        assert 0.7 < b[name].sum() / a[name].sum() < 1.4


# --- lesions ---------------------------------------------------------------------------------


def test_lesions(pair) -> None:
    options = {"calibration": batches(100, 5), "kinds": ["mean", "zero"]}
    first = list(empirical.measure(pair[0], batches(50)).layers)[::6]
    host, device = (
        empirical.lesion(model, batches(60, 2), layers=first, **options) for model in pair
    )
    frames_agree(host.to_frame(), device.to_frame(), ["loss_increase", "divergence"], 5e-3)


def test_lesions_by_hand_and_by_sums(pair, tmp_path: Path) -> None:
    model = pair[1]
    names = [*empirical.measure(model, batches(50)).layers][::4]
    options = {
        "calibration": batches(100, 5),
        "kinds": ["zero"],
        "channels": {name: [0, 3] for name in names},
    }
    naive = empirical.lesion(model, batches(60, 2), method="naive", **options)
    for kept in (True, False, tmp_path / "kept"):
        fast = empirical.lesion(model, batches(60, 2), per_image=kept, **options)
        frames_agree(naive.to_frame(), fast.to_frame(), ["loss_increase", "divergence"], 5e-3)


def test_replacements(pair) -> None:
    found = []
    for model in pair:
        axes = empirical.measure(model, batches(400))
        layers = list(axes.layers)[::5]
        found.append(empirical.replace(model, batches(60, 2), axes, layers=layers).to_frame())
    frames_agree(*found, ["loss_increase", "divergence"], 2e-2)


def test_channels_that_the_law_leaves_open(pair) -> None:
    model = pair[1]
    axes = empirical.measure(model, batches(200), damage=True)
    table = empirical.lesion(model, batches(60, 2), calibration=axes, channels=3, kinds=["mean"])
    assert len(table.to_frame()) == 3 * len(axes.layers)
    card = empirical.explain(axes, axes.layers[0], 0, model=model, loader=batches(50))
    assert card.findings


# --- pruning ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", empirical.criterion_names())
def test_scores(pair, name: str) -> None:
    from empirical.pruning.criteria import scores

    model = pair[1]
    known = empirical.Calibration(model, batches(200), refit_images=100)
    found = scores(known, name)
    assert found
    assert all(np.isfinite(np.asarray(values, float)).any() for values in found.values())


WAYS = [
    *(("uniform", recovery) for recovery in RECOVERIES),
    *((allocation, "auto") for allocation in ("global", "damage", "sensitivity")),
]


@pytest.mark.parametrize(("allocation", "recovery"), WAYS)
def test_pruning(pair, allocation: str, recovery: str) -> None:
    model = pair[1]
    quick = empirical.Distillation(epochs=1, steps_at_least=4, batch_size=32)
    known = empirical.Calibration(
        model,
        batches(200),
        refit_images=100,
        distillation=quick,
        training=image_set(200),
        recipe=Recipe(epochs=1.0, batch_size=64),
    )
    pruned = empirical.prune(model, known, macs=0.6, recovery=recovery, allocation=allocation)
    assert abs(pruned.report.macs_share - 0.6) < 0.05
    assert next(pruned.model.parameters()).is_cuda
    with torch.no_grad():
        assert pruned.model(batches(20)[0][0].cuda()).isfinite().all()


def test_a_price_is_foretold_and_kept(pair) -> None:
    model = pair[1]
    known = empirical.Calibration(model, batches(300), refit_images=100)
    found = empirical.forecast(model, known, shares=(0.8, 0.5), measured=(0.8, 0.5))
    assert len(found.measured) == 2
    assert empirical.removal_plan(known, forecast=found)
    pruned = empirical.prune(model, known, accuracy_drop=50.0, criterion="task_replaceability")
    assert pruned.report.macs_share < 1


def test_time_as_the_constraint(pair) -> None:
    model = pair[1]
    known = empirical.Calibration(model, batches(200), refit_images=100)
    pruned = empirical.prune(model, known, latency=0.9, criterion="group_l2", recovery="none")
    assert pruned.report


def test_heads() -> None:
    torch.manual_seed(0)
    host = torchvision.models.VisionTransformer(32, 8, 2, 4, 32, 64, num_classes=10).eval()
    nn.init.normal_(host.heads[0].weight)
    model = deepcopy(host).cuda()
    a, b = (empirical.measure_heads(m, batches(200)) for m in (host, model))
    for layer, axes in a.axes.items():
        agree(axes.input_capture, b.axes[layer].input_capture, 1e-2)
    assert len(empirical.damage_heads(model, batches(100), calibration=b).to_frame()) == 8
    assert len(empirical.lesion_heads(model, batches(50, 7), b).damage)
    with torch.no_grad():
        pruned = empirical.prune_heads(model, b, share=0.5, example=batches(5)[0][0].cuda()).model
        assert pruned(batches(20)[0][0].cuda()).isfinite().all()


# --- training --------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"precision": "bfloat16", "channels_last": True}])
def test_training_learns_and_resumes(options, tmp_path: Path) -> None:
    recipe = Recipe(epochs=4.0, batch_size=50, learning_rate=0.05, crop_padding=2, **options)
    model = empirical.create_model("resnet18", classes=10, image_size=32, width=0.125)
    result = empirical.train(
        model, image_set(400), recipe=recipe, folder=tmp_path, steps=[0, 8], device="cuda"
    )
    assert empirical.evaluate(model, image_loader(image_set(400)), device="cuda").accuracy > 0.5
    assert result


def test_the_same_channels_can_go(pair: tuple[nn.Module, nn.Module]) -> None:
    found = [empirical.Calibration(model, batches(60)).graph for model in pair]
    assert found[0].kept_whole == found[1].kept_whole
    assert [g.name for g in found[0].groups] == [g.name for g in found[1].groups]
    assert list(found[0].kept_whole.values()) == ["its channels are the network's output"]
