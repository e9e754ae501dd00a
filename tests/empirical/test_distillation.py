"""Training towards the dense network: closer on images that it did not see, without labels."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from empirical import Calibration, forecast, prune
from empirical.pruning.distillation import Distillation, _Average, _mixtures, distill
from tests.empirical.pruning_networks import awakened

QUICK = Distillation(
    epochs=6, steps_at_least=1, batch_size=32, learning_rate=0.002, precision="float32"
)


MIXED = replace(QUICK, mixing=0.5, averaging=1.0)
LOWER = replace(QUICK, precision="bfloat16")


def dense() -> nn.Module:
    """A network that is sure of itself: one whose prediction hardly moves has nothing to lose."""
    torch.manual_seed(0)
    model = awakened(
        nn.Sequential(
            nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 5),
        )
    )  # fmt: skip
    with torch.no_grad():
        model[-1].weight *= 30
    return model


def images(n: int, seed: int) -> Tensor:
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def parts(n: int) -> tuple[Tensor, Tensor]:
    """Images to see, and every tenth, that is held out."""
    every, held = images(n, 1), torch.arange(n) % 10 == 9
    return every[~held], every[held]


@torch.no_grad()
def divergence(model: nn.Module, other: nn.Module, batch: Tensor) -> float:
    one, two = (m.eval()(batch).log_softmax(1) for m in (model, other))
    return float(functional.kl_div(two, one, reduction="batchmean", log_target=True))


@pytest.mark.parametrize("how", [QUICK, MIXED, LOWER], ids=["plain", "mixed, averaged", "bfloat16"])
def test_a_distilled_network_is_closer_on_fresh_images_than_the_refitted_one(
    how: Distillation,
) -> None:
    model = dense()
    loader = [(images(320, 1), torch.zeros(320))]  # labels that are none: nothing reads them
    known = Calibration(model, loader, distillation=how)
    refitted, distilled = (
        prune(model, known, counts={"0": 8, "3": 7}, criterion="l2", recovery=recovery).model
        for recovery in ("reconstruct", "distill")
    )
    fresh = images(400, 2)
    assert divergence(model, distilled, fresh) < 0.9 * divergence(model, refitted, fresh)


def test_the_weights_that_were_best_on_held_out_images_are_kept() -> None:
    model = dense()
    pruned = prune(model, [(images(64, 1), torch.zeros(64))], criterion="l2").model
    with torch.no_grad():
        before = pruned.eval()(images(64, 1))
    wild = Distillation(epochs=2, steps_at_least=1, batch_size=16, learning_rate=1e4)
    kept = distill(pruned, model, *parts(64), wild)
    with torch.no_grad():  # norms have other statistics, and scales that make up for it
        torch.testing.assert_close(pruned.eval()(images(64, 1)), before, rtol=1e-4, atol=1e-4)
    assert kept == pytest.approx(divergence(model, pruned, parts(64)[1]), rel=1e-5)


def test_images_that_judge_the_training_are_not_refitted_on() -> None:
    """The start is kept after a wild step, and is the same whatever these images show."""
    model, every = dense(), images(100, 1)
    other = torch.where((torch.arange(100) % 10 == 9).view(-1, 1, 1, 1), 9 - every, every)
    wild = Distillation(epochs=1, steps_at_least=1, batch_size=16, learning_rate=1e4)
    one, two = (
        prune(
            model, Calibration(model, [(x, torch.zeros(100))], distillation=wild),
            counts={"0": 8, "3": 7}, criterion="l2", recovery="distill",
        ).model.state_dict()
        for x in (every, other)
    )  # fmt: skip
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_distillation_is_reproducible_and_leaves_the_dense_network_alone() -> None:
    model = dense()
    before = copy.deepcopy(model.state_dict())
    start = prune(model, [(images(64, 1), torch.zeros(64))], criterion="l2").model
    copies = [copy.deepcopy(start) for _ in range(2)]
    for one in copies:
        distill(one, model, *parts(64), QUICK, seed=3)
    one, two = (c.state_dict() for c in copies)
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert not all(torch.equal(one[key], value) for key, value in start.state_dict().items())


def test_the_mean_of_the_weights_forgets_what_is_older_than_its_steps() -> None:
    layer = nn.BatchNorm1d(1)
    mean = _Average(layer, 3.0)
    seen = []
    for value in (3.0, 5.0, 10.0, 2.0):
        with torch.no_grad():
            layer.weight.fill_(value)
        assert layer.running_mean is not None
        layer.running_mean.fill_(-value)
        mean.follow()
        with mean.shown():
            seen.append((layer.weight.item(), layer.running_mean.item()))
        assert layer.weight.item() == value
    # the start is 1 and 0; plain means of up to three, then a third of what is new
    expected = [(2, -1.5), (3, -8 / 3), (3 + 7 / 3, -46 / 9)]
    expected.append((expected[-1][0] * 2 / 3 + 2 / 3, expected[-1][1] * 2 / 3 - 2 / 3))
    assert seen == [pytest.approx(pair, rel=1e-5) for pair in expected]
    nothing = _Average(layer, 0.0)
    nothing.follow()
    with nothing.shown():
        assert layer.weight.item() == 2.0


def test_mixtures_are_of_the_share_asked_for() -> None:
    assert _mixtures(0.0, 50, 10, 0, 0) is None
    found = _mixtures(0.25, 4000, 4000, 0, 3)
    assert found is not None
    assert found.steps.mean() == pytest.approx(0.25, abs=0.03)
    assert float(found.shares.min()) >= 0
    assert float(found.shares.mean()) == pytest.approx(0.5, abs=0.03)
    assert float(found.shares.max()) < 1
    other = _mixtures(0.25, 4000, 4000, 0, 4)
    assert other is not None
    assert not torch.equal(found.shares, other.shares)


def test_lower_precision_is_of_the_steps_and_not_of_the_weights() -> None:
    model, start = dense(), dense()
    seen = []
    start[0].register_forward_hook(lambda _layer, _inputs, output: seen.append(output.dtype))
    kept = distill(start, model, *parts(64), replace(LOWER, epochs=1))
    assert {torch.float32, torch.bfloat16} == set(seen)  # the images held out, and the steps
    assert {value.dtype for value in start.parameters()} == {torch.float32}
    assert kept == pytest.approx(divergence(model, start, parts(64)[1]), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0), ("steps_at_least", 1.5), ("batch_size", 1), ("padding", -1),
        ("learning_rate", 0.0), ("temperature", float("nan")), ("weight_decay", -1e-4),
        ("averaging", -1.0), ("mixing", 1.5), ("flip", "yes"),
        ("precision", "float16"),
    ],
)  # fmt: skip
def test_settings_that_cannot_train_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises((TypeError, ValueError), match=name):
        replace(QUICK, **{name: value})


def test_what_cannot_be_distilled_is_refused_before_anything_is_measured() -> None:
    frozen = dense().requires_grad_(False)

    def known(model: nn.Module, n: int = 40) -> Calibration:
        return Calibration(model, [(images(n, 1), torch.zeros(n))], distillation=QUICK)

    for model, n, path, match in (
        (frozen, 40, "removed", r"no gradient .* pass recovery='reconstruct'"),
        (nn.Sequential(*list(dense())[:-2]), 40, "removed", "logits"),
        (dense(), 9, "removed", "at least 10 calibration images"),
        (dense(), 40, "masked", "recovery='distill' refits"),
    ):
        of = known(model, n)
        with pytest.raises(ValueError, match=match):
            prune(model, of, recovery="distill", path=path)
        assert "input_moments" not in of.__dict__
    with pytest.raises(TypeError, match=r"distillation must be .* Distillation"):
        Calibration(frozen, [], distillation={"epochs": 3})  # type: ignore[arg-type]


def test_what_is_frozen_stays_as_it_is() -> None:
    model = dense()
    model[1].requires_grad_(False)
    model[0].weight.requires_grad_(False)
    start = copy.deepcopy(model)
    with torch.no_grad():
        start[3].weight *= 0.5
    before = copy.deepcopy(start.state_dict())
    distill(start, model, *parts(64), QUICK)
    after = start.state_dict()
    same = {key for key, value in after.items() if torch.equal(value, before[key])}
    assert same >= {key for key in after if key.startswith("1.")} | {"0.weight"}
    assert not same & {"3.weight", "7.weight"}
    refitted = prune(
        dense().requires_grad_(False), [(images(64, 1), torch.zeros(64))], recovery="reconstruct"
    )
    assert not any(p.requires_grad for p in refitted.model.parameters())


class RuledOut(nn.Module):
    """A network that rules its last class out."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.inner, self.value = dense(), value

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x).masked_fill(torch.tensor([False] * 4 + [True]), self.value)


def test_a_class_that_is_ruled_out_changes_no_decision() -> None:
    """Its logit is -inf, or so low that its probability is 0 all the same."""
    found = []
    for value in (-torch.inf, -1e9):
        model = RuledOut(value).eval()
        known = Calibration(model, [(images(160, 1), torch.zeros(160))], distillation=QUICK)
        made = prune(model, known, macs=0.6, recovery="distill")
        told = forecast(model, known, shares=(0.6,)).table
        found.append((made, divergence_of(made.model, model), known.judged, told))
    (one, left, judged, told), (two, other, others, as_told) = found
    assert one.report.channels == two.report.channels
    assert left == pytest.approx(other, rel=1e-3)
    assert list(judged.values()) == pytest.approx(list(others.values()), rel=1e-3)
    assert told["kl"].to_numpy() == pytest.approx(as_told["kl"].to_numpy(), rel=1e-3)
    assert told["agreement"].to_numpy() == pytest.approx(as_told["agreement"].to_numpy(), abs=0.01)


@torch.no_grad()
def divergence_of(model: nn.Module, other: nn.Module) -> float:
    """Of the classes that are not ruled out."""
    one, two = (m(images(200, 2))[:, :4].log_softmax(1) for m in (model, other))
    return float(functional.kl_div(one, two, reduction="batchmean", log_target=True))


@pytest.mark.parametrize("units", [True, False])
def test_precision_is_lower_where_the_device_has_units_for_it(
    units: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("empirical.pruning.distillation.has_bfloat16", lambda _: units)
    start, seen = dense(), set()
    start[0].register_forward_hook(lambda _layer, _inputs, output: seen.add(output.dtype))
    distill(start, dense(), *parts(64), replace(QUICK, epochs=1, precision="auto"))
    assert (torch.bfloat16 in seen) == units


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_only_weights_of_single_precision_are_lowered(
    kind: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a processor with units for bfloat16 half-precise norms do not go with it."""
    monkeypatch.setattr("empirical.pruning.distillation.has_bfloat16", lambda device: True)
    model, labels = dense().to(kind), torch.arange(20) % 5
    loader = [(images(20, seed).to(kind), labels) for seed in (1, 2)]
    known = Calibration(model, loader, distillation=Distillation(epochs=1, steps_at_least=2))
    options = {"criterion": "l2", "allocation": "uniform", "recovery": "distill"}
    made = prune(model, known, macs=0.7, **options).model
    assert all(p.dtype == kind and p.isfinite().all() for p in made.parameters())
    known.distillation = Distillation(precision="bfloat16")
    with pytest.raises(ValueError, match="precision='bfloat16' lowers weights of float32"):
        prune(model, known, macs=0.7, **options)
