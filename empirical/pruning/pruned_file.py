"""A pruned network on disk: structure as data, weights as safetensors, in one file.

The file does not hold the architecture's code. Loading takes a freshly built network of the
original shape (or builds it by name), cuts every module to the recorded sizes, and fills in the
weights. Nothing in the file is ever executed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from empirical.models import ModelSpec
from empirical.pruning.pruning_report import PrunedModel
from empirical.reading.networks import copied
from empirical.training.checkpoints import from_header, read_tensors, write_tensors
from theory.shared.validation import instance

FORMAT = "twoaxis.pruned/1"
SIZES = (
    "in_channels",
    "out_channels",
    "groups",
    "num_groups",
    "in_features",
    "out_features",
    "num_features",
    "num_channels",
    "normalized_shape",
    "num_parameters",
)
"""Attributes of a module that removal changes."""


@dataclass(frozen=True)
class _Header:
    """What the file says beside its tensors."""

    spec: ModelSpec | None
    modules: dict[str, dict[str, int | list[int]]]
    report: dict[str, Any]


@dataclass(frozen=True)
class LoadedModel:
    """A network read from a file, and what the file says of how it was pruned."""

    model: nn.Module
    spec: ModelSpec | None
    report: Mapping[str, Any]


def save_pruned(
    path: str | PathLike[str], pruned: PrunedModel, *, spec: ModelSpec | None = None
) -> Path:
    """Write `pruned` to `path`, atomically.

    Parameters
    ----------
    path : by convention ending in .safetensors.
    spec : how the original network is built by name; None for a network of your own, which
        `load_pruned` must then be given.

    Raises
    ------
    ValueError
        a masked network, whose shapes are those of the original.
    """
    instance("pruned", pruned, PrunedModel, "Pass what prune returns.")
    if spec is not None:
        instance("spec", spec, ModelSpec, "Pass ModelSpec(name, classes, image_size, channels).")
    if pruned.report.path != "removed":
        raise ValueError(
            f"pruned must have its channels removed to be saved; path is {pruned.report.path!r}. "
            "Prune with path='removed'."
        )
    header = {
        "pruned": FORMAT,
        "spec": None if spec is None else asdict(spec),
        "modules": structure(pruned.model),
        "report": asdict(pruned.report),
    }
    write_tensors(path, pruned.model.state_dict(), header)
    return Path(path)


def load_pruned(path: str | PathLike[str], model: nn.Module | None = None) -> LoadedModel:
    """Read a network written by `save_pruned`.

    Parameters
    ----------
    path : the file.
    model : a network of the original, unpruned shape, which is left as it is; not needed where
        the file names one of `empirical.models`. A file never chooses other code.

    Raises
    ------
    FileNotFoundError
        no such file.
    ValueError
        a foreign, truncated or inconsistent file, or a model of another shape.
    """
    tensors, header = read_tensors(path)
    if header.get("pruned") != FORMAT:
        raise ValueError(
            f"{path} is not a pruned network of save_pruned (format {FORMAT!r} expected, "
            f"{header.get('pruned')!r} found). A checkpoint is read by load_model."
        )
    said = from_header(_Header, header, path)
    spec = said.spec
    if model is not None:
        instance("model", model, nn.Module, "Build the network of the original shape.")
        loaded = copied(model)
    elif spec is not None:
        loaded = spec.build_for(str(path))
    else:
        raise ValueError(
            f"{path} holds a network that was not built by name. Pass model, a freshly built "
            "network of the original shape."
        )
    _reshape(loaded, said.modules, tensors, str(path))
    loaded.load_state_dict(tensors)
    return LoadedModel(loaded.eval(), spec, said.report)


def is_pruned(path: str | PathLike[str]) -> bool:
    """Whether `save_pruned` wrote the file; False of any other, broken or not."""
    try:
        with safe_open(path, framework="pt", device="cpu") as source:
            metadata = source.metadata() or {}
    except (SafetensorError, OSError):
        return False
    return FORMAT in "".join(metadata.values())


def structure(model: nn.Module) -> dict[str, dict[str, int | list[int]]]:
    """Sizes of every module that has any: module name -> attribute -> value.

    >>> structure(nn.Sequential(nn.Linear(2, 3)))
    {'0': {'in_features': 2, 'out_features': 3}}
    """
    found = {}
    for name, module in model.named_modules():
        sizes = {key: getattr(module, key) for key in SIZES if hasattr(module, key)}
        sizes = {key: list(v) if isinstance(v, tuple) else v for key, v in sizes.items()}
        sizes = {key: v for key, v in sizes.items() if isinstance(v, (int, list))}
        own = isinstance(module, nn.GroupNorm) or any(
            True for _ in module.parameters(recurse=False)
        )
        if sizes and own:
            found[name] = sizes
    return found


def _reshape(
    model: nn.Module, modules: Mapping[str, Any], tensors: Mapping[str, Tensor], path: str
) -> None:
    """Give `model` the recorded sizes, with parameters of the shapes in the file."""
    present = dict(model.named_modules())
    for name, sizes in modules.items():
        if name not in present:
            raise ValueError(
                f"{path} has a module {name!r}, which model does not have. Pass a freshly built "
                "network of the original shape."
            )
        module = present[name]
        for key, value in sizes.items():
            if key not in SIZES or not hasattr(module, key):
                raise ValueError(
                    f"{path}: {key!r} is no size of module {name!r} of model. Pass a freshly built "
                    "network of the original shape."
                )
            setattr(module, key, tuple(value) if isinstance(value, list) else value)
        if (
            f"{name}.bias" in tensors and getattr(module, "bias", tensors) is None
        ):  # merged peers gave it one
            module.bias = nn.Parameter(torch.empty(0))
    current = model.state_dict()
    if current.keys() != tensors.keys():
        odd = sorted(current.keys() ^ tensors.keys())[:3]
        raise ValueError(
            f"{path} and model do not have the same tensors; they differ in {odd}. Pass a freshly "
            "built network of the original shape."
        )
    for key, tensor in tensors.items():
        owner, _, attribute = key.rpartition(".")
        old = current[key]
        same_kind = tensor.is_floating_point() == old.is_floating_point()
        if (tensor.ndim != old.ndim and old.numel()) or not same_kind:
            raise ValueError(
                f"{path}: tensor {key!r} is {tensor.dtype} of shape {tuple(tensor.shape)}, model "
                f"has {old.dtype} of {tuple(old.shape)}. Pass a network of the original shape."
            )
        _resize(model.get_submodule(owner), attribute, tensor)


def _resize(module: nn.Module, attribute: str, tensor: Tensor) -> None:
    old = getattr(module, attribute)
    new = torch.empty(tensor.shape, dtype=tensor.dtype, device=old.device)
    if isinstance(old, nn.Parameter):
        setattr(module, attribute, nn.Parameter(new, requires_grad=old.requires_grad))
    else:
        setattr(module, attribute, new)
