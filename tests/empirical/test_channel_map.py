"""The map of channels as a page: what it holds, and what it says without script."""

import base64
import json
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from empirical import Calibration, compare, forecast, lesion, measure, prune, removal_plan
from empirical.analysis.measured_damage import measured_damage
from empirical.analysis.standing import clear
from empirical.data.tables import read_table
from empirical.measuring.damage_table import ALONE, DAMAGES, RECOVERED
from empirical.report.channel_map import doubtful, map_payload, shown_quantities
from empirical.report.comparison_map import write_comparison
from empirical.report.map_page import map_findings, map_section, write_map
from empirical.report.page import SCRIPTS, STYLES, render, write_report
from empirical.report.plan import plan_payload
from tests.empirical.map_tables import fresh_images, large, measured
from theory import quantities
from theory.shared.files import write_table

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def case():
    return measured()


def floats(text):
    return np.frombuffer(base64.b64decode(text), "<f4")


def halves(text):
    found = np.frombuffer(base64.b64decode(text), "<u2").astype("<u4") << 16
    return found.view("<f4")


def content(page):
    """What the page's script reads."""
    found = re.search(r'<script type="application/json">(.*?)</script>', page, re.S)
    return json.loads(found[1])


def test_every_number_of_the_table_is_in_the_payload(case):
    _, _, table, _ = case
    frame, payload = table.to_frame(), map_payload(table)
    assert [layer["channels"] for layer in payload["layers"]] == [8, 12]
    lost = frame[ALONE] > clear(10) * frame[f"{ALONE}_se"]
    for column in payload["columns"]:
        name = column["name"]
        expected = frame[name].to_numpy().astype("<f4")
        if name == RECOVERED:  # a share of a damage that is not resolved is no number
            expected = np.where(lost, expected, np.nan)
        np.testing.assert_array_equal(floats(column["values"]), expected)
        np.testing.assert_allclose(halves(column["errors"]), frame[f"{name}_se"], rtol=1 / 256)
    assert [c["name"] for c in payload["columns"]] == list(shown_quantities(table))
    assert {"damage_alone", "recovered", "task_information"} < set(shown_quantities(table))


def test_hulls_and_special_channels_are_in_the_payload(case):
    _, _, table, _ = case
    payload, hull = map_payload(table), table["2"].hull
    width = payload["hull"]["width"]
    members = np.frombuffer(base64.b64decode(payload["hull"]["members"]), "<i2").reshape(20, width)
    np.testing.assert_array_equal(members[8:, : hull.members.shape[1]], hull.members)
    weights = halves(payload["hull"]["weights"]).reshape(20, width)
    np.testing.assert_allclose(weights[8:, : hull.weights.shape[1]], hull.weights, rtol=1 / 256)
    special = np.frombuffer(base64.b64decode(payload["special"]), np.uint8)
    names = [kind["name"] for kind in payload["kinds"]]
    assert special[8 + 3] == 1 << names.index("dead")
    assert special[8 + 5] & (1 << names.index("copies"))


@pytest.mark.parametrize(
    ("name", "value", "error", "doubt"),
    [
        ("task_information", 0.1, 0.04, False),
        ("task_information", 0.1, 0.06, True),
        ("task_information", 0.0, 0.0, False),  # a dead channel's is known to be 0
        ("task_information", 0.1, np.nan, False),  # not judged
        ("hull_size", 1.0, 2.0, False),
        ("recovered", -3.0, 0.1, False),
        ("recovered", 0.9, 0.2, True),
    ],
)
def test_what_is_not_told_from_the_bottom_of_its_range_is_in_doubt(name, value, error, doubt):
    about = (quantities() | DAMAGES)[name]
    assert doubtful(np.array([value]), np.array([error]), about).tolist() == [doubt]


def test_lesions_are_laid_beside_the_foretold_damages(case, tmp_path):
    model, _, table, _ = case
    sets = {"2": [7, 1]}
    lesioned = lesion(model, fresh_images(), channels=sets, calibration=table, kinds=["mean"])
    write_table(tmp_path / "lesions.csv", lesioned.to_frame())  # whose layers are numbers
    for given in (lesioned, lesioned.to_frame(), read_table(tmp_path / "lesions.csv")):
        found = measured_damage(table, None, given)
        payload = map_payload(table, measured=found)
        column = next(c for c in payload["columns"] if c["name"] == "measured_damage")
        values = floats(column["values"])
        assert np.flatnonzero(np.isfinite(values)).tolist() == [8 + 1, 8 + 7]
        np.testing.assert_allclose(
            values[[8 + 7, 8 + 1]], lesioned.damage["divergence"].mean(1), rtol=1e-6
        )
    price = map_findings(table, measured=found)[3]
    foretold = table.damage["2"].values()[ALONE][[7, 1]].sum()
    ratio = lesioned.damage["divergence"].mean(1).sum() / foretold
    assert price.values["ratio"] == pytest.approx(ratio, rel=1e-6)
    assert price.values["lesioned"] == 2
    with pytest.raises(ValueError, match="lesions must hold the columns kind"):
        measured_damage(table, lesioned.to_frame().drop(columns="kind"))
    with pytest.raises(
        ValueError, match="it has 12 in layer '2', of which one lesioned channel 99"
    ):
        measured_damage(table, lesioned.to_frame().assign(channel=99))


def test_without_script_a_comparison_says_its_points_and_shows_the_ways(case, tmp_path):
    model, data, table, _ = case
    found = compare(table, measure(model, data[:2]))
    page = write_comparison(tmp_path / "both.html", found, names=("all", "<two>")).read_text()
    for finding in found.findings():
        assert str(finding) in page.replace("&#39;", "'")
    assert page.count("<tr><td>") == 2  # the layers
    assert re.search(r'class="cm-ways" d="M\d+ \d+L\d+ \d+', page)
    assert content(page)["moments"] == ["all", "<two>"]
    assert "<two>" not in page
    with pytest.raises(ValueError, match="along must hold tables of the same training; 'odd' has"):
        write_comparison(tmp_path / "odd.html", found, along={"odd": large(1, 4)})


def test_the_page_is_one_file_that_asks_for_nothing(case, tmp_path):
    _, _, table, plan = case
    page = write_map(tmp_path / "map.html", table, plan=plan, title="A <small> network").read_text()
    assert list(tmp_path.iterdir()) == [tmp_path / "map.html"]
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert "A &lt;small&gt; network" in page
    assert content(page) == json.loads(json.dumps(map_payload(table, plan_payload(plan))))


def test_without_script_the_page_still_says_its_points_and_shows_them(case, tmp_path):
    _, _, table, plan = case
    page = write_map(tmp_path / "map.html", table, plan=plan).read_text()
    for finding in map_findings(table, plan_payload(plan)):
        assert str(finding) in page
    picture = re.search(r'<path d="([^"]+)"', page)[1]
    drawn = int(re.search(r": (\d+) of 20 channels", page)[1])
    assert picture.count("h0") == drawn > 10
    assert page.count("<tr><td>") == 2  # the layers


def test_the_summary_says_five_things_from_the_numbers(case):
    _, _, table, plan = case
    found = [str(finding) for finding in map_findings(table, plan_payload(plan))]
    assert len(found) == 5
    assert "20 channels of 2 layers on 300 images" in found[0]
    assert "dead 1 (it has no variance), copies 2 (" in found[4]
    assert "Not told from zero: task information of" in found[4]
    outcome = plan.outcome(plan.at_share(0.7))
    numbers = map_findings(table, plan_payload(plan))[3].values
    assert numbers["price1_loss"] == outcome[1]
    assert numbers["price1_macs"] == outcome[0] / plan.graph.macs() <= 0.7


def test_without_errors_or_damages_nothing_is_said_of_them(case):
    _, _, table, _ = case
    bare = replace(table, replicates={}, damage={}, halves={})
    found = " ".join(map(str, map_findings(bare)))
    assert "no interval stands by a value" in found
    assert "What removal costs was not measured" in found
    payload = map_payload(bare)
    assert payload["start"] == ("peer_predictability", "task_information")
    assert all(column["errors"] is None for column in payload["columns"])


def test_a_report_holds_the_map_and_renders_it_again(case, tmp_path):
    _, _, table, plan = case
    page = write_report(tmp_path, "T", "L", [map_section(table, plan=plan_payload(plan))])
    before = page.read_text()
    assert content(before)["plan"]["groups"]
    assert (tmp_path / "maps" / "channels.json").is_file()
    page.unlink()
    assert render(tmp_path).read_text() == before
    write_report(tmp_path, "T", "L", [])
    assert not list((tmp_path / "maps").iterdir())


def test_a_name_that_is_markup_stays_a_name(case, tmp_path):
    _, _, table, _ = case
    evil = "</script><script>alert(1)</script>"
    renamed = {"0": evil, "2": "2"}
    parts = ("axes", "replicates", "damage", "norms")
    named = {
        part: {renamed[layer]: value for layer, value in getattr(table, part).items()}
        for part in parts
    }
    page = write_map(tmp_path / "map.html", replace(table, **named)).read_text()
    assert evil not in page
    assert content(page)["layers"][0]["name"] == evil


def test_a_network_of_five_thousand_channels_is_less_than_two_megabytes(tmp_path):
    page = write_map(tmp_path / "map.html", large())
    assert page.stat().st_size < 2_000_000


def test_what_the_plan_lets_go_is_what_prune_removes(case):
    model, data, _, plan = case
    gone = {"0": 3, "2": 5}
    pruned = prune(
        model,
        data,
        criterion="task_replaceability",
        recovery="none",
        counts={"0": 5, "2": 7},
    )
    macs, loss = plan.outcome(gone)
    assert macs == pruned.report.macs_after
    for name, kept in pruned.kept.items():
        units = {"0": 8, "2": 12}[name]
        assert set(plan.order[name][: gone[name]]) == set(range(units)) - set(kept)
    assert loss == pytest.approx(plan.loss["0"][2] + plan.loss["2"][4])


def test_the_plans_losses_are_the_damages_of_the_forecast(case):
    model, data, _, plan = case
    layers = forecast(model, data, measured=(), shares=(0.7,)).layers.set_index(["layer", "kept"])
    fitted, _ = Calibration(model, data).held_out()  # a forecast holds some images out
    own = removal_plan(fitted)
    for name, units in {"0": 8, "2": 12}.items():
        for gone in range(1, units):
            expected = layers.loc[(name, units - gone), "damage"]
            assert own.outcome({name: gone})[1] == pytest.approx(expected, rel=1e-9)
    assert plan.note


def test_a_forecast_turns_damages_into_what_it_foretold(case):
    model, data, _, plan = case
    assert plan.measured(0.1) is None
    found = forecast(model, data, recovery="compensate", shares=(0.8, 0.6), measured=(0.7,))
    own = removal_plan(Calibration(model, data), forecast=found)
    for row in found.table[found.table["damage"] > 0].itertuples():
        told = own.measured(row.damage)
        assert told["kl"] == pytest.approx(row.kl)
        assert told["kl_high"] == pytest.approx(row.kl_high)
        assert told["agreement"] == pytest.approx(row.agreement)
    least = found.table.loc[found.table["damage"] > 0, "damage"].min()
    assert own.measured(least / 2)["kl"] == pytest.approx(own.measured(least)["kl"] / 2)
    assert own.measured(0.0) == {"kl": 0.0, "kl_low": 0.0, "kl_high": 0.0, "agreement": 1.0}
    assert own.measured(1e9) is None


def test_the_cheapest_are_taken_wherever_they_are(case):
    *_, plan = case
    assert plan.outcome({}) == (plan.graph.macs(), 0.0)
    before = 0.0
    for number in range(1, 16):
        gone = plan.cheapest(number)
        assert sum(gone.values()) == number
        worst = max(plan.loss[n][k - 1] for n, k in gone.items() if k)
        rest = [plan.loss[n][k] for n, k in gone.items() if k < len(plan.loss[n]) - plan.least[n]]
        assert worst <= min(rest)
        loss = plan.outcome(gone)[1]
        assert loss >= before
        before = loss
    share = plan.at_share(0.5)
    assert plan.outcome(share)[0] <= 0.5 * plan.graph.macs()


def test_the_package_holds_every_file_that_the_page_is_made_from():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["empirical.report"]
    folder = ROOT / "empirical" / "report"
    packaged = {path for pattern in patterns for path in folder.glob(pattern)}
    needed = {path for path in folder.rglob("*") if path.suffix in (".jinja", ".js", ".css")}
    assert needed == packaged
    assert {*STYLES, *SCRIPTS} == {path.name for path in needed if path.suffix != ".jinja"}
