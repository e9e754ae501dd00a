"""The site's generated half: API pages from public names, and links that also work on the site.

mkdocs runs the functions `on_...` as hooks; griffe runs `Sections` on docstrings.
"""

from __future__ import annotations

import html
import importlib
import inspect
import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe
import typer.main
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
PACKAGES = ("theory", "sim", "empirical")
MOVED = {
    "README.md": "index.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
}
"""Pages that lie beside docs/ in the repository → their place on the site."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not lie in docs/."""
    pages = {place: (ROOT / source).read_text("utf-8") for source, place in MOVED.items()}
    pages |= {f"api/{package}.md": package_page(package) for package in PACKAGES}
    pages |= {"api/twoaxis.md": front_door_page(), "api/commands.md": commands_page()}
    pages["api/columns.md"] = columns_page()
    for place, text in pages.items():
        files.append(File.generated(config, place, content=text))
    for name in ("CITATION.cff", "LICENSE"):
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links, written for the repository, to their pages on the site."""
    place = page.file.src_uri
    source = next((name for name, moved in MOVED.items() if moved == place), f"docs/{place}")
    return re.sub(
        r"\]\((?!\w+:|#)([^)\s#]+)",
        lambda link: f"]({site_link(link[1], source=source, place=place)}",
        markdown,
    )


def site_link(target: str, *, source: str, place: str) -> str:
    """Return the link to `target`, written in the repository's `source`, from the page `place`.

    A source file becomes the reference page of its package. What is not there stays as it is, so
    that mkdocs refuses it.
    """
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    if not (ROOT / path).exists():
        return target
    package = path.split("/")[0]
    if package in PACKAGES:
        path = f"api/{package}.md"
    else:
        path = MOVED.get(path, path.removeprefix("docs/"))
    return posixpath.relpath(path, posixpath.dirname(place) or ".")


def package_page(name: str) -> str:
    """Return the reference of a package: its public names by the file that holds them."""
    package = importlib.import_module(name)
    by_module: dict[str, list[str]] = {}
    for public in package.__all__:
        by_module.setdefault(home(package, public), []).append(public)
    parts = [f"# {name}\n\n{inspect.getdoc(package)}\n"]
    for module, names in sorted(by_module.items()):
        title = (inspect.getdoc(sys.modules[module]) or "").partition("\n\n")[0]
        parts.append(f"## {module.removeprefix(f'{name}.')}\n\n{title}\n")
        parts += [f"::: {module}.{public}\n" for public in sorted(names, key=str.lower)]
    return "\n".join(parts)


def home(package: Any, public: str) -> str:
    """Return the module that defines a public name; griffe does not see what is loaded on use."""
    value = getattr(package, public)
    module = getattr(value, "__module__", None)
    if isinstance(module, str) and module.startswith(f"{package.__name__}."):
        return module
    return next(
        name
        for name, loaded in sorted(sys.modules.items())
        if name.startswith(f"{package.__name__}.") and vars(loaded).get(public) is value
    )


def front_door_page() -> str:
    """Return the list of what `twoaxis` offers, each name linked to its package's page."""
    twoaxis = importlib.import_module("twoaxis")
    rows = []
    for name in dir(twoaxis):
        for package in map(importlib.import_module, PACKAGES):
            if name in package.__all__:
                rows.append(f"| [`{name}`][{home(package, name)}.{name}] | {package.__name__} |")
    head = f"# twoaxis\n\n{inspect.getdoc(twoaxis)}\n\n| name | from |\n|---|---|\n"
    return head + "\n".join(rows) + "\n"


def commands_page() -> str:
    """Return the reference of the command line."""
    app = typer.main.get_command(importlib.import_module("twoaxis").app)
    sections = [f"# Commands\n\n{app.help}\n"]
    for path, command in commands(app, "twoaxis"):
        sections.append(f"## {path}\n\n{html.escape(inspect.cleandoc(command.help or ''))}\n")
        rows = [option_row(p) for p in command.params if p.name != "help"]
        if rows:
            sections.append("| | default | |\n|---|---|---|\n" + "\n".join(rows) + "\n")
    return "\n".join(sections)


def columns_page() -> str:
    """Return the page of every column of a table, from what the quantities say of themselves."""
    damages = importlib.import_module("empirical.measuring.damage_table").DAMAGES
    found = importlib.import_module("theory").quantities() | damages
    rows = [
        f"| `{name}` | {q.axis} | {q.unit} | {q.range} | {q.direction} | "
        f"{html.escape(q.sentence).replace('|', chr(92) + '|')} |"
        for name, q in found.items()
    ]
    head = (
        "# Columns\n\nOne number per channel each, in `AxisTable.to_frame()` and `axes.csv`. "
        "Beside each stands its standard error, `<name>_se`, of the jackknife over groups of "
        "images; with a permutation null also `<name>_null` and `<name>_p`. In `axes.csv`, "
        "`affected` says what is special about a channel.\n\n"
        "| column | axis | unit | range | larger means | what it is |\n|---|---|---|---|---|---|\n"
    )
    return head + "\n".join(rows) + "\n"


def commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield every command that does something, with the words that call it."""
    if not hasattr(command, "list_commands"):
        yield path, command
        return
    context = command.context_class(command)
    for name in command.list_commands(context):
        yield from commands(command.get_command(context, name), f"{path} {name}")


def option_row(parameter: Any) -> str:
    """Return the row of an argument or option in its command's table."""
    known = parameter.param_type_name == "option"
    names = ", ".join(f"`{n}`" for n in parameter.opts) if known else f"`{parameter.name}`".upper()
    default = parameter.default
    shown = "" if default is None or default is ... or callable(default) else f"`{default}`"
    text = html.escape(getattr(parameter, "help", None) or "").replace("|", "\\|")
    return f"| {names} | {'required' if parameter.required else shown} | {text} |"


class Sections(griffe.Extension):
    """Hand griffe the long form of NumPy's convention, where docstrings have the short one."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite the docstring of one object."""
        if obj.docstring:
            returns = str(obj.returns) if isinstance(obj, griffe.Function) else ""
            obj.docstring.value = long_form(inspect.cleandoc(obj.docstring.value), returns)


def long_form(docstring: str, returns: str) -> str:
    """Return a docstring whose descriptions stand below names, and whose examples have a title.

    In the short form "x, y : meaning" is one line, since types stand in the signature; a sentence
    says what is returned; a source and examples may follow the sections without a title.
    """
    prose: list[str] = []
    sections: list[str] = []
    for block in docstring.split("\n\n"):
        title = re.match(r"(\w[\w ]*)\n-+(\n|$)", block)
        if title:
            sections.append(_described(title[1], block, returns))
        elif block.startswith(">>>") and not (sections and sections[-1].startswith("Examples\n")):
            sections.append(f"Examples\n--------\n{block}")
        elif sections and (block.startswith(" ") or sections[-1].startswith("Examples\n")):
            sections[-1] += f"\n\n{block}"
        else:
            prose.append(block)
    return "\n\n".join(prose + sections)


def _described(title: str, section: str, returns: str) -> str:
    if title in ("Returns", "Yields"):
        head, line, *text = section.split("\n")
        if not any(row.startswith(" ") for row in text):
            return "\n".join([head, line, returns, *(f"    {row}" for row in text)])
    if title in ("Parameters", "Attributes"):
        return re.sub(r"(?m)^(\S.*?) : (.+(?:\n +.*)*)", _items, section)
    return section


def _items(item: re.Match[str]) -> str:
    return "\n".join(f"{name}\n    {item[2]}" for name in item[1].split(", "))
