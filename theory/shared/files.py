"""Atomic writes: a file is complete or absent, whenever the process is killed."""

from __future__ import annotations

import glob
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

CSV_DIGITS = "%.10g"
"""Ten digits: more than any estimate has, and free of the last bits that differ by platform."""


class Table(Protocol):
    """What a pandas DataFrame can do: theory does not import pandas."""

    def to_csv(self, *, index: bool, float_format: str, lineterminator: str) -> str: ...  # noqa: D102


@contextmanager
def atomic(path: str | os.PathLike[str], mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path` that replaces it when the block ends without an error."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    options: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    try:
        with os.fdopen(handle, mode, **options) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def remove_leftovers(*paths: Path) -> None:
    """Remove what killed writers of `paths` left. Only for who holds the lock of these files."""
    for path in paths:
        for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
            part.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic(path, "w") as stream:
        stream.write(text)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data`, atomically."""
    with atomic(path) as stream:
        stream.write(data)


def write_json(path: str | os.PathLike[str], value: object) -> None:
    """Write `value` as indented JSON; NaN and infinity are refused, since JSON has neither."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, default=str) + "\n")


def write_table(path: str | os.PathLike[str], table: Table) -> None:
    """Write a table as CSV, atomically."""
    write_text(path, table.to_csv(index=False, float_format=CSV_DIGITS, lineterminator="\n"))
