"""Every theory notebook runs to its final assertions."""

from __future__ import annotations

import runpy
from pathlib import Path

import jupytext
import matplotlib
import pytest
from matplotlib.figure import Figure

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("theory_*.py"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: Path, tmp_path: Path) -> None:
    cells = jupytext.read(path).cells
    assert cells[0].cell_type == "markdown"
    assert "assert " in cells[-1].source
    with matplotlib.rc_context():
        names = runpy.run_path(str(path))
        figure = names["figure"]
        assert isinstance(figure, Figure)
        figure.savefig(tmp_path / "figure.png")
    assert all(axis.get_xlabel() and axis.get_ylabel() for axis in figure.axes)


def test_there_are_five() -> None:
    assert len(NOTEBOOKS) >= 5
