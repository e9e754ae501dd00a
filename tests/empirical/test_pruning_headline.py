"""The headline of a pruning report: our selectors against the best of the others."""

from __future__ import annotations

import numpy as np

from empirical.analysis.pruning import headline
from tests.empirical.test_pruning_tables import ends, rows, values


def test_the_headline_is_against_the_best_of_the_libraries_and_of_the_other_selectors() -> None:
    table = headline(rows())
    assert (
        table["one"].tolist()
        == ["replaceability, compensate"] * 2 + ["task_replaceability, compensate"] * 2
    )
    assert table["against"].tolist() == ["library criterion", "other selector"] * 2
    # of the libraries with batch norms recalibrated; outside the family, compensated alike
    assert table["other"].tolist() == ["taylor, recalibrate", "peer_overlap, compensate"] * 2
    ours = values("replaceability", 0.1)
    differences = [ours - values("taylor"), ours - values("peer_overlap", 0.1)]
    np.testing.assert_allclose(table["difference"][:2], [d.mean() for d in differences])
    np.testing.assert_allclose(table[["low", "high"]][:2], [ends(d) for d in differences])
    np.testing.assert_allclose(table["accuracy"][:2], ours.mean())
    assert set(table["share"]) == {0.5}
    assert set(table["network"]) == {"n"}
    other = headline(rows(), share=0.9)
    np.testing.assert_allclose(other["accuracy"][:2], ours.mean() + 0.08)


def test_the_headline_is_silent_where_an_arm_was_not_run() -> None:
    assert headline(rows(("compensate",)))["against"].tolist() == ["other selector"] * 2
    assert headline(rows(("recalibrate",))).empty
    only = rows()[lambda r: r["criterion"] != "task_replaceability"]
    assert set(headline(only)["one"]) == {"replaceability, compensate"}
