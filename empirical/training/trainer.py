"""Training with checkpoints, resumable to the bit.

Every random choice is a function of (seed, epoch) or (seed, step), so that a position in the
training needs no generator's state: weights, optimizer state and the step number are all there is
to keep. The same seed on the same hardware gives the same weights, with or without interruptions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from empirical.data.images import ImageSet
from empirical.devices import chosen_device
from empirical.models import ModelSpec
from empirical.reading.networks import Adapter, opened
from empirical.seeding import checked_seed, own_generators
from empirical.training import distributed
from empirical.training.checkpoints import checkpoint_path
from empirical.training.loop import TrainingDivergedError, TrainingLoop, TrainingProgress
from empirical.training.recipes import Recipe
from empirical.training.resuming import train_in
from empirical.training.schedules import checkpoint_steps
from theory.shared.validation import called, count, instance, path_of

__all__ = ["TrainingDivergedError", "TrainingProgress", "TrainingResult", "train"]


@dataclass(frozen=True)
class TrainingResult:
    """What a training leaves: one row per checkpoint, and the checkpoints' files."""

    history: tuple[dict[str, float], ...]
    checkpoints: tuple[Path, ...]


def train(
    model: nn.Module,
    image_set: ImageSet,
    *,
    recipe: Recipe,
    seed: int = 0,
    folder: str | Path | None = None,
    spec: ModelSpec | None = None,
    steps: Sequence[int] | None = None,
    initial: str | Path | None = None,
    device: str | torch.device = "cpu",
    on_checkpoint: Callable[[int, nn.Module], None] | None = None,
    on_progress: Callable[[TrainingProgress], None] | None = None,
    adapt: Adapter | None = None,
) -> TrainingResult:
    """Train `model` in place, and keep its weights along the way.

    Parameters
    ----------
    model
        Maps (n, C, H, W) to logits (n, K). It is left on `device`, in evaluation mode. What a
        compiled or parallel network wraps is trained, and kept under its own names;
        `recipe.compile` compiles.
    image_set
        Training images, for instance ``split_data(...).fit``.
    recipe
        Optimizer, schedule, augmentation, precision.
    seed
        Of the order of images, their augmentation, and dropout. Initial weights are the caller's.
    folder
        Where checkpoints and ``history.json`` go. If it already holds a training with the same
        settings, that one is continued, and a finished one is loaded; with other settings it is an
        error. Where code has changed since, or a checkpoint is missing or damaged, the training
        starts afresh, with a warning. None keeps nothing.
    spec
        How to build the network again. It is written into checkpoints.
    steps
        After which steps weights are kept; by default ``checkpoint_steps(total)``: 0, ten steps
        evenly spaced in the logarithm, and the last.
    initial
        A checkpoint of the same network, perhaps with other classes: all of its weights but the
        classifier's are taken over before the first step. None trains `model` as it is.
    on_checkpoint
        Called with (step, model in evaluation mode) at every one of `steps`; not for those that a
        resumed training already has behind it.
    on_progress
        Called every few steps.
    adapt
        An `Adapter`, where the model returns more than its logits.

    Raises
    ------
    TrainingDivergedError
        If the loss is not finite.
    ValueError
        If the set is smaller than a batch, or `folder` holds a training with other settings.

    Examples
    --------
    >>> from empirical.data.loading import load_data
    >>> digits, _ = load_data("digits")
    >>> spec = ModelSpec("small_convnet", classes=10, image_size=8, channels=1)
    >>> result = train(spec.build(0), digits, recipe=Recipe(epochs=1), steps=[0, 4])
    >>> [row["step"] for row in result.history]
    [0, 4, 9]
    """
    instance("image_set", image_set, ImageSet, "Pass what load_data returns.")
    called("on_checkpoint", on_checkpoint)
    called("on_progress", on_progress)
    if folder is not None:
        path_of("folder", folder)
    start = None if initial is None else path_of("initial", initial)
    if spec is not None:
        instance("spec", spec, ModelSpec, "Pass ModelSpec(name, classes, image_size, channels).")
    instance("recipe", recipe, Recipe, "Pass Recipe(epochs=...).")
    checked_seed("seed", seed)
    if adapt is not None and getattr(adapt, "batch", None) is not None:
        raise ValueError(
            "adapt must have no batch function here, since images come from an ImageSet; got one. "
            "Pass Adapter(output=...)."
        )
    network = opened(model, adapt)
    run = TrainingLoop(network, image_set, recipe, seed, spec, chosen_device(device), folder, start)
    wanted = checkpoint_steps(run.total_steps) if steps is None else steps
    run.kept_steps = _checked_steps(wanted, run.total_steps)
    run.on_checkpoint, run.on_progress = on_checkpoint, on_progress
    with ExitStack() as stack:
        stack.enter_context(own_generators(run.device))
        stack.enter_context(distributed.synchronized(network))
        # cuDNN's autotuner and its atomic kernels would make two runs differ in the last bit.
        stack.enter_context(
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
        )
        if run.folder is None:
            run.start()
            run.loop()
        else:
            train_in(run.folder, run)
    model.eval()
    kept = [] if folder is None else sorted(run.kept_steps)
    paths = tuple(checkpoint_path(folder or "", step) for step in kept)
    return TrainingResult(tuple(run.state.history), paths)


def _checked_steps(steps: Sequence[int], total: int) -> frozenset[int]:
    instance(
        "steps", steps, (list, tuple, range, set, frozenset), "Pass whole numbers, as [0, 10]."
    )
    wanted = [count("steps", step, least=0) for step in steps]
    wrong = [step for step in wanted if step > total]
    if wrong:
        raise ValueError(
            f"steps must be in 0 .. {total}, the number of training steps; got {wrong}."
        )
    return frozenset({*wanted, total})
