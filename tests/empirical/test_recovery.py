"""Compensation against least squares, folding, recalibration, fine-tuning."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from empirical import Recipe, create_model, evaluate, image_loader, load_data, prune
from empirical.pruning.calibration import Calibration
from empirical.pruning.compensation import merge, regression
from empirical.pruning.criteria_compensated import outgoing_gram
from empirical.pruning.folding import fold
from empirical.pruning.input_moments import input_moments
from empirical.pruning.recovery import recalibrate
from empirical.pruning.removal import mask
from empirical.pruning.tracing import trace_channels
from empirical.reading.batches import batches as checked
from tests.empirical.pruning_networks import batches, network, plain
from tests.empirical.test_removal import Grouped

FLOAT64 = 1e-8
"""Greedy downdates against solving anew, on covariances of condition up to 1e4."""
FLOAT32 = 1e-4
"""Merged weights are stored in float32."""


def test_merging_is_least_squares_on_a_linear_layer() -> None:
    """Independent route: fit the old outputs on the kept inputs, with an intercept."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3, bias=False)).double().eval()
    images = torch.randn(400, 6, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    loader = [(images, torch.zeros(400, dtype=torch.long))]
    graph = trace_channels(model, images[:1])
    kept = {"0": np.array([0, 2, 3])}
    merged = copy.deepcopy(model)
    merge(merged, graph, kept, input_moments(model, graph, checked(loader)), ridge=0.0)
    with torch.no_grad():
        hidden = model[:2](images).numpy()
        design = np.column_stack([hidden[:, kept["0"]], np.ones(400)])
        fitted = design @ np.linalg.lstsq(design, model(images).numpy(), rcond=None)[0]
        found = mask(merged, graph.groups, kept)(images).numpy()
    assert found == pytest.approx(fitted, abs=FLOAT64)


@pytest.mark.parametrize("which", ["grouped", "flattened", "residual"])
def test_merging_predicts_the_readers_best(which: str) -> None:
    """What a reading layer computes comes closer to the original than without merging."""
    torch.manual_seed(0)
    model, size = {
        "grouped": (Grouped().eval(), 8),
        "flattened": (plain((3, 6, 8)), 6),
        "residual": (network("resnet18"), 16),
    }[which]
    loader = batches(3, size, count=4, each=80)
    graph = trace_channels(model, loader[0][0][:1])
    kept = {g.name: np.arange(g.units * 3 // 4) for g in graph.groups}
    only = graph.groups[0].name
    kept = {g.name: kept[g.name] if g.name == only else np.arange(g.units) for g in graph.groups}
    merged = copy.deepcopy(model)
    merge(merged, graph, kept, input_moments(model, graph, checked(loader)))
    with torch.no_grad():
        images = loader[0][0]
        dense = model(images)
        without = (mask(model, graph.groups, kept)(images) - dense).square().mean()
        compensated = (mask(merged, graph.groups, kept)(images) - dense).square().mean()
    assert compensated < 0.8 * without


def test_regression_of_a_removed_channel_without_peers_that_vary_is_zero() -> None:
    assert regression(np.diag([0.0, 1.0]), np.array([0])).tolist() == [[0.0]]


def test_regression_is_ridged_by_a_share_of_the_kept_variance() -> None:
    rng = np.random.default_rng(0)
    root = rng.standard_normal((5, 9))
    cov, kept, gone = root @ root.T, np.array([0, 3, 4]), [1, 2]
    for ridge in (1e-4, 0.1):
        peers = cov[np.ix_(kept, kept)] + ridge * np.diag(cov)[kept].mean() * np.eye(3)
        expected = cov[np.ix_(gone, kept)] @ np.linalg.inv(peers)
        assert regression(cov, kept, ridge=ridge) == pytest.approx(expected, rel=FLOAT64)
    assert regression(cov, kept).tolist() == regression(cov, kept, ridge=1e-4).tolist()
    alone = cov[1:, :1] / (1.1 * cov[0, 0])
    assert regression(cov, np.array([0]), ridge=0.1) == pytest.approx(alone, rel=FLOAT64)
    copies = np.ones((3, 3))
    assert regression(copies, np.array([0, 1]), ridge=0.0) == pytest.approx(np.array([[0.5, 0.5]]))


@pytest.mark.parametrize("bias", [True, False])
def test_merging_is_least_squares_block_by_block(bias: bool) -> None:
    """A grouped convolution without padding: each block's outputs fitted on its kept channels."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.Tanh(), nn.Conv2d(8, 6, 1, groups=2, bias=bias), nn.Flatten(),
        nn.Linear(6 * 16, 2),
    ).double().eval()  # fmt: skip
    images = torch.randn(50, 3, 4, 4, dtype=torch.double)
    graph = trace_channels(model, images[:1])
    assert graph.group("0").units == 4
    kept = {g.name: np.arange(g.units) for g in graph.groups} | {"0": np.array([0, 3])}
    merged = copy.deepcopy(model)
    loader = [(images, torch.zeros(50, dtype=torch.long))]
    moments = input_moments(model, graph, checked(loader))
    merge(merged, graph, {g.name: np.arange(g.units) for g in graph.groups}, moments)
    assert (merged[2].bias is None) is not bias  # nothing went, so nothing is added
    merge(merged, graph, kept, moments, ridge=0.0)
    with torch.no_grad():
        hidden = model[:2](images)
        found = mask(merged, graph.groups, kept)[:3](images).movedim(1, -1).reshape(-1, 6).numpy()
        dense = model[:3](images).movedim(1, -1).reshape(-1, 6).numpy()
    for block in range(2):
        inputs = hidden[:, [4 * block, 4 * block + 3]].movedim(1, -1).reshape(-1, 2).numpy()
        design, mine = (
            np.column_stack([inputs, np.ones(len(inputs))]),
            slice(3 * block, 3 * block + 3),
        )
        fitted = design @ np.linalg.lstsq(design, dense[:, mine], rcond=None)[0]
        assert found[:, mine] == pytest.approx(fitted, abs=FLOAT64)
    assert torch.equal(merged[4].weight, model[4].weight)


def test_input_moments_equal_those_of_all_samples() -> None:
    model = plain((3, 6, 8))
    loader = batches(3, 6, count=3)
    graph = trace_channels(model, loader[0][0][:1])
    found = input_moments(model, graph, checked(loader))
    with torch.no_grad():
        images = torch.cat([x for x, _ in loader])
        second, last = model[:3](images), model[:6](images)
    for key, maps in ((("0", "3"), second), (("3", "7"), last)):
        rows = maps.movedim(1, -1).reshape(-1, maps.shape[1]).double().numpy()
        assert found[key].n == len(rows)
        assert found[key].mean[0] == pytest.approx(rows.mean(0), abs=FLOAT64)
        assert found[key].cov[0] == pytest.approx(np.cov(rows.T), abs=FLOAT64)


def test_outgoing_weights_of_a_grouped_convolution_come_block_by_block() -> None:
    model = Grouped()
    graph = trace_channels(model, torch.zeros(1, 3, 8, 8))
    member = next(m for m in graph.group("stem").consumers if m.module == "grouped")
    grams = outgoing_gram(model.grouped, member)
    weight = model.grouped.weight.detach().double().numpy()
    for block in range(3):
        rows = weight[4 * block : 4 * block + 4].transpose(1, 0, 2, 3).reshape(4, -1)
        assert grams[block] == pytest.approx(rows @ rows.T)


def doubled() -> nn.Module:
    """A network whose every channel exists twice, the copies weak enough for a norm to mislead.

    Of the first four features each has a strong and a weak copy; the reading layer takes the weak
    one's scale into account. Removing one copy of each loses nothing.
    """
    torch.manual_seed(0)
    first, last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 1)
    scale = torch.tensor([1.0, 0.9, 0.2, 0.15])
    with torch.no_grad():
        first.weight[4:] = first.weight[:4]
        first.bias[4:] = first.bias[:4]
        both = torch.cat([scale, scale]).reshape(-1, 1, 1, 1)
        first.weight.mul_(both / first.weight.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1))
        first.bias.mul_(both.flatten())
        last.weight.div_(both.reshape(1, -1, 1, 1))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10))
    return nn.Sequential(first, nn.ReLU(), last, nn.Tanh(), *head).eval()


def test_planted_copies_go_without_loss_where_a_norm_loses() -> None:
    model = doubled()
    loader = batches(3, 8, count=4, each=50)
    known = Calibration(model, loader, skip=("2",))
    images = loader[0][0]

    def change(criterion: str) -> float:
        pruned = prune(model, known, counts={"0": 4}, criterion=criterion, recovery="merge")
        with torch.no_grad():
            return float((pruned.model(images) - model(images)).abs().max())

    assert change("replaceability") < 1e-3
    assert change("l2") > 20 * change("replaceability")


def test_folding_exact_copies_loses_nothing() -> None:
    """Copies of equal norm: the representative reads for both."""
    torch.manual_seed(0)
    model = plain((3, 8, 6))
    norm = model[1]
    for tensor in (*model[0].parameters(), *norm.parameters(), norm.running_mean, norm.running_var):
        tensor.data[4:] = tensor.data[:4]
    loader = batches(3, 6)
    folded = prune(model, loader, counts={"0": 4}, criterion="folding", recovery="none")
    assert {unit % 4 for unit in folded.kept["0"]} == {0, 1, 2, 3}
    graph = trace_channels(model, loader[0][0][:1])
    merged = copy.deepcopy(model)
    fold(merged, graph, {**folded.kept, "3": np.arange(6)})
    images = loader[0][0]
    with torch.no_grad():
        found = mask(merged, graph.groups, {**folded.kept, "3": np.arange(6)})(images)
        torch.testing.assert_close(found, model(images), rtol=1e-4, atol=1e-5)


def test_recalibration_takes_statistics_from_the_batches_and_nothing_else() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()
    loader = batches(3, 6, count=2)
    weights = model[0].weight.detach().clone()
    assert recalibrate(model, loader) == 1
    with torch.no_grad():
        maps = [model[0](x).movedim(1, -1).reshape(-1, 4) for x, _ in loader]
    torch.testing.assert_close(model[1].running_mean, torch.cat(maps).mean(0))
    torch.testing.assert_close(model[1].running_var, torch.cat(maps).var(0))
    assert torch.equal(model[0].weight, weights)
    assert model.training
    assert model[1].momentum == 0.1
    assert recalibrate(nn.Sequential(nn.Linear(2, 2)), loader) == 0


def test_fine_tuning_lowers_the_loss_and_needs_training_images() -> None:
    train, _ = load_data("digits")
    model = create_model("small_convnet", classes=10, image_size=8, channels=1, seed=0)
    calibration = image_loader(train.subset(torch.arange(0, 1000, 5)))
    with pytest.raises(ValueError, match=r"recovery='finetune' trains on.*training=images"):
        prune(model, calibration, criterion="l2", recovery="finetune")
    recipe = Recipe(epochs=1, learning_rate=0.05)
    known = Calibration(model, calibration, training=train, recipe=recipe)
    accuracy = {
        recovery: evaluate(
            prune(model, known, criterion="l2", recovery=recovery).model, image_loader(train)
        ).accuracy
        for recovery in ("compensate", "compensate_finetune")
    }
    assert accuracy["compensate_finetune"] > accuracy["compensate"] + 0.2


def test_too_few_images_to_regress_on_are_refused() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(108, 64), nn.ReLU(), nn.Linear(64, 10))
    with pytest.raises(ValueError, match=r"too small.*'3' reads 64 channels.*saw 20 samples"):
        prune(model, batches(3, 6, count=1, each=20), recovery="compensate", criterion="l2")


def test_a_loader_sorted_by_class_is_warned_of() -> None:
    model = plain((3, 6, 8))
    loader = [(x, torch.full_like(y, 3)) for x, y in batches(3, 6)]
    with pytest.warns(UserWarning, match="first 32 calibration images are all of class 3"):
        assert Calibration(model, loader).example.shape == (1, 3, 6, 6)


def test_an_input_that_is_not_finite_names_layer_and_batch() -> None:
    model = plain((3, 6, 8))
    with torch.no_grad():
        model[1].bias[0] = float("inf")
    with pytest.raises(ValueError, match=r"inputs of layer '3' on batch 0 hold NaN"):
        _ = Calibration(model, batches(3, 6)).input_moments
