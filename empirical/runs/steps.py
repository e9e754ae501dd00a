"""The stages of a run for each seed: train, measure, evaluate, gradients, lesions, pruning."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
import torch

from empirical.analysis import robustness
from empirical.data.images import image_loader
from empirical.data.loading import load_data
from empirical.data.splits import DataSplit, split_data
from empirical.devices import halving_batches
from empirical.measuring import gradients, measurement
from empirical.measuring.table import AxisTable
from empirical.models import ModelSpec
from empirical.models.probe import check_logits
from empirical.report.page import write_table
from empirical.runs.config import RunConfig
from empirical.runs.lesion_stage import LesionResult, read_lesions, run_lesions
from empirical.runs.pruning_stage import PruningResult, read_pruning, run_pruning
from empirical.training import distributed, evaluation, trainer
from empirical.training.checkpoints import load_model, read_info
from empirical.training.loop import TrainingProgress
from empirical.training.schedules import checkpoint_steps
from theory.shared.files import write_json
from theory.shared.store import file_hash, stage

Report = Callable[[str, float], None]
"""Called with what is being done, and the share of the whole that is behind."""

TRAINING_SHARE = 0.85
"""Of the time of one seed, for the progress bar alone."""

SCALAR_TARGETS = ("logit_margin", "true_logit")
"""Targets with a gradient direction of their own; a label has one per class."""


class RunStages:
    """The stages of one run under way, each kept beside the hash of its inputs."""

    def __init__(
        self,
        config: RunConfig,
        out: Path,
        device: torch.device,
        download: bool,
        cache: str | os.PathLike[str] | None,
        progress: Report,
    ) -> None:
        self.config, self.out, self.device, self.progress = config, out, device, progress
        self.started = time.time()
        progress("reading images", 0.0)
        data = config.data
        pair = load_data(
            data.source,
            root=data.root,
            image_size=data.image_size,
            download=download,
            seed=data.seed,
            cache=cache,
        )
        self.split: DataSplit = split_data(
            *pair, calibration=data.calibration, selection=data.selection, seed=data.seed
        )
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

    # --- stages --------------------------------------------------------------------------------

    def train(self, index: int, seed: int) -> None:
        """Train the network of `seed`, or continue where its training stopped."""
        folder = self.folder(seed) / "train"
        model = self.spec.build(seed).to(self.device)
        check_logits(model, self.split.fit)

        def on_progress(now: TrainingProgress) -> None:
            what = f"training, epoch {now.epoch:.1f}, loss {now.loss:.2f}, {now.accuracy:.0%}"
            self._say(index, seed, what, TRAINING_SHARE * now.step / now.total_steps)

        self._say(index, seed, "training", 0.0)
        result = trainer.train(
            model,
            self.split.fit,
            recipe=self.config.training,
            seed=seed,
            folder=folder,
            spec=self.spec,
            steps=self.steps,
            device=self.device,
            on_progress=on_progress,
        )
        if distributed.rank() == 0:
            write_json(folder / "history.json", list(result.history))

    def measure(self, seed: int, step: int) -> None:
        """Measure both axes at a checkpoint, on the calibration images."""
        checkpoint, options = self.checkpoint(seed, step), self.config.measure
        artifact = self.table_path(seed, step)
        inputs = {
            "checkpoint": file_hash(checkpoint),
            "images": self.split.calibration.fingerprint,
            "options": options.options(),
        }

        def make() -> None:
            model, _ = load_model(checkpoint)
            table = halving_batches(
                lambda size: measurement.measure(
                    model,
                    image_loader(self.split.calibration, batch_size=size),
                    device=self.device,
                    seed=seed,
                    **options.options(),
                ),
                options.batch_size,
            )
            table.save(artifact)

        stage(artifact, inputs, make)

    def evaluate(self, seed: int, step: int) -> None:
        """Evaluate a checkpoint on the report images."""
        checkpoint, artifact = self.checkpoint(seed, step), self.accuracy_path(seed, step)
        inputs = {"checkpoint": file_hash(checkpoint), "images": self.split.report.fingerprint}

        def make() -> None:
            model, _ = load_model(checkpoint)
            found = halving_batches(
                lambda size: evaluation.evaluate(
                    model, image_loader(self.split.report, batch_size=size), device=self.device
                ),
                self.config.measure.batch_size,
            )
            epoch = read_info(checkpoint).epoch
            write_json(artifact, {"seed": seed, "step": step, "epoch": epoch, **vars(found)})

        stage(artifact, inputs, make)

    def gradients(self, seed: int, step: int) -> None:
        """Measure the angle between the axes' gradients at a checkpoint."""
        checkpoint, options = self.checkpoint(seed, step), self.config.measure
        artifact = self.gradients_path(seed, step)
        inputs = {
            "checkpoint": file_hash(checkpoint),
            "images": self.split.calibration.fingerprint,
            "target": options.target,
            "positions": options.positions,
            "groups": options.groups,
        }

        def make() -> None:
            model, _ = load_model(checkpoint)
            found = halving_batches(
                lambda size: gradients.gradient_cosines(
                    model,
                    image_loader(self.split.calibration, batch_size=size),
                    target=options.target,
                    positions=options.positions,
                    groups=options.groups,
                    seed=seed,
                    device=self.device,
                ),
                options.batch_size,
            )
            write_table(artifact, found.by_layer())

        if options.target in SCALAR_TARGETS:
            stage(artifact, inputs, make)

    def robustness(self, seed: int) -> None:
        """Measure the trained network again, one choice of the measurement changed at a time."""
        checkpoint = self.checkpoint(seed, self.steps[-1])
        options = self.config.measure
        settings = {**options.options(), **robustness.FAST, "seed": seed, "device": self.device}
        inputs = {
            "checkpoint": file_hash(checkpoint),
            "images": self.split.calibration.fingerprint,
            "options": options.options(),
            "variations": dict(robustness.VARIATIONS),
            "estimators": robustness.ESTIMATORS,
        }
        folder = self.robustness_folder(seed)

        def make() -> None:
            model, _ = load_model(checkpoint)
            loader = image_loader(self.split.calibration, batch_size=options.batch_size)
            base = measurement.measure(model, loader, **settings)
            variations = robustness.coupling_robustness(model, loader, base, **settings)
            estimators = robustness.estimator_robustness(
                model, loader, base, target=options.target, seed=seed, device=self.device
            )
            variations = pd.concat([variations, estimators], ignore_index=True)
            write_table(folder / "variations.csv", variations)
            write_table(folder / "sample_counts.csv", robustness.sample_count_robustness(base))

        stage(folder / "sample_counts.csv", inputs, make)

    def lesions(self, tables: Mapping[tuple[int, int], AxisTable]) -> list[LesionResult]:
        """Lesion and replace every channel of the trained networks."""
        last = self.steps[-1]
        for number, seed in enumerate(self.config.seeds):
            if number % distributed.world_size() != distributed.rank():
                continue
            self.progress(f"seed {seed}: lesions", 1.0)
            model, _ = load_model(self.checkpoint(seed, last))
            run_lesions(
                self.folder(seed) / "lesions",
                model.to(self.device),
                tables[seed, last],
                self.split.report,
                self.config.lesion,
                seed=seed,
                inputs={
                    "checkpoint": file_hash(self.checkpoint(seed, last)),
                    "axes": file_hash(self.table_path(seed, last)),
                },
            )
        distributed.barrier()
        return [read_lesions(self.folder(seed) / "lesions") for seed in self.config.seeds]

    def pruning(self) -> PruningResult:
        """Prune the trained networks by every criterion, allocation, recovery and share."""
        seeds = self.config.seeds
        for number, seed in enumerate(seeds):
            if number % distributed.world_size() != distributed.rank():
                continue
            checkpoint = self.checkpoint(seed, self.steps[-1])

            def on_cell(done: int, cells: int, number: int = number, seed: int = seed) -> None:
                what = f"seed {seed}: pruning, {done} of {cells}"
                self.progress(what, (number + done / cells) / len(seeds))

            model, _ = load_model(checkpoint)
            run_pruning(
                self.folder(seed) / "pruning",
                model.to(self.device),
                self.split,
                self.config.pruning,
                target=self.config.measure.target,
                recipe=self.config.training,
                network=self.spec.name,
                seed=seed,
                inputs={"checkpoint": file_hash(checkpoint)},
                progress=on_cell,
            )
        distributed.barrier()
        return read_pruning([self.folder(seed) / "pruning" for seed in seeds])

    # --- names ---------------------------------------------------------------------------------

    def folder(self, seed: int) -> Path:
        """Return the folder of one seed."""
        return self.out / f"seed-{seed}"

    def checkpoint(self, seed: int, step: int) -> Path:
        """Return a checkpoint's file."""
        return self.folder(seed) / "train" / f"step-{step:07d}.safetensors"

    def table_path(self, seed: int, step: int) -> Path:
        """Return where the measurement of a checkpoint lies."""
        return self.folder(seed) / "axes" / f"step-{step:07d}.npz"

    def accuracy_path(self, seed: int, step: int) -> Path:
        """Return where the accuracy of a checkpoint lies."""
        return self.folder(seed) / "accuracy" / f"step-{step:07d}.json"

    def gradients_path(self, seed: int, step: int) -> Path:
        """Return where the gradients' angles of a checkpoint lie."""
        return self.folder(seed) / "gradients" / f"step-{step:07d}.csv"

    def robustness_folder(self, seed: int) -> Path:
        """Return the folder of the repeated measurements of a trained network."""
        return self.folder(seed) / "robustness"
