"""What went and why: stand-ins of planted copies, errors of layers measured by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from empirical.pruning.pruner import prune
from tests.empirical.pruning_networks import batches, fisher_of_change, linear_network, plain


def test_a_copy_goes_and_its_original_stands_in_with_weight_one() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.Linear(6, 4))
    with torch.no_grad():
        model[1].weight[5] = 2 * model[1].weight[1]
        model[1].bias[5] = 0.3
    pruned = prune(model, batches(3, 2, count=8), counts={"1": 5}, criterion="task_replaceability",
                   recovery="merge")  # fmt: skip
    (row,) = pruned.removed(stand_ins=1).itertuples()
    copies = {1: "5: +0.50", 5: "1: +2.00"}
    assert row.stand_ins == copies[row.unit]
    assert row.unexplained == pytest.approx(0, abs=1e-6)
    assert row.damage == pytest.approx(0, abs=1e-5)
    assert (row.layer, row.reader) == ("1", "2")


@pytest.mark.parametrize("criterion", ["l2", "task_replaceability"])
def test_every_removed_unit_is_listed_in_its_order_and_damages_add_up(criterion: str) -> None:
    pruned = prune(plain((3, 10, 14)), batches(3, 6), macs=0.5, criterion=criterion,
                   recovery="merge")  # fmt: skip
    removed, layers = pruned.removed(), pruned.layers().set_index("layer")
    for name, (before, after) in pruned.report.channels.items():
        mine = removed[removed["layer"] == name]
        assert sorted(mine["unit"]) == np.setdiff1d(np.arange(before), pruned.kept[name]).tolist()
        assert mine["score"].is_monotonic_increasing
        assert mine["damage"].sum() == pytest.approx(layers.loc[name, "predicted"])
        assert layers.loc[name, "after"] == after
        assert mine["unexplained"].between(-1e-6, 1 + 1e-6).all()


def test_predicted_and_realized_errors_agree_on_a_linear_network() -> None:
    model, loader = linear_network()
    pruned = prune(model, loader, counts={"1": 4}, criterion="task_replaceability",
                   recovery="merge")  # fmt: skip
    (row,) = pruned.layers().itertuples()
    measured = fisher_of_change(model, pruned.known, dict(pruned.kept))
    assert row.predicted == pytest.approx(measured, abs=1e-6)
    assert row.realized == pytest.approx(measured, rel=0.15)  # on the first 256 of 500 images


def test_nothing_went() -> None:
    pruned = prune(plain(), batches(3, 6), macs=1.0, recovery="none")
    assert len(pruned.removed()) == 0
    assert pruned.layers()["realized"].abs().max() < 1e-6
