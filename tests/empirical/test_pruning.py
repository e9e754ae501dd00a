"""`prune` from end to end: counts, paths, sharing a calibration, and bad input."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from empirical import Calibration, prune
from empirical.pruning.criteria import criterion_names
from empirical.pruning.macs import count_macs
from tests.empirical.pruning_networks import SIZES, batches, network, plain

FLOAT32_TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return network("resnet18")


@pytest.fixture(scope="module")
def known(model: nn.Module) -> Calibration:
    loader = batches(3, 16, count=8, each=40)
    return Calibration(model, loader, map_images=8, gradient_images=16)


def test_all_criteria_meet_the_request_and_each_other(model: nn.Module, known: Calibration) -> None:
    example = torch.zeros(1, 3, 16, 16)
    for allocation in ("uniform", "global", "sensitivity"):
        shares = []
        # without scores that compete, the counts do not depend on the criterion
        names = criterion_names() if allocation == "global" else ["replaceability", "l2", "chip"]
        for name in names:
            pruned = prune(
                model, known, macs=0.5, criterion=name, allocation=allocation, recovery="none"
            )
            assert count_macs(pruned.model, example) == pruned.report.macs_after
            shares.append(pruned.report.macs_share)
        assert max(shares) - min(shares) <= 0.005
        assert max(abs(share / 0.5 - 1) for share in shares) <= 0.01


@pytest.mark.parametrize("recovery", ["none", "recalibrate", "merge", "compensate", "fold"])
def test_removed_and_masked_paths_agree(
    model: nn.Module, known: Calibration, recovery: str
) -> None:
    images = batches(3, 16)[0][0]
    one, other = (
        prune(model, known, macs=0.4, criterion="l2", recovery=recovery, path=path)
        for path in ("removed", "masked")
    )
    with torch.no_grad():
        difference = (one.model(images) - other.model(images)).abs().max()
        scale = max(1.0, float(other.model(images).abs().max()))
    assert float(difference) <= FLOAT32_TOLERANCE * scale
    assert one.report.macs_after == other.report.macs_after
    assert other.report.parameters_after > one.report.parameters_after


@pytest.mark.parametrize("allocation", ["uniform", "global", "sensitivity"])
def test_kept_channels_are_multiples_and_the_network_runs(
    model: nn.Module, known: Calibration, allocation: str
) -> None:
    asked = {"macs": 0.6, "criterion": "l2", "allocation": allocation, "recovery": "none"}
    pruned = prune(model, known, round_to=8, **asked)
    widths = [m.out_channels for m in pruned.model.modules() if isinstance(m, nn.Conv2d)]
    assert [width % 8 for width in widths] == [0] * len(widths)
    assert min(after for _, after in pruned.report.channels.values()) >= 8
    assert count_macs(pruned.model, torch.zeros(1, 3, 16, 16)) == pruned.report.macs_after
    assert abs(pruned.report.deviation) <= 0.01
    plain_kept = prune(model, known, **asked).kept
    one = prune(model, known, round_to=1, **asked).kept
    assert all((one[name] == kept).all() for name, kept in plain_kept.items())


def test_layers_narrower_than_a_multiple_stay_whole_and_bad_multiples_are_refused() -> None:
    model, loader = plain((3, 20, 6)), batches(3, 6)
    asked = {"criterion": "l2", "recovery": "none"}
    pruned = prune(model, loader, macs=0.5, round_to=8, **asked)
    assert pruned.report.channels == {"0": (20, 8), "3": (6, 6)}
    share = pruned.report.macs_after / pruned.report.macs_before
    assert pruned.report.deviation == pytest.approx(share / 0.5 - 1)
    with pytest.raises(ValueError, match=r"macs=0\.1 is below.*lower floor or round_to"):
        prune(model, loader, macs=0.1, round_to=8, **asked)
    with pytest.raises(ValueError, match=r"round_to must be.*got 0"):
        prune(model, loader, round_to=0, **asked)
    with pytest.raises(ValueError, match=r"round_to must be.*got 2\.5"):
        prune(model, loader, round_to=2.5, **asked)
    with pytest.raises(ValueError, match=r"round_to=8 chooses counts, and counts gives them"):
        prune(model, loader, round_to=8, counts={"0": 8}, **asked)


def test_exactly_the_asked_counts_stay_ties_by_index() -> None:
    model = plain((3, 10, 6))
    with torch.no_grad():
        model[0].weight[:] = model[0].weight[:1]
    pruned = prune(model, batches(3, 6), counts={"0": 7}, criterion="l2", recovery="none")
    assert pruned.kept["0"].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert pruned.kept["3"].tolist() == list(range(6))
    assert pruned.model[0].out_channels == 7
    assert pruned.report.channels["0"] == (10, 7)


def test_the_report_says_what_was_asked_and_what_went(model: nn.Module, known: Calibration) -> None:
    report = prune(model, known, macs=0.3, criterion="l2").report
    text = str(report)
    assert "30.00% requested" in text
    assert f"{report.macs_before:,} -> {report.macs_after:,}" in text
    assert "fc: kept whole" in text
    frame = report.to_frame()
    assert (frame["after"] < frame["before"]).all()
    assert list(frame["layer"]) == [g.name for g in known.graph.groups]


def test_the_model_keeps_its_weights_and_mode(model: nn.Module, known: Calibration) -> None:
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.train()
    prune(model, known, macs=0.5, criterion="taylor", recovery="compensate")
    assert model.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    model.eval()


def test_a_calibration_is_measured_once(known: Calibration, model: nn.Module) -> None:
    prune(model, known, criterion="replaceability")
    moments = known.input_moments
    prune(model, known, macs=0.3, criterion="two_axis", recovery="compensate")
    assert known.input_moments is moments


def test_a_pruned_network_can_be_pruned_again(model: nn.Module, known: Calibration) -> None:
    once = prune(model, known, macs=0.6, criterion="l2", recovery="none").model
    twice = prune(once, known.loader, macs=0.6, criterion="l2", recovery="none")
    assert twice.report.macs_after == pytest.approx(0.36 * known.graph.macs(), rel=0.01)


def test_scores_do_not_depend_on_the_mode_of_the_model() -> None:
    model, loader = plain((3, 6, 8)), batches(3, 6, count=4)
    kept = [
        prune(m, loader, macs=0.5, criterion="taylor", recovery="none").kept
        for m in (model.train(), model.eval())
    ]
    assert all((kept[0][name] == kept[1][name]).all() for name in kept[0])


def test_loaders_and_shares_that_cannot_serve_are_refused() -> None:
    model = plain((3, 6, 8))
    with pytest.raises(
        TypeError, match=r"loader must be readable more than once; got the iterator generator"
    ):
        prune(model, (batch for batch in batches(3, 6)))
    with pytest.raises(ValueError, match=r"at least one batch"):
        prune(model, [])
    with pytest.raises(ValueError, match=r"Calibration of another model"):
        prune(plain((3, 6, 8)), Calibration(model, batches(3, 6)))
    with pytest.raises(ValueError, match=r"macs=0\.001 is below what the floors allow"):
        prune(model, batches(3, 6), criterion="l2", macs=0.001, floor=0.5)


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_every_architecture_by_every_criterion(name: str) -> None:
    model = network(name, width=0.5)
    loader = batches(3, SIZES[name], count=36, each=64)
    known = Calibration(model, loader, map_images=8, gradient_images=16)
    images = loader[0][0][:4]
    for criterion in criterion_names():
        if (name, criterion) == ("convnext", "bn_scale"):
            continue  # it has no batch norms, and the criterion says so
        for allocation in ("uniform", "global"):
            one, other = (
                prune(
                    model, known, criterion=criterion, allocation=allocation,
                    recovery="none", path=path,
                )
                for path in ("removed", "masked")
            )  # fmt: skip
            assert abs(one.report.macs_share / 0.5 - 1) <= 0.01
            with torch.no_grad():
                expected = other.model(images)
                difference = float((one.model(images) - expected).abs().max())
            assert difference <= FLOAT32_TOLERANCE * max(1.0, float(expected.abs().max()))
