"""The configuration of a run: every setting, its range and one sentence about it.

All of it is checked when it is read, before the first image is.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from empirical.measuring.targets import target_function
from empirical.models.factory import checked_name
from empirical.pruning.comparison import Factorial
from empirical.runs.config_text import explained, overridden
from empirical.seeding import LARGEST_SEED, checked_seed
from empirical.training.recipes import Recipe
from theory.axes import reference_noise
from theory.shared.validation import one_of, path_of

Count = Annotated[int, Field(ge=1)]
Several = Annotated[int, Field(ge=2)]
NotNegative = Annotated[int, Field(ge=0)]
Seed = Annotated[NotNegative, AfterValidator(partial(checked_seed, "seed"))]


class Section(BaseModel):
    """Settings of one subject; unknown keys, wrong types and values out of range are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class DataConfig(Section):
    """Which images, and which of them train, are measured, choose and report."""

    source: str = "digits"
    """digits, cifar10, cifar100, or a folder with train/<class>/* and test/<class>/*."""
    root: str = "data"
    """Where torchvision's data sets lie."""
    image_size: Count | None = None
    """Resize and crop images to this; without it they are as they come."""
    calibration: Several = 5000
    """Training images on which quantities are measured."""
    selection: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the training images that is held out from the gradient."""
    seed: Seed = 0
    """Of the draw of these images."""


def _model_name(name: str) -> str:
    return checked_name("name", name)


class ModelConfig(Section):
    """Which network is trained."""

    name: Annotated[str, AfterValidator(_model_name)] = "small_convnet"
    """A network's name, package.module:callable or file.py:callable."""
    width: Annotated[float, Field(gt=0)] = 1.0
    """Multiplies the number of channels of every layer."""
    init_from: str = ""
    """A checkpoint whose weights, all but the classifier's, training starts from; "" for none."""


def _target(name: str) -> str:
    target_function(name)
    return name


def _noise(noise: str | float) -> str | float:
    reference_noise(np.ones(1), noise)
    return noise


class MeasureConfig(Section):
    """When and how the axes are measured; see `empirical.measure`."""

    checkpoints: Several = 10
    """Beside step 0: steps evenly spaced in the logarithm, the last among them."""
    epochs: bool = False
    """Whether the end of every epoch is a checkpoint too."""
    target: Annotated[str, AfterValidator(_target)] = "logit_margin"
    """What the target axis asks about: logit_margin, true_logit, logit_pc1 or label."""
    positions: Count = 16
    """Random positions of each image's map."""
    sampling: Literal["positions", "pooled"] = "positions"
    """positions, or pooled for the mean over each map."""
    groups: Several = 10
    """Groups of images that the jackknife leaves out one at a time."""
    noise: Annotated[str | float, AfterValidator(_noise)] = "median"
    """Reference noise of a layer: median, mean, quantile:p, or a power."""
    ridge: Annotated[float, Field(ge=0)] = 0.0
    """On the correlation, for quantities that use all peers."""
    peers: Count = 50
    """How many of the most overlapping peers the target excess considers."""
    top: Count = 10
    """How many of the largest excesses over those peers are averaged."""
    bias_correction: bool = False
    """Whether the exact plug-in bias is subtracted from every information."""
    estimate: Literal["plug_in", "corrected", "in_out"] | None = None
    """Of what regresses on all peers; by default in_out, from inside and outside of groups."""
    hull: bool = False
    """Whether each channel's compact hull of peers is searched, which takes longer."""
    damage: bool = False
    """Whether what the prediction loses by each channel is foretold too, by a second pass."""
    batch_size: Count = 250
    """Images in a batch; the result does not depend on it."""
    permutations: Count = 1000
    """Of the null of the couplings."""
    map: bool = True
    """Whether the report maps every channel of the first network at its last step."""

    @model_validator(mode="after")
    def _check_sampling(self) -> Self:
        if self.damage and self.sampling != "positions":
            raise ValueError("damage needs sampling = 'positions', where regressions are fitted.")
        return self

    def options(self) -> dict[str, Any]:
        """Return the keywords for `empirical.measure`."""
        return self.model_dump(
            exclude={"checkpoints", "epochs", "batch_size", "permutations", "map"}
        )


class LesionConfig(Section):
    """Whether every channel of the trained networks is lesioned and replaced."""

    enabled: bool = False
    """Whether to do it."""
    images: Several = 1000
    """Report images on which damage is measured."""
    channels: NotNegative = 0
    """Channels of each layer, drawn at random; 0 for all of them."""
    random_draws: Count = 3
    """Draws of random peers."""


class PruningConfig(Section):
    """Whether the trained networks go through the factorial of pruning, and with which factors.

    The keys from `criteria` on are those of `Factorial`; an empty list stands for its default.
    """

    enabled: bool = False
    """Whether to do it."""
    images: Several = 2000
    """Calibration images that are measured and recalibrated on."""
    report: NotNegative = 0
    """Report images on which accuracy is measured; 0 for all of them."""
    batch_size: Count = 500
    """Images in a batch where batch norms are taken anew; depthwise layers like small ones."""
    criteria: tuple[str, ...] = ()
    """Which scores choose the channels that stay."""
    allocations: tuple[str, ...] = ()
    """How many channels each layer keeps: uniform, global or sensitivity."""
    recoveries: tuple[str, ...] = ()
    """What is done to a network after its channels are gone."""
    shares: tuple[float, ...] = ()
    """Shares of the multiply-accumulates to keep."""
    draws: Count = 5
    """How often a criterion that draws at random is repeated."""
    epochs: Annotated[float, Field(gt=0)] = 5.0
    """Of fine-tuning, in the recoveries that train on."""

    @model_validator(mode="after")
    def _check_factors(self) -> Self:
        Factorial(**self.factors())
        return self

    def factors(self) -> dict[str, Any]:
        """Return the keywords for `Factorial`."""
        names = ("criteria", "allocations", "recoveries", "shares")
        given = {name: value for name in names if (value := getattr(self, name))}
        return {**given, "draws": self.draws}


def _seeds(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0 or max(seeds) > LARGEST_SEED:
        raise ValueError(
            f"seeds must be different whole numbers from 0 to 2^63 - 1, at least one; got "
            f"{list(seeds)}."
        )
    return seeds


def _device(name: str) -> str:
    kind, colon, index = name.partition(":")
    one_of("device", kind, ("auto", "cpu", "cuda"))
    if colon and not (kind == "cuda" and index.isdecimal()):
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N; got {name!r}.")
    return name


class RunConfig(Section):
    """All settings of a run. Paths of data and output are no part of what it computes.

    Examples
    --------
    >>> config = read_config({"training": {"epochs": 2}}, ["seeds=[0, 1]", "model.width=0.5"])
    >>> config.seeds, config.model.width, config.training.epochs
    ((0, 1), 0.5, 2.0)
    """

    title: str = ""
    """Of the report; without one, network and data."""
    seeds: Annotated[tuple[int, ...], AfterValidator(_seeds)] = (0, 1, 2)
    """One network is trained for each."""
    device: Annotated[str, AfterValidator(_device)] = "auto"
    """cpu, cuda, cuda:1, or auto (a GPU if there is one)."""
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: Recipe = Recipe(epochs=15, batch_size=32)
    measure: MeasureConfig = MeasureConfig()
    lesion: LesionConfig = LesionConfig()
    pruning: PruningConfig = PruningConfig()

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values, for JSON."""
        return self.model_dump()


def read_config(
    source: RunConfig | str | os.PathLike[str] | Mapping[str, Any],
    overrides: Sequence[str] = (),
) -> RunConfig:
    """Read a TOML file, a mapping like one, or a `RunConfig`, and apply ``section.key=value``.

    Values of overrides are TOML; a bare word is a string.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no TOML, or a section, key or value is unknown or out of range: a line for each,
        which names the nearest.
    """
    if isinstance(source, RunConfig):
        source = source.to_dict()
    elif not isinstance(source, Mapping):
        source = path_of("config", source)
    settings = dict(source) if isinstance(source, Mapping) else _read_toml(Path(source))
    for override in overrides:
        settings = overridden(settings, override)
    try:
        # As JSON, lists may stand for tuples and nothing else for anything else.
        return RunConfig.model_validate_json(json.dumps(settings, default=str))
    except ValidationError as error:
        raise ValueError(explained(error, RunConfig.model_json_schema())) from None


def _read_toml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(
            f"config {str(path)!r} does not exist. Give one of scripts/*.toml, or your own."
        )
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"config {str(path)!r} is not valid TOML: {error}.") from error
