"""Habits of the source and of the tests that no linter holds."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parent.parent
SOURCES = [
    path
    for folder in ("theory", "sim", "empirical", "benchmarks", "scripts", "tests", "notebooks")
    for path in sorted((ROOT / folder).rglob("*.py"))
] + [ROOT / "twoaxis.py"]
TESTS = [path for path in SOURCES if path.is_relative_to(ROOT / "tests")]
CLOCKS = {"perf_counter", "process_time", "monotonic", "time", "thread_time"}


def nodes(path, kind):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return (node for node in ast.walk(tree) if isinstance(node, kind))


def called(node):
    return ast.unparse(node.func)


def google_sections(docstring):
    return re.findall(r"^\s*(Args|Arguments|Returns|Raises|Yields|Attributes):$", docstring, re.M)


def test_docstrings_have_one_dialect():
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for path in SOURCES:
        for node in nodes(path, kinds):
            found = google_sections(ast.get_docstring(node) or "")
            assert not found, f"{path.relative_to(ROOT)}: {found} in Google's style; use NumPy's"


def test_a_google_section_would_be_found():
    assert google_sections("Sum.\n\n    Args:\n        x: A number.\n") == ["Args"]
    assert not google_sections("Sum.\n\n    Parameters\n    ----------\n    x : a number.\n")


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_no_test_reads_a_clock(path):
    # A loaded machine is no defect: count operations, allocations or calls instead.
    for call in nodes(path, ast.Call):
        module, _, name = called(call).rpartition(".")
        assert not (module == "time" and name in CLOCKS), f"line {call.lineno}"
    for node in nodes(path, ast.ImportFrom):
        assert node.module != "time", f"line {node.lineno}"


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_deadlines_are_the_profiles_alone_and_clusters_take_a_free_port(path):
    for call in nodes(path, ast.Call):
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if called(call) == "settings":
            assert "deadline" not in options, f"line {call.lineno}"
        if called(call).endswith("LocalCluster"):
            assert options["scheduler_port"] == "0", f"line {call.lineno}"
            assert options["dashboard_address"] in ("None", "':0'"), f"line {call.lineno}"


@pytest.mark.parametrize("machine", ["", "1"], ids=["by hand", "in CI"])
@pytest.mark.parametrize(("profile", "seeded"), [("seeded", True), ("exploring", False)])
def test_the_environment_chooses_the_profile(monkeypatch, profile, seeded, machine):
    code = (
        "import tests.conftest; from hypothesis import settings as s; d = s.default;"
        "print(d.derandomize, d.deadline)"
    )
    monkeypatch.setenv("HYPOTHESIS_PROFILE", profile)
    monkeypatch.setenv("CI", machine)
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == [str(seeded), "None"]


def test_this_very_run_has_no_deadline():
    assert settings.default.deadline is None
