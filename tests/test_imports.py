"""The import directions of docs/architecture.md, and names that mean one thing."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("theory", "sim", "empirical")
ALLOWED = {
    "theory": {"theory"},
    "sim": {"sim", "theory"},
    "empirical": {"empirical", "theory"},
}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_they_may(package):
    for path in (ROOT / package).rglob("*.py"):
        ours = {name.split(".")[0] for name in imported(path)} & {*PACKAGES, "twoaxis", "tests"}
        assert ours <= ALLOWED[package], f"{path.relative_to(ROOT)} imports {ours}"


def test_theory_needs_neither_torch_nor_numba():
    for path in (ROOT / "theory").rglob("*.py"):
        roots = {name.split(".")[0] for name in imported(path)}
        assert not roots & {"torch", "torchvision", "numba", "pandas"}, path.name


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_resolve_to_their_objects_even_after_their_modules_are_loaded(package):
    module = importlib.import_module(package)
    for name in module.__all__:
        value = getattr(module, name)
        assert not isinstance(value, type(sys)), f"{package}.{name} is a module"


def test_importing_is_light():
    code = (
        "import sys, theory, sim, empirical, twoaxis\n"
        "heavy = {'torch', 'numba', 'sympy', 'matplotlib', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
