"""A fingerprint of the code behind a result: a module, and every module of ours that it uses.

Imports are followed in the source, nothing is executed. A name that a package binds lazily leads to
the module that defines it, and a string such as ``"package.module:callable"`` to that module.
Comments, docstrings, layout and what only a type checker reads do not count.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

OURS = ("theory", "sim", "empirical")
"""Packages that are followed, beside those of the named modules."""

LIBRARIES = {
    "PIL": "pillow",
    "numba": "numba",
    "numpy": "numpy",
    "pandas": "pandas",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "torch": "torch",
    "torch_pruning": "torch-pruning",
    "torchvision": "torchvision",
}
"""Package -> distribution of what others wrote and numbers depend on: its version is followed."""

KEEPING = ("theory.shared.code", "theory.shared.store")
"""How results are kept is no part of what they are: these are not followed."""

_MODULE = re.compile(r"[A-Za-z_]\w*(\.\w+)+(:\w+)?")


@cache
def fingerprint(*modules: str) -> str:
    """Return a hash of the code of `modules` and of all they use: 16 hexadecimal digits.

    Of libraries that numbers depend on (`LIBRARIES`) the version counts, where they are used.
    Sources are read once per process: they are those that the process runs.

    Parameters
    ----------
    modules : dotted names, or paths of ``.py`` files

    Raises
    ------
    ValueError
        a module has no source file

    Examples
    --------
    >>> fingerprint("theory.hull") == fingerprint("theory.hull")
    True
    >>> "theory.shared.validation" in sources("theory.hull"), "theory.cli" in sources("theory.hull")
    (True, False)
    """
    digest = hashlib.sha256()
    files = sources(*modules)
    for name, file in sorted(files.items()):
        digest.update(f"{name}\n{ast.unparse(_tree(file))}\n".encode())
    digest.update(repr(sorted(versions(files).items())).encode())
    return digest.hexdigest()[:16]


def sources(*modules: str) -> dict[str, Path]:
    """Return the file of each of `modules` and of each module of ours that they use, by name."""
    packages = {*OURS, *(name.split(".")[0] for name in modules)}
    waiting, found = [_named(name) for name in modules], dict[str, Path]()
    while waiting:
        name = waiting.pop()
        file = _file(name)
        if file is None:
            raise ValueError(
                f"code must name modules with a source file; {name!r} has none. Put the function "
                "into a file that can be imported."
            )
        key = file.stem if name.endswith(".py") else name
        if key not in found:
            found[key] = file
            used = _used(_tree(file), name, file)
            waiting += [
                m for m in used if m.split(".")[0] in packages and m not in KEEPING and _file(m)
            ]
    return found


def versions(files: Mapping[str, Path]) -> dict[str, str]:
    """Return the version of each of `LIBRARIES` that any of the modules uses, by distribution.

    >>> "numpy" in versions(sources("theory.moments"))
    True
    """
    used = {
        name.split(".")[0] for key, file in files.items() for name in _used(_tree(file), key, file)
    }
    return {
        LIBRARIES[top]: importlib.metadata.version(LIBRARIES[top])
        for top in sorted(used & LIBRARIES.keys())
    }


def _named(name: str) -> str:
    """The name under which others import what runs as a script."""
    if name != "__main__":
        return name
    main = sys.modules[name]
    if main.__spec__ is not None:
        return main.__spec__.name
    return str(getattr(main, "__file__", name))


def _file(name: str) -> Path | None:
    if name.endswith(".py"):
        return Path(name) if Path(name).is_file() else None
    top, *inner = name.split(".")
    spec = None if top == "__main__" else importlib.util.find_spec(top)
    if spec is None:
        return None
    if not inner:
        return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    for place in spec.submodule_search_locations or ():
        below = Path(place, *inner)
        for file in (below.with_name(f"{below.name}.py"), below / "__init__.py"):
            if file.is_file():
                return file
    return None


@cache
def _tree(file: Path) -> ast.Module:
    """The parsed source without its docstrings."""
    tree = ast.parse(file.read_bytes())
    for node in ast.walk(tree):
        match node:
            case ast.Module(body=body) | ast.ClassDef(body=body) | ast.FunctionDef(body=body):
                # Bare strings: docstrings, and the sentences below constants.
                kept = [line for line in body if not _is_text(line)]
                node.body = kept or [ast.Pass()]
    return tree


def _is_text(line: ast.stmt) -> bool:
    return (
        isinstance(line, ast.Expr)
        and isinstance(line.value, ast.Constant)
        and isinstance(line.value.value, str)
    )


def _used(tree: ast.Module, name: str, file: Path) -> Iterator[str]:
    """The modules that a module imports or names, wherever in it."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    if package == name and "__getattr__" in ast.unparse(tree):
        # A package that binds lazily, used as a whole: any of its modules may be meant.
        yield from (f"{name}.{module.stem}" for module in file.parent.glob("*.py"))
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield from _binding(_absolute(node, package), alias.name)
        elif isinstance(node, ast.Constant) and _MODULE.fullmatch(str(node.value)):
            yield str(node.value).partition(":")[0]


def _absolute(node: ast.ImportFrom, package: str) -> str:
    return importlib.util.resolve_name("." * node.level + (node.module or ""), package)


def _binding(module: str, name: str) -> Iterable[str]:
    """Where ``from module import name`` finds its object."""
    if _file(f"{module}.{name}"):
        return [f"{module}.{name}"]
    file = _file(module)
    if file is None or file.name != "__init__.py":
        return [module]
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.ImportFrom) and name in {a.asname or a.name for a in node.names}:
            original = next(a.name for a in node.names if name == (a.asname or a.name))
            return _binding(_absolute(node, module), original)
    return [module]
