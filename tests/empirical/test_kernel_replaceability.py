"""Selectors of the literature, and `replaceability` with whole kernels, worked by hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.linalg import qr
from torch import nn

from empirical.pruning import patch_moments as limits
from empirical.pruning.calibration import Calibration
from empirical.pruning.criteria_kernels import outgoing_weights
from empirical.pruning.criteria_maps import pivot_shares
from empirical.pruning.input_moments import FewImagesError
from empirical.pruning.kernel_replaceability import kernel_removal_order
from empirical.pruning.replaceability import BLOCK, removal_order, scores_from_order
from tests.empirical.pruning_networks import awakened
from tests.empirical.test_removal import Grouped

FLOAT64 = 1e-8
"""Downdates against least squares on the samples, well conditioned."""


def lost(x: np.ndarray, weight: np.ndarray, kept: np.ndarray, *, bias: bool) -> float:
    """min E ‖X W - X_S W'‖² by least squares on the samples; `kept` are rows of W."""
    design = x - x.mean(0) if bias else x
    y = design @ weight
    residual = y - design[:, kept] @ np.linalg.lstsq(design[:, kept], y, rcond=None)[0]
    return float((residual**2).sum() / (len(x) - bias))


def drawn(units: int, taps: int, outputs: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rows = units * taps
    x = rng.standard_normal((8 * rows, rows)) @ rng.standard_normal((rows, rows)) + 1.0
    return x, rng.standard_normal((rows, outputs))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("units", [5, BLOCK + 3])
def test_costs_add_up_to_least_squares_on_what_is_kept(units: int, bias: bool) -> None:
    x, weight = drawn(units, 2, 3)
    moment = np.cov(x.T) if bias else x.T @ x / len(x)
    order, cost = kernel_removal_order([moment], [weight], units, ridge=0.0, relative=False)
    for gone in (1, units // 2, units - 1):
        kept = (order[gone:, None] * 2 + np.arange(2)).ravel()
        assert cost[:gone].sum() == pytest.approx(lost(x, weight, kept, bias=bias), rel=FLOAT64)


def test_each_step_takes_the_unit_that_least_squares_misses_least() -> None:
    """Every unit left is tried by brute force, two readers of different taps together."""
    first, second = drawn(6, 3, 2, 1), drawn(6, 1, 4, 2)
    moments = [np.cov(x.T) for x, _ in (first, second)]
    order, _ = kernel_removal_order(moments, [first[1], second[1]], 6, ridge=0.0, relative=False)
    left = list(range(6))
    for gone in order[:-1]:

        def error(unit: int, left: list[int] = left) -> float:
            kept = np.array([u for u in left if u != unit])
            return sum(
                lost(x, w, (kept[:, None] * taps + np.arange(taps)).ravel(), bias=True)
                for (x, w), taps in ((first, 3), (second, 1))
            )

        assert gone == min(left, key=error)
        left.remove(gone)


@pytest.mark.parametrize("relative", [True, False])
def test_at_one_tap_it_is_removal_order(relative: bool) -> None:
    (x, weight), (y, other) = drawn(9, 1, 4), drawn(9, 1, 2, 3)
    covariances = [np.cov(x.T), np.cov(y.T)]
    found = kernel_removal_order(covariances, [weight, other], 9, relative=relative)
    grams = [weight @ weight.T, other @ other.T]
    expected = removal_order(covariances, grams, relative=relative)
    assert found[0].tolist() == expected[0].tolist()
    assert found[1] == pytest.approx(expected[1], rel=FLOAT64)


def test_a_unit_that_others_make_up_tap_by_tap_goes_for_nothing_and_only_once() -> None:
    """Unit 2 is the sum of 0 and 1, unit 3 a copy of 0 with its taps exchanged."""
    rng = np.random.default_rng(0)
    own = rng.standard_normal((500, 2, 3))
    x = np.stack([own[:, 0], own[:, 1], own[:, 0] + own[:, 1], own[:, 0, ::-1]], axis=1)
    x = x.reshape(500, -1)
    weight = rng.standard_normal((12, 4))
    order, cost = kernel_removal_order([np.cov(x.T)], [weight], 4)
    assert (cost[:2] < 1e-4).all()
    assert (cost[2:] > 0.1).all()
    assert order[0] in (0, 2, 3)
    given = np.array([3, 0, 1, 2])
    again, along = kernel_removal_order([np.cov(x.T)], [weight], 4, given=given)
    assert again.tolist() == given.tolist()
    assert along[0] < 1e-4
    assert along[1] < 1e-4 < along[2]
    # without a say of taps on each other, exchanged taps explain nothing of each other
    diagonal = np.cov(x.reshape(500, 4, 3).transpose(0, 2, 1).reshape(-1, 4).T)
    gram = np.einsum("uto,vto->uv", *[weight.reshape(4, 3, 4)] * 2)
    _, taken = removal_order([diagonal], [gram], given=given)
    assert taken[0] > 0.1


def test_a_consumer_without_weight_or_input_has_no_say() -> None:
    x, weight = drawn(4, 2, 3)
    moment, nothing = np.cov(x.T), np.zeros((8, 8))
    alone = kernel_removal_order([moment], [weight], 4)
    both = kernel_removal_order([moment, nothing, moment], [weight, weight, 0 * weight], 4)
    assert alone[0].tolist() == both[0].tolist()
    assert alone[1] == pytest.approx(both[1])


def convolutions() -> tuple[nn.Module, Calibration, torch.Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 3, padding=1, stride=2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3),
    ).double().eval()  # fmt: skip
    images = torch.randn(40, 2, 6, 6, dtype=torch.float64)
    return model, Calibration(model, [(images, torch.arange(40) % 3)]), images


def patches_by_hand(model: nn.Module, images: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        inside = model[1](model[0](images))
        unfolded = nn.functional.unfold(inside, 3, padding=1, stride=2)
    return unfolded.mT.reshape(-1, 36).numpy()  # channels, then taps


def test_moments_and_criteria_of_a_network_are_those_of_its_patches() -> None:
    model, known, images = convolutions()
    x = patches_by_hand(model, images)
    moments = known.patch_moments["0", "2"]
    assert moments.cov[0] == pytest.approx(np.cov(x.T))
    assert moments.second[0] == pytest.approx(x.T @ x / len(x))
    weight = model[2].weight.detach().numpy().reshape(5, 36).T
    expected = kernel_removal_order([np.cov(x.T)], [weight], 4)
    assert known.scores("replaceability_kernels")["0"] == pytest.approx(
        scores_from_order(*expected)
    )
    expected = kernel_removal_order([x.T @ x / len(x)], [weight], 4, relative=False)
    assert known.scores("osscar")["0"] == pytest.approx(scores_from_order(*expected))
    fisher = known.output_fisher["2"]
    order, cost = kernel_removal_order(
        [np.cov(x.T)], [weight @ np.linalg.cholesky(fisher + 1e-14 * np.eye(5))], 4,
        relative=False,
    )  # fmt: skip
    assert known.scores("task_replaceability_kernels")["0"] == pytest.approx(
        scores_from_order(order, cost / 2), rel=1e-4
    )


def test_grouped_convolutions_are_read_block_by_block() -> None:
    """The sum of the first step's costs over blocks, by brute force on the maps that it reads."""
    model = awakened(Grouped())
    images = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    known = Calibration(model, [(images, torch.arange(64) % 2)])
    group = known.graph.group("stem")
    member = next(m for m in group.consumers if m.module == "grouped")
    moments = known.patch_moments["stem", "grouped"]
    weights = outgoing_weights(model.grouped, member)
    assert len(moments.cov) == model.grouped.groups == len(weights)
    with torch.no_grad():
        seen: list[torch.Tensor] = []
        handle = model.grouped.register_forward_hook(lambda m, i, o: seen.append(o))
        model(images)
        handle.remove()
    outputs = seen[0].double().movedim(1, -1).flatten(0, -2)
    outputs = outputs - outputs.mean(0)
    width = outputs.shape[1] // model.grouped.groups
    for block, (cov, weight) in enumerate(zip(moments.cov, weights, strict=True)):
        own = outputs[:, block * width : (block + 1) * width]
        variance = float(own.square().sum() / (len(own) - 1))
        assert np.trace(weight.T @ cov @ weight) == pytest.approx(variance, rel=1e-4)


def test_too_few_images_wide_layers_and_transposed_ones_are_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, known, images = convolutions()
    with pytest.raises(FewImagesError, match="layer '2' reads 36 values of '0'"):
        Calibration(model, [(images[:2], torch.arange(2))]).scores("osscar")
    monkeypatch.setattr(limits, "WIDEST", 35)
    with pytest.raises(ValueError, match="'2' reads 36"):
        known.scores("osscar")
    up = nn.Sequential(
        nn.Conv2d(2, 4, 1), nn.ConvTranspose2d(4, 3, 2), nn.Flatten(), nn.Linear(147, 2)
    )
    with pytest.raises(ValueError, match="'1', a ConvTranspose2d"):
        Calibration(up.double(), [(images, torch.arange(40) % 2)]).scores("osscar")


def test_lindeps_enters_channels_as_a_pivoted_qr_does() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 7)) @ np.diag([1, 2, 3, 4, 5, 6, 7.0])
    x[:, 2] = 2 * x[:, 5] - x[:, 6]
    found = pivot_shares(x.T @ x / 200)
    r, order = qr(x, mode="r", pivoting=True)
    shares = np.diag(r)[:7] ** 2 / (x**2).sum()
    assert found[order] == pytest.approx(shares, abs=1e-12)
    assert found[order[-1]] < 1e-12
    assert order[-1] in (2, 5, 6)
    assert all(one >= other for one, other in pairwise(found[order]))


def test_lindeps_of_a_group_reads_all_its_maps_scaled() -> None:
    """A linear chain: the next layer reads what the first computes, about zero."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2)).double().eval()
    images = torch.randn(50, 3, dtype=torch.float64)
    known = Calibration(model, [(images, torch.arange(50) % 2)])
    with torch.no_grad():
        x = model[0](images).numpy()
    found = known.scores("lindeps")["0"]
    assert found == pytest.approx(pivot_shares(x.T @ x / 50), abs=1e-12)
    assert (found > 1e-10).sum() == 4  # three inputs and a bias
