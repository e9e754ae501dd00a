"""What `prune` and `forecast` take where nothing is said."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from empirical import Calibration, forecast, prune
from empirical.pruning.choosing import best_practice


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
    assert best_practice(known, "l2") == ("l2", "uniform")
    assert best_practice(known, "task_replaceability", "uniform")[1] == "uniform"
    assert best_practice(known, allocation="global") == ("task_replaceability", "global")
    found = call(net(3), loader(), criterion="l2")
    assert getattr(found, "report", found).allocation == "uniform"  # type: ignore[attr-defined]


def test_forecast_and_prune_take_the_same() -> None:
    told = forecast(net(3), loader(), shares=(0.6,), measured=())
    assert (told.criterion, told.allocation) == TOLD
