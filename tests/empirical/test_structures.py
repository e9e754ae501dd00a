"""Structures compared by what is left of each on images that nothing is fitted on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from empirical import compare_structures, prune
from empirical.pruning.calibration import Calibration
from empirical.pruning.forecast_law import Answers
from empirical.pruning.recovery import recalibrate
from empirical.reading.batches import batches as read
from tests.empirical.pruning_networks import batches, plain

Loader = list[tuple[Tensor, ...]]


def with_copies() -> tuple[nn.Module, Loader]:
    """Eight channels of the first layer are two, four times each; those of the second differ."""
    model = plain((3, 8, 8))
    with torch.no_grad():
        for values in (*model[0].parameters(), *model[1].parameters()):
            values.copy_(values[:2].repeat(4, *[1] * (values.ndim - 1)))
        for values in (model[1].running_mean, model[1].running_var):
            values.copy_(values[:2].repeat(4))
    loader = batches(3, 6, each=64, count=4)
    recalibrate(model, list(read(loader)))  # or taking norms anew costs more than what goes
    return model, loader


@pytest.mark.parametrize("recovery", ["reconstruct", "compensate"])
def test_copies_cost_nothing_and_others_do(recovery: str) -> None:
    model, loader = with_copies()
    structures = [{"3": 2}, {"0": 2}, {"0": 8, "3": 5}]
    table = compare_structures(model, loader, structures, recovery=recovery)
    assert table["place"].tolist() == [3, 1, 2]
    assert table["kl"][1] < 0.02 * table["kl"][0]
    macs = [prune(model, loader, counts=c, recovery="none").report.macs_share for c in structures]
    assert table["macs"].tolist() == pytest.approx(macs)


def test_it_is_what_pruning_on_one_half_leaves_on_the_other() -> None:
    model, loader = plain(), batches(3, 6, each=64, count=4)
    known = Calibration(model, loader)
    (row,) = compare_structures(model, known, [{"0": 5}], criterion="l2").to_dict("records")
    images = torch.cat([images for images, _ in loader])
    labels = torch.cat([labels for _, labels in loader])
    made = prune(
        model, [(images[::2], labels[::2])], counts={"0": 5}, criterion="l2", recovery="reconstruct"
    )
    held = [(images[1::2], labels[1::2])]
    found = Answers.of(model, held).against(Answers.of(made.model, held))
    assert {name: row[name] for name in ("kl", "kl_se", "agreement")} == pytest.approx(
        {name: found[name] for name in ("kl", "kl_se", "agreement")}, rel=1e-4
    )


def test_the_model_and_what_is_asked_of_torch_outside_are_left_as_they_are() -> None:
    model, loader = plain().train(), batches(3, 6, count=3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    expected = compare_structures(model, loader, [{"0": 5}])
    for outside in (torch.autocast("cpu", torch.bfloat16), torch.inference_mode()):
        with outside:
            assert compare_structures(model, loader, [{"0": 5}]).equals(expected)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_no_label_is_read() -> None:
    model, loader = with_copies()
    structures = [{"3": 4}, {"0": 4}]
    others = [(images, labels.flip(0)) for images, labels in loader]
    one, other = (compare_structures(model, own, structures) for own in (loader, others))
    assert one.equals(other)


def test_what_cannot_be_compared_is_refused() -> None:
    model, loader = plain(), batches(3, 6)
    with pytest.raises(ValueError, match=r"structures is empty\. Pass at least one"):
        compare_structures(model, loader, [])
    with pytest.raises(TypeError, match="structures must be"):
        compare_structures(model, loader, {"0": 4})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 2 calibration images to fit on"):
        compare_structures(model, [(loader[0][0][:1], loader[0][1][:1])], [{"0": 4}])
    with pytest.raises(ValueError, match="recovery"):
        compare_structures(model, loader, [{"0": 4}], recovery="distill")
    with pytest.raises(ValueError, match=r"counts\['0'\] must be from 1 to 8"):
        compare_structures(model, loader, [{"0": 9}])
    with pytest.raises(ValueError, match=r"model must return logits.*it returned shape \(.*1\)"):
        compare_structures(plain(classes=1), loader, [{"0": 4}])


@pytest.mark.parametrize("wrong", [None, 5, "0", [("0", 4)]])
def test_structures_and_counts_are_mappings(wrong: object) -> None:
    model, loader = plain(), batches(3, 6, count=3)
    with pytest.raises(TypeError, match=r"structures\[0\] must be a Mapping; got"):
        compare_structures(model, loader, [wrong])  # type: ignore[list-item]
    if wrong is not None:
        with pytest.raises(TypeError, match="counts must be a Mapping; got"):
            prune(model, loader, counts=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("share", ["macs", "parameters", "latency", "accuracy_drop"])
def test_counts_and_a_share_do_not_go_together(share: str) -> None:
    with pytest.raises(ValueError, match=f"counts says how many channels stay, and {share} what"):
        prune(plain(), batches(3, 6), counts={"0": 4}, **{share: 0.5})
