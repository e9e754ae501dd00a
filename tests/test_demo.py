"""The demo end to end, in its small setting, through the command line."""

import json
import re

import pandas as pd
import pytest
from typer.testing import CliRunner

import twoaxis
from empirical.commands.demo_networks import DemoSettings, network_sections
from empirical.data.tables import read_table
from empirical.report.pruning import DEFAULT


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo")
    result = CliRunner().invoke(twoaxis.app, ["demo", "--small", "--out", str(out)])
    assert result.exit_code == 0, result.output
    return out, result.output


def test_the_terminal_ends_with_what_was_found_and_where(run):
    out, output = run
    assert "What was found" in output
    assert "report.html" in output.replace("\n", "")
    assert (out / "report.html").is_file()


def test_the_folder_holds_what_the_documentation_says(run):
    out, _ = run
    record = json.loads((out / "run.json").read_text())
    assert record["seeds"] == [0, 1]
    assert {"torch", "numpy", "python"} <= set(record["versions"])
    assert record["seconds"] > 0
    names = {path.stem for path in (out / "tables").glob("*.csv")}
    assert {"couplings", "lesions", "replacements", "pruning_curves", "findings"} <= names
    assert len(list((out / "figures").glob("*.png"))) >= 7
    assert not list(out.rglob("*.part"))


def test_every_number_of_the_findings_stands_in_the_tables(run):
    out, _ = run
    index = json.loads((out / "report.json").read_text())
    values = pd.read_csv(out / "tables" / "findings.csv")
    for section in index["sections"]:
        for number, sentence in enumerate(section["findings"], start=1):
            own = values[(values["section"] == section["title"]) & (values["finding"] == number)]
            known = pd.to_numeric(own["value"], errors="coerce").dropna().tolist()
            for text in re.findall(r"(?<![\w.])[+-]?\d+(?:\.\d+)?(?:e-\d+)?%?", sentence):
                written = float(text.rstrip("%")) / (100 if text.endswith("%") else 1)
                digits, _, power = text.rstrip("%").partition("e-")
                decimals = len(digits.partition(".")[2]) + int(power or 0) + 2 * ("%" in text)
                rounding = 0.5000001 * 10**-decimals
                assert any(abs(written - value) <= rounding for value in known), (text, sentence)


def test_curves_compare_criteria_at_equal_cost(run):
    out, _ = run
    curves = read_table(out / "tables" / "pruning_curves.csv")
    off = curves["macs_share"] / curves["macs_requested"] - 1
    by_damage = curves["criterion"] == DEFAULT[0]  # a unit of so small a network is 1.5 %
    assert (off[~by_damage].abs() < 0.01).all()
    assert off[by_damage].between(-0.02, 0.002).all()
    recipes = set(zip(curves["criterion"], curves["recovery"], strict=True))
    assert {
        ("dense", "none"),
        DEFAULT,
        ("task_information", "auto"),
        ("l2", "recalibrate"),
    } < recipes
    half = read_table(out / "tables" / "pruning_half.csv")
    assert half["recipe"][0] == "task replaceability, recovered"
    assert half["difference"][0] == 0
    dense = curves[curves["criterion"] == "dense"]["accuracy"].mean()
    assert half["before"].unique() == pytest.approx([dense])


def test_the_questions_of_a_person_come_first_and_linear_networks_last(run):
    out, _ = run
    titles = [s["title"] for s in json.loads((out / "report.json").read_text())["sections"]]
    assert [title.endswith("?") for title in titles[:3]] == [True] * 3
    assert titles[0] == "Are the two axes aligned?"
    assert "linear networks" in titles[-1]


def test_one_network_is_on_the_map_with_what_lesions_measured(run):
    out, _ = run
    found = json.loads((out / "maps" / "channels.json").read_text())["payload"]
    names = {column["name"] for column in found["columns"]}
    assert {"damage_alone", "measured_damage", "measured_damage_with_peers"} <= names
    assert sum(layer["channels"] for layer in found["layers"]) == 16 + 32 + 32
    assert found["plan"]["groups"]


@pytest.mark.parametrize("command", ["demo --small", "measure", "lesion", "prune"])
def test_an_out_that_cannot_be_written_is_refused_before_anything_is_computed(command, tmp_path):
    """The option --model names nothing that exists: it would be refused next."""
    (tmp_path / "file").write_text("")
    network = [] if command.startswith("demo") else ["--model", "none", "--data", "digits"]
    line = [*command.split(), *network, "--out", str(tmp_path / "file" / "in")]
    result = CliRunner().invoke(twoaxis.app, line)
    assert isinstance(result.exception, NotADirectoryError), result.exception
    assert "Choose another folder" in str(result.exception)


@pytest.mark.slow
def test_the_photographs_show_the_separation(tmp_path):
    """Ten networks: coupled at the start, apart at the end, in nine of ten or more."""
    settings = DemoSettings(shares=(0.5,), lesioned=1, draws=1, permutations=50)
    section = network_sections(settings, lambda what, share: None)[0]
    values = section.findings[0].values
    assert values["start"].mean >= 0.3
    assert values["change"].high < 0
    assert values["seeds"] == 10
    assert values["falls"] >= 9


def test_every_channel_is_lesioned_and_replaced(run):
    out, _ = run
    lesions = pd.read_csv(out / "tables" / "lesions.csv")
    assert len(lesions) == 2 * (16 + 32 + 32) * 2
    replaced = pd.read_csv(out / "tables" / "replacements.csv")
    assert set(replaced["kind"]) == {"all", "hull", "random"}
    assert (replaced["predicted"] <= 1).all()
    assert replaced.groupby("kind")["predicted"].mean().gt(0.5).all()
