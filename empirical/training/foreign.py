"""State dicts as others save them: inside a checkpoint's entries, and with prefixed names."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor

ENTRIES = ("state_dict", "model_state_dict", "model", "net", "network")
"""Entries of a checkpoint that hold the network, the surest first."""

PREFIXES = ("module.", "_orig_mod.", "model.")
"""What DataParallel and AveragedModel, torch.compile, and Lightning put before every name."""

AVERAGED = "n_averaged"
"""A count that AveragedModel saves beside the weights."""

COUNTER = "num_batches_tracked"
"""Of a batch norm: no output depends on it in evaluation, and old files lack it."""


def read_state_dict(file: Path, key: str | None = None) -> dict[str, Tensor]:
    """Return the state dict in a torch file, from its entry `key` or where it usually lies.

    The file is read with ``weights_only=True``: tensors and plain settings, never code.

    Raises
    ------
    ValueError
        A file that holds code, is damaged, or has no such entry; it lists the entries there are.
    """
    from pickle import UnpicklingError

    try:
        # settings of the training script lie beside the weights; a Namespace only holds values
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise ValueError(
            f"checkpoint {str(file)!r} holds more than tensors, or is damaged; it was not loaded, "
            "since loading it could run code. Save model.state_dict() alone."
        ) from error
    return dict(_entry(content, file, key))


def _entry(content: Any, file: Path, key: str | None) -> Mapping[str, Tensor]:
    if key is None and _is_state_dict(content):
        return content
    if not isinstance(content, dict):
        raise ValueError(
            f"checkpoint {str(file)!r} must hold a state dict, a mapping from names to tensors; "
            f"got {type(content).__name__}. Save model.state_dict()."
        )
    found = {str(name): value for name, value in content.items() if _is_state_dict(value)}
    known = [name for name in ENTRIES if name in found]
    if key is None and (known or len(found) == 1):
        return found[known[0] if known else next(iter(found))]
    if key is not None and key in found:
        return found[key]
    nested = content.get(key, content.get("model") if key is None else None)
    if isinstance(nested, dict) and any(map(_is_state_dict, nested.values())):
        return _entry(nested, file, None)
    entries = ", ".join(f"{str(name)!r} ({type(v).__name__})" for name, v in content.items())
    usable = ", ".join(map(repr, found)) or "none"
    asked = "" if key is None else f" at key {key!r}"
    raise ValueError(
        f"checkpoint {str(file)!r} must hold a state dict{asked}; its entries are "
        f"{entries or 'none'}, state dicts among them: {usable}. Name one with key= (--key), or "
        "save model.state_dict()."
    )


def _is_state_dict(value: object) -> TypeGuard[dict[str, Tensor]]:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(name, str) and isinstance(v, Tensor) for name, v in value.items())
    )


def fitted(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under the names of `expected`: without prefixes, counters filled in.

    Prefixes go where all names have one that the network's own names do not have.

    >>> one = torch.ones(1)
    >>> list(fitted({"module.model.a": one, "n_averaged": one}, {"a": one, "b": one}))
    ['a']
    """
    found = dict(tensors)
    if AVERAGED not in expected:
        found.pop(AVERAGED, None)
    while not found.keys() & expected.keys():
        prefix = next((p for p in PREFIXES if found and all(n.startswith(p) for n in found)), None)
        if prefix is None:
            break
        found = {name.removeprefix(prefix): value for name, value in found.items()}
    for name, value in expected.items():
        if name.endswith(COUNTER) and name not in found and f"{_norm(name)}running_mean" in found:
            found[name] = value
    return found


def _norm(name: str) -> str:
    return name.removesuffix(COUNTER)
