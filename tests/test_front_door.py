"""`twoaxis`: one name for one object, one version, a light start, and help that says everything."""

import importlib
import inspect
import os
import re
import subprocess
import sys
import tomllib
from itertools import combinations
from pathlib import Path

import pytest
from typer.testing import CliRunner

import twoaxis

ROOT = Path(__file__).parent.parent
PACKAGES = ("theory", "sim", "empirical")
PUBLIC = [
    (package, name) for package in PACKAGES for name in importlib.import_module(package).__all__
]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def fresh(*arguments, folder=ROOT):
    """Run a fresh interpreter in `folder` that finds this checkout after what lies there."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("package", "name"), PUBLIC)
def test_every_public_name_is_the_packages_own_object(package, name):
    assert getattr(twoaxis, name) is getattr(importlib.import_module(package), name)
    assert name in dir(twoaxis)


def test_building_the_command_line_hides_no_name():
    done = fresh(
        "-c", "import twoaxis, empirical; twoaxis.app; assert twoaxis.lesion is empirical.lesion"
    )
    assert done.returncode == 0, done.stderr


def test_what_the_reference_promises_is_there():
    names = (
        "measure",
        "lesion",
        "replace",
        "prune",
        "run",
        "simulate",
        "channel_axes",
        "catalogue",
    )
    assert set(names) <= {name for _, name in PUBLIC}


@pytest.mark.parametrize(("one", "other"), list(combinations(PACKAGES, 2)))
def test_no_two_packages_export_one_name(one, other):
    shared = {*importlib.import_module(one).__all__} & {*importlib.import_module(other).__all__}
    assert not shared


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'twoaxis' has no attribute 'nonsense'"):
        twoaxis.nonsense  # noqa: B018


@pytest.mark.parametrize("package", PACKAGES)
def test_the_lists_of_a_package_agree(package):
    module = importlib.import_module(package)
    assert dir(module) == sorted(module.__all__)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_that_it_is_typed(package):
    assert (ROOT / package / "py.typed").is_file()
    assert "py.typed" in PROJECT["tool"]["setuptools"]["package-data"][package]


# --- version --------------------------------------------------------------------------------------


def test_the_version_is_that_of_the_project():
    assert twoaxis.__version__ == PROJECT["project"]["version"]
    shown = CliRunner().invoke(twoaxis.app, ["--version"])
    assert shown.output == f"twoaxis {PROJECT['project']['version']}\n"


# --- strangers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", PACKAGES)
def test_a_file_that_shadows_a_package_is_named(package, tmp_path):
    planted = tmp_path / f"{package}.py"
    planted.write_text("everything = 42\n")
    shown = fresh("-m", "twoaxis", "--help", folder=tmp_path)
    assert shown.returncode == 2
    assert shown.stderr == (
        f"twoaxis: {package} must be twoaxis's own package {ROOT / package}; {planted} shadows it. "
        "Rename that file or folder, or start Python in another one.\n"
    )
    used = fresh("-c", "from twoaxis import simulate", folder=tmp_path)
    assert f"ImportError: {package} must be twoaxis's own package" in used.stderr


# --- lightness ------------------------------------------------------------------------------------

HEAVY = {"torch", "numba", "sympy", "matplotlib", "pandas", "pydantic", "numpy", "scipy", "rich"}


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import theory, sim, empirical, twoaxis", HEAVY),
        ("import twoaxis; twoaxis.app(['--help'], standalone_mode=False)", HEAVY),
        # typer reads the values of options with pydantic
        (
            "import twoaxis; twoaxis.app(['prune', '--help'], standalone_mode=False)",
            HEAVY - {"pydantic"},
        ),
        ("from theory import Moments", HEAVY - {"numpy"}),
        (
            "from empirical import measure",
            {"torchvision", "pandas", "matplotlib", "sklearn", "pydantic", "numba"}
            | {"scipy.stats", "scipy.optimize", "scipy.integrate", "torch_pruning"},
        ),
        ("from empirical import prune, run", {"torchvision", "torch_pruning", "timm"}),
    ],
)
def test_importing_is_light(code, heavy):
    done = fresh("-c", f"{code}\nimport sys\nprint('loaded', *sys.modules)")
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.splitlines()[-1].split()[1:])
    assert "sys" in loaded
    assert not heavy & loaded


# --- help -----------------------------------------------------------------------------------------


def help_of(*words):
    result = CliRunner().invoke(twoaxis.app, [*words, "--help"], terminal_width=10_000)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("group", [(), ("theory",), ("sim",)])
def test_every_command_is_listed_with_a_whole_sentence(group):
    result = CliRunner().invoke(twoaxis.app, [*group, "--help"])
    commands = result.output.partition("Commands:")[2].strip().splitlines()
    assert len(commands) >= 4
    for line in commands:
        assert line.endswith("."), line
        assert not line.endswith("..."), line


@pytest.mark.parametrize("command", ["run", "measure", "lesion", "prune", "demo", "report"])
def test_every_option_has_its_sentence(command):
    text = help_of(command).partition("Options:")[2]
    options = re.split(r"^  (?=--)", text, flags=re.MULTILINE)[1:]
    assert options
    for option in options:
        name, _, sentence = option.partition("  ")
        assert re.match(r"\s*[A-Za-z].*\.(\s|$)", sentence), name


def test_shared_options_are_the_same_in_every_command():
    shared = inspect.signature(
        importlib.import_module("empirical.commands.source").NetworkSource
    ).parameters
    assert len(shared) == 14
    for command in ("measure", "lesion", "prune"):
        text = help_of(command)
        for name in shared:
            assert f"--{name.replace('_', '-')} " in text, (command, name)
