"""Label-free training of a pruned network to say what the dense one says.

AdamW (arXiv:1711.05101) on Hinton's loss (arXiv:1503.02531), T² KL(p_T ‖ q_T) of the dense
network's softened prediction p from the pruned one's q, on calibration images that are shifted and
mirrored at random. Layers that were refitted have weights of very different sizes, and behind a
batch norm the step that a rate means goes by the inverse square of the size: plain gradient descent
undoes in its first epoch what refitting gained, steps by each weight's own gradients do not.
A trained ResNet-20 at half of its multiply-accumulates, 1,500 images, dense 81.1 % and 74.2 %
refitted: after 10 epochs 79.0 % and .464 nats from the dense network on test images, by descent at
rate .02 78.4 % and .521. Batch norms of the pruned network go by batch and keep running statistics,
as in training. Dropout is off. Every tenth image is held out, also from the refit; the weights that
came closest to the dense network there are kept, those of the start among them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from empirical.data.augmentation import EpochPlan
from empirical.devices import has_bfloat16
from empirical.pruning.recovery import AUTO
from empirical.reading.hooks import capture_calls, evaluating
from empirical.reading.outputs import PREDICTIONS, answered, checked_logits, divergences
from empirical.training.recipes import PRECISIONS
from empirical.training.schedules import cosine
from theory.shared.validation import count, one_of, positive, truth, within

HELD_OUT = 10
"""One image of so many is neither refitted nor trained on."""

STATISTICS = 500
"""Images at most that norms take their first statistics from."""


@dataclass(frozen=True)
class Distillation:
    """How a pruned network is trained to mimic the dense one.

    Attributes
    ----------
    epochs : passes over the images; `steps_at_least` lengthens those over few images
    steps_at_least : gradient steps in all
    learning_rate : peak, reached after a twentieth of the steps, then a half cosine down to 0
    batch_size, weight_decay : of AdamW
    temperature : T
    padding : images are shifted by up to so many pixels, at most an eighth of their size
    flip : and mirrored half of the time
    mixing : share of the steps whose images are mixed in pairs, λ x + (1 − λ) x', λ uniform
        (Zhang et al., arXiv:1710.09412; the dense network says what is wanted of the mixture)
    averaging : a running mean of the weights over about so many epochs is kept; 0 for the weights
    precision : float32, or bfloat16 for convolutions and matrix products of the steps; weights, and
        what is measured on the images held out, stay float32. "auto" is bfloat16 where weights are
        float32 and the device has units for its products, which makes steps up to twice as fast
    """

    epochs: int = 30
    steps_at_least: int = 300
    learning_rate: float = 0.001
    batch_size: int = 64
    weight_decay: float = 1e-4
    temperature: float = 2.0
    padding: int = 4
    flip: bool = True
    mixing: float = 0.0
    averaging: float = 0.0
    precision: str = AUTO

    def __post_init__(self) -> None:
        for name in ("epochs", "steps_at_least"):
            count(name, getattr(self, name))
        count("batch_size", self.batch_size, least=2)
        count("padding", self.padding, least=0)
        for name in ("learning_rate", "temperature"):
            positive(name, getattr(self, name))
        for name in ("weight_decay", "averaging"):
            positive(name, getattr(self, name), zero=True)
        within("mixing", self.mixing, "[0, 1]")
        truth("flip", self.flip)
        one_of("precision", self.precision, (AUTO, *PRECISIONS))


DISTILLATION = Distillation()
"""The default."""


def distill(
    pruned: nn.Module,
    dense: nn.Module,
    seen: Tensor,
    held: Tensor,
    how: Distillation = DISTILLATION,
    *,
    seed: int = 0,
) -> float:
    """Train `pruned` towards `dense` on images `seen` (n, ...), in place; return the KL left.

    The divergence, at temperature 1, is the mean in nats over the images `held` (m, ...), which
    nothing before has been fitted on, or the start would look better than it is. Nothing but the
    parameters that require gradients is changed.
    """
    with evaluating(dense):
        aim = _log_probabilities(dense, held, how.batch_size)
    per_epoch = max(1, len(seen) // how.batch_size)
    epochs = max(how.epochs, -(-how.steps_at_least // per_epoch))
    parameters = [p for p in pruned.parameters() if p.requires_grad]
    _own_statistics(pruned, seen[:STATISTICS])
    optimizer = torch.optim.AdamW(parameters, how.learning_rate, weight_decay=how.weight_decay)
    best, weights = _divergence(pruned, aim, held, how), copy.deepcopy(pruned.state_dict())
    padding = min(how.padding, *(size // 8 for size in seen.shape[2:])) if seen.ndim == 4 else 0
    kept = _Average(pruned, how.averaging * per_epoch)
    for epoch in range(epochs):
        mixed = _mixtures(how.mixing, len(seen), per_epoch, seed, epoch)
        plan = EpochPlan.draw(
            len(seen), padding=padding, flip=how.flip and seen.ndim == 4, seed=seed,
            epoch=epoch, device=seen.device,
        )  # fmt: skip
        for step in range(per_epoch):
            position = (epoch * per_epoch + step) / (epochs * per_epoch)
            for group in optimizer.param_groups:
                group["lr"] = how.learning_rate * cosine(position, 0.05)
            start = step * how.batch_size
            batch, _ = plan.batch(seen, start, start + how.batch_size)
            if mixed is not None and mixed.steps[step]:
                share = mixed.shares[start : start + len(batch)].to(batch)
                share = share.view(-1, *[1] * (batch.ndim - 1))
                batch = share * batch + (1 - share) * batch.roll(1, 0)
            _step(pruned, dense, batch, optimizer, how)
            kept.follow()
        with kept.shown():
            found = _divergence(pruned, aim, held, how)
            if found < best:
                best, weights = found, copy.deepcopy(pruned.state_dict())
    pruned.load_state_dict(weights)
    return best


def check_distillable(model: nn.Module, example: Tensor, how: Distillation) -> None:
    """Refuse a model that cannot be distilled, before anything is measured.

    Raises
    ------
    ValueError
        no logits of two classes or more, or no gradient behind them; a precision that its weights
        do not have
    """
    if how.precision == "bfloat16" and not _single(model):
        raise ValueError(
            "precision='bfloat16' lowers weights of float32, which this model's are not. Call "
            "model.float(), or pass Distillation(precision='auto')."
        )
    with evaluating(model), torch.enable_grad():
        found = checked_logits(answered(model, example), len(example), None, PREDICTIONS)
    if not found.requires_grad:
        raise ValueError(
            "model lets no gradient through, frozen or by its forward, so that recovery='distill' "
            "can train nothing. Call model.requires_grad_(True), or pass recovery='reconstruct'."
        )


@dataclass(frozen=True)
class _Mixtures:
    """Which steps of an epoch mix their images, and the first one's share of each."""

    steps: NDArray[np.bool_]
    shares: Tensor


def _mixtures(share: float, images: int, steps: int, seed: int, epoch: int) -> _Mixtures | None:
    if not share:
        return None
    rng = np.random.default_rng([seed, epoch, 1])
    chosen = rng.random(steps) < share
    return _Mixtures(chosen, torch.from_numpy(rng.random(images).astype(np.float32)))


class _Average:
    """A running mean of a model's parameters and statistics over about `steps` steps.

    Its weight for the present ones is 1/t at first and never less than 1/steps, so that the start
    is forgotten.
    """

    def __init__(self, model: nn.Module, steps: float) -> None:
        self._steps, self._taken = steps, 0
        every = (*model.parameters(), *model.buffers())
        self._held = [v for v in every if v.is_floating_point()] if steps else []
        self._mean = [v.detach().clone() for v in self._held]

    @torch.no_grad()
    def follow(self) -> None:
        """Take a step's weights in."""
        self._taken += 1
        if self._held:
            share = 1 / min(self._taken + 1, max(self._steps, 1))
            torch._foreach_lerp_(self._mean, [v.detach() for v in self._held], share)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Let the model have the mean in place of its weights."""
        with torch.no_grad():
            own = [v.detach().clone() for v in self._held]
            for v, mean in zip(self._held, self._mean, strict=True):
                v.copy_(mean)
        try:
            yield
        finally:
            with torch.no_grad():
                for v, before in zip(self._held, own, strict=True):
                    v.copy_(before)


@torch.no_grad()
def _own_statistics(model: nn.Module, images: Tensor) -> None:
    """Give batch norms the statistics of what they now see, and let scale and shift make up for it.

    In evaluation the function stays the same, w (x − m)/s + b = w' (x − m')/s' + b' with
    w' = w s'/s and b' = b + w (m' − m)/s; by batch it now starts out as the same, where norms with
    the statistics of another network would undo at once what a refit gained.
    """

    def adopt(norm: BatchNorm, inputs: Tensor, _output: Tensor) -> None:
        mean, var = norm.running_mean, norm.running_var
        assert mean is not None
        assert var is not None
        over = [d for d in range(inputs.ndim) if d != 1]
        now, center = torch.var_mean(inputs, over)
        before, after = (v.add(norm.eps).sqrt() for v in (var, now))
        norm.bias.add_(norm.weight * (center - mean) / before)
        norm.weight.mul_(after / before)
        mean.copy_(center)
        var.copy_(now)

    norms = {
        name: partial(adopt, module)
        for name, module in model.named_modules()
        if isinstance(module, BatchNorm) and module.affine and module.track_running_stats
        if _trains(module)
    }
    with evaluating(model), capture_calls(model, norms):
        model(images)


def _step(
    pruned: nn.Module,
    dense: nn.Module,
    batch: Tensor,
    optimizer: torch.optim.Optimizer,
    how: Distillation,
) -> None:
    lowers = how.precision == "bfloat16" or (
        how.precision == AUTO and has_bfloat16(batch.device) and _single(pruned)
    )
    lower = torch.autocast(batch.device.type, torch.bfloat16, enabled=lowers)
    with evaluating(dense), lower:
        wanted = (_at_least_single(dense(batch)) / how.temperature).log_softmax(1)
    with evaluating(pruned), torch.enable_grad():
        for norm in pruned.modules():
            if isinstance(norm, BatchNorm) and len(batch) > 1 and _trains(norm):
                norm.train()
        with lower:
            found = (_at_least_single(pruned(batch)) / how.temperature).log_softmax(1)
        loss = how.temperature**2 * divergences(wanted, found).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _single(model: nn.Module) -> bool:
    return all(p.dtype == torch.float32 for p in model.parameters() if p.is_floating_point())


def _trains(norm: BatchNorm) -> bool:
    """Whether a norm may change: one whose scale or shift is frozen stays as it is."""
    return all(p.requires_grad for p in norm.parameters(recurse=False))


def _at_least_single(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _log_probabilities(model: nn.Module, images: Tensor, batch_size: int) -> Tensor:
    with evaluating(model):
        logits = [
            checked_logits(model(part), len(part), None, PREDICTIONS)
            for part in images.split(batch_size)
        ]
        return torch.cat(logits).log_softmax(1)


def _divergence(model: nn.Module, aim: Tensor, images: Tensor, how: Distillation) -> float:
    found = _log_probabilities(model, images, how.batch_size)
    return float(divergences(aim, found).mean())
