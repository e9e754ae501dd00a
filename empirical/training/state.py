"""What a training needs to continue: weights, optimizer state, step and running totals."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import TypedDict  # pydantic needs it below Python 3.12

from empirical.training.checkpoints import from_header, read_tensors, tensor_hash, write_tensors


@dataclass
class TrainingState:
    """Position of a training, apart from weights and optimizer, which live in torch's objects.

    `checkpoints` maps the name of each checkpoint that was written to the hash of its content.
    """

    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    totals: Tensor = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))
    checkpoints: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def path(folder: str | os.PathLike[str]) -> Path:
        """Return where the state lies in a training folder."""
        return Path(folder) / "state.safetensors"

    def write(
        self,
        folder: Path,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        settings: Mapping[str, Any],
        key: str,
    ) -> None:
        """Write the state atomically, in one file; `key` says which training it belongs to."""
        tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
        for index, values in optimizer.state_dict()["state"].items():
            for name, value in values.items():
                if value is not None:
                    tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value)
        tensors["totals"] = self.totals
        content = {
            "step": self.step,
            "history": self.history,
            "checkpoints": self.checkpoints,
            "settings": settings,
            "key": key,
        }
        header = {"state": content, "digest": tensor_hash(tensors)}
        write_tensors(self.path(folder), tensors, header)


class _Content(TypedDict):
    """What the header of a state holds."""

    step: int
    history: list[dict[str, Any]]
    checkpoints: dict[str, str]
    settings: dict[str, Any]
    key: str


@dataclass(frozen=True)
class StoredState:
    """A state as it lies on disk, checked: nothing is loaded into a network yet."""

    content: _Content
    tensors: Mapping[str, Tensor]

    @classmethod
    def read(cls, folder: Path) -> StoredState:
        """Read the state of a training folder.

        Raises
        ------
        ValueError
            The file is truncated, damaged or malformed, or names files outside the folder.
        """
        tensors, header = read_tensors(TrainingState.path(folder))
        if header.get("digest") != tensor_hash(tensors) or "totals" not in tensors:
            raise ValueError(f"{TrainingState.path(folder)} is damaged.")
        content = from_header(_Content, header.get("state"), TrainingState.path(folder))
        if any(Path(name).name != name for name in content["checkpoints"]):
            raise ValueError(f"{TrainingState.path(folder)} names checkpoints of other folders.")
        return cls(content, tensors)

    def restore(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device
    ) -> TrainingState:
        """Load weights and optimizer in place; return the position."""
        weights = {
            name.removeprefix("model."): value
            for name, value in self.tensors.items()
            if name.startswith("model.")
        }
        expected = {name: value.shape for name, value in model.state_dict().items()}
        if expected != {name: value.shape for name, value in weights.items()}:
            raise ValueError(
                f"folder holds a training of another architecture than {type(model).__name__}. "
                "Choose another folder, or delete this one."
            )
        model.load_state_dict(weights)
        loaded: dict[int, dict[str, Tensor]] = {}
        for name, value in self.tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".", 2)
                loaded.setdefault(int(index), {})[key] = value
        # Layouts differ after loading (a contiguous momentum beside channels-last weights): the
        # optimizer's own loader puts every value into the form of its parameter.
        optimizer.load_state_dict(
            {"state": loaded, "param_groups": optimizer.state_dict()["param_groups"]}
        )
        content = self.content
        totals = self.tensors["totals"].to(device)
        return TrainingState(content["step"], content["history"], totals, content["checkpoints"])
