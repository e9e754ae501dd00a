"""The demo end to end, in its small setting, through the command line."""

import json
import re

import pandas as pd
import pytest
from typer.testing import CliRunner

import twoaxis
from empirical.data.tables import read_table


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
            for text in re.findall(r"(?<![\w.])[+-]?\d+(?:\.\d+)?%?", sentence):
                written = float(text.rstrip("%")) / (100 if text.endswith("%") else 1)
                decimals = len(text.rstrip("%").partition(".")[2]) + (2 if "%" in text else 0)
                rounding = 0.5000001 * 10**-decimals
                assert any(abs(written - value) <= rounding for value in known), (text, sentence)


def test_curves_compare_criteria_at_equal_cost(run):
    out, _ = run
    curves = read_table(out / "tables" / "pruning_curves.csv")
    by_request = curves.groupby("macs_requested")["macs_share"]
    assert (by_request.nunique() == 1).all()
    assert ((by_request.first() / by_request.first().index - 1).abs() < 0.01).all()
    assert set(curves["criterion"]) == {"-peer_predictability", "task_information", "l2", "random"}


def test_every_channel_is_lesioned_and_replaced(run):
    out, _ = run
    lesions = pd.read_csv(out / "tables" / "lesions.csv")
    assert len(lesions) == 2 * (16 + 32 + 32) * 2
    replaced = pd.read_csv(out / "tables" / "replacements.csv")
    assert set(replaced["kind"]) == {"all", "hull", "random"}
    assert (replaced["predicted"] <= 1).all()
    assert replaced.groupby("kind")["predicted"].mean().gt(0.5).all()
