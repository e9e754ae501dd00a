"""What `prune` and `forecast` take where nothing is said."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from empirical import Calibration, forecast, prune
from empirical.pruning.best_practice import BY_DAMAGE, best_allocation, best_criterion
from empirical.pruning.choosing import Request
from empirical.pruning.forecast_law import Answers
from empirical.pruning.recovering import apply
from tests.empirical.pruning_networks import batches, plain
from tests.empirical.test_measured_damage import pooled


class Frozen(nn.Module):
    """A network that keeps its own gradients to itself."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.inner(x)


def net(outputs: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 1), nn.ReLU(), nn.Flatten(),
        nn.Linear(24, outputs),
    )  # fmt: skip


def loader() -> list[tuple[Tensor, Tensor]]:
    images = torch.randn(80, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return [(images, torch.arange(80) % 3)]


TOLD, UNTOLD = ("task_replaceability", "damage"), ("replaceability", "global")


@pytest.mark.parametrize(
    ("model", "taken"),
    [
        (net(3), TOLD),
        (net(1), UNTOLD),
        (Frozen(net(3)), UNTOLD),
        (net(3).requires_grad_(False), TOLD),
        (nn.Sequential(*net(3)[:-2]), UNTOLD),
    ],
    ids=["logits", "one output", "no gradient", "frozen parameters", "maps"],
)
def test_the_default_weighs_what_the_prediction_minds_where_there_is_one(
    model: nn.Module, taken: tuple[str, str]
) -> None:
    made = prune(model, loader(), macs=0.6)
    assert (made.report.criterion, made.report.allocation) == taken
    asked = prune(model, loader(), macs=0.6, criterion=taken[0], allocation=taken[1])
    assert made.report.channels == asked.report.channels


@pytest.mark.parametrize("call", [prune, forecast])
def test_other_criteria_are_uniform_and_what_is_said_holds(call: Callable[..., object]) -> None:
    known = Calibration(net(3), loader())
    assert (best_criterion(known, "l2"), best_allocation(known, "l2")) == ("l2", "uniform")
    said = call(net(3), loader(), allocation="global")
    assert getattr(said, "report", said).allocation == "global"  # type: ignore[attr-defined]
    found = call(net(3), loader(), criterion="l2")
    assert getattr(found, "report", found).allocation == "uniform"  # type: ignore[attr-defined]


def test_forecast_and_prune_take_the_same() -> None:
    told = forecast(net(3), loader(), shares=(0.6,), measured=())
    assert (told.criterion, told.allocation) == TOLD


def test_images_that_were_held_out_decide_between_the_allocations_by_damage() -> None:
    """Where the first layer's curve is sixteen times too low; by hand: cut to half, compensated."""
    known, _ = pooled()
    fitted, held = known.held_out()
    dense = Answers.of(known.model, held)
    left = {}
    for allocation in BY_DAMAGE:
        kept = Request(0.5, "task_replaceability", allocation).kept(known)
        left[allocation] = dense.distance(Answers.of(apply(fitted, kept, "compensate"), held))
    assert left["measured_damage"] < left["damage"]
    assert best_allocation(known, "task_replaceability", "compensate") == "measured_damage"
    made = prune(known.model, known, macs=0.5, recovery="compensate")
    assert made.report.allocation == "measured_damage"


def test_where_both_leave_the_same_nothing_need_be_measured() -> None:
    known = Calibration(plain((3, 12, 16)), batches(3, 6, count=4))
    one, two = (Request(0.5, "task_replaceability", a).counted(known) for a in BY_DAMAGE)
    assert (one == two).all()
    assert best_allocation(known, "task_replaceability", "compensate") == "damage"


def test_too_few_images_to_hold_any_out_and_counts_that_are_given_decide_nothing() -> None:
    few = [(loader()[0][0][:4], torch.arange(4) % 3)]
    known = Calibration(net(3), few)
    assert best_allocation(known, "task_replaceability") == "damage"
    known = Calibration(net(3), loader())
    prune(known.model, known, counts={"0": 4}, recovery="none")
    assert not known.judged


@pytest.mark.parametrize("each", [1, 2])
def test_images_that_do_not_serve_a_form_leave_the_choice_to_the_others(each: int) -> None:
    """Small batches: without every fifth image norms get one value a channel in some of them."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 10), nn.BatchNorm1d(10), nn.ReLU(), nn.Linear(10, 10), nn.BatchNorm1d(10),
        nn.ReLU(), nn.Linear(10, 3),
    ).eval()  # fmt: skip
    x = torch.randn(60, 6, generator=torch.Generator().manual_seed(1))
    some = [(x[i : i + each], torch.arange(i, i + each) % 3) for i in range(0, 60, each)]
    assert prune(model, some, recovery="none").report.allocation == "damage"
    assert prune(model, some).report.recovery == "reconstruct"
