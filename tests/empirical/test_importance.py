"""Our criteria inside torch-pruning's pruners."""

import copy

import numpy as np
import pytest
import torch
import torch_pruning as tp
from torch import nn

from empirical import Importance, ModelSpec, prune
from empirical.pruning.calibration import Calibration


def subject(name: str) -> tuple[nn.Module, torch.Tensor, list[tuple[torch.Tensor, torch.Tensor]]]:
    model = ModelSpec(name, classes=10, image_size=16, width=0.125).build(0).eval()
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(200, 3, 16, 16, generator=generator)
    return model, images, [(images, torch.arange(200) % 10)]


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2"])
@pytest.mark.parametrize("criterion", ["l2", "outgoing_power"])
def test_torch_pruning_with_our_scores_makes_the_network_that_prune_makes(
    name: str, criterion: str
) -> None:
    model, images, loader = subject(name)
    dense = copy.deepcopy(model)
    known = Calibration(model, loader)
    (last,) = (m for m in model.modules() if isinstance(m, nn.Linear))
    importance = Importance(model, known, criterion)
    tp.pruner.BasePruner(
        model, images[:1], importance, pruning_ratio=0.5, ignored_layers=[last]
    ).step()
    counts = {g.name: g.units - int(0.5 * g.units) for g in known.graph.groups}
    ours = prune(dense, loader, criterion=criterion, recovery="none", counts=counts).model
    assert sum(counts.values()) < sum(g.units for g in known.graph.groups)
    theirs = model.state_dict()
    for key, value in ours.state_dict().items():
        assert torch.equal(value, theirs[key]), key


def test_the_default_is_that_of_prune() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 1), nn.ReLU(), nn.Flatten(),
        nn.Linear(24, 3),
    )  # fmt: skip
    images = torch.randn(60, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    known = Calibration(net, [(images, torch.arange(60) % 3)])
    importance = Importance(net, known)
    assert importance.criterion == "task_replaceability"
    graph = tp.DependencyGraph().build_dependency(net, images[:1])
    group = graph.get_pruning_group(net[0], tp.prune_conv_out_channels, [4, 1])
    found = importance(group)
    assert found is not None
    scores = known.scores("task_replaceability")["0"]
    np.testing.assert_array_equal(found.numpy(), scores[[4, 1]])
    whole = Importance(net, Calibration(net, known.loader, skip=("0",)))
    assert whole(group) is None


def test_a_network_that_has_changed_is_refused() -> None:
    net = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3))
    images = torch.randn(60, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    loader = [(images, torch.arange(60) % 3)]
    importance = Importance(net, loader, "l2")
    pruner = tp.pruner.BasePruner(
        net, images[:1], importance, pruning_ratio=0.5, iterative_steps=2, ignored_layers=[net[3]]
    )
    pruner.step()
    with pytest.raises(ValueError, match=r"'0' no longer has the 6 channels.*iterative_steps=1"):
        pruner.step()
    other = copy.deepcopy(net)
    graph = tp.DependencyGraph().build_dependency(other, images[:1])
    group = graph.get_pruning_group(other[0], tp.prune_conv_out_channels, [0])
    with pytest.raises(ValueError, match=r"group has a layer .* not of the calibrated model"):
        importance(group)
