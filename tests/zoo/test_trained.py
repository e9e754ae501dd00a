"""A trained ResNet-20 with padded shortcuts: half of the multiply-accumulates gone, and true.

`TWOAXIS_DATA` names a folder with the weights, `resnet20-cifar10.safetensors`, and CIFAR-10 as a
folder of images, `cifar10/train` and `cifar10/test`.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from empirical import Calibration, ImageSet, evaluate, image_loader, load_data, prune
from empirical.pruning.removal import mask
from tests.zoo.checks import RECOVERIES, difference, independent_macs
from tests.zoo.hand_written import PaddedResNet, padded_resnet

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CALIBRATION, TEST = 600, 1000

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("TWOAXIS_DATA" not in os.environ, reason="TWOAXIS_DATA names no folder"),
]


def trained() -> tuple[PaddedResNet, ImageSet, ImageSet]:
    """The network, calibration images and test images, normalized as it was trained."""
    folder = Path(os.environ["TWOAXIS_DATA"])
    model = padded_resnet(20, 10)
    model.load_state_dict(load_file(folder / "resnet20-cifar10.safetensors"), strict=False)
    known = load_data(folder / "cifar10", images=(CALIBRATION, TEST), cache=None)
    training, test = (replace(part, mean=MEAN, std=STD) for part in known)
    return model.eval(), training, test


def test_half_of_a_trained_network_is_removed_as_it_is_masked() -> None:
    model, training, test = trained()
    dense = evaluate(model, image_loader(test, batch_size=200)).accuracy
    assert dense > 0.78
    order = torch.randperm(CALIBRATION, generator=torch.Generator().manual_seed(0))
    known = Calibration(model, image_loader(training, order, batch_size=100))
    accuracy = {}
    for recovery in RECOVERIES:
        small = prune(model, known, macs=0.5, criterion="l2", recovery=recovery)
        assert small.report.macs_share == pytest.approx(0.5, abs=0.01)
        share = independent_macs(small.model, known.example)
        assert share / independent_macs(model, known.example) == pytest.approx(0.5, abs=0.01)
        accuracy[recovery] = evaluate(small.model, image_loader(test, batch_size=200)).accuracy
        if recovery == "none":
            masked = mask(model, known.graph.groups, small.kept)
            images = test.normalize(test.images[:256])
            assert difference(small.model, masked, images) <= 1e-5
    print(f"dense {dense:.3f}", {name: round(value, 3) for name, value in accuracy.items()})
    assert accuracy["compensate"] > accuracy["none"]
    assert accuracy["reconstruct"] > accuracy["compensate"]


def test_the_weights_fit_the_network_whole() -> None:
    model, _, _ = trained()
    folder = Path(os.environ["TWOAXIS_DATA"])
    stored = load_file(folder / "resnet20-cifar10.safetensors")
    own = {n for n in model.state_dict() if not n.endswith("num_batches_tracked")}
    assert own == {name for name in stored if not name.endswith("num_batches_tracked")}
    assert all(torch.equal(model.state_dict()[name], stored[name]) for name in own)
