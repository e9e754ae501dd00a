"""Weights on disk: safetensors, with everything needed to use them in the file's JSON header.

One file holds a checkpoint, so it is complete or absent. Reading one never executes code.
"""

from __future__ import annotations

import hashlib
import json
import os
import reprlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor, nn

from empirical.models import ModelSpec
from empirical.reading.networks import opened
from empirical.training.foreign import fitted, read_state_dict
from theory.shared.files import write_bytes
from theory.shared.foreign import parse_json
from theory.shared.validation import path_of

T = TypeVar("T")
_HEADER = "twoaxis"
_FORMAT = 1


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint says of itself.

    `spec` is None for a network that was not built by name: its weights can be loaded into a
    module that the caller has built, and into nothing else.
    """

    step: int
    epoch: float
    seed: int
    spec: ModelSpec | None
    data: str
    fingerprint: str
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    notes: dict[str, Any] = field(default_factory=dict)


def checkpoint_path(folder: str | os.PathLike[str], step: int) -> Path:
    """Return where the checkpoint of `step` lies in a training folder."""
    return Path(folder) / f"step-{step:07d}.safetensors"


def list_checkpoints(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the checkpoints of a training folder in the order of their steps."""
    return sorted(Path(folder).glob("step-*.safetensors"))


def save_checkpoint(path: str | os.PathLike[str], model: nn.Module, info: CheckpointInfo) -> Path:
    """Write the weights and buffers of `model` with `info`, atomically.

    Examples
    --------
    >>> import tempfile
    >>> spec = ModelSpec("small_convnet", classes=10, image_size=8, channels=1)
    >>> info = CheckpointInfo(0, 0.0, 7, spec, "digits", "", ("0",) * 10, (0.3,), (0.4,))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_checkpoint(checkpoint_path(folder, 0), spec.build(7), info)
    ...     model, read = load_model(path)
    >>> read.step, read.spec.name, next(model.parameters()).shape
    (0, 'small_convnet', torch.Size([16, 1, 3, 3]))
    """
    write_tensors(path, model.state_dict(), {"info": asdict(info)})
    return Path(path)


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], header: Mapping[str, Any]
) -> None:
    """Write tensors and a JSON header as one safetensors file, atomically."""
    # Shared weights appear under each of their names: copies keep the file free of aliases.
    owned = {
        name: value.detach().to("cpu", memory_format=torch.contiguous_format, copy=True)
        for name, value in tensors.items()
    }
    metadata = {_HEADER: json.dumps({"format": _FORMAT, **header})}
    write_bytes(path, serialize(owned, metadata))


def tensor_hash(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names and values: 16 hexadecimal digits.

    >>> tensor_hash({"a": torch.ones(2)}) == tensor_hash({"a": torch.zeros(2)})
    False
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().to("cpu").contiguous().reshape(-1)
        digest.update(name.encode())
        digest.update(value.view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the JSON header of a file that `write_tensors` wrote."""
    file = _existing(path)
    try:
        with safe_open(file, framework="pt", device="cpu") as source:
            header = _parsed(file, source.metadata())
            return {name: source.get_tensor(name) for name in source.keys()}, header  # noqa: SIM118
    except SafetensorError as error:
        raise _corrupt(file, error) from error


def read_info(path: str | os.PathLike[str]) -> CheckpointInfo:
    """Return what a checkpoint says of itself, without reading its weights."""
    file = _existing(path)
    try:
        with safe_open(file, framework="pt", device="cpu") as source:
            header = _parsed(file, source.metadata())
    except SafetensorError as error:
        raise _corrupt(file, error) from error
    return _info(file, header)


def written_here(path: str | os.PathLike[str]) -> CheckpointInfo | None:
    """Return what a checkpoint of twoaxis says of itself; None for a file of other origin.

    Raises
    ------
    FileNotFoundError, ValueError
        No such file; a malformed header of ours.
    """
    file = _existing(path)
    try:
        with safe_open(file, framework="pt", device="cpu") as source:
            metadata = source.metadata() or {}
    except SafetensorError:
        return None
    if _HEADER not in metadata:
        return None
    header = _parsed(file, metadata)
    return _info(file, header) if "info" in header else None


def load_model(
    path: str | os.PathLike[str], spec: ModelSpec | None = None
) -> tuple[nn.Module, CheckpointInfo]:
    """Build the network that a checkpoint describes, load its weights, and return both.

    The network is in evaluation mode.

    Parameters
    ----------
    path
        The file.
    spec
        How to build the network, whatever the file says. Needed where it names another one than
        those of `empirical.models`: reading a file never runs code that the file has chosen.
    """
    tensors, header = read_tensors(path)
    info = _info(Path(path), header)
    if spec is not None:
        model = spec.build()
    elif info.spec is not None:
        model = info.spec.build_for(os.fspath(path))
    else:
        raise ValueError(
            f"checkpoint {os.fspath(path)!r} does not say which network it belongs to. Build the "
            "network yourself and use load_weights(model, path)."
        )
    _load_into(model, tensors, path)
    return model.eval(), info


def load_weights(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    key: str | None = None,
    keep: str | None = None,
) -> None:
    """Load weights into `model`: a checkpoint of ours, any safetensors, or a torch state dict.

    A ``.pt`` or ``.pth`` file is read with ``weights_only=True``: tensors, never code. It may be a
    state dict or hold one in an entry, as training scripts, Lightning and SWA save it; prefixes of
    names that wrappers add are taken off.

    Parameters
    ----------
    model
        The network; what it is wrapped in (torch.compile, DataParallel) does not matter.
    path
        The file.
    key
        Which entry of a torch file holds the state dict. None takes the usual one, such as
        "state_dict", "model_state_dict", "model" or "net", or the only one.
    keep
        Weights whose names begin so stay those of `model`, whatever the file has for them.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is corrupt, holds something else, or belongs to another architecture; the
        message lists the entries found, or names the first weights that differ.
    """
    file, model = _existing(path), opened(model)
    if file.suffix in (".pt", ".pth", ".bin", ".ckpt", ".tar"):
        tensors = read_state_dict(file, key)
    elif key is not None:
        raise ValueError(
            f"key must be left out for {str(file)!r}: a safetensors file has no entries; got "
            f"{key!r}."
        )
    else:
        try:
            with safe_open(file, framework="pt", device="cpu") as source:
                tensors = {name: source.get_tensor(name) for name in source.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise _corrupt(file, error) from error
    own = model.state_dict()
    found = fitted(tensors, own)
    if keep is not None:
        found = {name: value for name, value in found.items() if not name.startswith(keep)}
        found |= {name: value for name, value in own.items() if name.startswith(keep)}
    _load_into(model, found, file)


def _existing(path: str | os.PathLike[str]) -> Path:
    file = path_of("checkpoint", path)
    if not file.is_file():
        raise FileNotFoundError(
            f"checkpoint {str(file)!r} does not exist. Give the path of a .safetensors file, for "
            "instance one of a run's train/ folder."
        )
    return file


def _parsed(file: Path, metadata: Mapping[str, str] | None) -> dict[str, Any]:
    if not metadata or _HEADER not in metadata:
        raise ValueError(
            f"checkpoint {str(file)!r} was not written by twoaxis: its header does not name a "
            "network. Pass the network with --model; its weights are then loaded from the file."
        )
    header = parse_json(metadata[_HEADER], f"header of checkpoint {str(file)!r}")
    if (found := header.get("format")) != _FORMAT:
        raise ValueError(
            f"checkpoint {str(file)!r} has format {reprlib.repr(found)}; this version reads format "
            f"{_FORMAT}. Write it again with this version."
        )
    return header


def _info(file: Path, header: dict[str, Any]) -> CheckpointInfo:
    if "info" not in header:
        raise ValueError(
            f"{str(file)!r} is a training state, not a checkpoint; give step-*.safetensors."
        )
    return from_header(CheckpointInfo, header["info"], file)


def from_header(kind: type[T], stored: object, file: str | os.PathLike[str]) -> T:
    """Return what a file's header says as a `kind`, every field present and of its type."""
    try:
        return TypeAdapter(kind).validate_json(json.dumps(stored), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "its content"
        raise ValueError(
            f"header of {os.fspath(file)!r} is malformed: {where}: "
            f"{first['msg'].rstrip('.')}. Write the file again with this version."
        ) from error


def _corrupt(file: Path, error: Exception) -> ValueError:
    return ValueError(
        f"checkpoint {str(file)!r} is not a complete safetensors file ({error}). Copy or train it "
        "again."
    )


def _load_into(
    model: nn.Module, tensors: Mapping[str, Tensor], path: str | os.PathLike[str]
) -> None:
    expected = model.state_dict()
    problems = [f"{name} is missing" for name in expected if name not in tensors]
    problems += [f"{name} is unknown" for name in tensors if name not in expected]
    problems += [
        f"{name} is {tuple(tensors[name].shape)} instead of {tuple(value.shape)}"
        for name, value in expected.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    if problems:
        more = f" and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise ValueError(
            f"checkpoint {os.fspath(path)!r} belongs to another architecture than "
            f"{type(model).__name__}: {'; '.join(problems[:4])}{more}. Build the network with the "
            "same name, width, number of classes and channels."
        )
    model.load_state_dict(dict(tensors))
