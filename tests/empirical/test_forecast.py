"""What pruning will cost: margins against the normal law, the law's own algebra, real networks."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm
from torch import nn

from empirical.pruning.calibration import Calibration
from empirical.pruning.choosing import Request, counts_of
from empirical.pruning.damage_allocation import total_damage
from empirical.pruning.forecast_law import Answers, Law
from empirical.pruning.forecasting import forecast
from empirical.pruning.holding_out import EVERY
from empirical.pruning.margins import DRAWS, Margins
from empirical.pruning.pruner import prune
from tests.empirical.pruning_networks import (
    batches,
    fisher_of_change,
    linear_network,
    plain,
)


def test_agreement_of_two_classes_is_the_normal_law() -> None:
    gap = torch.linspace(0.1, 4, 400, dtype=torch.float64)
    logits = torch.stack([gap, torch.zeros_like(gap)], 1)
    wrong = (torch.arange(400) % 4 == 0).long()
    margins = Margins.of(logits, wrong)
    for scale in (0.1, 0.5, 2.0, 5.0):
        stays = norm.cdf(gap.numpy() / (math.sqrt(2) * scale))
        right = np.where(wrong.numpy() == 0, stays, 1 - stays)
        error = 4 / math.sqrt(400 * DRAWS)
        agreement, accuracy = margins.at(np.array(scale))
        assert agreement == pytest.approx(stays.mean(), abs=error)
        assert accuracy == pytest.approx(right.mean(), abs=error)


def test_small_noise_diverges_by_its_fisher_metric() -> None:
    logits = torch.randn(500, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p = logits.softmax(1)
    metric = float((1 - (p**2).sum(1)).mean())
    margins = Margins.of(logits, None)
    for divergence in (1e-5, 1e-4, 1e-3):
        expected = math.sqrt(2 * divergence / metric)
        assert float(margins.scale(np.array(divergence))) == pytest.approx(expected, rel=0.05)
    assert np.isnan(margins.at(np.array(1.0))[1])


@pytest.mark.parametrize("divergence", [1e-4, 0.02, 0.3, 1.5])
def test_scales_are_found_again(divergence: float) -> None:
    logits = 3 * torch.randn(800, 10, generator=torch.Generator().manual_seed(1))
    margins = Margins.of(logits, None)
    scale = margins.scale(np.array(divergence))
    agreement, _ = margins.at(scale)
    assert float(margins.scale_of_agreement(agreement)) == pytest.approx(float(scale), rel=0.05)


def law(rows: list[tuple[float, float, float, float]], accuracy: float = 0.7) -> Law:
    logits = 2 * torch.randn(1000, 10, generator=torch.Generator().manual_seed(2))
    labels = logits.argmax(1)
    labels[::5] = (labels[::5] + 1) % 10
    columns = ["share", "damage", "kl", "agreement"]
    measured = pd.DataFrame(rows, columns=columns).assign(kl_se=0.0, accuracy=accuracy)
    return Law.of(measured, Answers(logits, labels))


def test_a_factor_that_is_the_same_everywhere_is_found_everywhere_without_doubt() -> None:
    table = law([(0.8, 0.01, 0.03, 0.95), (0.4, 0.1, 0.3, 0.8)]).table([0.9, 0.6], [0.004, 0.05])
    assert table["kl"].tolist() == pytest.approx([0.012, 0.15])
    assert table["kl_low"].tolist() == pytest.approx([0.012, 0.15])


def test_between_measured_shares_the_factor_is_linear_in_log_damage_and_so_is_the_doubt() -> None:
    found = law([(0.8, 0.01, 0.02, 0.95), (0.4, 0.16, 0.64, 0.7)])
    table = found.table([0.8, 0.6, 0.4, 0.2], [0.01, 0.04, 0.16, 0.64])
    factor = 2 * np.array([1, math.sqrt(2), 2, 2 * math.sqrt(2)])
    assert (table["kl"] / table["damage"]).tolist() == pytest.approx(factor.tolist())
    doubt = np.log(table["kl"] / table["kl_low"]) / 1.96
    half = math.log(2) / 2
    assert doubt.tolist() == pytest.approx([0, half, 0, half], abs=1e-9)
    assert table["accuracy"].is_monotonic_decreasing


def test_at_a_measured_share_agreement_is_what_was_measured() -> None:
    table = law([(0.8, 0.01, 0.02, 0.95), (0.4, 0.16, 0.64, 0.7)]).table([0.8, 0.4], [0.01, 0.16])
    assert table["agreement"].tolist() == pytest.approx([0.95, 0.7], abs=2e-3)


@pytest.mark.parametrize("accuracy", [0.7, 0.6, 0.5])
def test_accuracy_follows_what_was_measured_as_far_as_its_interval_asks(accuracy: float) -> None:
    """Dense .8 and agreement .8, of 1,000 images: the error is 1.96 √(.2/1000) = .028."""
    found = law([(0.5, 0.1, 0.3, 0.8)], accuracy)
    by_margins = 0.8 - float(found.table([0.5], [0.1])["drop"][0]) / found.steeper
    (told,) = found.table([0.5], [0.1])["accuracy"]
    error = 1.96 * math.sqrt(0.2 / 1000)
    nearest = float(np.clip(by_margins, accuracy - error, accuracy + error))
    assert told == pytest.approx(nearest, abs=2e-3)


def test_without_a_measured_share_divergence_is_damage_and_has_no_interval() -> None:
    table = law([]).table([1.0, 0.5], [0.0, 0.2])
    assert table["kl"].tolist() == [0.0, 0.2]
    assert np.isnan(table["kl_high"][1])


def test_the_forecast_of_a_linear_network_is_exact() -> None:
    """The compensated network's ½ E δzᵀ Γ δz, measured, to 1e-6 nats at every share."""
    model, loader = linear_network()
    found = forecast(model, loader, shares=(0.8, 0.6, 0.4, 0.2), measured=())
    fitted, _ = Calibration(model, loader).held_out()
    (group,) = fitted.graph.groups
    assert len(found.table) == 5
    for row in found.table.iloc[1:].itertuples():
        kept = Request(row.share, "task_replaceability", "damage").kept(fitted)
        measured = fisher_of_change(model, fitted, kept)
        assert row.damage == pytest.approx(measured, abs=1e-6)
        layer = found.layers[found.layers["kept"] == len(kept[group.name])]
        assert layer["damage"].item() == pytest.approx(measured, abs=1e-6)


def test_every_fifth_image_is_held_out_and_nothing_is_fitted_on_it() -> None:
    loader = batches(3, 6, count=3, each=32)
    known = Calibration(plain(), loader)
    assert known.input_moments
    fitted, held = known.held_out()
    images = torch.cat([x for x, _ in loader])
    apart = torch.cat([batch[0] for batch in held])
    assert torch.equal(apart, images[EVERY - 1 :: EVERY])
    rest = torch.cat([x for x, _ in fitted.batches()])
    assert len(rest) + len(apart) == len(images)
    assert fitted.input_moments is not known.input_moments
    assert fitted.graph is known.graph
    with pytest.raises(ValueError, match="at least 5 calibration images to fit on"):
        _ = Calibration(plain(), [(images[:4], torch.zeros(4, dtype=torch.long))]).held_out()


@pytest.mark.parametrize("recovery", ["merge", "reconstruct"])
def test_a_forecast_of_a_convolutional_network(recovery: str) -> None:
    model = plain((3, 16, 24))
    known = Calibration(model, batches(3, 6, count=6))
    found = forecast(model, known, shares=(0.9, 0.6, 0.3), recovery=recovery)
    table = found.table
    assert table["share"].tolist() == [1.0, 0.9, 0.6, 0.3]
    assert table["kl"].iloc[0] == 0
    assert (table["kl_low"] <= table["kl"]).all()
    assert (table["kl"] <= table["kl_high"] + 1e-12).all()
    assert table["damage"].is_monotonic_increasing
    fitted, _ = known.held_out()
    curves = list(fitted.damage_curves("task_replaceability").values())
    kept = Request(0.6, "task_replaceability", "damage").kept(fitted)
    assert table["damage"].iloc[2] == pytest.approx(total_damage(curves, counts_of(fitted, kept)))
    assert set(found.layers["layer"]) == {group.name for group in known.graph.groups}
    assert len(found.measured) == 2
    assert "share of macs" in str(found)


def test_shares_below_the_floors_are_left_out() -> None:
    found = forecast(plain(), batches(3, 6), shares=(0.9, 0.01), measured=(), floor=0.5)
    assert found.table["share"].tolist() == [1.0, 0.9]


def test_prune_takes_what_is_foretold_and_found_to_lose_no_more() -> None:
    """The network's own answers are the labels, so that what is lost is its disagreement."""
    model = plain((3, 16, 24))
    loader = [(x, model(x).argmax(1)) for x, _ in batches(3, 6, count=10, each=50)]
    known = Calibration(model, loader)
    pruned = prune(model, known, accuracy_drop=12, criterion="task_replaceability",
                   allocation="damage")  # fmt: skip
    _, held = known.held_out()
    apart = torch.cat([x for x, _ in held])
    with torch.no_grad():
        lost = float((model(apart).argmax(1) != pruned.model(apart).argmax(1)).double().mean())
    found = pruned.report.verified
    assert found is not None
    assert found.images == 100
    assert found.drop == pytest.approx(lost)
    assert found.agreement == pytest.approx(1 - lost)
    assert lost <= 0.12
    assert pruned.report.macs_share < 1
    assert "held-out images" in str(pruned.report)


def test_a_drop_of_accuracy_needs_classes() -> None:
    loader = [(x, torch.zeros(len(x), 2)) for x, _ in batches(3, 6)]
    with pytest.raises(ValueError, match="accuracy_drop=1 needs calibration labels"):
        prune(plain(), loader, accuracy_drop=1)


def test_a_share_that_costs_nothing_says_nothing_of_the_factor() -> None:
    """Its divergence of 0 made others 1e38 nats."""
    rows = [(0.9, 0.0, 0.0, 1.0), (0.8, 1e-4, 0.0, 1.0), (0.4, 0.16, 0.32, 0.7)]
    table = law(rows).table([0.9, 0.8, 0.3], [0.0, 1e-4, 0.3])
    assert table["kl"].tolist() == pytest.approx([0.0, 2e-4, 0.6])
    assert table.drop(columns="share").notna().all(axis=None)


def test_beyond_what_was_measured_divergence_goes_at_most_by_the_square() -> None:
    """Two damages next to each other whose factors differ tenfold."""
    table = law([(0.5, 0.01, 0.01, 0.9), (0.4, 0.0101, 0.1, 0.8)]).table([0.1], [0.101])
    assert table["kl"].tolist() == pytest.approx([0.1 * 10**2])
    table = law([(0.5, 0.01, 0.1, 0.9), (0.4, 0.0101, 0.01, 0.8)]).table([0.1], [0.101])
    assert table["kl"].tolist() == pytest.approx([0.01])  # nor does it fall


def test_shares_that_cannot_be_reached_are_measured_at_the_least() -> None:
    """In multiples of 8 of 16 and 24 channels."""
    found = forecast(plain(), batches(3, 6, count=3), criterion="l2", round_to=8)
    assert found.measured["share"].min() > 0.4
    assert not len(forecast(plain(), batches(3, 6, count=3), measured=(1.0,)).measured)
    assert len(found.measured) == 2
    assert found.table["share"].min() >= found.measured["share"].min()
    with pytest.raises(ValueError, match="lower floor or round_to"):
        forecast(plain(), batches(3, 6, count=3), criterion="l2", floor=1.0)


def test_a_network_of_no_numbers_is_refused() -> None:
    model = plain()
    with torch.no_grad():
        model.get_parameter(list(dict(model.named_parameters()))[-1])[0] = math.nan
    with pytest.raises(ValueError, match=r"must return numbers; of \d+ calibration images"):
        forecast(model, batches(3, 6, count=3), criterion="l2")


def test_one_output_for_each_image_is_no_matrix() -> None:
    """(n,) of a network that regresses: pruned, and not foretold."""
    model = nn.Sequential(plain(), nn.Linear(10, 1), nn.Flatten(0)).eval()
    loader = [(x, y.float()) for x, y in batches(3, 6, count=3)]
    assert prune(model, loader, macs=0.5).report.macs_share < 0.6
    with pytest.raises(ValueError, match="at least 2 classes to be foretold"):
        forecast(model, loader, criterion="l2")


def test_what_is_asked_of_torch_outside_changes_nothing() -> None:
    """Autocast was taken for computed weights; inference mode changed criterion and recovery."""
    model, loader = plain().eval(), batches(3, 6, count=3)
    expected = prune(model, loader)
    for outside in (torch.autocast("cpu", torch.bfloat16), torch.inference_mode(), torch.no_grad()):
        with outside:
            found = prune(model, loader)
            table = forecast(model, loader, measured=()).table
        assert str(found.report) == str(expected.report)
        for own, other in zip(found.model.parameters(), expected.model.parameters(), strict=True):
            assert torch.equal(own, other)
        assert table.equals(forecast(model, loader, measured=()).table)
        found.model(loader[0][0]).sum().backward()  # and it can be trained
