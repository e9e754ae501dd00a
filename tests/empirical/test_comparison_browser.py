"""The map of a comparison in a browser: the moments' slider, the card, the table."""

import io

import numpy as np
import pandas as pd
import pytest
import torch

from empirical import compare, match_channels, measure, prune
from empirical.report.comparison_map import write_comparison
from tests.browser import CHROMIUM, chromium
from tests.empirical.map_browser import MAP, click_on, enter, shown, text
from tests.empirical.map_tables import measured, network

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="needs Chromium: install Debian's chromium, or any on the PATH"
)


@pytest.fixture(scope="module")
def browser():
    with chromium() as page:
        yield page


def compared():
    """(tables at three moments of one layout, the comparison of first and last)."""
    tables = [trained(step) for step in (0, 1, 4)]
    return tables, compare(tables[0], tables[-1])


def trained(step):
    """A table of the small network, its weights mixed with others step by step."""
    with torch.random.fork_rng():
        model, data = network()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.2 * step * torch.randn_like(parameter) * parameter.std())
        return measure(model, data)


@pytest.fixture(scope="module")
def moving():
    return compared()


@pytest.fixture
def joint(browser, moving, tmp_path):
    """The page of a comparison, opened afresh, without a request or a complaint."""
    tables, found = moving
    browser.requests.clear()
    browser.complaints.clear()
    names = ("step 0", "step 4")
    file = write_comparison(tmp_path / "both.html", found, along={"step 1": tables[1]}, names=names)
    browser.open(file)
    yield browser
    assert browser.requests == [file.as_uri()]
    assert browser.complaints == []


def test_the_slider_of_moments_moves_every_channel(joint, moving):
    tables, _ = moving
    assert text(joint, "moment-name") == "step 4"
    for moment, table in enumerate(tables):
        enter(joint, ".cm-moment", str(moment))
        frame = table.to_frame()
        at = joint.run(f"[...{MAP}.plot.at]")
        for side, name in enumerate(("input_capture", "task_information")):
            places = np.array([p if p is not None else np.nan for p in at[side::2]])
            known = np.flatnonzero(np.isfinite(places) & (frame[name].to_numpy() > 0))
            order = known[np.argsort(frame[name].to_numpy()[known])]
            moved = np.diff(places[order]) * (1 if side == 0 else -1)
            assert (moved >= -0.6).all(), name  # two digits of the way are kept
        assert joint.run(f"{MAP}.plot.steps.length") == moment + 1
    joint.run(f"{MAP}.pin(0)")
    path = joint.run(f"{MAP}.plot.path.getAttribute('d')")
    assert path.count("M") == 1
    assert path.count("L") == 2


def test_the_card_and_the_table_say_before_after_and_change(joint, moving):
    _, found = moving
    joint.run(f"{MAP}.pin(9)")
    card = text(joint, "card")
    assert card.startswith("2 · 1")
    assert "step 0\tstep 4\tchange" in card
    change = 100 * found.change["2"]["peer_predictability"][1]
    assert f"{abs(change):.1f}"[:3] in card
    csv = pd.read_csv(io.StringIO(joint.run(f"{MAP}.table.csv()")))
    for when in ("_before", "", "_change"):
        expected = np.concatenate(
            [
                (found.after if when == "" else getattr(found, when[1:]))[layer]["signal_power"]
                for layer in found.matched
            ]
        )
        np.testing.assert_allclose(csv[f"signal_power{when}"], expected, rtol=2e-5, atol=1e-6)
    np.testing.assert_array_equal(csv["channel"], csv["counterpart"])


def test_who_turned_replaceable_can_be_picked_and_sorted(joint, moving):
    _, found = moving
    start = {"0": 0, "2": 8}
    for bit, to in enumerate(("replaceable", "relevant")):
        enter(joint, ".cm-which", str(bit))
        expected = [start[n] + int(c) for n in start for c in found.turned(n, to=to)]
        assert shown(joint) == expected
        option = "document.querySelector('.cm-which').selectedOptions[0].text"
        assert joint.run(option) == f"turned {to} ({len(expected)})"
    enter(joint, ".cm-which", "")
    click_on(joint, ".cm-rows th[data-key=task_information_change] button")
    order = shown(joint)
    change = np.concatenate([found.change[n]["task_information"] for n in start])
    assert (np.diff(change[order][np.isfinite(change[order])]) <= 1e-9).all()


def test_counterparts_are_named_where_channels_have_other_places(browser, tmp_path):
    model, data, table, _ = measured()
    with torch.random.fork_rng():
        pruned = prune(model, data, counts={"0": 6, "2": 9}, recovery="none")
    other = measure(pruned.model, data)
    found = compare(table, other, match=match_channels(model, pruned.model, data))
    browser.open(write_comparison(tmp_path / "pruned.html", found))
    last = len(found.matched["0"][0]) - 1
    first, second = (int(side[last]) for side in found.matched["0"])
    arrow = f" → {second}" if first != second else ""
    assert browser.run(f"{MAP}.channels.name({last})") == f"0 · {first}{arrow}"
    assert "correlation" in text(browser, "rows")
