"""The demo's networks: small ones on handwritten digits, measured, lesioned and pruned.

For each seed a small network is trained; both axes are measured at every checkpoint; every channel
is lesioned and replaced by its peers; and pruning curves compare a score of each axis with two
baselines. Quantities come from calibration images, damages and accuracies from held-out images.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import torch

from empirical.analysis.couplings import training_couplings
from empirical.analysis.damage import SCORES
from empirical.analysis.patches import natural_images, patch_covariance
from empirical.commands.terminal import Progress
from empirical.data.images import ImageLoader, ImageSet, image_loader
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
from empirical.report.coupling import coupling_section
from empirical.report.lesion import lesion_section
from empirical.report.page import Section
from empirical.report.patches import patches_section
from empirical.report.pruning import pruning_section
from empirical.runs.lesion_stage import beside_mean_lesion
from empirical.training.evaluation import evaluate
from empirical.training.recipes import DIGITS, Recipe
from empirical.training.schedules import checkpoint_steps
from empirical.training.trainer import train

LOCAL, TARGET = "-peer_predictability", "task_information"
BASELINES = ("l2", "random")


@dataclass(frozen=True)
class DemoSettings:
    """What the demo runs. The defaults fit in two minutes on two cores."""

    seeds: tuple[int, ...] = (0, 1, 2)
    recipe: Recipe = DIGITS
    checkpoints: int = 8
    calibration: int = 1198
    shares: tuple[float, ...] = (0.9, 0.7, 0.5, 0.35, 0.25, 0.15)
    random_draws: int = 5
    permutations: int = 1000

    @classmethod
    def small(cls) -> DemoSettings:
        """Every part once, in seconds: for tests, and to see that an installation works."""
        return cls(
            seeds=(0, 1),
            recipe=DIGITS.but(epochs=2),
            checkpoints=3,
            calibration=200,
            shares=(0.9, 0.5),
            random_draws=2,
            permutations=50,
        )


@dataclass(frozen=True)
class _SeedResult:
    tables: dict[tuple[int, int], AxisTable]
    history: pd.DataFrame
    lesions: pd.DataFrame
    recovered: pd.DataFrame
    curves: pd.DataFrame


def digits_sections(settings: DemoSettings, progress: Progress) -> list[Section]:
    """Train, measure, lesion, prune; return the chapters of the report.

    Parameters
    ----------
    settings : what to run.
    progress : called with what is being done, and the share of the whole that is behind.
    """
    train_set, test_set = load_data("digits")
    parts = split_data(train_set, test_set, calibration=settings.calibration, selection=0.0)
    results = []
    for index, seed in enumerate(settings.seeds):

        def step(what: str, share: float, seed: int = seed, index: int = index) -> None:
            progress(f"seed {seed}: {what}", (index + share) / len(settings.seeds))

        results.append(_one_seed(settings, seed, parts.fit, parts.calibration, parts.report, step))
    progress("figures", 1.0)
    tables = {key: table for result in results for key, table in result.tables.items()}
    history = pd.concat([result.history for result in results], ignore_index=True)
    couplings = training_couplings(tables, permutations=settings.permutations)
    return [
        patches_section(
            history,
            {
                "handwritten digits": patch_covariance(train_set.normalize(train_set.images)),
                "photographs": patch_covariance(natural_images()),
            },
        ),
        coupling_section(
            tables,
            couplings,
            "Three convolutional layers on 8 × 8 digits; target: logit margin; 16 random positions "
            "per image, before the norm",
        ),
        lesion_section(
            pd.concat([r.lesions for r in results], ignore_index=True),
            pd.concat([r.recovered for r in results], ignore_index=True),
        ),
        pruning_section(pd.concat([r.curves for r in results], ignore_index=True), LOCAL, TARGET),
    ]


def _one_seed(
    settings: DemoSettings,
    seed: int,
    fit: ImageSet,
    calibration: ImageSet,
    report: ImageSet,
    progress: Progress,
) -> _SeedResult:
    measured, held_out = image_loader(calibration), image_loader(report)
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
        progress(f"training and measuring, step {step}", 0.5 * step / total)
        tables[seed, step] = measure(network, measured)
        found = evaluate(network, held_out)
        accuracies.append({"seed": seed, "step": step, **vars(found)})

    train(model, fit, recipe=settings.recipe, seed=seed, steps=steps, on_checkpoint=at_checkpoint)
    table = tables[seed, steps[-1]]
    progress("lesions", 0.5)
    damages = lesion(model, held_out, calibration=table).to_frame()
    progress("peer replacement", 0.65)
    replaced = beside_mean_lesion(
        replace(model, held_out, table, seed=seed, draws=3).to_frame()
    ).assign(seed=seed)
    progress("pruning", 0.8)
    curves = _curves(model, measured, held_out, settings, seed)
    scores = table.to_frame()[["layer", "channel", *SCORES]]
    damages = damages.merge(scores, on=["layer", "channel"]).assign(seed=seed)
    return _SeedResult(tables, pd.DataFrame(accuracies), damages, replaced, curves)


def _curves(
    model: torch.nn.Module,
    measured: ImageLoader,
    held_out: ImageLoader,
    settings: DemoSettings,
    seed: int,
) -> pd.DataFrame:
    known = Calibration(model, measured, seed=seed)
    rows = []
    for criterion in (LOCAL, TARGET, *BASELINES):
        for draw in range(settings.random_draws if REGISTRY[criterion].stochastic else 1):
            for share in settings.shares:
                pruned = prune(
                    model,
                    known,
                    macs=share,
                    criterion=criterion,
                    recovery="recalibrate",
                    seed=1000 * seed + draw,
                )
                found = evaluate(pruned.model, held_out)
                rows.append(
                    {
                        "seed": seed,
                        "criterion": criterion,
                        "draw": draw,
                        "macs_requested": share,
                        "macs_share": pruned.report.macs_share,
                        "accuracy": found.accuracy,
                        "accuracy_se": found.accuracy_se,
                    }
                )
    return pd.DataFrame(rows)
