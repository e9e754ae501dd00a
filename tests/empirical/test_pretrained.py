"""Training from the weights of another: what is taken over, what learns at which rate."""

import pytest
import torch
from torch import nn

from empirical.data.loading import load_data
from empirical.models import ModelSpec
from empirical.runs.config import read_config
from empirical.runs.steps import RunStages
from empirical.training.checkpoints import load_model
from empirical.training.pretrained import classifier_of, load_backbone
from empirical.training.recipes import Recipe
from empirical.training.trainer import train

SPEC = ModelSpec("small_convnet", classes=10, image_size=8, channels=1)
OTHER = ModelSpec("small_convnet", classes=7, image_size=8, channels=1)
BRIEF = Recipe(epochs=0.1, batch_size=100, backbone_rate=0.1)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained")
    digits, _ = load_data("digits")
    model = SPEC.build(3)
    return model, train(model, digits, recipe=Recipe(epochs=0.3), folder=folder, spec=SPEC)


def test_all_but_the_classifier_is_taken_over(pretrained):
    source, result = pretrained
    model, untouched = OTHER.build(0), OTHER.build(0).state_dict()
    assert load_backbone(model, result.checkpoints[-1]) == "classifier"
    for name, value in model.state_dict().items():
        expected = untouched if name.startswith("classifier.") else source.state_dict()
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("name", ["resnet18", "vgg16", "mobilenetv2", "small_convnet"])
def test_the_classifier_is_the_layer_that_makes_the_logits(name):
    model = ModelSpec(name, classes=13, image_size=32, channels=3, width=0.25).build(0)
    assert model.get_submodule(classifier_of(model)).out_features == 13


def test_a_network_that_does_not_end_in_a_linear_layer_is_refused():
    with pytest.raises(ValueError, match=r"model must end in a linear layer.*last.*is '1'"):
        classifier_of(nn.Sequential(nn.Linear(3, 3), nn.Conv2d(3, 2, 1)))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_every_parameter_learns_at_its_share_of_the_rate_and_once(optimizer):
    model = SPEC.build(0)
    groups = BRIEF.but(optimizer=optimizer).optimizer_for(model).param_groups
    shares = {id(p): group["share"] for group in groups for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        assert shares[id(parameter)] == (1.0 if name.startswith("classifier") else 0.1), name
    decays = {(p.ndim > 1, group["weight_decay"]) for group in groups for p in group["params"]}
    assert decays == {(True, 5e-4), (False, 0.0)}


def test_one_step_moves_the_backbone_by_its_share(pretrained):
    """Without momentum and decay a step is the rate times the gradient: a tenth of it moves."""
    _, result = pretrained
    digits, _ = load_data("digits")
    moved = []
    for share in (1.0, 0.1):
        model = SPEC.build(0)
        load_backbone(model, result.checkpoints[-1])
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        recipe = Recipe(epochs=1 / 11, batch_size=100, momentum=0, weight_decay=0)
        train(model, digits, recipe=recipe.but(backbone_rate=share))
        moved.append({name: p.detach() - before[name] for name, p in model.named_parameters()})
    for name, change in moved[0].items():
        share = 1.0 if name.startswith("classifier") else 0.1
        assert torch.allclose(moved[1][name], share * change, rtol=1e-3, atol=1e-7), name
        assert change.abs().max() > 0


def test_another_start_in_the_same_folder_is_another_training(pretrained, tmp_path):
    _, result = pretrained
    digits, _ = load_data("digits")
    start = {"recipe": BRIEF, "folder": tmp_path, "spec": SPEC}
    train(SPEC.build(0), digits, **start, initial=result.checkpoints[-1])
    with pytest.raises(ValueError, match="other settings: initial"):
        train(SPEC.build(0), digits, **start, initial=result.checkpoints[0])
    with pytest.raises(FileNotFoundError):
        train(SPEC.build(0), digits, recipe=BRIEF, initial=tmp_path / "nowhere.safetensors")


def test_a_run_starts_from_the_checkpoint_that_its_configuration_names(pretrained, tmp_path):
    source, result = pretrained
    settings = {
        "seeds": [0],
        "device": "cpu",
        "data": {"source": "digits", "calibration": 60},
        "model": {"init_from": str(result.checkpoints[-1])},
        "training": {"epochs": 0.1, "batch_size": 100, "backbone_rate": 0.1},
        "measure": {"checkpoints": 2, "positions": 2, "permutations": 5},
    }
    stages = RunStages(
        read_config(settings), tmp_path, torch.device("cpu"), False, None, lambda what, share: None
    )
    stages.train(0, 0)
    first = stages.checkpoint(0, 0)
    started, _ = load_model(first, SPEC)
    assert torch.equal(started.conv1.weight, source.conv1.weight)
    assert not torch.equal(started.classifier.weight, source.classifier.weight)
