"""Reports: findings, figures and tables in one self-contained HTML file.

`write_report` writes the figures, the tables and an index, `report.json`; `render` turns a folder
with such an index into `report.html`. So a report can be rendered again, and read by programs.
"""

from __future__ import annotations

import base64
import io
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from matplotlib.figure import Figure
from pydantic import BaseModel, ConfigDict, ValidationError

from empirical.analysis.missing import NoDataError
from empirical.data.tables import read_table
from theory.shared.files import write_bytes, write_json, write_table, write_text
from theory.shared.findings import Finding
from theory.shared.foreign import parse_json
from theory.shared.style import styled

ENDINGS = {"figures": ".png", "tables": ".csv", "maps": ".json"}
"""Folder of a report -> how the files end that the page is made from."""

STYLES = ("page.css", "channel_map.css")
SCRIPTS = tuple(
    f"map_{part}.js" for part in ("data", "plot", "strips", "card", "table", "what_if", "main")
)


@dataclass(frozen=True)
class Section:
    """One chapter of a report.

    Attributes
    ----------
    title : heading.
    findings : sentences worded from numbers.
    figures : file stem -> (figure, caption).
    tables : file stem -> table; all are written, as CSV, those without columns left out.
    shown : stems of the tables that the page shows (small ones), each with its caption.
    note : what was done, in a few sentences.
    maps : file stem -> map of channels, as `map_file` packs it.
    """

    title: str
    findings: Sequence[Finding] = ()
    figures: Mapping[str, tuple[Figure, str]] = field(default_factory=dict)
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    shown: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    maps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        tables = {stem: table for stem, table in self.tables.items() if len(table.columns)}
        object.__setattr__(self, "tables", tables)


def chapter(title: str, make: Callable[[], Section]) -> Section:
    """Return what `make` returns; where it finds no data, a chapter that says what is missing.

    >>> def nothing() -> Section:
    ...     raise NoDataError("no layer has 8 channels.")
    >>> chapter("What explains damage?", nothing).note
    'Nothing to report: no layer has 8 channels.'
    """
    try:
        return make()
    except NoDataError as reason:
        return Section(title, note=f"Nothing to report: {reason}")


class _Chapter(BaseModel):
    """A chapter in the index; figures and shown tables by stem, with their captions.

    `empty`: captions of tables to show that have no columns, and so no file.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    title: str
    note: str
    findings: list[str]
    figures: dict[str, str]
    tables: list[str]
    shown: dict[str, str]
    empty: list[str] = []
    maps: list[str] = []


class _Index(BaseModel):
    """What `report.json` holds."""

    model_config = ConfigDict(extra="forbid", strict=True)
    title: str
    lead: str
    sections: list[_Chapter]


def write_report(
    out: str | os.PathLike[str],
    title: str,
    lead: str,
    sections: Sequence[Section],
    *,
    formats: Sequence[str] = ("png",),
) -> Path:
    """Write figures, tables, the index and the page; return the path of `report.html`.

    Figures and tables of an earlier report in `out` that this one does not have are removed.

    Parameters
    ----------
    out : folder, where `figures/`, `tables/`, `maps/`, `report.json` and `report.html` are written.
    title : of the page.
    lead : what the reader sees first.
    sections : in order.
    formats : of the figure files; "png" is the one that the page shows.
    """
    folder = Path(out)
    _refuse_repeats(sections)
    for name in ENDINGS:
        _refuse_outside(folder, folder / name)
    written = [folder / "tables" / "findings.csv"]
    write_table(written[0], findings_table(sections))
    for section in sections:
        for stem, (figure, _) in section.figures.items():
            for kind in dict.fromkeys(["png", *formats]):
                written.append(folder / "figures" / f"{stem}.{kind}")
                write_bytes(written[-1], figure_bytes(figure, kind))
        for stem, table in section.tables.items():
            written.append(folder / "tables" / f"{stem}.csv")
            write_table(written[-1], table)
        for stem, found in section.maps.items():
            written.append(folder / "maps" / f"{stem}.json")
            write_json(written[-1], dict(found))
    index = {
        "title": title,
        "lead": lead,
        "sections": [
            {
                "title": section.title,
                "note": section.note,
                "findings": [str(finding) for finding in section.findings],
                "figures": {stem: caption for stem, (_, caption) in section.figures.items()},
                "tables": list(section.tables),
                "shown": {s: c for s, c in section.shown.items() if s in section.tables},
                "empty": [c for s, c in section.shown.items() if s not in section.tables],
                "maps": list(section.maps),
            }
            for section in sections
        ],
    }
    write_json(folder / "report.json", index)
    there = {file for name in ENDINGS for file in folder.glob(f"{name}/*")}
    for file in there.difference(written):
        if file.is_symlink() or file.is_file():
            file.unlink()
    return render(folder)


def render(out: str | os.PathLike[str]) -> Path:
    """Write `report.html` from a folder's `report.json`, figures and tables.

    Nothing from outside the folder is read.

    Raises
    ------
    FileNotFoundError
        the folder holds no report, or lacks a figure, a table or a map of it.
    ValueError
        the index is malformed, or names a file outside the folder.
    """
    folder = Path(out)
    index_file = folder / "report.json"
    if not index_file.is_file():
        raise FileNotFoundError(
            f"{index_file} does not exist. Name the folder that `twoaxis demo` or `twoaxis run` "
            "wrote with --out."
        )
    _refuse_outside(folder, index_file)
    try:
        index = _Index.model_validate_json(index_file.read_bytes()).model_dump()
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(
            f"{index_file} is no index of a report ({'.'.join(map(str, first['loc']))}: "
            f"{first['msg']}). Start again what wrote it."
        ) from error
    for section in index["sections"]:
        section["figures"] = [
            {"stem": stem, "caption": caption, "data": _inline(_part(folder, "figures", stem))}
            for stem, caption in section["figures"].items()
        ]
        section["shown"] = [
            {"stem": stem, "caption": caption, "table": _html_table(_part(folder, "tables", stem))}
            for stem, caption in section["shown"].items()
        ]
        section["maps"] = [
            parse_json(file.read_bytes(), f"{file} (start again what wrote the report)")
            for file in (_part(folder, "maps", stem) for stem in section["maps"])
        ]
    page = folder / "report.html"
    write_text(page, page_html(**index))
    return page


def page_html(
    title: str, lead: str, sections: Sequence[Mapping[str, Any]], *, files: bool = True
) -> str:
    """The page, with everything that it needs inside.

    Parameters
    ----------
    title, lead : above everything.
    sections : with their figures, tables and maps as the template takes them.
    files : whether tables lie beside the page.
    """
    assets = resources.files("empirical.report").joinpath("assets")
    maps = any(section["maps"] for section in sections)

    def joined(names: Sequence[str]) -> str:
        return "".join(assets.joinpath(name).read_text(encoding="utf-8") for name in names)

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("empirical", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("page.html.jinja").render(
        title=title,
        lead=lead,
        sections=sections,
        files=files,
        maps=maps,
        style=joined(STYLES if maps else STYLES[:1]),
        script=joined(SCRIPTS) if maps else "",
    )


@styled()
def figure_bytes(figure: Figure, kind: str) -> bytes:
    """A figure as the bytes of a file, free of dates, so that the same figure is the same file."""
    stream = io.BytesIO()
    undated = {"png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
    figure.savefig(stream, format=kind, metadata=undated.get(kind))
    return stream.getvalue()


def findings_table(sections: Sequence[Section]) -> pd.DataFrame:
    """One row per number of every finding, so that each can be traced and reused."""
    rows = [
        {"section": section.title, "finding": number, "name": name, "value": value}
        for section in sections
        for number, finding in enumerate(section.findings, start=1)
        for name, value in finding.numbers().items()
    ]
    return pd.DataFrame(rows, columns=["section", "finding", "name", "value"])


def _refuse_repeats(sections: Sequence[Section]) -> None:
    for kind in ENDINGS:
        stems = [stem for section in sections for stem in getattr(section, kind)]
        repeated = sorted({stem for stem in stems if stems.count(stem) > 1})
        if repeated:
            raise ValueError(
                f"{kind} must have names of their own; {', '.join(repeated)} is used twice."
            )


def _part(folder: Path, kind: str, stem: str) -> Path:
    """Return the file that the index names, which lies in the folder."""
    file = folder / kind / f"{stem}{ENDINGS[kind]}"
    if Path(stem).name != stem or "\\" in stem or "\0" in stem:
        raise ValueError(f"{folder / 'report.json'} names {stem!r}, which is no name of a file.")
    _refuse_outside(folder, file)
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist. Start again what wrote the report.")
    return file


def _refuse_outside(folder: Path, path: Path) -> None:
    there = Path(os.path.realpath(path))
    if not there.is_relative_to(os.path.realpath(folder)):
        raise ValueError(
            f"{path} leads out of its folder, to {there}. A report reads and writes in "
            "its own folder only: replace the link by the file or folder itself."
        )


def _inline(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode("ascii")


def _html_table(path: Path) -> dict[str, list[object]]:
    table = read_table(path)
    return {
        "columns": [str(name).replace("_", " ") for name in table.columns],
        "text": [not pd.api.types.is_numeric_dtype(kind) for kind in table.dtypes],
        "rows": [[_cell(value) for value in row] for row in table.itertuples(index=False)],
    }


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.4g}"
    return str(value)
