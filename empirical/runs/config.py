"""The configuration of a run: a TOML file, checked key by key, with overrides from outside."""

from __future__ import annotations

import os
import tomllib
import types
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from empirical.training.recipes import Recipe
from theory.shared.validation import count, one_of, positive


@dataclass(frozen=True)
class DataConfig:
    """Which images, and which of them train, are measured, choose and report.

    `source` is a name or a folder, as for `load_data`; `calibration`, `selection` and `seed` are
    those of `split_data`.
    """

    source: str = "digits"
    root: str = "data"
    image_size: int | None = None
    calibration: int = 5000
    selection: float = 0.1
    seed: int = 0


@dataclass(frozen=True)
class ModelConfig:
    """Which network: a name or ``package.module:callable``, and its width."""

    name: str = "small_convnet"
    width: float = 1.0


@dataclass(frozen=True)
class MeasureConfig:
    """At which checkpoints, with which options, the axes are measured (see `empirical.measure`).

    Checkpoints are step 0, `checkpoints` steps evenly spaced in the logarithm, the last among
    them, and, if `epochs`, the end of every epoch.
    """

    checkpoints: int = 10
    epochs: bool = False
    target: str = "logit_margin"
    positions: int = 16
    sampling: str = "positions"
    groups: int = 10
    noise: str | float = "median"
    ridge: float = 0.0
    peers: int = 50
    top: int = 10
    bias_correction: bool = False
    hull: bool = False
    batch_size: int = 250
    permutations: int = 1000

    def __post_init__(self) -> None:
        count("measure.checkpoints", self.checkpoints, least=2)
        count("measure.permutations", self.permutations)

    def options(self) -> dict[str, Any]:
        """Return the keywords for `empirical.measure`."""
        own = ("checkpoints", "epochs", "batch_size", "permutations")
        return {key: value for key, value in asdict(self).items() if key not in own}


@dataclass(frozen=True)
class LesionConfig:
    """Whether the last checkpoint's channels are lesioned and replaced, on how many images."""

    enabled: bool = False
    images: int = 1000
    random_draws: int = 3

    def __post_init__(self) -> None:
        count("lesion.images", self.images, least=2)


@dataclass(frozen=True)
class PruningConfig:
    """Whether the trained networks go through the factorial of pruning, and with which factors.

    `images` of the calibration set are measured and recalibrated on; accuracies are on `report`
    of the report images (0: all of them). Batch norms are taken anew in batches of `batch_size`,
    which also decides the speed: depthwise layers like small ones. The other keys are those of
    `Factorial`; an empty list stands for its default.
    """

    enabled: bool = False
    images: int = 2000
    report: int = 0
    batch_size: int = 500
    criteria: tuple[str, ...] = ()
    allocations: tuple[str, ...] = ()
    recoveries: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()
    draws: int = 5

    def __post_init__(self) -> None:
        count("pruning.images", self.images, least=2)
        count("pruning.report", self.report, least=0)
        count("pruning.batch_size", self.batch_size)

    def factors(self) -> dict[str, Any]:
        """Return the keywords for `Factorial`."""
        names = ("criteria", "allocations", "recoveries", "shares")
        return {name: value for name in names if (value := getattr(self, name))} | {
            "draws": self.draws
        }


@dataclass(frozen=True)
class RunConfig:
    """All settings of a run. Paths of data and output are no part of what it computes.

    Examples
    --------
    >>> config = read_config({"training": {"epochs": 2}}, ["seeds=[0, 1]", "model.width=0.5"])
    >>> config.seeds, config.model.width, config.training.epochs
    ((0, 1), 0.5, 2)
    """

    title: str = ""
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "auto"
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: Recipe = field(default_factory=lambda: Recipe(epochs=15, batch_size=32))
    measure: MeasureConfig = field(default_factory=MeasureConfig)
    lesion: LesionConfig = field(default_factory=LesionConfig)
    pruning: PruningConfig = field(default_factory=PruningConfig)

    def __post_init__(self) -> None:
        positive("model.width", self.model.width)
        one_of("device", self.device.split(":")[0], ("auto", "cpu", "cuda"))
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(
                f"seeds must be different whole numbers >= 0, at least one; got {list(self.seeds)}."
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values, for JSON."""
        return asdict(self)


def read_config(
    source: str | os.PathLike[str] | Mapping[str, Any], overrides: Sequence[str] = ()
) -> RunConfig:
    """Read a TOML file (or a mapping of the same form) and apply ``section.key=value`` overrides.

    Values of overrides are TOML; a bare word is a string.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no TOML, or a section, key or value is unknown; the message names the nearest.
    """
    settings = dict(source) if isinstance(source, Mapping) else _read_toml(Path(source))
    for override in overrides:
        settings = _overridden(settings, override)
    return _build(RunConfig, settings, "")


def _read_toml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(
            f"config {str(path)!r} does not exist. Ready ones are in scripts/*.toml."
        )
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"config {str(path)!r} is not valid TOML: {error}.") from error


def _overridden(settings: dict[str, Any], override: str) -> dict[str, Any]:
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise ValueError(f"--set must be section.key=value; got {override!r}.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    changed = dict(settings)
    *sections, name = key.strip().split(".")
    inner = changed
    for section in sections:
        below = inner.get(section, {})
        if not isinstance(below, Mapping):
            raise ValueError(f"--set {override!r}: {section!r} is a value, not a section.")
        inner[section] = dict(below)
        inner = inner[section]
    inner[name] = value
    return changed


def _build(kind: type[Any], values: Mapping[str, Any], prefix: str) -> Any:
    hints = get_type_hints(kind)
    known = [item.name for item in fields(kind)]
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            one_of(f"config key {prefix}{name}", name, known)
        hint, where = hints[name], f"{prefix}{name}"
        if is_dataclass(hint) and isinstance(hint, type):
            if not isinstance(value, Mapping):
                raise ValueError(f"config section [{where}] must be a table; got {value!r}.")
            arguments[name] = _build(hint, value, f"{where}.")
        else:
            arguments[name] = _checked(where, value, hint)
    required = [f"{prefix}{item.name}" for item in fields(kind) if _is_missing(item, arguments)]
    if required:
        raise ValueError(f"config must set {', '.join(required)}.")
    return kind(**arguments)


def _is_missing(item: Any, arguments: Mapping[str, Any]) -> bool:
    from dataclasses import MISSING

    has_default = item.default is not MISSING or item.default_factory is not MISSING
    return not has_default and item.name not in arguments


def _checked(where: str, value: Any, hint: Any) -> Any:
    if get_origin(hint) is tuple:
        inner = get_args(hint)[0]
        if not isinstance(value, list | tuple):
            raise ValueError(f"config key {where} must be a list; got {value!r}.")
        return tuple(_checked(where, item, inner) for item in value)
    allowed = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    for kind in allowed:
        # bool is an int to Python, and 3 is a float to a reader of the file; only the second holds.
        if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
            return value
        if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
            return value
    names = " or ".join(kind.__name__ for kind in allowed if kind is not types.NoneType)
    raise ValueError(f"config key {where} must be {names}; got {value!r}.")
