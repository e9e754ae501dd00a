"""Where a command's network and images come from: one set of options, opened once."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from empirical.commands.options import CACHE, DATA, DEVICE, DOWNLOAD

if TYPE_CHECKING:
    import torch
    from torch import nn

    from empirical.data.images import ImageLoader, ImageSet
    from empirical.models import ModelSpec
    from empirical.training.checkpoints import CheckpointInfo

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of every channel."""


@dataclass(frozen=True, kw_only=True)
class NetworkSource:
    """One network, from wherever its weights come, and the images that it is asked about.

    Without a checkpoint the network is as it is built: at random initialization, or as the user's
    callable returns it. Normalization is by default the checkpoint's, or else that of the training
    images. Draws of images, as everything else that is random, follow from `seed`.
    """

    data: Annotated[str, DATA] = "digits"
    model: Annotated[
        str | None,
        typer.Option(
            help="A name, package.module:callable or file.py:callable; not needed with a "
            "checkpoint of twoaxis."
        ),
    ] = None
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Weights: .safetensors (of a pruned network, too), or a .pt/.pth file that holds "
            "a state dict."
        ),
    ] = None
    key: Annotated[
        str | None,
        typer.Option(help="Entry of a .pt/.pth file that holds the state dict, where unusual."),
    ] = None
    image_size: Annotated[int | None, typer.Option(help="Resize and crop images to this.")] = None
    width: Annotated[float, typer.Option(help="Width multiplier of a network by name.")] = 1.0
    mean: Annotated[
        str | None, typer.Option(help="Normalization per channel, as 0.485,0.456,0.406.")
    ] = None
    std: Annotated[str | None, typer.Option(help="Likewise, as 0.229,0.224,0.225.")] = None
    batch_size: Annotated[int, typer.Option(min=1, help="Images in a batch.")] = 250
    seed: Annotated[
        int, typer.Option(help="Of images, positions, random draws and random weights.")
    ] = 0
    device: Annotated[str, DEVICE] = "auto"
    root: Annotated[Path, typer.Option(help="Where torchvision's data sets lie.")] = Path("data")
    download: Annotated[bool, DOWNLOAD] = False
    cache: Annotated[Path | None, CACHE] = None

    def open(self, images: tuple[int | None, int | None] = (None, None)) -> OpenNetwork:
        """Read the images, build the network, and load its weights.

        `images` are how many training and test images of a folder are needed, None for all: no
        others are decoded.

        Raises
        ------
        FileNotFoundError, ValueError
            For missing files, unknown names, and a network that does not fit the images.
        """
        from empirical.data.folders import DEFAULT_CACHE
        from empirical.data.loading import load_data
        from empirical.devices import chosen_device
        from empirical.models.probe import check_logits
        from empirical.seeding import checked_seed

        checked_seed("--seed", self.seed)
        import_from_here()
        device = chosen_device(self.device)
        train, test = load_data(
            self.data,
            root=self.root,
            image_size=self.image_size,
            download=self.download,
            cache=self.cache or DEFAULT_CACHE,
            images=images,
            draw=self.seed,
        )
        network, info = self._network(train)
        if (statistics := self._statistics(info)) is not None:
            mean, std = statistics
            train, test = replace(train, mean=mean, std=std), replace(test, mean=mean, std=std)
        check_logits(network, train)
        return OpenNetwork(self, network.to(device), train, test, device, info)

    def _network(self, images: ImageSet) -> tuple[nn.Module, CheckpointInfo | None]:
        """Build a network by name or from a checkpoint, for images like these."""
        from empirical.models import create_model
        from empirical.pruning.pruned_file import is_pruned, load_pruned
        from empirical.training.checkpoints import load_model, load_weights, written_here

        info = None
        if self.model is not None:
            network = create_model(
                self.model,
                classes=images.classes,
                image_size=images.image_size,
                channels=images.channels,
                width=self.width,
                seed=self.seed,
            )
            if self.checkpoint is not None and is_pruned(self.checkpoint):
                return load_pruned(self.checkpoint, network).model, None
            if self.checkpoint is not None:
                info = written_here(self.checkpoint)
                self._check_classes(info, images)
                load_weights(network, self.checkpoint, key=self.key)
            return network.eval(), info
        if self.checkpoint is None:
            raise ValueError(
                "model must be given where there is no checkpoint; both are missing. Pass --model, "
                "--checkpoint or both."
            )
        if is_pruned(self.checkpoint):
            return load_pruned(self.checkpoint).model, None
        if self.key is not None:
            raise ValueError(f"--key goes with --model and --checkpoint; got {self.key!r} alone.")
        network, info = load_model(self.checkpoint)
        self._check_classes(info, images)
        return network, info

    def _check_classes(self, info: CheckpointInfo | None, images: ImageSet) -> None:
        """Refuse images of other classes than those a checkpoint of twoaxis was trained on."""
        if info is not None and info.class_names != images.class_names:
            raise ValueError(
                f"checkpoint {str(self.checkpoint)!r} was trained on the {len(info.class_names)} "
                f"classes of {info.data}; {images.name} has {images.classes} others. Name the data "
                "that it was trained on."
            )

    def _statistics(self, info: CheckpointInfo | None) -> Statistics | None:
        """Return mean and std where they are given, else those of a checkpoint's training."""
        mean, std = numbers("mean", self.mean), numbers("std", self.std)
        if (mean is None) != (std is None):
            raise ValueError(f"mean and std must be given together; got mean={mean} and std={std}.")
        if mean is not None and std is not None:
            return mean, std
        return None if info is None else (info.mean, info.std)


@dataclass(frozen=True)
class OpenNetwork:
    """A network in evaluation mode on its device, with normalized training and test images.

    `info` is what a checkpoint of twoaxis says of itself, None for other networks.
    """

    source: NetworkSource
    network: nn.Module
    train: ImageSet
    test: ImageSet
    device: torch.device
    info: CheckpointInfo | None

    @property
    def name(self) -> str:
        """The model's name, or else the checkpoint's."""
        return str(self.source.model or self.source.checkpoint)

    @property
    def spec(self) -> ModelSpec | None:
        """How the network is built again; None where nobody says."""
        from empirical.models import ModelSpec

        name, images = self.source.model, self.train
        if name is None:
            return None if self.info is None else self.info.spec
        return ModelSpec(
            name, images.classes, images.image_size, images.channels, self.source.width
        )

    @property
    def weights(self) -> str:
        """Where the weights come from, in words."""
        if self.source.checkpoint is not None:
            return f"weights of {self.source.checkpoint}"
        if ":" in self.name:
            return f"weights as {self.name} returns them (no --checkpoint is given)"
        return f"RANDOM weights of seed {self.source.seed} (no --checkpoint is given)"

    def accuracy_line(self, images: ImageSet) -> str:
        """Whose weights these are and how well they classify: wrong ones are seen at once."""
        from empirical.training.evaluation import evaluate

        found = evaluate(self.network, self.loader(images), device=self.device)
        return (
            f"{self.name}: {self.weights}; accuracy on {found.images} images of {images.name}: "
            f"{found.accuracy:.1%}, by chance {1 / images.classes:.1%}"
        )

    def drawn(self, images: ImageSet, number: int) -> ImageSet:
        """Return `number` of these images, or all if there are fewer, drawn by class."""
        import numpy as np
        import torch

        from empirical.data.splits import stratified_draw

        rng = np.random.default_rng(self.source.seed)
        chosen = stratified_draw(images.labels.numpy(), min(number, len(images)), rng)
        return images.subset(torch.from_numpy(chosen))

    def loader(self, images: ImageSet) -> ImageLoader:
        """Return these images in batches."""
        from empirical.data.images import image_loader

        return image_loader(images, batch_size=self.source.batch_size)


def numbers(name: str, text: str | None) -> tuple[float, ...] | None:
    """Read numbers separated by commas.

    >>> numbers("mean", "0.5,0.25")
    (0.5, 0.25)
    """
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(
            f"--{name} must be numbers separated by commas, one per channel; got {text!r}."
        ) from None


def import_from_here() -> None:
    """Let package.module:callable find the user's own modules in the current folder."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
