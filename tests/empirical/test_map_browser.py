"""The map of channels in a browser: pointer, brush, table, search, sliders, keys, print."""

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from empirical import (
    Calibration,
    create_model,
    measure,
    removal_plan,
)
from empirical import replace as replace_channels
from empirical.measuring.damage_table import ALONE, RECOVERED
from empirical.report.map_page import write_map
from tests.browser import CHROMIUM, chromium
from tests.empirical.map_browser import MAP, click_on, drawn, enter, place, shown, text
from tests.empirical.map_tables import fresh_images, large, measured

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="needs Chromium: install Debian's chromium, or any on the PATH"
)


@pytest.fixture(scope="module")
def case():
    return measured()


@pytest.fixture(scope="module")
def browser():
    with chromium() as page:
        yield page


@pytest.fixture
def page(browser, case, tmp_path):
    """The page of a small network, opened afresh, without a request or a complaint."""
    _, _, table, plan = case
    browser.requests.clear()
    browser.complaints.clear()
    file = write_map(tmp_path / "map.html", table, plan=plan)
    browser.open(file)
    yield browser
    assert browser.requests == [file.as_uri()]
    assert browser.complaints == []


def test_it_opens_on_the_damage_and_what_peers_win_back(page, case):
    frame = case[2].to_frame()
    assert page.run("document.querySelector('.cm-x').value") == ALONE
    assert page.run("document.querySelector('.cm-y').value") == RECOVERED
    known = frame[ALONE] > 1.96 * frame[f"{ALONE}_se"]
    np.testing.assert_array_equal(drawn(page), known.astype(int))
    assert f"{(~known).sum()} of these are not drawn" in text(page, "missing")
    assert page.run("document.querySelector('.cm-static').hidden")


def test_pointing_at_a_channel_tells_its_numbers_and_its_peers(page, case):
    table = case[2]
    channel = 8 + 4  # a twin of 13
    page.move(*place(page, channel))
    card = text(page, "card")
    # twins lie apart: their damages differ, as the layer behind reads them differently
    assert "2 · 4" in card
    assert "copies: it is an exact copy of another channel" in card
    assert "2 · 5 × 0.5, adds 100 %" in card
    factor = 1e5 * table.damage["2"].values()[ALONE][4]
    assert f"loses {factor:.1f} × 10⁻⁵ nats [" in card
    assert page.run(f"{MAP}.plot.ring.getAttribute('visibility')") == "visible"
    assert "2 · 4: damage alone" in page.run("document.querySelector('.cm-said').textContent")
    page.move(2, 2)
    assert "Point at a channel" in text(page, "card")


def test_a_click_holds_the_card_and_a_peer_can_be_followed(page):
    page.click(*place(page, 12))
    page.move(2, 2)
    assert text(page, "card").startswith("2 · 4")
    click_on(page, ".cm-peers button")
    assert text(page, "card").startswith("2 · 5")


def test_dragging_selects_in_the_map_and_in_the_table(page):
    chosen = [i for i, there in enumerate(drawn(page)) if there][:2]
    (a, b), (c, d) = (place(page, i) for i in chosen)
    low, high = (min(a, c) - 6, min(b, d) - 6), (max(a, c) + 6, max(b, d) + 6)
    inside = [
        i
        for i, there in enumerate(drawn(page))
        if there
        and low[0] <= place(page, i)[0] <= high[0]
        and low[1] <= place(page, i)[1] <= high[1]
    ]
    page.drag(low, high)
    assert shown(page) == inside
    assert set(chosen) <= set(inside)
    assert text(page, "count") == f"{len(inside)} of 20 channels"
    click_on(page, ".cm-clear")
    assert len(shown(page)) == 20


def test_a_column_sorts_the_table_and_what_has_no_value_stands_last(page, case):
    values = case[2].to_frame()["peer_predictability"].to_numpy()
    header = ".cm-rows th[data-key=peer_predictability] button"
    click_on(page, header)
    first = shown(page)
    click_on(page, header)
    second = shown(page)
    assert first[-1] == second[-1] == 8 + 3  # dead
    np.testing.assert_array_equal(np.argsort(-values, kind="stable"), first)
    np.testing.assert_array_equal(np.argsort(values, kind="stable"), second)
    sort = "document.querySelector('th[data-key=peer_predictability]').getAttribute('aria-sort')"
    assert page.run(sort) == "ascending"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("2 ", lambda f: f["layer"] == "2"),
        ("2·3", lambda f: (f["layer"] == "2") & (f["channel"] == 3)),
        ("peer_predictability > 60%", lambda f: f["peer_predictability"] > 0.6),
        ("0 hull_size<=4", lambda f: (f["layer"] == "0") & (f["hull_size"] <= 4)),
    ],
)
def test_search_takes_names_and_comparisons(page, case, words, expected):
    frame = case[2].to_frame()
    enter(page, ".cm-search", words)
    assert shown(page) == np.flatnonzero(expected(frame)).tolist()


def test_a_search_that_is_not_understood_is_said_to_be(page):
    enter(page, ".cm-search", "beauty>3")
    assert text(page, "wrong") == "not understood: beauty>3"


def test_another_quantity_becomes_an_axis_and_a_colour(page, case):
    frame = case[2].to_frame()
    enter(page, ".cm-x", "signal_power")
    enter(page, ".cm-colour", "task_information")
    values, at = frame["signal_power"], page.run(f"[...{MAP}.plot.at]")[::2]
    there = [i for i, x in enumerate(at) if x is not None and not np.isnan(x)]
    order = sorted(there, key=lambda i: at[i])
    assert (np.diff(values.to_numpy()[order]) >= 0).all()
    assert "low task information" in text(page, "legend")


def test_what_is_not_resolved_can_be_hidden(page, case):
    frame = case[2].to_frame()
    enter(page, ".cm-x", "conditional_task_information")
    enter(page, ".cm-y", "peer_predictability")
    values, errors = frame["conditional_task_information"], frame["conditional_task_information_se"]
    doubt = values.notna() & (errors > 0) & (values - 2.262 * errors <= 0)
    doubt |= frame["peer_predictability"] <= 2.262 * frame["peer_predictability_se"]
    assert doubt.any()
    click_on(page, ".cm-doubts")
    assert not set(shown(page)) & set(np.flatnonzero(doubt))


def test_the_slider_foretells_what_the_plan_says(page, case):
    plan = case[3]
    enter(page, ".cm-all", "9")
    gone = plan.cheapest(9)
    macs, loss = plan.outcome(gone)
    outcome = page.run(f"{MAP}.whatIf.outcome")
    assert outcome["macs"] == macs
    assert outcome["loss"] == pytest.approx(loss, rel=1e-6)
    assert f"9 channels go; {macs:,} multiply-accumulates are left" in text(page, "outcome")
    start = {"0": 0, "2": 8}
    going = {start[name] + int(u) for name, k in gone.items() for u in plan.order[name][:k]}
    assert set(page.run(f"[...{MAP}.goes].flatMap((g, i) => g ? [i] : [])")) == going
    enter(page, ".cm-which", "goes")
    assert set(shown(page)) == going
    enter(page, ".cm-all", "0")
    assert shown(page) == []


def test_with_a_forecast_the_slider_foretells_divergence_and_agreement(browser, case, tmp_path):
    plan = replace(
        case[3],
        law=np.array([[1e-5, 2e-5, 1e-5, 3e-5, 0.999], [1.0, 3.0, 2.0, 4.0, 0.2]]),
    )
    browser.open(write_map(tmp_path / "map.html", case[2], plan=plan))
    for number in (1, 9, 15):
        enter(browser, ".cm-all", str(number))
        expected = plan.measured(plan.outcome(plan.cheapest(number))[1])
        found = browser.run(f"{MAP}.whatIf.outcome.law")
        np.testing.assert_allclose(found, list(expected.values()), rtol=1e-5)
        assert "is foretold to diverge by" in text(browser, "outcome")


def test_a_layers_own_slider_moves_that_layer_alone(page, case):
    plan = case[3]
    click_on(page, ".cm-what-if summary")
    enter(page, ".cm-what-if tbody tr:nth-child(2) input", "4")
    macs, loss = plan.outcome({"2": 4})
    outcome = page.run(f"{MAP}.whatIf.outcome")
    assert (outcome["units"], outcome["macs"]) == (4, macs)
    assert outcome["loss"] == pytest.approx(loss, rel=1e-6)


def test_the_keyboard_walks_holds_and_lets_go(page):
    page.run("document.querySelector('.cm-figure').focus()")
    page.key("ArrowRight")
    page.key("ArrowRight")
    assert text(page, "card").startswith("0 · 1")
    page.key("Enter")
    assert page.run(f"{MAP}.pinned") == 1
    page.key("Escape")
    assert "Point at a channel" in text(page, "card")
    for selector in ("select", "input", "button"):
        named = (
            f"[...document.querySelectorAll('.cm-live {selector}')].every(e =>"
            "e.closest('label') || e.getAttribute('aria-label') || e.textContent.trim())"
        )
        assert page.run(named), f"a {selector} has no name"


def test_the_csv_holds_what_is_selected(page, case):
    enter(page, ".cm-layer", "1")
    found = pd.read_csv(io.StringIO(page.run(f"{MAP}.table.csv()")), keep_default_na=True)
    frame = case[2].to_frame()
    expected = frame[frame["layer"] == "2"].reset_index(drop=True)
    assert found["channel"].tolist() == list(range(12))
    for name in ("signal_power", "task_information", ALONE):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-6)
        np.testing.assert_allclose(found[f"{name}_se"], expected[f"{name}_se"], rtol=1 / 250)
    assert found.loc[3, "affected"] == "dead"


def test_it_prints_in_light_colours_without_its_controls(page):
    page.call(
        "Emulation.setEmulatedMedia",
        media="print",
        features=[{"name": "prefers-color-scheme", "value": "dark"}],
    )
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.run(ground) == "rgb(255, 255, 255)"
    assert page.run("getComputedStyle(document.querySelector('.cm-bar')).display") == "none"
    assert len(page.call("Page.printToPDF")["data"]) > 10_000
    page.call("Emulation.setEmulatedMedia", media="")


@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_hangs_over_the_edge_in_either_style(browser, case, tmp_path, width):
    file = write_map(tmp_path / "map.html", case[2], plan=case[3])
    grounds = []
    for dark in (False, True):
        browser.open(file, width=width, dark=dark)
        assert browser.run("document.documentElement.scrollWidth <= innerWidth")
        grounds.append(browser.run("getComputedStyle(document.body).backgroundColor"))
    assert grounds == ["rgb(255, 255, 255)", "rgb(20, 24, 31)"]


def test_measured_damages_stand_beside_the_foretold_ones(browser, case, tmp_path):
    model, _, table, _ = case
    lesions = replace_channels(model, fresh_images(), table, peers=("all",))
    browser.open(write_map(tmp_path / "map.html", table, lesions=[lesions]))
    enter(browser, ".cm-x", "measured_damage")
    enter(browser, ".cm-y", "measured_damage_with_peers")
    frame = lesions.to_frame()
    row = frame[(frame["layer"] == "2") & (frame["channel"] == 7)].set_index("kind")
    browser.run(f"{MAP}.pin(15)")
    values = [f"{MAP}.{side}.column.values[15]" for side in "xy"]
    np.testing.assert_allclose(
        [browser.run(value) for value in values],
        [row.loc["mean", "divergence"], row.loc["all", "divergence"]],
        rtol=1e-6,
    )
    assert "Measured by lesions: held at its mean" in text(browser, "card")


def test_five_thousand_channels_are_all_drawn(browser, tmp_path):
    browser.complaints.clear()
    browser.open(write_map(tmp_path / "map.html", large()))
    counts = browser.run(
        f"[{MAP}.channels.count, {MAP}.plot.drawn.reduce((a, b) => a + b, 0), "
        f"{MAP}.plot.at.filter((x, k) => k % 2 === 0 && !Number.isNaN(x)).length]"
    )
    assert counts[0] == 19 * 256
    assert counts[1] == counts[2] > 3000
    assert len(shown(browser)) == 100
    click_on(browser, ".cm-more")
    assert len(shown(browser)) == 200
    assert browser.complaints == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:layers have fewer than:UserWarning")
def test_a_resnet18_of_full_width_is_small_and_whole(browser, tmp_path):
    """A quarter of a minute; how long it takes to be painted is `benchmarks/map.py`'s."""
    table, plan = resnet18()
    file = write_map(tmp_path / "map.html", table, plan=plan)
    assert file.stat().st_size < 2_000_000
    browser.requests.clear()
    browser.complaints.clear()
    browser.open(file)
    assert browser.run(f"{MAP}.channels.count") == 4800
    assert browser.complaints == []
    assert browser.requests == [file.as_uri()]


def resnet18():
    """4,800 channels measured on small images, with a plan of removal."""
    model = create_model("resnet18", classes=10, image_size=8, channels=3, seed=0)
    images = torch.randn(700, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    data = [(images[i : i + 100], torch.arange(i, i + 100) % 10) for i in range(0, 700, 100)]
    return measure(model, data, damage=True), removal_plan(Calibration(model, data))
