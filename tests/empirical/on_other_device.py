"""Pruning with model and images on another device, in a process of its own; prints what differs."""

from __future__ import annotations

import copy
import json
import sys
import warnings
from itertools import chain

import numpy as np
import torch
from torch import Tensor, nn

from empirical import forecast, image_loader, load_data, prune
from empirical.data.splits import stratified_subset
from empirical.pruning.calibration import Calibration
from empirical.pruning.criterion import REGISTRY
from empirical.pruning.distillation import Distillation
from empirical.pruning.recovery import RECOVERIES
from empirical.training.recipes import Recipe
from tests.other_device import Away, other_device


class Small(nn.Module):
    """A residual stream around a depthwise convolution, and a strided one behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.branch = nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU6(),
            nn.Conv2d(8, 8, 1),
        )  # fmt: skip
        self.down, self.last = nn.Conv2d(8, 12, 3, stride=2, padding=1), nn.BatchNorm2d(12)
        self.fc = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(self.last(self.down(x + self.branch(x))))
        return self.fc(x.mean((2, 3)))


def refused(device: torch.device) -> bool:
    """Whether the device notices what CUDA would."""
    there = torch.ones(3, device=device)
    tries = (
        lambda: there + torch.ones(3),
        there.numpy,
        lambda: np.asarray(there),
        lambda: torch.ones(3)[torch.tensor([0], device=device)],
        lambda: there.index_select(0, torch.tensor([0])),
        lambda: torch.ones(()).add_(there.sum()),
    )
    for attempt in tries:
        try:
            attempt()
        except (RuntimeError, TypeError):
            continue
        return False
    return float((there * torch.tensor(2.0))[torch.tensor([1])]) == 2.0


def main(criteria: list[str], recoveries: tuple[str, ...]) -> None:
    """All `recoveries` under one criterion, `criteria` under one recovery, and a forecast."""
    train, _ = load_data("digits")
    images = stratified_subset(train, 200, 0)
    loader = image_loader(images, batch_size=100)
    torch.manual_seed(0)
    model = Small().train()
    for batch, _ in loader:
        model(batch)
    model.eval()
    settings = {
        "distillation": Distillation(epochs=1, steps_at_least=3, mixing=0.5, averaging=1.0),
        "training": images, "recipe": Recipe(epochs=1, batch_size=100), "gradient_images": 50,
    }  # fmt: skip
    here = Calibration(copy.deepcopy(model), loader, **settings)
    shown = next(iter(loader))[0]
    wrong = []
    with other_device() as device:
        if not refused(device):
            wrong.append("the device lets CPU tensors in")
        there = Calibration(copy.deepcopy(model).to(device), loader, **settings)
        cases = chain(
            (("task_replaceability", "damage", r) for r in recoveries),
            ((c, "uniform", "recalibrate") for c in criteria),
        )
        for criterion, allocation, recovery in cases:
            found = []
            for known in (here, there):
                made = prune(
                    known.model, known, macs=0.6, criterion=criterion, allocation=allocation,
                    recovery=recovery,
                )  # fmt: skip
                with torch.no_grad():
                    found.append(made.model(shown.to(known.device)))
            if not isinstance(found[1], Away):
                wrong.append(f"{criterion}, {recovery}: not on the device")
            elif not torch.allclose(found[0], found[1].cpu(), rtol=1e-3, atol=1e-3):
                wrong.append(f"{criterion}, {recovery}: another network")
        made = prune(there.model, there, macs=0.6)
        if not len(made.removed()) or not np.isfinite(made.layers()["realized"]).any():
            wrong.append("what went is not said")
        told = [forecast(known.model, known, shares=(0.7, 0.5)).table for known in (here, there)]
        if not np.allclose(told[0], told[1], rtol=1e-3, atol=1e-3):
            wrong.append("another forecast")
    print(json.dumps({"criteria": len(criteria), "wrong": wrong}))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if "all" in sys.argv:
        main(list(REGISTRY), ("auto", *RECOVERIES))
    else:
        main(sys.argv[1:], ("compensate", "distill", "fold", "finetune"))
