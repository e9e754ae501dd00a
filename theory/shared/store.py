"""Stages of a run: each artifact lies beside the hash of what it was made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from theory.shared.files import write_json

FORMAT = 1
"""Raised whenever a stage computes or writes something else from the same inputs."""


def key_of(inputs: Mapping[str, Any]) -> str:
    """Return a hash of plain values and of the stages' format: 16 hexadecimal digits."""
    text = json.dumps({"format": FORMAT, **inputs}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file: 16 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def is_current(artifact: Path, inputs: Mapping[str, Any]) -> bool:
    """Return whether `artifact` exists and was made from `inputs`."""
    record = _record(artifact)
    if not (artifact.exists() and record.is_file()):
        return False
    try:
        return bool(json.loads(record.read_text(encoding="utf-8")).get("key") == key_of(inputs))
    except json.JSONDecodeError:
        return False


def stage(artifact: Path, inputs: Mapping[str, Any], make: Callable[[], None]) -> bool:
    """Call `make`, which writes `artifact`, unless it was made from these inputs already.

    The record is removed before and written after, so that an artifact with a record is complete.

    Returns
    -------
    bool
        Whether `make` was called.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "answer.txt"
    ...     write = lambda: file.write_text("42") and None
    ...     [stage(file, {"question": q}, write) for q in (1, 1, 2)]
    [True, False, True]
    """
    if is_current(artifact, inputs):
        return False
    _record(artifact).unlink(missing_ok=True)
    artifact.parent.mkdir(parents=True, exist_ok=True)
    make()
    write_json(_record(artifact), {"key": key_of(inputs), "inputs": dict(inputs)})
    return True


def _record(artifact: Path) -> Path:
    return artifact.with_name(f"{artifact.name}.made-from.json")
