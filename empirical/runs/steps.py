"""The stages of a run for each seed: train, measure, evaluate, gradients, lesions, pruning.

What is computed stands in the modules of the stages; here stands when, and what it is made from.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from empirical.data.images import ImageSet
from empirical.data.loading import load_data
from empirical.data.splits import DataSplit, split_data
from empirical.measuring.table import AxisTable
from empirical.models import ModelSpec
from empirical.models.probe import check_logits
from empirical.pruning.comparison import Factorial
from empirical.pruning.recovery import fine_tuning
from empirical.runs.config import DataConfig, RunConfig
from empirical.runs.lesion_stage import (
    LesionResult,
    lesion_channels,
    read_lesions,
    replace_channels,
)
from empirical.runs.map_stage import plan_removal, read_map
from empirical.runs.measuring_stage import (
    compare_gradients,
    evaluate_checkpoint,
    measure_checkpoint,
)
from empirical.runs.paths import RunPaths
from empirical.runs.pruning_stage import PruningResult, prune_network, read_pruning
from empirical.runs.robustness_stage import measure_variations
from empirical.runs.trained import Trained
from empirical.training import distributed, trainer
from empirical.training.loop import TrainingProgress
from empirical.training.schedules import checkpoint_steps
from theory.shared.code import fingerprint
from theory.shared.store import Stage, content_hash

Report = Callable[[str, float], None]
"""Called with what is being done, and the share of the whole that is behind."""

TRAINING_SHARE = 0.85
"""Of the time of one seed, for the progress bar alone."""

SCALAR_TARGETS = ("logit_margin", "true_logit")
"""Targets with a gradient direction of their own; a label has one per class."""


def read_images(
    data: DataConfig, download: bool, cache: str | os.PathLike[str] | None
) -> DataSplit:
    """Return the images of a run by their use."""
    pair = load_data(
        data.source,
        root=data.root,
        image_size=data.image_size,
        download=download,
        seed=data.seed,
        cache=cache,
    )
    return split_data(*pair, calibration=data.calibration, selection=data.selection, seed=data.seed)


class RunStages(RunPaths):
    """The stages of one run under way, each kept in the store."""

    def __init__(
        self,
        config: RunConfig,
        out: Path,
        device: torch.device,
        download: bool,
        cache: str | os.PathLike[str] | None,
        progress: Report,
        split: DataSplit | None = None,
    ) -> None:
        super().__init__(out)
        self.config, self.device, self.progress = config, device, progress
        self.started = time.time()
        progress("reading images", 0.0)
        self.split = read_images(config.data, download, cache) if split is None else split
        fit = self.split.fit
        self.spec = ModelSpec(
            config.model.name, fit.classes, fit.image_size, fit.channels, config.model.width
        )
        per_epoch = max(1, len(fit) // config.training.batch_size)
        self.steps = checkpoint_steps(
            max(1, round(config.training.epochs * per_epoch)),
            log_spaced=config.measure.checkpoints,
            steps_per_epoch=per_epoch if config.measure.epochs else None,
        )
        # Now, since a source that is edited during a run of hours is not the code of that run.
        for function in (
            measure_checkpoint, measure_variations, lesion_channels, prune_network, plan_removal
        ):  # fmt: skip
            fingerprint(*self._code(function))

    def all_seeds(self) -> None:
        """Train every network and measure it at every checkpoint, where that is not done."""
        for index, seed in enumerate(self.config.seeds):
            self.train(index, seed)
            for number, step in enumerate(self.steps):
                share = TRAINING_SHARE + (1 - TRAINING_SHARE) * number / len(self.steps)
                self._say(index, seed, f"measuring, step {step}", share)
                # Under torchrun each process measures its share of the checkpoints.
                if number % distributed.world_size() == distributed.rank():
                    self.measure(seed, step)
                    self.evaluate(seed, step)
                    if step in (self.steps[0], self.steps[-1]):
                        self.gradients(seed, step)
                    if step == self.steps[-1]:
                        self.robustness(seed)
            distributed.barrier()

    def _say(self, index: int, seed: int, what: str, share: float) -> None:
        self.progress(f"seed {seed}: {what}", (index + share) / len(self.config.seeds))

    def _code(self, function: Callable[..., None]) -> tuple[str, ...]:
        return (function.__module__, *self.spec.own_code)

    def _ensure(
        self, artifacts: tuple[Path, ...], inputs: Mapping[str, Any], make: partial[None]
    ) -> None:
        """Have `make` write the artifacts, unless its code made them from these inputs."""
        Stage(artifacts, inputs, self._code(make.func)).ensure(make)

    # --- stages --------------------------------------------------------------------------------

    def train(self, index: int, seed: int) -> None:
        """Train the network of `seed`, or continue where its training stopped."""
        model = self.spec.build(seed).to(self.device)
        check_logits(model, self.split.fit)

        def on_progress(now: TrainingProgress) -> None:
            what = f"training, epoch {now.epoch:.1f}, loss {now.loss:.2f}, {now.accuracy:.0%}"
            self._say(index, seed, what, TRAINING_SHARE * now.step / now.total_steps)

        self._say(index, seed, "training", 0.0)
        trainer.train(
            model,
            self.split.fit,
            recipe=self.config.training,
            seed=seed,
            folder=self.folder(seed) / "train",
            spec=self.spec,
            steps=self.steps,
            initial=self.config.model.init_from or None,
            device=self.device,
            on_progress=on_progress,
        )

    def measure(self, seed: int, step: int) -> None:
        """Measure both axes at a checkpoint, on the calibration images."""
        checkpoint, artifact = self.checkpoint(seed, step), self.table_path(seed, step)
        options = {**self.config.measure.options(), "seed": seed}
        self._ensure(
            (artifact,),
            self._measured(checkpoint, options),
            partial(measure_checkpoint, artifact, self._trained(checkpoint), options),
        )

    def evaluate(self, seed: int, step: int) -> None:
        """Evaluate a checkpoint on the report images."""
        checkpoint, artifact = self.checkpoint(seed, step), self.accuracy_path(seed, step)
        report = self.split.report
        self._ensure(
            (artifact,),
            {"checkpoint": content_hash(checkpoint), "images": report.fingerprint},
            partial(evaluate_checkpoint, artifact, self._trained(checkpoint, report)),
        )

    def gradients(self, seed: int, step: int) -> None:
        """Measure the angle between the axes' gradients at a checkpoint."""
        if self.config.measure.target not in SCALAR_TARGETS:
            return
        checkpoint, artifact = self.checkpoint(seed, step), self.gradients_path(seed, step)
        names = ("target", "positions", "groups")
        options = {name: getattr(self.config.measure, name) for name in names} | {"seed": seed}
        self._ensure(
            (artifact,),
            self._measured(checkpoint, options),
            partial(compare_gradients, artifact, self._trained(checkpoint), options),
        )

    def robustness(self, seed: int) -> None:
        """Measure the trained network again, one choice of the measurement changed at a time."""
        checkpoint, folder = self.checkpoint(seed, self.steps[-1]), self.robustness_folder(seed)
        options = {**self.config.measure.options(), "seed": seed}
        artifacts = (folder / "variations.csv", folder / "sample_counts.csv")
        self._ensure(
            artifacts,
            self._measured(checkpoint, options),
            partial(measure_variations, artifacts, self._trained(checkpoint), options),
        )

    def _measured(self, checkpoint: Path, options: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "checkpoint": content_hash(checkpoint),
            "images": self.split.calibration.fingerprint,
            "options": options,
        }

    def _trained(self, checkpoint: Path, images: ImageSet | None = None) -> Trained:
        """Return a checkpoint with the images to read: those of calibration by default."""
        read = self.split.calibration if images is None else images
        return Trained(checkpoint, read, self.spec, self.device, self.config.measure.batch_size)

    def channel_map(self) -> tuple[AxisTable, dict[str, Any] | None]:
        """Measure the first network's last step with hulls and damages, and plan removal."""
        seed = self.config.seeds[0]
        checkpoint, folder = self.checkpoint(seed, self.steps[-1]), self.folder(seed) / "map"
        measured = self.config.measure.options()
        damage = measured["sampling"] == "positions"
        options = {**measured, "seed": seed, "hull": True, "damage": damage}
        if distributed.rank() == 0:
            self.progress(f"seed {seed}: map of channels", 1.0)
            network = self._trained(checkpoint)
            table, plan = folder / "axes.npz", folder / "plan.json"
            inputs = self._measured(checkpoint, options)
            self._ensure((table,), inputs, partial(measure_checkpoint, table, network, options))
            given = {"seed": seed}
            inputs = self._measured(checkpoint, given)
            self._ensure((plan,), inputs, partial(plan_removal, plan, network, given))
        distributed.barrier()
        return read_map(folder)

    def lesions(self) -> list[LesionResult]:
        """Lesion and replace every channel of the trained networks."""
        for seed in self._own_seeds():
            self.progress(f"seed {seed}: lesions", 1.0)
            self.lesion(seed)
        distributed.barrier()
        return [read_lesions(self.folder(seed) / "lesions") for seed in self.config.seeds]

    def lesion(self, seed: int) -> None:
        """Lesion and replace every channel of one trained network."""
        last, options, images = self.steps[-1], self.config.lesion, self.split.report
        checkpoint, axes = self.checkpoint(seed, last), self.table_path(seed, last)
        given = {"number": options.images, "channels": options.channels, "seed": seed}
        network = self._trained(checkpoint, images)
        inputs = {
            **given,
            "checkpoint": content_hash(checkpoint),
            "axes": content_hash(axes),
            "images": images.fingerprint,
        }
        folder = self.folder(seed) / "lesions"
        lesioned = folder / "lesions.csv"
        self._ensure(
            (lesioned,), inputs, partial(lesion_channels, lesioned, network, axes, **given)
        )
        replaced, draws = folder / "replacements.csv", options.random_draws
        self._ensure(
            (replaced,),
            inputs | {"draws": draws},
            partial(replace_channels, replaced, network, axes, draws=draws, **given),
        )

    def pruning(self) -> PruningResult:
        """Prune the trained networks by every criterion, allocation, recovery and share."""
        for seed in self._own_seeds():
            self.prune(seed)
        distributed.barrier()
        return read_pruning([self.folder(seed) / "pruning" for seed in self.config.seeds])

    def prune(self, seed: int, into: str = "pruning") -> None:
        """Prune one trained network by every criterion, allocation, recovery and share."""
        options, split, seeds = self.config.pruning, self.split, self.config.seeds
        checkpoint, folder = self.checkpoint(seed, self.steps[-1]), self.folder(seed) / into
        target = self.config.measure.target
        recipe = fine_tuning(self.config.training, options.epochs)
        inputs = {
            "checkpoint": content_hash(checkpoint),
            "images": [part.fingerprint for part in (split.fit, split.calibration, split.report)],
            "options": [options.images, options.report, options.batch_size],
            "target": target,
            "recipe": recipe.to_dict(),
        }

        def progress(done: int, cells: int) -> None:
            share = (seeds.index(seed) + done / cells) / len(seeds)
            self.progress(f"seed {seed}: pruning, {done} of {cells}", share)

        artifacts = (folder / "cells.csv", folder / "scores.npz")
        self._ensure(
            artifacts,
            {**inputs, "seed": seed, "factorial": Factorial(**options.factors()).made_from()},
            partial(
                prune_network,
                artifacts,
                checkpoint,
                split,
                config=options,
                target=target,
                recipe=recipe,
                spec=self.spec,
                seed=seed,
                device=self.device,
                inputs=inputs,
                progress=progress,
            ),
        )

    def _own_seeds(self) -> tuple[int, ...]:
        """Those of this process: under torchrun the networks are shared out."""
        return self.config.seeds[distributed.rank() :: distributed.world_size()]
