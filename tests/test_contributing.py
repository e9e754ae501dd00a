"""CONTRIBUTING's table: its files exist, suffice, and one of each kind can be added."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import sympy
import torch
from torch import nn
from typer.testing import CliRunner

import twoaxis
from empirical import create_model, criterion_names, register_criterion
from empirical.models.factory import MODELS
from empirical.pruning.criterion import REGISTRY, criterion_of
from empirical.report.page import Section, write_report
from theory import ChannelAxes, find_closed_form, verify_form
from theory.formulas import catalogue, information
from theory.formulas.closed_form import ClosedForm, Oracle, Proof, Step
from theory.quantity import declared_quantities
from theory.shared.findings import Finding
from theory.shared.validation import Float

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
ROWS = {
    kind: [re.sub(r"<\w+>", "*", path) for path in re.findall(r"`([\w/<>]+\.\w+)`", cell)]
    for kind, cell in re.findall(r"^\| an? ([\w ]+) \| (.*) \|$", TEXT, re.MULTILINE)
}
EXAMPLES = {
    "quantity": r"\btask_unique\b",
    "criterion": r"\blamp\b",
    "closed form": r"\bresidualized_direction\b",
    "network": r"\bvgg16\b",
    "chapter": r"\brobustness_section\b",
    "command": r"def report\(|from empirical\.commands import .*\breport\b",
}
"""One of each that was added by touching the files of its row, as a pattern of its name."""


def files_that_name(pattern, *globs):
    return {
        path
        for glob in globs
        for path in ROOT.glob(glob)
        if re.search(pattern, path.read_text(encoding="utf-8"))
    }


def test_the_table_has_every_kind():
    assert ROWS.keys() == EXAMPLES.keys()


@pytest.mark.parametrize("kind", EXAMPLES)
def test_every_file_of_a_row_names_its_example_and_no_other_file_of_the_packages_does(kind):
    for pattern in ROWS[kind]:
        assert files_that_name(EXAMPLES[kind], pattern), pattern
    named = {path for pattern in ROWS[kind] for path in ROOT.glob(pattern)}
    packages = ("theory/**/*.py", "sim/**/*.py", "empirical/**/*.py", "twoaxis.py")
    assert files_that_name(EXAMPLES[kind], *packages) <= named


def test_a_quantity_is_a_field_that_says_what_it_is():
    about = {"axis": "local", "unit": "nats", "low": 0.0, "high": np.inf}
    about |= {"direction": "louder", "sentence": "How loud the channel is."}

    @dataclass(frozen=True, eq=False, kw_only=True)
    class Louder(ChannelAxes):
        loudness: Float = field(metadata=about)

    added = declared_quantities(Louder)
    assert list(added) == [*declared_quantities(ChannelAxes), "loudness"]
    assert added["loudness"].sentence == "How loud the channel is."


def test_a_criterion_is_a_registered_function():
    @register_criterion("loudness", axis="weights", source="a test")
    def loudness(known, group):
        return np.zeros(group.units)

    try:
        assert criterion_names()[-1] == "loudness"
        assert criterion_of("loudness").score is loudness
    finally:
        del REGISTRY["loudness"]


def test_a_closed_form_is_an_entry(monkeypatch):
    x = sympy.Symbol("x", positive=True)
    form = ClosedForm(
        name="loudness",
        item="T1",
        title="Half of x, twice.",
        lhs="L",
        symbols=(x,),
        expr=x / 2 + x / 2,
        domain="x > 0",
        source="a test",
        derive=lambda expr: Proof((Step("it is x", True, sympy.simplify(expr - x) == 0),)),
        point=lambda rng: {"x": float(rng.uniform(1, 2))},
        oracle=Oracle("doubling a half", lambda x: 2 * (0.5 * x), 1e-12),
    )
    catalogue.cache_clear()
    monkeypatch.setattr(information, "FORMS", (*information.FORMS, form))
    try:
        assert find_closed_form("loudness")(x=3.0) == 3.0
        assert verify_form(find_closed_form("loudness")).passed
    finally:
        catalogue.cache_clear()


def linear(*, classes, image_size, channels, width):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size**2, classes))


def test_a_network_is_a_name_for_a_builder(monkeypatch):
    monkeypatch.setitem(MODELS, "linear", f"{__name__}:linear")
    model = create_model("linear", classes=3, image_size=4, channels=2)
    assert model(torch.zeros(1, 2, 4, 4)).shape == (1, 3)


def test_a_chapter_is_a_section(tmp_path):
    section = Section("How loud?", [Finding("Channels are {loud:.1f} loud.", {"loud": 0.25})])
    page = write_report(tmp_path, "Title", "Lead.", [section]).read_text("utf-8")
    assert "How loud?" in page
    assert "Channels are 0.2 loud." in page


def test_a_command_is_a_function_on_the_line():
    line = twoaxis._command_line()

    @line.command()
    def loudness(channel: int) -> None:
        """Say how loud a channel is."""
        print(f"channel {channel} is loud")

    assert "Say how loud a channel is." in CliRunner().invoke(line, ["--help"]).output
    assert CliRunner().invoke(line, ["loudness", "3"]).output == "channel 3 is loud\n"


def test_the_commands_named_here_are_the_makefiles():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in re.findall(r"make ([\w-]+)", TEXT):
        assert re.search(rf"^{command}:", makefile, re.MULTILINE), command
    for command in ("test", "docs", "wheel-check"):
        assert re.search(rf"^make .*\b{command}\b", (ROOT / ".ci/run").read_text(), re.MULTILINE)


def test_commits_are_checked_by_the_tools_of_the_environment_alone():
    config = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert re.findall(r"repo: (\S+)", config) == ["local"]
    entries = re.findall(r"entry: \.venv/bin/(.*)", config)
    assert [entry.removesuffix(" --force-exclude") for entry in entries] == [
        "ruff format",
        "ruff check",
        "mypy",
    ]
