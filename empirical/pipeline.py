"""A whole run: train, measure at every checkpoint, analyse, report; stages that can be resumed.

A run's folder holds, for each seed, ``seed-N/train`` (checkpoints), ``seed-N/axes`` (one measured
table per checkpoint) and ``seed-N/accuracy``; then ``tables``, ``figures``, ``report.html`` and
``run.json``. Every artifact lies beside the hash of what it was made from, so that starting again
does only what is missing or has changed.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from empirical import distributed
from empirical.checkpoints import load_model, read_info
from empirical.config import RunConfig, read_config
from empirical.couplings import training_couplings
from empirical.data import load_data
from empirical.devices import chosen_device, halving_batches
from empirical.evaluation import evaluate
from empirical.folders import DEFAULT_CACHE
from empirical.images import image_loader
from empirical.lesion_stage import LesionResult, read_lesions, run_lesions
from empirical.measurement import measure
from empirical.models import ModelSpec
from empirical.models.probe import check_logits
from empirical.report import Section, write_report
from empirical.run_record import run_record
from empirical.schedules import checkpoint_steps
from empirical.sections.coupling import coupling_section
from empirical.sections.lesion import lesion_section
from empirical.sections.training import training_section
from empirical.splits import DataSplit, split_data
from empirical.stages import file_hash, stage
from empirical.table import AxisTable
from empirical.training import train
from empirical.training_loop import TrainingProgress
from theory._files import write_json

Report = Callable[[str, float], None]
"""Called with what is being done, and the share of the whole that is behind."""

TRAINING_SHARE = 0.85
"""Of the time of one seed, for the progress bar alone."""


@dataclass(frozen=True)
class RunResult:
    """What a run found, and where its report lies.

    `tables` maps (seed, step) to the measurement, `couplings` has a row per seed, step, layer and
    pair of quantities, and `accuracy` a row per seed and step, on the report images.
    """

    out: Path
    report: Path
    tables: Mapping[tuple[int, int], AxisTable]
    couplings: pd.DataFrame
    accuracy: pd.DataFrame
    sections: tuple[Section, ...]


def run(
    config: RunConfig | str | os.PathLike[str] | Mapping[str, Any],
    *,
    out: str | os.PathLike[str] = "runs/run",
    overrides: Sequence[str] = (),
    download: bool = False,
    cache: str | os.PathLike[str] | None = DEFAULT_CACHE,
    progress: Report | None = None,
) -> RunResult:
    """Train, measure, analyse and report as `config` says; continue where an earlier run stopped.

    Parameters
    ----------
    config
        A TOML file, a mapping of the same form, or a `RunConfig`.
    out
        Folder of the run.
    overrides
        ``section.key=value`` settings, for instance ``"data.source=/data/cifar10"``.
    download, cache
        As for `load_data`.
    progress
        Called with what is being done, and the share of the whole that is behind.

    Raises
    ------
    FileNotFoundError, ValueError
        For a missing file or folder, an unknown key, or a folder that holds a training with other
        settings.
    """
    settings = config if isinstance(config, RunConfig) else read_config(config, overrides)
    with distributed.process_group(chosen_device(settings.device)) as device:
        return _Run(settings, Path(out), device, download, cache, progress or _silent).complete()


def _silent(what: str, share: float) -> None:
    """Report nothing."""


class _Run:
    """One run under way."""

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

    def complete(self) -> RunResult:
        """Do every stage that is not done, and return what all of them gave."""
        for index, seed in enumerate(self.config.seeds):
            self._train(index, seed)
            for number, step in enumerate(self.steps):
                share = TRAINING_SHARE + (1 - TRAINING_SHARE) * number / len(self.steps)
                self._say(index, seed, f"measuring, step {step}", share)
                # Under torchrun each process measures its share of the checkpoints.
                if number % distributed.world_size() == distributed.rank():
                    self._measure(seed, step)
                    self._evaluate(seed, step)
            distributed.barrier()
        self.progress("analysing", 1.0)
        return self._analyse()

    def _say(self, index: int, seed: int, what: str, share: float) -> None:
        self.progress(f"seed {seed}: {what}", (index + share) / len(self.config.seeds))

    # --- stages --------------------------------------------------------------------------------

    def _train(self, index: int, seed: int) -> None:
        folder = self._folder(seed) / "train"
        model = self.spec.build(seed).to(self.device)
        check_logits(model, self.split.fit)

        def on_progress(now: TrainingProgress) -> None:
            what = f"training, epoch {now.epoch:.1f}, loss {now.loss:.2f}, {now.accuracy:.0%}"
            self._say(index, seed, what, TRAINING_SHARE * now.step / now.total_steps)

        self._say(index, seed, "training", 0.0)
        result = train(
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

    def _measure(self, seed: int, step: int) -> None:
        checkpoint, options = self._checkpoint(seed, step), self.config.measure
        artifact = self._table_path(seed, step)
        inputs = {
            "checkpoint": file_hash(checkpoint),
            "images": self.split.calibration.fingerprint,
            "options": options.options(),
        }

        def make() -> None:
            model, _ = load_model(checkpoint)
            table = halving_batches(
                lambda size: measure(
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

    def _evaluate(self, seed: int, step: int) -> None:
        checkpoint, artifact = self._checkpoint(seed, step), self._accuracy_path(seed, step)
        inputs = {"checkpoint": file_hash(checkpoint), "images": self.split.report.fingerprint}

        def make() -> None:
            model, _ = load_model(checkpoint)
            found = halving_batches(
                lambda size: evaluate(
                    model, image_loader(self.split.report, batch_size=size), device=self.device
                ),
                self.config.measure.batch_size,
            )
            epoch = read_info(checkpoint).epoch
            write_json(artifact, {"seed": seed, "step": step, "epoch": epoch, **vars(found)})

        stage(artifact, inputs, make)

    def _lesions(self, tables: Mapping[tuple[int, int], AxisTable]) -> list[LesionResult]:
        last = self.steps[-1]
        for number, seed in enumerate(self.config.seeds):
            if number % distributed.world_size() != distributed.rank():
                continue
            self.progress(f"seed {seed}: lesions", 1.0)
            model, _ = load_model(self._checkpoint(seed, last))
            run_lesions(
                self._folder(seed) / "lesions",
                model.to(self.device),
                tables[seed, last],
                self.split.report,
                self.config.lesion,
                seed=seed,
                inputs={
                    "checkpoint": file_hash(self._checkpoint(seed, last)),
                    "axes": file_hash(self._table_path(seed, last)),
                },
            )
        distributed.barrier()
        return [read_lesions(self._folder(seed) / "lesions") for seed in self.config.seeds]

    def _analyse(self) -> RunResult:
        tables = {
            (seed, step): AxisTable.load(self._table_path(seed, step))
            for seed in self.config.seeds
            for step in self.steps
        }
        couplings = training_couplings(tables, permutations=self.config.measure.permutations)
        accuracy = pd.DataFrame(
            json.loads(self._accuracy_path(seed, step).read_text("utf-8")) for seed, step in tables
        )
        sections = [
            training_section(accuracy, self._histories(), self.split, self.spec, self.config),
            coupling_section(tables, couplings, self._subject()),
        ]
        if self.config.lesion.enabled:
            found = self._lesions(tables)
            sections.append(
                lesion_section(
                    pd.concat([result.lesions for result in found], ignore_index=True),
                    pd.concat([result.recovered for result in found], ignore_index=True),
                )
            )
        report = self.out / "report.html"
        if distributed.rank() == 0:
            report = write_report(
                self.out, self._title(), self._lead(), sections, formats=("png", "pdf")
            )
            record = run_record(self.config, self.split, self.device, self.started)
            write_json(self.out / "run.json", record)
        return RunResult(self.out, report, tables, couplings, accuracy, tuple(sections))

    # --- names ---------------------------------------------------------------------------------

    def _folder(self, seed: int) -> Path:
        return self.out / f"seed-{seed}"

    def _checkpoint(self, seed: int, step: int) -> Path:
        return self._folder(seed) / "train" / f"step-{step:07d}.safetensors"

    def _table_path(self, seed: int, step: int) -> Path:
        return self._folder(seed) / "axes" / f"step-{step:07d}.npz"

    def _accuracy_path(self, seed: int, step: int) -> Path:
        return self._folder(seed) / "accuracy" / f"step-{step:07d}.json"

    def _histories(self) -> pd.DataFrame:
        return pd.concat(
            [
                pd.read_json(self._folder(seed) / "train" / "history.json").assign(seed=seed)
                for seed in self.config.seeds
            ],
            ignore_index=True,
        )

    def _title(self) -> str:
        data = self.split.fit.name.removesuffix("/fit")
        return self.config.title or f"{self.spec.name} on {data}"

    def _subject(self) -> str:
        return (
            f"{self.spec.name}, width {self.spec.width:g}, on {self.split.calibration.name} "
            f"({len(self.split.calibration)} images); target: "
            f"{self.config.measure.target.replace('_', ' ')}; "
            + (
                f"{self.config.measure.positions} random positions per image"
                if self.config.measure.sampling == "positions"
                else "means over each map"
            )
            + ", before the norm"
        )

    def _lead(self) -> str:
        return (
            "What a channel says about the task is one question; whether its peers could replace "
            f"it is another. This page asks both of {len(self.config.seeds)} trained networks, at "
            f"{len(self.steps)} moments of their training."
        )
