"""How a network is trained: a validated value, and the ready ones."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import torch
from torch import nn

from empirical.training.pretrained import classifier_of
from empirical.training.schedules import SCHEDULES
from theory.shared.validation import count, one_of, positive, truth, within

OPTIMIZERS = ("sgd", "adamw")
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Recipe:
    """Optimizer, schedule, augmentation and arithmetic of a training.

    Examples
    --------
    >>> Recipe(epochs=2, learning_rate=0.05).batch_size
    128
    >>> Recipe(epochs=2, schedule="cosin")
    Traceback (most recent call last):
    ValueError: schedule must be one of 'one_cycle', 'cosine'; got 'cosin'. Did you mean 'cosine'?
    """

    # How a configuration reads it: nothing unknown, no number for a truth value.
    __pydantic_config__: ClassVar = {
        "extra": "forbid",
        "strict": True,
        "use_attribute_docstrings": True,
    }

    epochs: float
    """May be fractional; every epoch leaves out the images that do not fill a batch."""
    batch_size: int = 128
    """Images of one gradient step."""
    learning_rate: float = 0.1
    """At the peak of the schedule."""
    optimizer: str = "sgd"
    """sgd or adamw."""
    backbone_rate: float = 1.0
    """Share of the learning rate for all but the classifier; 0.1 suits pretrained weights."""
    momentum: float = 0.9
    """Nesterov's, of SGD; AdamW has its usual (0.9, 0.999)."""
    weight_decay: float = 5e-4
    """Of weights; biases and normalization parameters have none."""
    schedule: str = "one_cycle"
    """one_cycle or cosine."""
    warmup: float = 0.2
    """Share of the steps on which the learning rate rises."""
    label_smoothing: float = 0.0
    """Share of the target that is spread over all classes."""
    crop_padding: int = 0
    """Images are shifted by up to so many pixels, reflected at the border."""
    flip: bool = False
    """Whether images are mirrored at random."""
    precision: str = "float32"
    """float32, or bfloat16 for convolutions and matrix products; weights stay float32."""
    channels_last: bool = False
    """Memory layout of images and weights."""
    compile: bool = False
    """Whether torch.compile is used."""
    turning: bool = True
    """Whether filters may turn; if not, only their lengths, the norms and the classifier learn."""

    def __post_init__(self) -> None:
        positive("epochs", self.epochs)
        count("batch_size", self.batch_size, least=2)
        positive("learning_rate", self.learning_rate)
        within("backbone_rate", self.backbone_rate, "(0, 1]")
        one_of("optimizer", self.optimizer, OPTIMIZERS)
        positive("weight_decay", self.weight_decay, zero=True)
        one_of("schedule", self.schedule, SCHEDULES)
        one_of("precision", self.precision, PRECISIONS)
        count("crop_padding", self.crop_padding, least=0)
        for name in ("flip", "channels_last", "compile", "turning"):
            truth(name, getattr(self, name))
        if not self.turning and self.optimizer != "sgd":
            raise ValueError(
                f"turning=False needs optimizer 'sgd', whose steps go along gradients; got "
                f"{self.optimizer!r}."
            )
        for name in ("momentum", "warmup", "label_smoothing"):
            within(name, getattr(self, name), "[0, 1)")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values, for JSON."""
        return asdict(self)

    def but(self, **changes: Any) -> Recipe:
        """Return this recipe with some settings changed."""
        return replace(self, **changes)

    def optimizer_for(self, model: nn.Module) -> torch.optim.Optimizer:
        """Return a new optimizer over the parameters of `model`.

        Each of its groups has the ``share`` of the learning rate that its parameters learn at.
        """
        head = f"{classifier_of(model)}." if self.backbone_rate != 1 else ""
        parts: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                kind = (parameter.ndim > 1, name.startswith(head))
                parts.setdefault(kind, []).append(parameter)
        groups = [
            {
                "params": parameters,
                "weight_decay": self.weight_decay if weights else 0.0,
                "share": 1.0 if in_head else self.backbone_rate,
            }
            for (weights, in_head), parameters in sorted(parts.items(), reverse=True)
        ]
        if self.optimizer == "adamw":
            return torch.optim.AdamW(groups, lr=self.learning_rate)
        return torch.optim.SGD(
            groups,
            lr=self.learning_rate,
            momentum=self.momentum,
            nesterov=self.momentum > 0,
        )


DIGITS = Recipe(epochs=15, batch_size=32)
"""small_convnet on the 8 × 8 digits: seconds on a CPU."""

PHOTOGRAPHS = DIGITS.but(crop_padding=2, flip=True)
"""small_convnet on the tiles of two photographs: seconds on a CPU."""

CIFAR = Recipe(
    epochs=30,
    batch_size=512,
    learning_rate=0.8,
    label_smoothing=0.1,
    crop_padding=4,
    flip=True,
    precision="bfloat16",
    channels_last=True,
    compile=True,
)
"""32 × 32 colour images on a GPU."""
