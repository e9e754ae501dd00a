"""Layer-by-layer refitting against least squares written out, and what it is worth."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from empirical import Calibration, prune
from empirical.pruning import macs
from empirical.pruning.choosing import Request
from empirical.pruning.reconstruction import fit_few, fit_many, reconstruct, references
from empirical.pruning.recovering import apply, best_recovery
from empirical.reading.batches import Batch
from empirical.reading.batches import batches as checked_batches
from empirical.reading.sums import Sums
from tests.empirical.pruning_networks import batches, network, plain
from tests.empirical.test_removal import Grouped

FLOAT64 = 1e-8
"""Solving normal equations against a least-squares routine, in double."""


def checked(images: torch.Tensor) -> list[Batch]:
    return list(checked_batches([(images, torch.zeros(len(images), dtype=torch.long))]))


def test_a_layer_becomes_the_least_squares_fit_of_the_dense_one() -> None:
    """Independent route: unfolded patches, an intercept, numpy's least squares."""
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Conv2d(2, 3, 3, bias=False)).double()
    smaller = nn.Sequential(nn.Conv2d(2, 2, 3)).double()
    images = torch.randn(40, 2, 6, 6, dtype=torch.double)
    wanted = np.array([0, 2])
    fitted = copy.deepcopy(smaller)
    known = references(dense, checked(images), positions=16)
    reconstruct(fitted, images, known, {"0": wanted}, ridge=0.0)
    patches = functional.unfold(images, 3).mT.reshape(-1, 18).numpy()
    design = np.column_stack([patches, np.ones(len(patches))])
    outputs = dense(images).detach().flatten(2).mT.reshape(-1, 3).numpy()[:, wanted]
    solution = np.linalg.lstsq(design, outputs, rcond=None)[0]
    assert fitted[0].weight.detach().reshape(2, 18).numpy() == pytest.approx(
        solution[:18].T, abs=FLOAT64
    )
    assert fitted[0].bias.detach().numpy() == pytest.approx(solution[18], abs=FLOAT64)


def test_a_network_that_lost_nothing_stays_what_it_is() -> None:
    for model, size in ((plain(), 6), (Grouped().eval(), 8), (network("mobilenetv2"), 32)):
        images = batches(3, size, count=1, each=64)[0][0]
        fitted = copy.deepcopy(model)
        reconstruct(fitted, images, references(model, checked(images)), {})
        with torch.no_grad():
            torch.testing.assert_close(fitted(images), model(images), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2"])
def test_refitting_brings_the_outputs_closer_than_compensation(name: str) -> None:
    """On images that were not fitted."""
    model = network(name)
    loader = batches(3, 16, count=4, each=150)
    known = Calibration(model, loader[:3])
    held_out = loader[3][0]

    def error(recovery: str) -> float:
        pruned = prune(model, known, macs=0.6, criterion="l2", recovery=recovery)
        assert pruned.report.recovery == recovery
        with torch.no_grad():
            return float((pruned.model(held_out) - model(held_out)).square().mean())

    assert error("reconstruct") < 0.8 * error("compensate")


def test_the_dense_network_is_left_as_it_is_and_layers_called_twice_are_left_out() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.shared(self.shared(x)))

    torch.manual_seed(0)
    model = Twice()
    before = copy.deepcopy(model.state_dict())
    assert list(references(model, checked(torch.randn(8, 4))).outputs) == ["last"]
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


def test_masks_cannot_be_refitted() -> None:
    with pytest.raises(ValueError, match=r"does not go with path='masked'.*'compensate'"):
        prune(plain(), batches(3, 6), recovery="reconstruct", path="masked", criterion="l2")


class PadsItself(nn.Conv2d):
    """A convolution that pads inside of its forward, as TensorFlow's "same" does."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(nn.functional.pad(images, (0, 1, 0, 1)))


def test_layers_that_do_something_else_than_their_weights_times_patches_are_not_refitted() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        PadsItself(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.ReLU(),
        nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 1)), nn.ReLU(), nn.Conv2d(8, 6, 1),
        nn.ReLU(), PadsItself(6, 12, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4),
    ).eval()  # fmt: skip
    batch = (torch.randn(64, 3, 8, 8), torch.arange(64) % 4)
    known = references(model, checked_batches([batch]))
    assert list(known.outputs) == ["2", "6", "11"]
    pruned = prune(model, [batch], macs=0.8, criterion="l2", recovery="reconstruct")
    assert pruned.report.kept_whole.keys() >= {"2", "4"}
    with torch.no_grad():
        assert bool(pruned.model(batch[0]).isfinite().all())


def test_fewer_samples_than_inputs_give_the_same_fit_without_a_matrix_of_the_inputs() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(9, 1, 2, 30, generator=generator)  # samples, positions, blocks, inputs
    y = torch.randn(9, 1, 2, 4, generator=generator)
    start = np.random.default_rng(0).standard_normal((2, 30, 4))
    sums = Sums([("x", "x"), ("x", "y")], device=torch.device("cpu"))
    sums.add({"x": x, "y": y}, [9])
    many = fit_many(sums.total(), start, 0.05)
    few = fit_few(x[:, 0].double().numpy(), y[:, 0].double().numpy(), start, 0.05)
    for one, other in zip(many, few, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)


def test_a_layer_of_many_inputs_is_refitted_in_little_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 30 * 30, 5)
    ).eval()
    images = torch.randn(12, 3, 32, 32)
    known = references(model, checked(images))
    add, widths = Sums.add, []

    def noted(self: Sums, rows: dict[str, Tensor], sizes: list[int]) -> None:
        widths.append(rows["x"].shape[-1])
        add(self, rows, sizes)

    monkeypatch.setattr(Sums, "add", noted)
    with torch.no_grad():
        before = model(images)
        reconstruct(model, images, known, {})
        after = model(images)
    assert widths == [27]
    torch.testing.assert_close(after, before, rtol=0, atol=1e-4)  # nothing was missing


@pytest.mark.parametrize("groups", [1, 2])
def test_outputs_refitted_in_parts_are_those_refitted_at_once(
    groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Conv2d(4, 10, 3, groups=groups, bias=False), nn.ReLU())
    dense = dense.to(memory_format=torch.channels_last)
    images = torch.randn(6, 4, 3, 3)
    known = references(dense, checked(images))
    found = []
    for most in (2**23, 3 * dense[0].weight[0].numel()):
        monkeypatch.setattr(macs, "PART_WEIGHTS", most)
        fitted = nn.Sequential(nn.Conv2d(4, 10, 3, groups=groups, bias=False), nn.ReLU())
        fitted.load_state_dict({"0.weight": 0.5 * dense[0].weight})
        reconstruct(fitted.to(memory_format=torch.channels_last), images, known, {})
        found.append(fitted[0])
    torch.testing.assert_close(found[0].weight, found[1].weight)
    torch.testing.assert_close(found[0].bias, found[1].bias)
    assert not torch.allclose(found[0].weight, 0.5 * dense[0].weight, rtol=1e-2)


@pytest.mark.parametrize("images", [15, 200])
def test_the_recovery_by_default_is_the_one_nearer_to_the_dense_network_where_neither_was_fitted(
    images: int,
) -> None:
    model = plain((3, 16, 24))
    loader = batches(3, 6, count=1, each=images)
    known = Calibration(model, loader)
    pruned = prune(model, known, macs=0.6, criterion="l2")
    fold = torch.arange(images) % 5 == 4
    fitted = Calibration(model, [(loader[0][0][~fold], loader[0][1][~fold])])
    apart = loader[0][0][fold]
    with torch.no_grad():
        aim = model(apart).softmax(1)
        left = {
            recovery: float(
                functional.kl_div(
                    apply(fitted, pruned.kept, recovery)(apart).log_softmax(1), aim,
                    reduction="batchmean",
                )
            )
            for recovery in ("reconstruct", "compensate")
        }  # fmt: skip
    assert pruned.report.recovery == min(left, key=lambda name: left[name])


def test_masked_networks_and_a_handful_of_images_are_compensated() -> None:
    few = batches(3, 6, count=1, each=4)
    masked = prune(plain(), batches(3, 6), criterion="l2", path="masked")
    assert masked.report.recovery == "compensate"
    known = Calibration(plain(), few)
    assert best_recovery(known, Request(0.6, "l2", "uniform").kept(known)) == "compensate"
