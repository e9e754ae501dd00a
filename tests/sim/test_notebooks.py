"""Every simulation notebook runs to its end, where it asserts what its figures show."""

import runpy
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("simulation_*.py"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_and_its_assertions_hold(path, capsys):
    runpy.run_path(str(path))
    assert "- " in capsys.readouterr().out


def test_the_code_of_the_documentation_runs(tmp_path, monkeypatch):
    text = (Path(__file__).parents[2] / "docs" / "simulation.md").read_text(encoding="utf-8")
    code = text.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "docs/simulation.md", "exec"), {})
    assert (tmp_path / "run.npz").exists()


def test_notebooks_are_found():
    assert len(NOTEBOOKS) == 3
