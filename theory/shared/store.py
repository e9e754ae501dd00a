"""The store: the only place that decides whether something must be computed again.

A key is a hash of the inputs and of the code that turns them into a result (`theory.shared.code`).
A result is current where its record has that key and every artifact still has the content that the
record names: what is missing, truncated or damaged is made again. What is computed from a file has
the file's `content_hash` among its inputs, so that it follows when the content changes, and only
then. A lock keeps two processes from computing one result twice: the second waits, and finds it.

`Stage` is for computations that write files, `Cells` for many small results in one file.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from filelock import FileLock, Timeout

from theory.shared.code import fingerprint
from theory.shared.files import atomic, remove_leftovers, write_json

_LOG = logging.getLogger("twoaxis")


def key_of(inputs: Mapping[str, Any], *code: str) -> str:
    """Return a hash of plain values, and of the code of modules: 16 hexadecimal digits.

    >>> key_of({"a": 1, "b": (2, 3)}) == key_of({"b": [2, 3], "a": 1})
    True
    """
    text = json.dumps([inputs, fingerprint(*code) if code else ""], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def content_hash(path: Path) -> str:
    """Return the SHA-256 of a file: 16 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of `path` among all processes; say so where another one has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        _LOG.warning("%s is being written by another process: waiting for it.", path)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@dataclass(frozen=True)
class Stage:
    """A computation that writes files.

    Parameters
    ----------
    artifacts : the files; the record, ``<name>.made-from.json``, lies beside the first
    inputs : JSON values; a file that is read enters by its `content_hash`
    code : modules that compute it, as for `fingerprint`

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "answer.txt"
    ...     write = lambda: file.write_text("42")
    ...     made = [Stage((file,), {"question": q}, ()).ensure(write) for q in (1, 1, 2)]
    ...     _ = file.write_text("4")
    ...     made, Stage((file,), {"question": 2}, ()).ensure(write)
    ([True, False, True], True)
    """

    artifacts: tuple[Path, ...]
    inputs: Mapping[str, Any]
    code: tuple[str, ...]

    @cached_property
    def key(self) -> str:
        """Hash of inputs and code."""
        return key_of(self.inputs, *self.code)

    @property
    def _record(self) -> Path:
        return self.artifacts[0].with_name(f"{self.artifacts[0].name}.made-from.json")

    def stored(self) -> dict[str, Any]:
        """Return the record: `key`, `inputs`, `code`, `artifacts`; empty if there is none."""
        try:
            record = json.loads(self._record.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError, RecursionError):
            return {}
        return record if isinstance(record, dict) else {}

    def is_current(self) -> bool:
        """Return whether every artifact is what this code made from these inputs."""
        record = self.stored()
        return record.get("key") == self.key and record.get("artifacts") == self._contents()

    def ensure(self, make: Callable[[], object]) -> bool:
        """Call `make`, which writes the artifacts, unless they are current.

        Returns
        -------
        bool
            Whether `make` was called.
        """
        with self.locked():
            if self.is_current():
                return False
            self.forget()
            make()
            self.record()
            return True

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of this stage; what killed writers left of its files is removed."""
        with locked(self.artifacts[0]):
            remove_leftovers(*self.artifacts, self._record)
            yield

    def forget(self) -> None:
        """Remove the record, before artifacts are written: those with a record are complete."""
        self._record.unlink(missing_ok=True)

    def record(self) -> None:
        """Write the record, after the artifacts."""
        contents = self._contents()
        missing = [name for name, content in contents.items() if not content]
        if missing:
            raise FileNotFoundError(
                f"stage in {self.artifacts[0].parent} was made without writing {missing}."
            )
        code = fingerprint(*self.code) if self.code else ""
        record = {"key": self.key, "inputs": self.inputs, "code": code, "artifacts": contents}
        write_json(self._record, record)

    def _contents(self) -> dict[str, str]:
        return {p.name: content_hash(p) if p.is_file() else "" for p in self.artifacts}


@dataclass
class Cells:
    """Many small results, a line each in one file, kept as they are found: a context manager.

    Damaged lines, and one cut short by a kill, are dropped and their cells computed again; lines
    with other inputs or by other code stay, for when these come back. The lock is held inside.

    Parameters
    ----------
    path : the file
    inputs : JSON values that all cells are made from, beside what names each
    code : modules that compute them, as for `fingerprint`

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for power in (2, 2, 3):
    ...         with Cells(Path(folder) / "powers.jsonl", {"power": power}, ()) as cells:
    ...             fresh = cells.get({"x": 5}) is None
    ...             print(fresh, cells.ensure({"x": 5}, lambda: {"y": 5**power}))
    True {'y': 25}
    False {'y': 25}
    True {'y': 125}
    """

    path: Path
    inputs: Mapping[str, Any]
    code: tuple[str, ...]
    _rows: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def __enter__(self) -> Cells:
        self._lock = locked(self.path)
        self._lock.__enter__()
        remove_leftovers(self.path)
        self._common = key_of(self.inputs, *self.code)
        lines = self.path.read_bytes().splitlines(keepends=True) if self.path.exists() else []
        whole = [line for line in lines if self._read(line)]
        # A link is replaced: lines that are added later belong to this folder's file.
        if len(whole) < len(lines) or self.path.is_symlink():
            with atomic(self.path) as stream:
                stream.writelines(whole)
        self._stream: TextIO = self.path.open("a", encoding="utf-8", newline="\n")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()
        self._lock.__exit__(kind, error, trace)

    def get(self, cell: Mapping[str, Any]) -> Any:
        """Return the result of `cell` as JSON gives it back; None if it is not known."""
        return self._rows.get(self._key(cell))

    def add(self, cell: Mapping[str, Any], result: Any) -> Any:
        """Keep the result of `cell`, JSON types and NaN; return it as `get` will."""
        row = json.loads(json.dumps({"key": self._key(cell), "cell": cell, "result": result}))
        self._stream.write(json.dumps(row | {"hash": _digest(row)}) + "\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._rows[row["key"]] = row["result"]
        return row["result"]

    def ensure(self, cell: Mapping[str, Any], make: Callable[[], Any]) -> Any:
        """Return the result of `cell`, which `make` computes if it is not known."""
        known = self.get(cell)
        return self.add(cell, make()) if known is None else known

    def _key(self, cell: Mapping[str, Any]) -> str:
        return key_of({"common": self._common, "cell": cell})

    def _read(self, line: bytes) -> bool:
        try:
            row = json.loads(line)
            whole = line.endswith(b"\n") and row.pop("hash") == _digest(row)
            if whole:
                self._rows[row["key"]] = row["result"]
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            return False
        return bool(whole)


def _digest(row: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()[:16]
