"""Our criteria where torch-pruning asks for an importance."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from empirical.pruning.best_practice import best_criterion
from empirical.pruning.calibration import Calibration, calibrated
from empirical.pruning.criteria import comparable
from empirical.pruning.criterion import Score
from empirical.pruning.recovery import AUTO
from empirical.seeding import checked_seed


class Importance:
    """A criterion of `prune` as an `importance` of torch-pruning's pruners.

    It scores whole groups: one value for each channel of a group's root, the same for channels that
    we take as one unit; None, which leaves the group as it is, where the channels cannot go by our
    trace. Scores compare between groups as under our *global* allocation (`global_pruning=True`).
    They are those of the network as it was calibrated, so that pruners take one step
    (`iterative_steps=1`).

    Parameters
    ----------
    model, loader, criterion, seed : as of `prune`

    Raises
    ------
    ValueError
        when called: a layer that is not of `model`, or no longer has its channels

    >>> import torch_pruning
    >>> model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2))
    >>> images = torch.randn(40, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    >>> importance = Importance(model, [(images, torch.arange(40) % 2)])
    >>> torch_pruning.pruner.BasePruner(
    ...     model, images[:1], importance, pruning_ratio=0.5, ignored_layers=[model[3]]
    ... ).step()
    >>> model[0].out_channels
    4
    """

    def __init__(
        self,
        model: nn.Module,
        loader: Iterable[object] | Calibration,
        criterion: str | Score = AUTO,
        *,
        seed: int = 0,
    ) -> None:
        checked_seed("seed", seed)
        known = calibrated(model, loader)
        self.criterion = best_criterion(known, criterion)
        found = comparable(self.criterion, known.scores(self.criterion, seed=seed))
        self._names = {module: name for name, module in known.model.named_modules()}
        self._scores: dict[str, NDArray[np.float64]] = {}
        for group in known.graph.groups:
            for member in group.members:
                if member.role == "in":
                    continue
                scores = np.zeros(member.index.size)
                scores[member.index] = found[group.name][:, None]
                self._scores[member.module] = scores

    def __call__(self, group: Any) -> Tensor | None:
        """Scores (channels,) of a group of torch-pruning's, by its root."""
        root, channels = group[0].dep.target.module, group[0].idxs
        if root not in self._names:
            raise ValueError(
                f"group has a layer as its root, {root}, that is not of the calibrated model. "
                "Prune the model that the importance was made for."
            )
        name = self._names[root]
        if name not in self._scores:
            return None
        scores = self._scores[name]
        if len(scores) != root.weight.shape[1 if getattr(root, "transposed", False) else 0]:
            raise ValueError(
                f"layer {name!r} no longer has the {len(scores)} channels that it was scored with. "
                "Prune in one step (iterative_steps=1), or make a new importance."
            )
        return torch.from_numpy(scores[list(channels)])
