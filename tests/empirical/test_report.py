import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from empirical.report.page import Section, render, write_report
from theory.shared.findings import Finding


def section(stem="one", value=0.123456):
    figure = Figure()
    figure.subplots().plot([0, 1], [0, 1])
    return Section(
        title="What <was> found",
        findings=[Finding("It is {value:.2f}.", {"value": value})],
        figures={stem: (figure, "A line.")},
        tables={stem: pd.DataFrame({"layer": ["a", "b"], "score": [1.5, np.nan]})},
        shown={stem: "Scores"},
    )


def test_a_report_is_one_file_with_its_figures_and_tables_beside_it(tmp_path):
    page = write_report(tmp_path, "Title", "Lead.", [section()], formats=["png", "pdf"])
    html = page.read_text()
    assert "It is 0.12." in html
    assert '<td class="text">a</td><td>1.5</td>' in html
    assert "What &lt;was&gt; found" in html
    assert "data:image/png;base64," in html
    assert not re.search(r'(src|href)="(?!data:|#)', html), "the page loads something from outside"
    assert {p.name for p in (tmp_path / "figures").iterdir()} == {"one.png", "one.pdf"}
    findings = pd.read_csv(tmp_path / "tables" / "findings.csv")
    assert findings["value"].tolist() == [0.123456]
    assert not list(tmp_path.rglob("*.part"))


def test_a_table_without_columns_is_no_file(tmp_path):
    tables = {"empty": pd.DataFrame(), "full": pd.DataFrame({"a": [1]})}
    section = Section("t", tables=tables, shown={"empty": "Of nothing", "full": "one"})
    write_report(tmp_path, "t", "l", [section])
    assert {file.name for file in (tmp_path / "tables").iterdir()} == {"findings.csv", "full.csv"}
    page = render(tmp_path).read_text()
    assert "Of nothing: nothing to show." in page
    assert "tables/full.csv" in page
    assert "tables/empty.csv" not in page


def test_the_same_content_is_the_same_bytes(tmp_path):
    for folder in ("a", "b"):
        write_report(tmp_path / folder, "T", "L", [section()], formats=["pdf", "svg"])
    for path in (tmp_path / "a").rglob("*.*"):
        other = tmp_path / "b" / path.relative_to(tmp_path / "a")
        assert path.read_bytes() == other.read_bytes(), path.name


def test_rendering_again_gives_the_same_page(tmp_path):
    page = write_report(tmp_path, "T", "L", [section()])
    before = page.read_bytes()
    page.unlink()
    assert render(tmp_path).read_bytes() == before


def test_a_folder_without_a_report_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"report.json does not exist. Name the folder"):
        render(tmp_path)


def test_names_used_twice_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="figures must have names of their own; one is used twice"):
        write_report(tmp_path, "T", "L", [section(), section()])
    assert not list(tmp_path.iterdir())
