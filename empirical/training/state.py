"""What a training needs to continue: weights, optimizer state, step and running totals."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from empirical.training.checkpoints import read_tensors, write_tensors


@dataclass
class TrainingState:
    """Position of a training, apart from weights and optimizer, which live in torch's objects."""

    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    totals: Tensor = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))

    @staticmethod
    def path(folder: str | os.PathLike[str]) -> Path:
        """Return where the state lies in a training folder."""
        return Path(folder) / "state.safetensors"

    def write(
        self,
        folder: Path,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        settings: dict[str, Any],
    ) -> None:
        """Write the state atomically, in one file."""
        tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
        for index, values in optimizer.state_dict()["state"].items():
            for key, value in values.items():
                if value is not None:
                    tensors[f"optimizer.{index}.{key}"] = torch.as_tensor(value)
        tensors["totals"] = self.totals
        header = {"state": {"step": self.step, "history": self.history, "settings": settings}}
        write_tensors(self.path(folder), tensors, header)

    @classmethod
    def read(
        cls, folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer
    ) -> tuple[TrainingState, dict[str, Any]]:
        """Load weights and optimizer in place; return the state and the settings it belongs to."""
        tensors, header = read_tensors(cls.path(folder))
        content = header["state"]
        weights = {
            name.removeprefix("model."): value
            for name, value in tensors.items()
            if name.startswith("model.")
        }
        expected = {name: value.shape for name, value in model.state_dict().items()}
        if expected != {name: value.shape for name, value in weights.items()}:
            raise ValueError(
                f"folder {str(folder)!r} holds a training of another architecture than "
                f"{type(model).__name__}. Choose another folder, or delete this one."
            )
        model.load_state_dict(weights)
        _load_optimizer(optimizer, tensors)
        state = cls(content["step"], content["history"], tensors["totals"])
        return state, content["settings"]


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    loaded: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            loaded.setdefault(int(index), {})[key] = value
    # Layouts differ after loading (a contiguous momentum beside channels-last weights): the
    # optimizer's own loader puts every value into the form of its parameter.
    optimizer.load_state_dict(
        {"state": loaded, "param_groups": optimizer.state_dict()["param_groups"]}
    )


def same_settings(folder: Path, stored: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Say which settings of the training in `folder` differ from the wanted ones, if any does."""
    flat_stored, flat_wanted = _flat(stored), _flat(wanted)
    keys = sorted(flat_stored.keys() | flat_wanted.keys())
    differing = [
        f"{key} {flat_stored.get(key)!r} there, {flat_wanted.get(key)!r} here"
        for key in keys
        if flat_stored.get(key) != flat_wanted.get(key)
    ]
    if differing:
        raise ValueError(
            f"folder {str(folder)!r} holds a training with other settings: "
            f"{'; '.join(differing[:4])}. Choose another folder, or delete this one."
        )


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
