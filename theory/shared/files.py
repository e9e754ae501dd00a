"""Atomic writes: a file is complete or absent, whenever the process is killed."""

from __future__ import annotations

import errno
import glob
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral, Real
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from theory.shared.validation import path_of

CSV_DIGITS = "%.10g"
"""Ten digits: more than any estimate has, and free of the last bits that differ by platform."""

_FORMULA = re.compile(r"'*[=+\-@\t\n]")
"""What a spreadsheet would compute instead of show; quotes before it are ours."""


class Table(Protocol):
    """What a pandas DataFrame can do: theory does not import pandas."""

    def map(self, func: Callable[[Any], Any]) -> Table: ...  # noqa: D102
    def rename(self, *, columns: Callable[[Any], Any]) -> Table: ...  # noqa: D102
    def to_csv(self, *, index: bool, float_format: str, lineterminator: str) -> str: ...  # noqa: D102


@contextmanager
def atomic(path: str | os.PathLike[str], mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path` that replaces it when the block ends without an error."""
    target = path_of("path", path)
    if target.is_dir():
        raise IsADirectoryError(
            f"path must be a file to write; {str(target)!r} is a folder. Name a file in it."
        )
    options: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    with _said(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=target.parent, prefix=f".{target.name}.", suffix=".part"
        )
    try:
        with _said(target):
            with os.fdopen(handle, mode, **options) as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(name, 0o644)
            os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def _said(target: Path) -> Iterator[None]:
    """Say which file could not be written, and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = (
                f"no space left to write {str(target)!r}. What was written before is complete: "
                "free some space and start again to resume"
            )
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT):
            remedy = f"{str(target)!r} cannot be written. Choose another folder, or allow it"
        else:
            raise
        raise OSError(error.errno, remedy) from error


def check_writable(folder: str | os.PathLike[str]) -> None:
    """Refuse a folder that cannot be made or written in, before anything is computed for it.

    Nothing is left behind: the folder is made by the first write.

    Raises
    ------
    OSError
        where `folder` would lie cannot be written, or is a file.
    """
    path = path_of("out", folder)
    there = next(p for p in (path, *path.absolute().parents) if p.exists())
    if not there.is_dir():
        raise NotADirectoryError(
            f"out must be a folder; {str(path)!r} is not, since {str(there)!r} is a file. Choose "
            "another folder."
        )
    with _said(path):
        tempfile.TemporaryFile(dir=there).close()


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


def write_archive(
    path: str | os.PathLike[str],
    header: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
) -> None:
    """Write arrays by name, and a header as JSON beside them, to one .npz without pickles."""
    text = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    with atomic(path) as stream:
        np.savez(stream, allow_pickle=False, **arrays, header=text)


def write_json(path: str | os.PathLike[str], value: object) -> None:
    """Write `value` as indented JSON; NaN and infinity are refused, since JSON has neither."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, default=str) + "\n")


def write_table(path: str | os.PathLike[str], table: Table) -> None:
    """Write a table as CSV, atomically: `CSV_DIGITS` of every float, and no formulas.

    Text that a spreadsheet would compute (it begins with = + - @ and is no number) gets a quote in
    front; `unquoted` takes it away. Lines of a text end in a line feed alone.
    """
    plain = table.rename(columns=_cell).map(_cell)
    write_text(path, plain.to_csv(index=False, float_format=CSV_DIGITS, lineterminator="\n"))


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        text = value.replace("\r\n", "\n").replace("\r", "\n")  # csv leaves a bare \r unquoted
        return f"'{text}" if _FORMULA.match(text) and not _is_number(text) else text
    # to_csv formats columns of floats alone, not floats among other values
    fraction = isinstance(value, Real) and not isinstance(value, Integral)
    return float(CSV_DIGITS % value) if fraction else value


def unquoted(value: Any) -> Any:
    """Return the text of a cell that `write_table` wrote; what is no text stays.

    >>> unquoted("'-peer_overlap"), unquoted("'tis"), unquoted(-1.5)
    ('-peer_overlap', "'tis", -1.5)
    """
    quoted = isinstance(value, str) and value.startswith("'") and _FORMULA.match(value)
    return value[1:] if quoted else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
