"""What is done to a pruned network before it is used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from empirical.reading.batches import Batch
from empirical.reading.hooks import before_call, capture_calls, evaluating
from empirical.training.recipes import Recipe

BATCH_NORM = nn.modules.batchnorm._BatchNorm

RECOVERIES: dict[str, tuple[str, ...]] = {
    "none": (),
    "recalibrate": ("recalibrate",),
    "merge": ("merge",),
    "compensate": ("merge", "recalibrate"),
    "reconstruct": ("reconstruct",),
    "distill": ("reconstruct", "distill"),
    "fold": ("fold", "recalibrate"),
    "finetune": ("recalibrate", "finetune"),
    "compensate_finetune": ("merge", "recalibrate", "finetune"),
    "reconstruct_finetune": ("reconstruct", "finetune"),
}
"""Recovery -> its steps. "merge" is peer compensation alone, "compensate" recalibrates after it,
"reconstruct" refits every layer to the dense network, "distill" trains on from there to say what
the dense network says, "fold" merges filters without data and
recalibrates. "finetune" goes on training, with labels; all others read none."""

AUTO = "auto"
"""Stands for the best practice: of recoveries the label-free closed form that does better on
held-out calibration images; of criteria and allocations see `best_practice`."""

FINE_TUNING = Recipe(epochs=5, learning_rate=0.01, schedule="cosine")
"""How a pruned network is trained on, unless told otherwise."""


def fine_tuning(recipe: Recipe, epochs: float = FINE_TUNING.epochs) -> Recipe:
    """So many epochs at a tenth of the learning rate of the training that `recipe` describes.

    >>> fine_tuning(Recipe(epochs=12, learning_rate=0.2, flip=True)).learning_rate
    0.02
    """
    rate = recipe.learning_rate / 10
    return replace(recipe, epochs=epochs, learning_rate=rate, schedule=FINE_TUNING.schedule)


def recalibrate(model: nn.Module, batches: Iterable[Batch]) -> int:
    """Take batch-norm means and variances anew from `batches`, in place; no gradients, no labels.

    One pass, as in precise batch norm (Wu and Johnson, arXiv:2105.07576): each batch is normalized
    by its own statistics, as in training, and every norm keeps those of all its inputs pooled, over
    batches and over its calls: of n values per channel the mean m = Σ_b n_b m_b / n, and the
    variance (Σ_b (n_b − 1) v_b + n_b (m_b − m)²) / (n − 1). A norm that no other norm precedes so
    does not depend, but for rounding, on how the images are batched. A later one does, by the noise
    of its predecessors' statistics in a batch; to be rid of that takes a pass per norm. What would
    be worst of it, a small last batch, joins its neighbour (`_of_like_size`).

    Norms that the forward does not call are left as they are, and so are those without running
    statistics or with some that another module has as well, which either would write. Returns how
    many others there are: 0 means nothing was done.

    Raises ValueError where a norm gets a single value per channel: it has no variance.
    """
    held = Counter(id(buffer) for module in model.modules() for buffer in module._buffers.values())
    norms = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, BATCH_NORM)
        and module.running_mean is not None
        and held[id(module.running_mean)] == held[id(module.running_var)] == 1
    }
    pooled = {name: _Pooled(name, norm) for name, norm in norms.items()}
    momenta = {name: norm.momentum for name, norm in norms.items()}
    if not norms:
        return 0
    try:
        with (
            evaluating(model),
            before_call(model, {name: found.check for name, found in pooled.items()}),
            capture_calls(model, {name: found.add for name, found in pooled.items()}),
        ):
            for norm in norms.values():
                norm.momentum = 1.0  # running statistics are those of the last call
                norm.train()
            for images in _of_like_size(images for images, _ in batches):
                model(images)
    finally:
        for name, norm in norms.items():
            norm.momentum = momenta[name]
    for found in pooled.values():
        found.write()
    return len(norms)


class _Pooled:
    """Statistics of all calls of one batch norm, merged in float64."""

    def __init__(self, name: str, norm: nn.modules.batchnorm._BatchNorm) -> None:
        self.name, self.norm = name, norm
        self.calls, self.values = 0, 0
        self.mean = self.squares = torch.zeros(())

    def check(self, images: Tensor) -> None:
        """Refuse what has no variance, before torch does so without a name."""
        if images.numel() == images.shape[1]:
            raise ValueError(
                f"loader gives the batch norm {self.name!r} a single value per channel, which has "
                "no variance. Calibrate on at least two images."
            )

    def add(self, images: Tensor, _: Tensor) -> None:
        """Merge the last call: values n, mean and sum of squares around it, per channel."""
        assert self.norm.running_mean is not None
        assert self.norm.running_var is not None
        new = images.numel() // images.shape[1]
        mean, variance = self.norm.running_mean.double(), self.norm.running_var.double()
        total = self.values + new
        step = mean - self.mean
        self.squares = self.squares + (new - 1) * variance + step**2 * (self.values * new / total)
        self.mean = self.mean + step * (new / total)
        self.values, self.calls = total, self.calls + 1

    def write(self) -> None:
        """Make them the norm's own."""
        if not self.calls:
            return
        for name, value in (
            ("running_mean", self.mean),
            ("running_var", self.squares / (self.values - 1)),
            ("num_batches_tracked", torch.tensor(self.calls)),
        ):
            held = getattr(self.norm, name)
            if held is not None:
                held.copy_(value)


def _of_like_size(batches: Iterable[Tensor]) -> Iterator[Tensor]:
    """The same images, where a batch of less than half its neighbour's images joins it."""
    held: Tensor | None = None
    for images in batches:
        if held is None:
            held = images
        elif held.shape[1:] == images.shape[1:] and (
            2 * min(len(held), len(images)) < max(len(held), len(images))
        ):
            held = torch.cat([held, images])
        else:
            yield held
            held = images
    if held is not None:
        yield held
