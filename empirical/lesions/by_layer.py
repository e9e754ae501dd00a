"""Lesions of many images and channels: a file per layer, which a later run finds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import CodeType
from typing import IO
from urllib.parse import quote

import torch
from torch import Tensor, nn

from empirical.lesions.interventions import Job
from empirical.lesions.scores import Loss
from empirical.lesions.table import LesionTable, images_of, joined
from empirical.reading.batches import batches
from theory.shared.files import atomic
from theory.shared.store import Stage

Run = Callable[[Sequence[Job], IO[bytes]], LesionTable]
"""Runs the jobs of a layer, the images' damages into a file."""


def lesion_by_layer(
    folder: Path,
    run: Run,
    model: nn.Module,
    loader: Iterable[object],
    jobs: Sequence[Job],
    loss: Loss,
) -> LesionTable:
    """Run the jobs of each layer that `folder` does not have; return the sums of all."""
    seen = [(b.digests(), b.labels) for b in batches(loader, classes=False)]
    common = {
        "network": _digest(repr(model), model.state_dict(), *_forwards(model), *_plain(model)),
        "images": _digest([b"".join(digests).hex() for digests, _ in seen]),
        "labels": _digest(*(labels for _, labels in seen)),
        "loss": _digest(*_code(loss)),
    }
    tables = []
    for name in dict.fromkeys(job.layer.name for job in jobs):
        own = [job for job in jobs if job.layer.name == name]
        path = folder / f"{quote(name, safe='')}.npz"  # a name may hold / or :
        lesions = [
            [job.kind, job.point, _digest(job.channels, repr(type(job.change)), vars(job.change))]
            for job in own
        ]

        def make(own: Sequence[Job] = own, path: Path = path) -> None:
            with atomic(images_of(path)) as stream:
                table = run(own, stream)
            table.save(path)

        Stage((path, images_of(path)), common | {"lesions": lesions}, (__name__,)).ensure(make)
        tables.append(LesionTable.load(path))
    return joined(tables)


def _forwards(model: nn.Module) -> list[object]:
    """What the forward passes of a network's own classes do."""
    kinds = dict.fromkeys(type(module) for module in model.modules())
    return [part for kind in kinds for part in _code(kind.forward)]


def _plain(model: nn.Module) -> list[object]:
    """Attributes of modules that are numbers, texts, functions or tuples of these, and hooks."""

    def told(value: object) -> list[object]:
        if isinstance(value, list | tuple):
            return [part for each in value for part in told(each)]
        if isinstance(value, bool | int | float | complex | str | bytes | torch.dtype | None):
            return [value]
        if callable(value) and not isinstance(value, nn.Module):
            python = getattr(value, "__code__", None) is not None
            return _code(value) if python else [getattr(value, "__qualname__", type(value))]
        return []

    found: list[object] = []
    for module in model.modules():
        own = {k: v for k, v in vars(module).items() if k[:1] != "_" and k != "training"}
        hooks = (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
        found += [part for name, value in own.items() for part in (name, *told(value))]
        found += [part for hook in hooks for part in told(hook)]
    return found


def _code(function: object) -> list[object]:
    """What a function does; of what is no Python function, an object that equals only itself."""
    code = function if isinstance(function, CodeType) else getattr(function, "__code__", None)
    if code is None:
        return [function]
    found: list[object] = [code.co_code, code.co_names]
    found += getattr(function, "__defaults__", None) or ()
    found += sorted((getattr(function, "__kwdefaults__", None) or {}).items())
    found += [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
    for constant in code.co_consts:
        if isinstance(constant, frozenset):  # in no order of its own
            constant = sorted(map(repr, constant))
        found += _code(constant) if isinstance(constant, CodeType) else [constant]
    return found


def _digest(*values: object) -> str:
    """Hash of texts, tensors, and mappings and lists of them."""
    found = hashlib.sha256()
    for value in values:
        if isinstance(value, dict):
            found.update(_digest(*(part for pair in value.items() for part in pair)).encode())
        elif isinstance(value, Tensor):
            found.update(f"{value.dtype}{tuple(value.shape)}".encode())
            array = value.detach().cpu().contiguous().reshape(-1)
            found.update(array.view(torch.uint8).numpy().data)
        else:
            found.update(repr(value).encode())
    return found.hexdigest()[:16]
