"""Files that somebody else may have written: read as data, within limits, or refused by name.

Nothing here runs code of a file, and nothing takes more memory than the file's size allows.
"""

from __future__ import annotations

import json
import math
import os
import zipfile
import zlib
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

EXPANSION = 100
"""How many times its size on disk an archive may hold, beside `ALLOWANCE`."""

ALLOWANCE = 2**24
"""Bytes that any archive may hold: small ones compress far better than `EXPANSION`."""

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def parse_json(text: str | bytes, source: str) -> dict[str, Any]:
    """Return the JSON object in `text`, or say that `source` holds none.

    >>> parse_json("[1]", "header of 'a.npz'")
    Traceback (most recent call last):
    ValueError: header of 'a.npz' must be a JSON object; it is a list.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source} must be JSON; it is not ({error}).") from error
    if not isinstance(found, dict):
        raise ValueError(f"{source} must be a JSON object; it is a {type(found).__name__}.")
    return found


def read_arrays(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """Return the arrays of an .npz file by name.

    Refused are pickles, arrays whose header promises other than their member holds, and archives
    that would expand to more than `EXPANSION` times their size and `ALLOWANCE`.

    Raises
    ------
    FileNotFoundError
        no such file.
    ValueError
        what is wrong with the file.
    """
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            held, limit = sum(member.file_size for member in members), EXPANSION * _size(path)
            if held > limit + ALLOWANCE:
                raise ValueError(
                    f"it would expand to {held:,} bytes, more than {EXPANSION} times its size"
                )
            return {
                member.filename.removesuffix(".npy"): _array(archive, member) for member in members
            }
    except (
        ValueError,
        EOFError,
        IsADirectoryError,
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,  # compression that Python lacks
        RuntimeError,  # a password
    ) as error:
        raise ValueError(f"{os.fspath(path)!r} is no archive of plain arrays: {error}.") from error


def _size(path: str | os.PathLike[str]) -> int:
    return os.stat(path).st_size


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(member) as stream:
        version = npy.read_magic(stream)
        if version not in _HEADERS:
            raise ValueError(f"{member.filename!r} has an unknown format {version}")
        shape, by_column, dtype = _HEADERS[version](stream)
        if dtype.hasobject:
            raise ValueError(f"{member.filename!r} is a pickle, which could run code")
        held = member.file_size - stream.tell()
        if any(length < 0 for length in shape) or math.prod(shape) * dtype.itemsize != held:
            raise ValueError(f"{member.filename!r} does not hold the {shape} values that it says")
        values = np.frombuffer(bytearray(stream.read()), dtype=dtype)
    return values.reshape(shape, order="F" if by_column else "C")
