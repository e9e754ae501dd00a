"""Public names of a package, each imported from its module when it is first used."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path


def on_first_use(package: str) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return the ``__getattr__`` and ``__dir__`` of a package whose modules load when needed.

    Which names are public, and where they come from, is written once: as imports under ``if
    TYPE_CHECKING`` in the package's ``__init__.py``, where type checkers and editors look too.

    Parameters
    ----------
    package : the package's ``__name__``.

    Examples
    --------
    >>> resolve, names = on_first_use("theory")
    >>> "Moments" in names(), resolve("Moments").__module__
    (True, 'theory.moments')
    """
    module = sys.modules[package]
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    homes = {
        alias.name: str(node.module)
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    def resolve(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(homes[name]), name)
        setattr(module, name, value)
        return value

    return resolve, lambda: sorted(homes)
