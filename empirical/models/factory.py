"""From a name to a network with seeded weights, and back: what a checkpoint stores."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import logging
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from empirical.seeding import checked_seed, own_generators, seed_generators
from theory.shared.validation import count, instance, one_of, positive

MODELS: dict[str, str] = {
    "small_convnet": "empirical.models.small:small_convnet",
    "resnet18": "empirical.models.resnet:resnet18",
    "vgg16": "empirical.models.vgg:vgg16",
    "mobilenetv2": "empirical.models.mobilenet:mobilenetv2",
    "resnet50": "empirical.models.imagenet:resnet50",
    "convnext_tiny": "empirical.models.imagenet:convnext_tiny",
}
"""Name -> package.module:callable, called with classes, image_size, channels and width."""

CPU = torch.device("cpu")

_LOG = logging.getLogger("twoaxis")

LARGEST_NAMED = 2**31
"""Weights of the largest network that a file may ask for: 8 GiB."""

ALIASES = {
    "classes": ("classes", "num_classes", "n_classes"),
    "image_size": ("image_size", "img_size"),
    "channels": ("channels", "in_channels", "in_chans"),
    "width": ("width", "width_mult"),
}
"""What networks call the four options."""


@dataclass(frozen=True)
class ModelSpec:
    """All that is needed to build a network again: the architecture, without its weights.

    Examples
    --------
    >>> ModelSpec("small_convnet", classes=10, image_size=8, channels=1).build(seed=0).training
    True
    """

    name: str
    classes: int
    image_size: int
    channels: int = 3
    width: float = 1.0

    def __post_init__(self) -> None:
        _checked(self.name, self.classes, self.image_size, self.channels, self.width)

    def build(self, seed: int = 0) -> nn.Module:
        """Return the network with the initial weights of `seed`."""
        options = asdict(self)
        return create_model(options.pop("name"), seed=seed, **options)

    def build_for(self, file: str) -> nn.Module:
        """Return the network that `file` names: one of `MODELS`, since a file chooses no code.

        Raises
        ------
        ValueError
            Any other name; sizes out of range, or more than `LARGEST_NAMED` weights.
        """
        if self.name not in MODELS:
            raise ValueError(
                f"{file!r} names the network {self.name!r}, which is none of twoaxis's own "
                f"({', '.join(MODELS)}). A file may not choose which code runs: name the network "
                "yourself, with --model or by building it."
            )
        try:
            with torch.device("meta"):  # shapes without memory
                weights = sum(weight.numel() for weight in self.build().parameters())
        except (ValueError, TypeError, RuntimeError, OverflowError) as error:
            raise ValueError(f"{file!r} names a network that cannot be built: {error}") from error
        if weights > LARGEST_NAMED:
            raise ValueError(
                f"{file!r} names a network of {weights:,} weights, more than {LARGEST_NAMED:,}. "
                "Build it yourself and pass it."
            )
        return self.build()

    @property
    def own_code(self) -> tuple[str, ...]:
        """The user's module that builds this network, for the store; none for a network of ours."""
        return (self.name.rpartition(":")[0],) if ":" in self.name else ()


def create_model(
    name: str,
    *,
    classes: int,
    image_size: int,
    channels: int = 3,
    width: float = 1.0,
    seed: int = 0,
) -> nn.Module:
    """Return a network with freshly initialized weights.

    Parameters
    ----------
    name
        One of `MODELS`, or ``"package.module:callable"`` (``"file.py:callable"``) for any other
        network, yours or, say, ``"torchvision.models:mobilenet_v3_small"``. The callable gets
        those of classes (or num_classes), image_size, channels (or in_channels) and width that it
        has, and returns an `nn.Module` that maps (n, channels, image_size, image_size) to logits
        (n, classes).
    width
        Multiplies the number of channels of every layer (1 is the published network).
    seed
        Of the initial weights. torch's global generator is left as it was.

    Examples
    --------
    >>> model = create_model("small_convnet", classes=10, image_size=8, channels=1, seed=3)
    >>> model(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """
    checked_seed("seed", seed)
    options = _checked(name, classes, image_size, channels, width)
    builder = _builder(name)
    accepted = _accepted(name, builder, options)
    with own_generators(CPU):
        seed_generators(CPU, seed)
        model = builder(**accepted)
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model {name!r} must return a torch.nn.Module; it returned {type(model)}. Name a "
            "function or class that builds one."
        )
    return model


def checked_name(argument: str, name: str) -> str:
    """Return the name of a network if it is one of `MODELS` or names a callable of a module.

    >>> checked_name("model", "net.py")
    Traceback (most recent call last):
    ValueError: model must say which callable builds it; got 'net.py'. Give net.py:callable.
    """
    instance(argument, name, str, "Pass a name, or package.module:callable.")
    if name.endswith(".py"):
        raise ValueError(
            f"{argument} must say which callable builds it; got {name!r}. Give {name}:callable."
        )
    return name if ":" in name else one_of(argument, name, MODELS)


def _checked(
    name: str, classes: int, image_size: int, channels: int, width: float
) -> dict[str, float]:
    """Return the options of a network, each in its range."""
    checked_name("model", name)
    if count("classes", classes) < 2:
        raise ValueError(
            "classes must be a whole number >= 2; got 1. A network tells classes apart: give "
            "images of at least two, each in a folder train/<class> of its own."
        )
    return {
        "classes": classes,
        "image_size": count("image_size", image_size),
        "channels": count("channels", channels),
        "width": positive("width", width),
    }


def _builder(name: str) -> Callable[..., nn.Module]:
    module_name, _, attribute = MODELS.get(name, name).rpartition(":")
    if not module_name or not attribute:
        raise ValueError(
            f"model must name a module and a callable; got {name!r}. Pass package.module:callable."
        )
    try:
        module = _module_of_file(module_name, name) or importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"model {name!r}: module {module_name!r} cannot be imported ({error}). Run from the "
            "folder that holds it, or put that folder on PYTHONPATH."
        ) from error
    if not hasattr(module, attribute):
        public = [key for key, value in vars(module).items() if callable(value)]
        one_of(f"callable of {module_name!r}", attribute, public)
    builder: Callable[..., nn.Module] = getattr(module, attribute)
    if not callable(builder):
        raise TypeError(
            f"model {name!r} must name a callable; it is {type(builder).__name__}. Name a function "
            "or class that builds the network."
        )
    return builder


def _module_of_file(name: str, model: str) -> ModuleType | None:
    """Return the module in a file of the user's, where `name` is a path that ends in .py."""
    if not name.endswith(".py"):
        return None
    if not Path(name).is_file():
        raise ValueError(f"model {model!r}: file {name!r} does not exist. Give file.py:callable.")
    path = os.path.abspath(name)
    module, text = _once(path)
    if Path(path).read_bytes() != text:
        _LOG.warning(
            "%r has changed since this process read it: it stays as it was. Start Python again to "
            "use the change.",
            name,
        )
    return module


@functools.cache
def _once(path: str) -> tuple[ModuleType, bytes]:
    """The module in a file, and the file's content: read once, as what is imported by name is."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"model file {path!r} cannot be imported as a Python module.")
    text, module = Path(path).read_bytes(), importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, text


def _accepted(
    name: str, builder: Callable[..., nn.Module], options: dict[str, float]
) -> dict[str, float]:
    """Return the options under the names that `builder` has for them."""
    parameters = inspect.signature(builder).parameters
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    accepted = {}
    for option, value in options.items():
        known = [alias for alias in ALIASES[option] if alias in parameters]
        if known:
            accepted[known[0]] = value
        elif option == "classes" and takes_any:
            # torchvision's builders hand their keywords on; all of their networks have this one.
            accepted["num_classes"] = value
        elif option == "width" and value != 1.0:
            raise ValueError(
                f"width must be 1 for model {name!r}, which has no width; got {value!r}."
            )
    missing = [
        key
        for key, parameter in parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        and key not in accepted
    ]
    if missing:
        raise TypeError(
            f"model {name!r} must be built from classes, image_size, channels and width; it needs "
            f"{', '.join(missing)} too. Name a function that passes them."
        )
    return accepted
