"""The steps of a training: batches, updates, and what is kept on the way. `train` is the door."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from empirical.data.augmentation import EpochPlan
from empirical.data.images import ImageSet
from empirical.devices import fits_on
from empirical.models import ModelSpec
from empirical.seeding import seed_generators
from empirical.training import distributed
from empirical.training.checkpoints import CheckpointInfo, checkpoint_path, save_checkpoint
from empirical.training.pretrained import load_backbone
from empirical.training.recipes import Recipe
from empirical.training.schedules import SCHEDULES
from empirical.training.state import StoredState, TrainingState
from empirical.training.turning import filters_of, keep_directions
from theory.shared.store import Stage, content_hash

PROGRESS_STEPS = 10
"""Between two looks at the loss, which make the device wait."""

SAVE_SECONDS = 60.0
"""Longest time whose work a kill can cost."""


class TrainingDivergedError(ValueError):
    """The loss is no longer a finite number."""


@dataclass(frozen=True)
class TrainingProgress:
    """Where a training stands; `loss` and `accuracy` are means since the last report."""

    step: int
    total_steps: int
    epoch: float
    loss: float
    accuracy: float
    learning_rate: float


class TrainingLoop:
    """One training under way."""

    kept_steps: frozenset[int]
    on_checkpoint: Callable[[int, nn.Module], None] | None
    on_progress: Callable[[TrainingProgress], None] | None

    def __init__(
        self,
        model: nn.Module,
        image_set: ImageSet,
        recipe: Recipe,
        seed: int,
        spec: ModelSpec | None,
        device: torch.device,
        folder: str | Path | None,
        initial: Path | None = None,
    ) -> None:
        if recipe.batch_size > len(image_set):
            raise ValueError(
                f"batch_size must be <= the number of training images ({len(image_set)}); got "
                f"{recipe.batch_size}."
            )
        if initial is not None:
            load_backbone(model, initial)
        self.initial = None if initial is None else content_hash(initial)
        self.image_set, self.recipe, self.seed, self.spec = image_set, recipe, seed, spec
        self.device, self.folder = device, None if folder is None else Path(folder)
        self.steps_per_epoch = len(image_set) // recipe.batch_size
        self.total_steps = max(1, round(recipe.epochs * self.steps_per_epoch))
        layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.model = model.to(device, memory_format=layout)  # type: ignore[call-overload]
        self.optimizer = recipe.optimizer_for(model)
        self.held = [] if recipe.turning else filters_of(model)
        self.forward = distributed.parallel(self.model, device)
        if recipe.compile:
            self.forward = cast(nn.Module, torch.compile(self.forward))
        self.state = TrainingState()
        self.plan: tuple[int, EpochPlan] | None = None
        self.images, self.labels = image_set.images, image_set.labels
        if fits_on(device, image_set.images.nbytes):
            self.images, self.labels = self.images.to(device), self.labels.to(device)
        self.saved_at = time.monotonic()

    # --- resuming ------------------------------------------------------------------------------

    @property
    def settings(self) -> dict[str, Any]:
        """What must be equal for two trainings to be one."""
        return {
            "recipe": self.recipe.to_dict(),
            "seed": self.seed,
            "model": None if self.spec is None else vars(self.spec),
            "data": self.image_set.fingerprint,
            "steps": sorted(self.kept_steps),
            "processes": distributed.world_size(),
            "initial": self.initial,
        }

    @cached_property
    def stage(self) -> Stage:
        """What the training leaves in its folder: the history and a checkpoint per kept step."""
        folder = self.folder or Path()
        files = [checkpoint_path(folder, step) for step in sorted(self.kept_steps)]
        code = ("empirical.training.trainer", *(self.spec.own_code if self.spec else ()))
        return Stage((folder / "history.json", *files), self.settings, code)

    def start(self, stored: StoredState | None = None) -> None:
        """Continue from a stored state, or start by keeping step 0."""
        self.totals = torch.zeros(3, dtype=torch.float64, device=self.device)
        if stored is not None:
            self.state = stored.restore(self.model, self.optimizer, self.device)
            self.totals = self.state.totals
        elif 0 in self.kept_steps:
            self._keep(None)

    def loop(self) -> None:
        """Take every step that is left."""
        while self.state.step < self.total_steps:
            rate = self._step()
            step = self.state.step
            due = step in self.kept_steps
            if due or step % PROGRESS_STEPS == 0:
                self._report(rate)
            if due:
                self._keep(rate)
            elif time.monotonic() - self.saved_at > SAVE_SECONDS:
                self._save_state()

    # --- one step ------------------------------------------------------------------------------

    def _step(self) -> float:
        step = self.state.step
        images, labels = self._batch(step)
        rate = self.recipe.learning_rate * SCHEDULES[self.recipe.schedule](
            # The middle of the step: neither the first nor the last one has a rate of zero.
            (step + 0.5) / self.total_steps,
            self.recipe.warmup,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        seed_generators(self.device, _dropout_seed(self.seed, step, distributed.rank()))
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            logits = self._logits(images)
            loss = functional.cross_entropy(
                logits.float(), labels, label_smoothing=self.recipe.label_smoothing
            )
        # gradients are averaged over processes, and each counts as many images as it has
        share = len(labels) * distributed.world_size() / self.recipe.batch_size
        (loss * share).backward()
        keep_directions(self.held)
        self.optimizer.step()
        with torch.no_grad():
            correct = (logits.argmax(1) == labels).sum()
            self.totals += torch.stack(
                [loss.double() * len(labels), correct.double(), torch.full_like(loss, len(labels))]
            )
        self.state.step += 1
        return rate

    def _batch(self, step: int) -> tuple[Tensor, Tensor]:
        epoch, position = divmod(step, self.steps_per_epoch)
        if self.plan is None or self.plan[0] != epoch:
            drawn = EpochPlan.draw(
                len(self.image_set),
                padding=self.recipe.crop_padding,
                flip=self.recipe.flip,
                seed=self.seed,
                epoch=epoch,
                device=self.images.device,
            )
            self.plan = (epoch, drawn)
        start = position * self.recipe.batch_size
        images, chosen = self.plan[1].batch(
            self.images,
            start + distributed.rank(),
            start + self.recipe.batch_size,
            distributed.world_size(),
        )
        labels = self.labels[chosen].to(self.device, non_blocking=True)
        pixels = self.image_set.normalize(images.to(self.device, non_blocking=True))
        if self.recipe.channels_last:
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        return pixels, labels

    def _autocast(self) -> Any:
        if self.recipe.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def _logits(self, images: Tensor) -> Tensor:
        logits = self.forward(images)
        classes = self.image_set.classes
        if not isinstance(logits, Tensor):
            raise TypeError(
                f"model must return logits, one tensor of shape (n, {classes}); it returned "
                f"{type(logits).__name__}. Wrap it so that only the logits come back."
            )
        if logits.shape != (len(images), classes):
            raise ValueError(
                f"model must return logits of shape ({len(images)}, {classes}), one per class "
                f"of {self.image_set.name}; got {tuple(logits.shape)}. Build it with "
                f"classes={classes}."
            )
        return logits

    # --- what is kept --------------------------------------------------------------------------

    def _report(self, rate: float) -> None:
        loss, accuracy = self._means()
        step = self.state.step
        if not np.isfinite(loss):
            raise TrainingDivergedError(
                f"the loss is {loss} by step {step} of {self.total_steps} (learning rate "
                f"{rate:.3g}, seed {self.seed}). Lower learning_rate (now "
                f"{self.recipe.learning_rate}) or lengthen warmup (now {self.recipe.warmup})."
            )
        if self.on_progress is not None:
            epoch = step / self.steps_per_epoch
            self.on_progress(TrainingProgress(step, self.total_steps, epoch, loss, accuracy, rate))

    def _means(self) -> tuple[float, float]:
        loss, correct, n = (float(value) for value in distributed.summed(self.totals).tolist())
        return loss / n, correct / n

    def _keep(self, rate: float | None) -> None:
        """Record a row, write the checkpoint, then the state that points past both."""
        step = self.state.step
        row: dict[str, float] = {"step": step, "epoch": step / self.steps_per_epoch}
        if rate is not None:
            loss, accuracy = self._means()
            row |= {"loss": loss, "accuracy": accuracy, "learning_rate": rate}
            self.totals.zero_()
        self.state.history.append(row)
        self.model.eval()
        if self.folder is not None and distributed.rank() == 0:
            path = checkpoint_path(self.folder, step)
            save_checkpoint(path, self.model, self._info(step))
            self.state.checkpoints[path.name] = content_hash(path)
        if self.on_checkpoint is not None:
            self.on_checkpoint(step, self.model)
        self._save_state()

    def _info(self, step: int) -> CheckpointInfo:
        data = self.image_set
        return CheckpointInfo(
            step=step,
            epoch=step / self.steps_per_epoch,
            seed=self.seed,
            spec=self.spec,
            data=data.name,
            fingerprint=data.fingerprint,
            class_names=data.class_names,
            mean=data.mean,
            std=data.std,
            notes={"recipe": self.recipe.to_dict()},
        )

    def _save_state(self) -> None:
        self.saved_at = time.monotonic()
        if self.folder is not None and distributed.rank() == 0:
            self.state.totals = self.totals
            self.state.write(
                self.folder, self.model, self.optimizer, self.stage.inputs, self.stage.key
            )


def _dropout_seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> 1)
