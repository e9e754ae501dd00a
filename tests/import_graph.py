"""Which file of the packages imports which, read from the source, and the circles among them.

Every import counts: of a file, inside a function, under ``TYPE_CHECKING``, and by a string, as in
tables of networks. A late import hides a circle from Python, but not from whoever must understand
one of the two files without the other. The name of a module whose code is fingerprinted is no
import.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

Graph = Mapping[str, set[str]]
"""Module → the modules that it imports, by their full names."""


def modules(root: Path, packages: tuple[str, ...]) -> dict[str, Path]:
    """Return every module of `packages` under `root`: full name → file."""
    found = {}
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported_names(path: Path) -> Iterator[str]:
    """Yield what a file imports, with ``from a import b`` as ``a.b``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"{path}:{node.lineno} imports relatively. Write the full name.")
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def named_in_strings(path: Path) -> Iterator[str]:
    """Yield ``a.b`` of every string "a.b:c", and of every call ``import_module("a.b")``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from re.findall(r"^(\w+(?:\.\w+)+):\w+$", node.value)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (arg.value for arg in node.args if isinstance(arg, ast.Constant))


def import_graph(root: Path, packages: tuple[str, ...]) -> Graph:
    """Return which module of `packages` imports which other one.

    A package's ``__init__`` counts as imported where a name is taken from it. That Python runs it
    before any module of the package is no circle.
    """
    files = modules(root, packages)
    graph = {}
    for module, path in files.items():
        names = {*imported_names(path), *named_in_strings(path)}
        owners = {name if name in files else name.rpartition(".")[0] for name in names}
        graph[module] = owners & files.keys() - {module}
    return graph


def folded(graph: Graph) -> Graph:
    """Return the graph of folders: modules taken together that agree in their first two names.

    A file beside the folders of its package, such as ``sim.sweep``, stands for itself.
    """
    rooms: dict[str, set[str]] = {}
    for module, targets in graph.items():
        rooms.setdefault(_room(module), set()).update(_room(target) for target in targets)
    return {room: targets - {room} for room, targets in rooms.items()}


def circle(graph: Graph) -> list[str]:
    """Return one circle in its order, the first module again at its end; empty if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def _room(module: str) -> str:
    return ".".join(module.split(".")[:2])
