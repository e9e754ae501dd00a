"""What is written: ten digits everywhere, no formulas, nothing half."""

import csv
import errno
import io
import os

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from empirical.data.tables import read_table
from theory.shared import files
from theory.shared.files import write_json, write_table
from theory.shared.store import Cells, Stage

FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\n=1", "'=1", "''-x"]
TEXT = ["-0.5", "+3", "-inf", "plain", "'tis", "a=b", "1-2"]


def test_no_cell_of_a_written_table_is_a_formula_and_all_are_read_as_they_were(tmp_path):
    table = pd.DataFrame({"name": [*FORMULAS, *TEXT], "-value": range(len(FORMULAS) + len(TEXT))})
    write_table(tmp_path / "t.csv", table)
    with (tmp_path / "t.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert [cell for cell, _ in rows[1:]] == [f"'{cell}" for cell in FORMULAS] + TEXT
    assert rows[0] == ["name", "'-value"]
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.csv"), table, check_dtype=False)


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)))
def test_any_text_is_written_without_formulas_and_read_back(cells):
    written = [files._cell(cell) for cell in cells]
    lines = [cell.replace("\r\n", "\n").replace("\r", "\n") for cell in cells]
    assert [files.unquoted(cell) for cell in written] == lines
    for cell in written:
        assert cell[0] not in "=+-@\t\r\n" or files._is_number(cell)


@pytest.mark.parametrize("others", [[], ["text"], [None], [3, "text"]], ids=str)
def test_floats_have_ten_digits_also_among_other_values(tmp_path, others):
    values = [1 / 3, -2e-7 / 3, 2e15 / 3, np.float64(1 / 7), np.float32(1 / 7), 5e-324, 0.25]
    column = pd.Series([*values, *others], dtype=object if others else None)
    write_table(tmp_path / "t.csv", pd.DataFrame({"value": column}))
    cells = (tmp_path / "t.csv").read_text().splitlines()[1:]
    for cell, value in zip(cells, values, strict=False):
        assert float(cell) == float(files.CSV_DIGITS % value)
        assert len(cell.split("e")[0].strip("-0.").replace(".", "")) <= 10


def test_whole_numbers_and_truth_values_stay(tmp_path):
    table = pd.DataFrame({"a": [12_345_678_901_234, 1], "b": [True, False], "c": [2**60, "x"]})
    write_table(tmp_path / "t.csv", table)
    assert (tmp_path / "t.csv").read_text() == (f"a,b,c\n12345678901234,True,{2**60}\n1,False,x\n")


def test_a_table_without_rows_or_columns_is_read_as_one(tmp_path):
    for table in (pd.DataFrame(), pd.DataFrame(columns=["a", "b"])):
        write_table(tmp_path / "t.csv", table)
        assert read_table(tmp_path / "t.csv").columns.tolist() == table.columns.tolist()


# --- disks ------------------------------------------------------------------------------------


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


WRITERS = {
    "table": lambda path: write_table(path, pd.DataFrame({"a": [1]})),
    "json": lambda path: write_json(path, {"a": 1}),
    "stage": lambda path: Stage((path,), {"b": 2}, ()).ensure(lambda: write_json(path, 1)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_what_was_there_and_names_the_file(tmp_path, monkeypatch, name):
    path = tmp_path / "file"
    path.write_text("before")
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match=r"file.*free some space and start again") as refused:
        WRITERS[name](path)
    assert refused.value.errno == errno.ENOSPC
    assert path.read_text() == "before"
    assert not list(tmp_path.glob(".*.part"))


def test_a_cell_on_a_full_disk_is_no_cell(tmp_path, monkeypatch):
    path = tmp_path / "cells.jsonl"
    with Cells(path, {}, ()) as cells:
        cells.add({"x": 1}, 1)

    class Full(io.StringIO):
        write = full

    with Cells(path, {}, ()) as cells:
        cells._stream.close()
        cells._stream = Full()
        with pytest.raises(OSError, match="No space"):
            cells.add({"x": 2}, 2)
    with Cells(path, {}, ()) as cells:
        assert (cells.get({"x": 1}), cells.get({"x": 2})) == (1, None)


@pytest.mark.parametrize("name", ["table", "json"])
def test_a_folder_that_may_not_be_written_is_named(tmp_path, monkeypatch, name):
    def refused(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "there")

    monkeypatch.setattr(files.tempfile, "mkstemp", refused)  # root may write everywhere
    with pytest.raises(PermissionError, match=r"cannot be written.*Choose another folder"):
        WRITERS[name](tmp_path / "file")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_could_be_written_is_not_made(tmp_path):
    files.check_writable(tmp_path / "new" / "folder")
    files.check_writable(tmp_path)
    assert not list(tmp_path.iterdir())


def test_where_nothing_can_be_written_is_said_at_once(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "there")

    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match=r"out must be a folder.*is a file\. Choose"):
        files.check_writable(tmp_path / "file" / "in")
    monkeypatch.setattr(files.tempfile, "TemporaryFile", refused)
    with pytest.raises(PermissionError, match=r"cannot be written.*Choose another folder"):
        files.check_writable(tmp_path / "new")
