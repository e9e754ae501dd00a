"""The order of packages and folders that docs/architecture.md names."""

import ast
import importlib
import sys
from pathlib import Path

import pytest

from tests.import_graph import circle, folded, import_graph, imported_names, modules

ROOT = Path(__file__).parent.parent
PACKAGES = ("theory", "sim", "empirical")
ALLOWED = {
    "theory": {"theory"},
    "sim": {"sim", "theory"},
    "empirical": {"empirical", "theory"},
}
ORDER = (
    {"seeding", "devices"},
    {"data"},
    {"models"},
    {"reading"},
    {"training"},
    {"measuring"},
    {"lesions", "pruning"},
    {"analysis"},
    {"report"},
    {"runs"},
    {"commands"},
)
"""Folders and files of `empirical`. Each imports from earlier steps alone, not from its own."""


@pytest.fixture(scope="module")
def graph():
    return import_graph(ROOT, PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_they_may(package):
    for path in (ROOT / package).rglob("*.py"):
        roots = {name.split(".")[0] for name in imported_names(path)}
        ours = roots & {*PACKAGES, "twoaxis", "tests"}
        assert ours <= ALLOWED[package], f"{path.relative_to(ROOT)} imports {ours}"


def test_theory_needs_neither_torch_nor_numba():
    for path in (ROOT / "theory").rglob("*.py"):
        roots = {name.split(".")[0] for name in imported_names(path)}
        assert not roots & {"torch", "torchvision", "numba", "pandas"}, path.name


def test_every_folder_of_empirical_imports_from_earlier_ones_alone(graph):
    step = {room: number for number, rooms in enumerate(ORDER) for room in rooms}
    wrong = []
    for module, targets in graph.items():
        room = module.removeprefix("empirical.").split(".")[0]
        if not module.startswith("empirical."):
            continue
        assert room in step, f"empirical/{room} has no place in ORDER"
        for target in targets:
            other = target.removeprefix("empirical.").split(".")[0]
            ours = target.startswith("empirical") and other != room
            if ours and not (other in step and step[other] < step[room]):
                wrong.append(f"{module} imports {target}")
    assert not wrong, "\n".join(wrong)


def test_files_make_no_circle(graph):
    found = circle(graph)
    assert not found, " → ".join(found)


def test_folders_make_no_circle(graph):
    found = circle(folded(graph))
    assert not found, " → ".join(found)


def test_shared_tools_know_nobody(graph):
    for module, targets in graph.items():
        if module.startswith("theory.shared"):
            assert all(target.startswith("theory.shared") for target in targets), module


def test_forward_hooks_are_registered_by_the_reader_alone():
    raw = {"register_forward_hook", "register_forward_pre_hook"}
    others = []
    for module, path in modules(ROOT, PACKAGES).items():
        nodes = ast.walk(ast.parse(path.read_text("utf-8")))
        used = {node.attr for node in nodes if isinstance(node, ast.Attribute)} & raw
        if used and not module.startswith("empirical.reading."):
            others.append(f"{module} uses {', '.join(sorted(used))}")
    assert not others, "\n".join(others)


@pytest.fixture
def planted(tmp_path):
    """Write modules of the package `house`, given as file → source, and return their graph."""

    def plant(sources):
        for name, source in sources.items():
            path = tmp_path / "house" / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)
        return import_graph(tmp_path, ("house",))

    return plant


@pytest.mark.parametrize(
    "back",
    [
        "import house.hall.door\n",
        "from house.hall import door\n",
        "from house.hall.door import key\n",
        "def late():\n    from house.hall.door import key\n    return key\n",
        "if TYPE_CHECKING:\n    from house.hall.door import key\n",
        "TABLE = {'door': 'house.hall.door:key'}\n",
        "importlib.import_module('house.hall.door')\n",
    ],
)
def test_a_planted_circle_is_found_however_it_is_imported(planted, back):
    graph = planted({"hall/door": "from house.hall.lock import bolt\n", "hall/lock": back})
    assert graph["house.hall.lock"] == {"house.hall.door"}
    assert set(circle(graph)) == {"house.hall.door", "house.hall.lock"}
    assert not circle(folded(graph)), "both files are in one folder"


def test_a_circle_of_folders_is_found_where_no_file_is_in_one(planted):
    graph = planted(
        {
            "hall/door": "from house.attic.box import lid\n",
            "attic/box": "lid = 1\n",
            "attic/lamp": "import house.hall.mat\n",
            "hall/mat": "",
        }
    )
    assert not circle(graph)
    first, second, again = circle(folded(graph))
    assert first == again
    assert {first, second} == {"house.hall", "house.attic"}


def test_doors_and_sentences_make_no_circle(planted):
    graph = planted(
        {
            "hall/__init__": "from house.hall.door import key\n",
            "hall/door": '"""See house.hall."""\nfrom house.hall.lock import bolt\n',
            "hall/lock": "import os.path\nCODE = ('house.hall.door',)\n",
        }
    )
    assert graph["house.hall"] == {"house.hall.door"}
    assert graph["house.hall.door"] == {"house.hall.lock"}
    assert graph["house.hall.lock"] == set()
    assert not circle(graph)


def test_a_relative_import_is_refused(planted):
    with pytest.raises(ValueError, match=r"door\.py:1 imports relatively"):
        planted({"hall/door": "from .lock import bolt\n"})


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_resolve_to_their_objects_even_after_their_modules_are_loaded(package):
    module = importlib.import_module(package)
    for name in module.__all__:
        value = getattr(module, name)
        assert not isinstance(value, type(sys)), f"{package}.{name} is a module"
