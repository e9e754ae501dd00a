"""The site's generated pages; `make docs` builds the whole site and refuses broken links."""

import re
from pathlib import Path

import pytest

import empirical
import sim
import theory
from scripts.documentation import (
    MOVED,
    columns_page,
    commands_page,
    long_form,
    package_page,
    site_link,
)

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("target", "source", "place", "link"),
    [
        ("theory/axes.py", "README.md", "index.md", "api/theory.md"),
        ("sim/experiments", "README.md", "index.md", "api/sim.md"),
        ("docs/results.md", "README.md", "index.md", "results.md"),
        ("CITATION.cff", "README.md", "index.md", "CITATION.cff"),
        ("../README.md", "docs/theory.md", "theory.md", "index.md"),
        ("../empirical/reading", "docs/theory.md", "theory.md", "api/empirical.md"),
        ("simulation.md", "docs/theory.md", "theory.md", "simulation.md"),
        ("nowhere.md", "docs/theory.md", "theory.md", "nowhere.md"),
    ],
)
def test_links_of_the_repository_work_on_the_site(target, source, place, link):
    assert site_link(target, source=source, place=place) == link


def test_parameters_of_the_short_form_get_descriptions():
    short = "Sum.\n\nParameters\n----------\nx, y : (n,) numbers,\n    or none."
    below = "\n    (n,) numbers,\n    or none."
    assert long_form(short, "") == f"Sum.\n\nParameters\n----------\nx{below}\ny{below}"


def test_what_follows_the_sections_has_its_place():
    short = "Sum.\n\nReturns\n-------\nThe sum;\n0 for none.\n\nSource: Euler.\n\n>>> 1 + 1\n2"
    assert long_form(short, "float") == (
        "Sum.\n\nSource: Euler.\n\nReturns\n-------\nfloat\n    The sum;\n    0 for none.\n\n"
        "Examples\n--------\n>>> 1 + 1\n2"
    )


def test_the_long_form_stays_as_it_is():
    long = (
        "Sum.\n\nParameters\n----------\nx\n    Numbers.\n\n"
        "Returns\n-------\nfloat\n    The sum.\n\n"
        "Examples\n--------\n>>> 1 + 1\n2\n\nOr shorter:\n\n>>> 2\n2"
    )
    assert long_form(long, "float") == long


@pytest.mark.parametrize("package", [theory, sim, empirical], ids=lambda package: package.__name__)
def test_the_reference_has_every_public_name_once(package):
    entries = re.findall(r"^::: ([\w.]+)$", package_page(package.__name__), re.MULTILINE)
    assert sorted(entry.rpartition(".")[2] for entry in entries) == sorted(package.__all__)


def test_the_commands_page_names_every_option_and_escapes_its_help():
    page = commands_page()
    assert re.search(r"^## twoaxis theory verify$", page, re.MULTILINE)
    assert "| `--small` | `False` |" in page
    assert "train/&lt;class&gt;/*" in page


def test_the_columns_page_has_every_column_with_its_unit_and_direction():
    page, frame = columns_page(), set(theory.QUANTITIES) | {"damage_alone", "recovered"}
    for name in frame:
        assert f"| `{name}` |" in page
    assert "| `recovered` | prediction | share | 1 or less | more replaceable |" in page
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 7 for row in rows)


def test_every_page_is_in_the_navigation():
    config = (ROOT / "mkdocs.yml").read_text("utf-8")
    listed = re.findall(r": (\S+\.md)$", config, re.MULTILINE)
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/*.md")}
    assert pages | set(MOVED.values()) <= set(listed)
    assert "site_dir: site\n" in config
    assert "site/" in (ROOT / ".gitignore").read_text().split()
