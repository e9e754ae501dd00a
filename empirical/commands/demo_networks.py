"""The demo's networks: small ones, measured, lesioned and pruned.

For each seed a small network is trained; both axes are measured at every checkpoint; every channel
is lesioned and replaced by its peers; and the default recipe of pruning is compared with others.
Quantities come from calibration images, damages and accuracies from held-out images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch

from empirical.analysis.couplings import training_couplings
from empirical.analysis.damage import SCORES
from empirical.analysis.patches import patch_covariance
from empirical.commands.terminal import Progress
from empirical.data.images import ImageLoader, image_loader
from empirical.data.loading import load_data
from empirical.data.splits import split_data
from empirical.lesions.lesioning import lesion
from empirical.lesions.replacement import replace
from empirical.measuring.measurement import measure
from empirical.measuring.table import AxisTable
from empirical.models import create_model
from empirical.pruning.calibration import Calibration
from empirical.pruning.criteria import REGISTRY
from empirical.pruning.pruner import prune
from empirical.pruning.recovery import AUTO
from empirical.pruning.what_if import removal_plan
from empirical.report.coupling import coupling_section
from empirical.report.lesion import lesion_section
from empirical.report.map_page import map_section
from empirical.report.page import Section
from empirical.report.patches import patches_section
from empirical.report.plan import plan_payload
from empirical.report.pruning import DEFAULT, pruning_section
from empirical.runs.lesion_stage import beside_mean_lesion
from empirical.training.evaluation import evaluate
from empirical.training.recipes import DIGITS, PHOTOGRAPHS, Recipe
from empirical.training.schedules import checkpoint_steps
from empirical.training.trainer import train
from theory.shared.tasks import Task, available_threads, run_tasks
from theory.shared.validation import Float, one_of

LOCAL, TARGET = "-peer_predictability", "task_information"
RECIPES_OF_PRUNING = (
    DEFAULT,
    (LOCAL, AUTO),
    (TARGET, AUTO),
    ("l2", AUTO),
    ("random", AUTO),
    ("l2", "recalibrate"),
)
"""Criterion and recovery: the default, other choices recovered alike, and what libraries do."""


@dataclass(frozen=True)
class DemoData:
    """A data set of the demo: how networks are trained on it, and what it is in words."""

    recipe: Recipe
    words: str
    note: str


DATA = {
    "photographs": DemoData(
        PHOTOGRAPHS,
        "photographs",
        "Three convolutions with batch norm, trained to tell from which of ten strips of two "
        "photographs a tile of 16 × 16 pixels comes. No two tiles share a pixel; test tiles are "
        "whole blocks of each strip, held out for every accuracy and damage above.",
    ),
    "digits": DemoData(
        DIGITS,
        "handwritten digits",
        "Three convolutions with batch norm, trained on two thirds of scikit-learn's handwritten "
        "digits of 8 × 8 pixels; the last third is held out for every accuracy and damage above.",
    ),
}


@dataclass(frozen=True)
class DemoSettings:
    """What the demo runs. The defaults fit in two minutes on two cores."""

    data: str = "photographs"
    seeds: tuple[int, ...] = tuple(range(10))
    lesioned: int = 5
    """So many of the networks, the first ones, are lesioned and pruned too."""
    epochs: float = 15
    checkpoints: int = 7
    calibration: int = 1440
    shares: tuple[float, ...] = (0.7, 0.5, 0.3)
    draws: int = 2
    """Of random peers, and of random removal."""
    permutations: int = 1000
    workers: int = field(default_factory=lambda: min(2, available_threads()))
    """Processes, of one thread each: two take 2.2 GB with the one that asks."""

    def __post_init__(self) -> None:
        one_of("data", self.data, DATA)

    @property
    def recipe(self) -> Recipe:
        """How the networks are trained."""
        return DATA[self.data].recipe.but(epochs=self.epochs)

    @classmethod
    def small(cls, data: str = "photographs") -> DemoSettings:
        """Every part once, in seconds: for tests, and to see that an installation works."""
        return cls(
            data=data,
            seeds=(0, 1),
            epochs=2,
            checkpoints=3,
            calibration=200,
            shares=(0.9, 0.5),
            permutations=50,
            workers=0,
        )


@dataclass(frozen=True)
class _SeedResult:
    tables: dict[tuple[int, int], AxisTable]
    history: pd.DataFrame
    lesions: pd.DataFrame | None = None
    recovered: pd.DataFrame | None = None
    mapped: Section | None = None
    curves: pd.DataFrame | None = None


def network_sections(settings: DemoSettings, progress: Progress) -> list[Section]:
    """Train, measure, lesion, prune; return the chapters of the report.

    Parameters
    ----------
    settings : what to run.
    progress : called with what is being done, and the share of the whole that is behind.
    """
    tasks = {
        str(seed): Task(f"{__name__}:one_seed", {"settings": settings, "seed": seed})
        for seed in settings.seeds
    }

    def done(networks: int, of: int) -> None:
        progress(f"{networks} of {of} networks", networks / of)

    done(0, len(tasks))
    found = dict(run_tasks(tasks, workers=settings.workers, progress=done))
    results = [found[key] for key in tasks]
    progress("figures", 1.0)
    tables = {key: table for result in results for key, table in result.tables.items()}
    couplings = training_couplings(tables, permutations=settings.permutations)
    about, size = DATA[settings.data], load_data(settings.data)[0].image_size
    mapped = [result.mapped for result in results if result.mapped is not None]
    return [
        coupling_section(
            tables,
            couplings,
            f"Three convolutional layers on {about.words}, {size} × {size}; target: logit margin; "
            "16 random positions per image, before the norm",
        ),
        lesion_section(_joined(results, "lesions"), _joined(results, "recovered")),
        pruning_section(_joined(results, "curves"), LOCAL, TARGET),
        *mapped,
        patches_section(
            _joined(results, "history"),
            couplings,
            {DATA[name].words: _patches(name) for name in (settings.data, *_others(settings.data))},
            about.note,
        ),
    ]


def _joined(results: Sequence[_SeedResult], name: str) -> pd.DataFrame:
    """One table of the networks that have it."""
    frames: list[pd.DataFrame] = [getattr(result, name) for result in results]
    return pd.concat(frames, ignore_index=True)


def _patches(data: str) -> Float:
    images, _ = load_data(data)
    return patch_covariance(images.normalize(images.images))


def _others(data: str) -> list[str]:
    return [name for name in DATA if name != data]


def one_seed(settings: DemoSettings, seed: int) -> _SeedResult:
    """Train, measure, lesion and prune one network."""
    parts = split_data(*load_data(settings.data), calibration=settings.calibration, selection=0.0)
    fit, measured, held_out = parts.fit, image_loader(parts.calibration), image_loader(parts.report)
    model = create_model(
        "small_convnet",
        classes=fit.classes,
        image_size=fit.image_size,
        channels=fit.channels,
        seed=seed,
    )
    tables: dict[tuple[int, int], AxisTable] = {}
    accuracies = []
    total = int(settings.recipe.epochs * (len(fit) // settings.recipe.batch_size))
    steps = checkpoint_steps(total, log_spaced=settings.checkpoints)

    def at_checkpoint(step: int, network: torch.nn.Module) -> None:
        tables[seed, step] = measure(network, measured)
        found = evaluate(network, held_out)
        accuracies.append({"seed": seed, "step": step, **vars(found)})

    train(model, fit, recipe=settings.recipe, seed=seed, steps=steps, on_checkpoint=at_checkpoint)
    table = tables[seed, steps[-1]]
    history = pd.DataFrame(accuracies)
    if seed not in settings.seeds[: settings.lesioned]:
        return _SeedResult(tables, history)
    damages = lesion(model, held_out, calibration=table).to_frame()
    replaced = beside_mean_lesion(
        replace(model, held_out, table, seed=seed, draws=settings.draws).to_frame()
    ).assign(seed=seed)
    known = Calibration(model, measured, seed=seed)
    curves = _curves(model, known, held_out, settings, seed, accuracies[-1])
    mapped = None
    if seed == settings.seeds[0]:
        mapped = map_section(
            measure(model, measured, damage=True),
            plan=plan_payload(removal_plan(known)),
            lesions=[damages, replaced],
            about=f"The network of seed {seed} at the end of its training.",
        )
    scores = table.to_frame()[["layer", "channel", *SCORES]]
    damages = damages.merge(scores, on=["layer", "channel"]).assign(seed=seed)
    return _SeedResult(tables, history, damages, replaced, mapped, curves)


def _curves(
    model: torch.nn.Module,
    known: Calibration,
    held_out: ImageLoader,
    settings: DemoSettings,
    seed: int,
    dense: dict[str, Any],
) -> pd.DataFrame:
    """Accuracy of every recipe at every share, after that of the `dense` network."""
    accuracy = {name: dense[name] for name in ("accuracy", "accuracy_se")}
    rows = [_row(seed, "dense", "none", 0, 1.0, 1.0) | accuracy]
    for criterion, recovery in RECIPES_OF_PRUNING:
        for draw in range(settings.draws if REGISTRY[criterion].stochastic else 1):
            for share in settings.shares:
                pruned = prune(
                    model,
                    known,
                    macs=share,
                    criterion=criterion,
                    recovery=recovery,
                    seed=1000 * seed + draw,
                )
                found = evaluate(pruned.model, held_out)
                row = _row(seed, criterion, recovery, draw, share, pruned.report.macs_share)
                rows.append(row | {"accuracy": found.accuracy, "accuracy_se": found.accuracy_se})
    return pd.DataFrame(rows)


def _row(
    seed: int, criterion: str, recovery: str, draw: int, requested: float, share: float
) -> dict[str, Any]:
    names = {"seed": seed, "criterion": criterion, "recovery": recovery, "draw": draw}
    return {**names, "macs_requested": requested, "macs_share": share}
