"""A table as a person reads it: in a terminal, in a notebook, by layer."""

import re

import pandas as pd
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import twoaxis
from empirical import measure
from empirical.commands.measure import who_may_go
from empirical.measuring.description import kinds_of_channels, layers_table
from tests.empirical.map_tables import measured

SHARED = "--page map.html --shard 1/2"


@pytest.fixture(scope="module")
def table():
    return measured()[2]


def test_a_layer_is_described_by_medians_and_by_who_is_special(table):
    frame = table.describe().set_index("layer")
    own = table.to_frame().groupby("layer")
    assert frame["channels"].tolist() == [8, 12]
    for name in ("peer_predictability", "task_information", "damage_alone", "recovered"):
        pd.testing.assert_series_equal(frame[name], own[name].median(), check_names=False)
    assert "dead 1, copies 2" in frame.loc["2", "affected"]


def test_a_table_is_printed_in_lines_that_fit_a_terminal(table):
    lines = str(table).splitlines()
    assert lines[0] == "AxisTable: 20 channels of 2 layers, 300 images, target logit margin"
    assert lines[2].split()[:2] == ["0", "8"]
    assert all(len(line) <= 105 for line in lines)
    assert repr(table) == "<AxisTable of 20 channels of 2 layers>"
    html = table._repr_html_()
    assert html.count("<tr") == 3
    assert "dead 1" in html


def test_layers_that_were_left_out_are_told_with_their_reason():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(64, 2))
    found = measure(model, [(torch.randn(60, 1, 8, 8), torch.arange(60) % 2)])
    assert "0                        left out: one channel, and so no peers" in str(found)
    rows = layers_table(found.axes, found.damage, found.skipped).set_index("layer")
    assert rows.loc["0", "skipped"] == "one channel, and so no peers"
    assert rows.loc["1", "skipped"] == ""


def test_each_channel_says_what_is_special_about_it(table):
    kinds = kinds_of_channels(table.axes)
    assert kinds[8 + 3] == "dead"
    assert "copies" in kinds[8 + 4]
    assert len(kinds) == 20


def test_the_terminal_names_who_goes_first_in_every_layer():
    plan = measured()[3]
    gone = plan.at_share(0.7)
    head, *lines = who_may_go(plan)
    assert "70%" in head
    assert len(lines) == sum(number > 0 for number in gone.values()) > 0
    for line in lines:
        found = re.match(r"  (\S+): ([\d, ]+) \((\d+) of (\d+)\)", line)
        name, listed, number, units = found.groups()
        assert [int(unit) for unit in listed.split(",")] == plan.order[name][: gone[name]].tolist()
        assert (int(number), int(units)) == (gone[name], len(plan.order[name]))


def test_the_command_writes_tables_and_the_page(tmp_path):
    page = tmp_path / "map.html"
    words = f"measure --model small_convnet --images 200 --out {tmp_path} --page {page} --forecast"
    done = CliRunner().invoke(twoaxis.app, words.split(), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    frame = pd.read_csv(tmp_path / "axes.csv")
    assert frame.loc[frame["layer"] == "conv1", "affected"].str.contains("collinear").all()
    assert "damage_alone" in frame
    assert pd.read_csv(tmp_path / "layers.csv")["channels"].notna().any()
    assert "Special in conv1: collinear 16" in done.output
    assert "What may go, the cheapest first" in page.read_text()
    assert '"law": [[' in page.read_text()
    sentences = done.output[done.output.index("- Measured:") :].replace("\n  ", " ").splitlines()
    assert sum(line.startswith("- ") for line in sentences) == 5
    for more, message in (("--forecast", "--forecast goes with --page"), (SHARED, "needs all")):
        with pytest.raises(ValueError, match=message):
            CliRunner().invoke(twoaxis.app, ["measure", *more.split()], catch_exceptions=False)
