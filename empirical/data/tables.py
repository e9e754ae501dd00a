"""Tables as they were written: the counterpart of `theory.shared.files.write_table`."""

from __future__ import annotations

import os

import pandas as pd

from theory.shared.files import unquoted


def read_table(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Return a table that `write_table` wrote; text that it put a quote before is as it was.

    Raises
    ------
    FileNotFoundError
        no such file.
    ValueError
        the file is no CSV.
    """
    try:
        table = pd.read_csv(path, encoding="utf-8")
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except ValueError as error:
        raise ValueError(
            f"table {os.fspath(path)!r} cannot be read as CSV ({error}). Delete it and start again "
            "what wrote it."
        ) from error
    for name in table.select_dtypes(exclude=["number", "bool"]):
        table[name] = table[name].map(unquoted)
    return table.rename(columns=unquoted)
