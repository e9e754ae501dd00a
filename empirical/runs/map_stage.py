"""What a run maps: every channel of the first network at its last step, and what could go.

This module and what it imports are the code that their keys in the store hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from empirical.measuring.table import AxisTable
from empirical.pruning.calibration import Calibration
from empirical.pruning.what_if import removal_plan
from empirical.report.plan import plan_payload
from empirical.runs.trained import Trained
from theory.shared.files import write_json
from theory.shared.foreign import parse_json

REFUSED = "refused"


def plan_removal(artifact: Path, network: Trained, options: Mapping[str, Any]) -> None:
    """Write order and price of removal, or why there is none; `options` are of `Calibration`."""

    def planned(
        model: nn.Module, loader: Iterable[object], *, device: torch.device
    ) -> dict[str, Any]:
        try:
            return plan_payload(removal_plan(Calibration(model, loader, device=device, **options)))
        except ValueError as reason:  # a network whose channels cannot be followed
            return {REFUSED: str(reason)}

    write_json(artifact, network.compute(planned))


def read_map(folder: Path) -> tuple[AxisTable, dict[str, Any] | None]:
    """Return the table and the plan of a folder; None in the place of a plan that was refused."""
    path = folder / "plan.json"
    plan = parse_json(path.read_bytes(), f"{path} (remove it, to have it made again)")
    return AxisTable.load(folder / "axes.npz"), None if REFUSED in plan else plan
