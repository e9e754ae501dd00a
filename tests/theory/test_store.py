"""The store: what is made again and what is not, after damage, kills, changes, and two at once."""

import json
import math
import subprocess
import sys

import pytest

from theory.shared.store import Cells, Stage, content_hash, key_of


@pytest.fixture
def stage(tmp_path):
    """A stage of two files; `made` counts."""
    files = (tmp_path / "a.txt", tmp_path / "b.txt")
    return Stage(files, {"x": 1}, ("theory.shared.files",))


class Maker:
    def __init__(self, *files, text="whole"):
        self.files, self.text, self.made = files, text, 0

    def __call__(self):
        self.made += 1
        for file in self.files:
            file.write_text(f"{self.text} {file.name}")


DAMAGE = {
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:-3]),
    "overwritten": lambda file: file.write_bytes(b"?" * file.stat().st_size),
    "emptied": lambda file: file.write_bytes(b""),
    "deleted": lambda file: file.unlink(),
}


# --- stages -----------------------------------------------------------------------------------


def test_a_stage_is_made_once_and_its_record_says_from_what(stage):
    make = Maker(*stage.artifacts)
    assert [stage.ensure(make), stage.ensure(make)] == [True, False]
    assert make.made == 1
    record = stage.stored()
    assert record["inputs"] == {"x": 1}
    assert record["artifacts"] == {p.name: content_hash(p) for p in stage.artifacts}


@pytest.mark.parametrize(
    "other",
    [{"inputs": {"x": 2}}, {"inputs": {"x": 1, "y": 0}}, {"code": ("theory.shared.validation",)}],
    ids=["another value", "another input", "other code"],
)
def test_other_inputs_and_other_code_make_it_again(stage, other):
    make = Maker(*stage.artifacts)
    stage.ensure(make)
    changed = Stage(
        **{"artifacts": stage.artifacts, "inputs": stage.inputs, "code": stage.code} | other
    )
    assert changed.key != stage.key
    assert changed.ensure(make)
    assert not changed.ensure(make)
    assert stage.ensure(make)
    assert make.made == 3


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["a.txt", "b.txt", "a.txt.made-from.json"])
def test_whatever_is_damaged_is_made_again(stage, tmp_path, name, damage):
    make = Maker(*stage.artifacts)
    stage.ensure(make)
    DAMAGE[damage](tmp_path / name)
    assert not stage.is_current()
    assert stage.ensure(make)
    assert [p.read_text() for p in stage.artifacts] == ["whole a.txt", "whole b.txt"]
    assert not stage.ensure(make)


def test_what_depends_on_a_file_follows_its_content_and_only_that(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"

    def both(text, x):
        made = [Stage((first,), {"x": x}, ()).ensure(Maker(first, text=text))]
        inputs = {"first": content_hash(first)}
        return [*made, Stage((second,), inputs, ()).ensure(Maker(second))]

    assert both("one", 1) == [True, True]
    first.unlink()
    assert both("one", 1) == [True, False]  # made again, as it was
    assert both("one", 2) == [True, False]  # other inputs, the same content
    assert both("two", 3) == [True, True]


def test_a_stage_that_failed_is_not_taken_for_done(stage):
    whole = Maker(*stage.artifacts)

    def fail():
        stage.artifacts[0].write_text("half")
        raise RuntimeError("stopped")

    stage.ensure(whole)
    stage.artifacts[1].unlink()
    with pytest.raises(RuntimeError, match="stopped"):
        stage.ensure(fail)
    stage.artifacts[1].write_text("whole b.txt")
    assert not stage.is_current()
    assert stage.ensure(whole)


def test_a_stage_that_does_not_write_all_its_files_is_named(stage):
    with pytest.raises(FileNotFoundError, match=r"without writing \['b\.txt'\]"):
        stage.ensure(Maker(stage.artifacts[0]))
    assert not stage.is_current()


def test_leftovers_of_killed_writers_are_removed_and_nothing_else(stage, tmp_path):
    left = [".a.txt.k3j2.part", ".b.txt.00.part", ".a.txt.made-from.json.zz.part"]
    others = [".c.txt.k3j2.part", "a.txt.part", ".a.txt.notes"]
    for name in left + others:
        (tmp_path / name).write_text("half")
    stage.ensure(Maker(*stage.artifacts))
    names = {p.name for p in tmp_path.iterdir()}
    assert not names & set(left)
    assert set(others) <= names


@pytest.mark.parametrize("value", [object(), {1, 2}, {"x": b"1"}])
def test_inputs_that_are_no_plain_values_are_refused(value):
    with pytest.raises(TypeError, match="not JSON serializable"):
        key_of({"value": value})


# --- cells ------------------------------------------------------------------------------------


def squares(path, numbers, inputs=None, code=()):
    """The squares, and for which numbers they were computed now."""
    computed = []

    def square(x):
        computed.append(x)
        return {"square": x**2, "none": math.nan, "pair": (x, None)}

    with Cells(path, inputs or {}, code) as cells:
        found = [cells.ensure({"x": x}, lambda x=x: square(x)) for x in numbers]
    return [row["square"] for row in found], computed, found


def test_cells_are_computed_once_and_come_back_as_they_were_given(tmp_path):
    path = tmp_path / "cells.jsonl"
    first, second = squares(path, range(4)), squares(path, range(6))
    assert first[:2] == ([0, 1, 4, 9], [0, 1, 2, 3])
    assert second[:2] == ([0, 1, 4, 9, 16, 25], [4, 5])
    assert str(first[2]) == str(second[2][:4])
    assert math.isnan(second[2][0]["none"])
    assert second[2][3]["pair"] == [3, None]


def test_cells_of_other_inputs_and_other_code_are_kept_apart(tmp_path):
    path = tmp_path / "cells.jsonl"
    squares(path, [1, 2])
    assert squares(path, [1, 2], {"seed": 1})[1] == [1, 2]
    assert squares(path, [1, 2], code=("theory.shared.files",))[1] == [1, 2]
    assert squares(path, [1, 2])[1] == []


@pytest.mark.parametrize(
    ("damage", "again"),
    [
        (lambda lines: [lines[0], lines[1][:20], *lines[2:]], [1, 2]),
        (lambda lines: [*lines[:3], lines[3][:-5]], [3]),
        (lambda lines: [*lines[:3], lines[3].rstrip(b"\n")], [3]),
        (lambda lines: [lines[0].replace(b'"square": 0', b'"square": 7'), *lines[1:]], [0]),
        (lambda lines: [lines[0], b"[]\n", b'{"hash": 1}\n', *lines[1:3]], [3]),
        (lambda lines: [], [0, 1, 2, 3]),
    ],
    ids=["cut inside", "cut at the end", "no end of line", "another value", "foreign", "emptied"],
)
def test_damaged_cells_are_computed_again_and_only_they(tmp_path, damage, again):
    path = tmp_path / "cells.jsonl"
    squares(path, range(4))
    path.write_bytes(b"".join(damage(path.read_bytes().splitlines(keepends=True))))
    assert squares(path, range(4))[:2] == ([0, 1, 4, 9], again)
    assert squares(path, range(4))[1] == []
    assert len(path.read_bytes().splitlines()) == 4
    assert [json.loads(line)["cell"]["x"] for line in path.read_text().splitlines()].count(
        again[0]
    ) == 1


# --- two processes ----------------------------------------------------------------------------

TWO = """
import sys, time
from pathlib import Path
from theory.shared.store import Cells, Stage

folder = Path(sys.argv[1])

def computed(what):
    with (folder / "log").open("a") as stream:
        stream.write(what + "\\n")
    time.sleep(0.3)

def write():
    computed("stage")
    (folder / "a").write_text("half")
    time.sleep(0.3)
    (folder / "a").write_text("whole")

def cell(x):
    computed(f"cell {x}")
    return x

(folder / f"ready {sys.argv[2]}").touch()
while len(list(folder.glob("ready*"))) < 2:
    time.sleep(0.01)
Stage((folder / "a",), {}, ()).ensure(write)
assert (folder / "a").read_text() == "whole"
with Cells(folder / "cells.jsonl", {}, ()) as cells:
    assert [cells.ensure({"x": x}, lambda: cell(x)) for x in range(3)] == [0, 1, 2]
"""


def test_of_two_processes_on_one_folder_one_computes_and_the_other_waits(tmp_path):
    both = [
        subprocess.Popen(
            [sys.executable, "-c", TWO, str(tmp_path), name], stderr=subprocess.PIPE, text=True
        )
        for name in "ab"
    ]
    messages = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], messages
    assert (tmp_path / "log").read_text().split("\n")[:-1] == [
        "stage",
        "cell 0",
        "cell 1",
        "cell 2",
    ]
    assert "is being written by another process: waiting for it" in "".join(messages)
