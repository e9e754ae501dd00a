"""The factorial resumes to the same rows; its areas, differences and wording by hand."""

from __future__ import annotations

import shutil
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from torch import nn

from empirical.analysis.pruning import (
    areas,
    axis_against_axis,
    axis_verdicts,
)
from empirical.pruning import comparison
from empirical.pruning.calibration import Calibration
from empirical.pruning.comparison import Cell, Factorial, criteria_scores, run_factorial
from empirical.pruning.criterion import REGISTRY, Criterion
from empirical.report.factorial import (
    accuracy_curves,
    agreement_map,
    axis_differences,
    axis_findings,
    factorial_section,
)
from tests.empirical.pruning_networks import awakened, batches, plain

Finished = tuple[Path, pd.DataFrame]
"""The folder of a run, and its rows."""

SMALL = Factorial(
    criteria=("random", "task_information", "-peer_predictability", "replaceability"),
    allocations=("uniform",),
    recoveries=("none", "compensate"),
    shares=(0.7, 0.5),
    draws=2,
)


@pytest.fixture(scope="module")
def known() -> Calibration:
    return Calibration(plain((3, 16, 24)), batches(3, 6, count=3))


def run(known: Calibration, out: Path, factorial: Factorial = SMALL) -> pd.DataFrame:
    return run_factorial(known, batches(3, 6), out, network="plain", seed=0, factorial=factorial)


@pytest.fixture(scope="module")
def finished(known: Calibration, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    out = tmp_path_factory.mktemp("whole")
    return out, run(known, out)


@pytest.fixture
def copy(finished: Finished, tmp_path: Path) -> Path:
    """The folder of a finished run."""
    return shutil.copytree(finished[0], tmp_path / "run")


def test_a_killed_run_continues_to_the_same_rows(
    copy: Path, finished: Finished, known: Calibration
) -> None:
    whole = finished[1]
    assert len(whole) == 1 + 2 * 2 * (2 + 1 + 1 + 1)
    path = copy / "plain-0.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:7]) + lines[7][:20])  # killed while writing the eighth row
    again = run(known, copy)
    volatile = ["seconds", "latency_share"]
    pd.testing.assert_frame_equal(again.drop(columns=volatile), whole.drop(columns=volatile))
    assert len(path.read_text().splitlines()) == len(whole)


def test_a_finished_run_computes_nothing(
    copy: Path, known: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("computed again")

    for name in ("_run_cell", "evaluate", "LatencyShares"):
        monkeypatch.setattr(f"empirical.pruning.comparison.{name}", refuse)
    assert len(run(known, copy)) == 21


def test_rows_are_those_of_the_factorial_whatever_else_the_folder_holds(
    copy: Path, known: Calibration
) -> None:
    fewer = replace(SMALL, criteria=("l2", "random"), draws=1, shares=(0.5,))
    rows = run(known, copy, fewer)
    assert rows["criterion"].tolist() == ["dense", "l2", "l2", "random", "random"]
    assert set(rows["share"]) == {1.0, 0.5}


def test_other_weights_and_other_inputs_are_computed_anew(
    tmp_path: Path, known: Calibration
) -> None:
    one = Factorial(("l2",), ("uniform",), ("none",), (0.5,))
    other = Calibration(awakened(plain((3, 16, 24)), seed=1), known.loader)
    rows = [run(network, tmp_path, one) for network in (known, other, known)]
    assert not rows[0].equals(rows[1])
    pd.testing.assert_frame_equal(rows[0], rows[2])
    options = {"network": "plain", "seed": 0, "factorial": one}
    run_factorial(known, batches(3, 6), tmp_path, inputs={"images": "others"}, **options)
    assert len((tmp_path / "plain-0.jsonl").read_text().splitlines()) == 6


def test_a_criterion_of_the_users_is_computed_anew_when_its_code_changes(
    tmp_path: Path, known: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_criteria.py").write_text("def last(known, group): return range(group.units)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = import_module("own_criteria")
    monkeypatch.setitem(REGISTRY, "last", Criterion("last", module.last, "none", "here"))
    computed: list[str] = []
    one = comparison._run_cell

    def count(known: Calibration, report: object, cell: Cell, *rest: Any) -> dict[str, Any]:
        computed.append(cell.criterion)
        return one(known, report, cell, *rest)

    monkeypatch.setattr(comparison, "_run_cell", count)
    both = Factorial(("last", "l2"), ("uniform",), ("none",), (0.5,))
    first = both.made_from()
    run(known, tmp_path, both)
    monkeypatch.setattr(comparison, "fingerprint", lambda module: f"another {module}")
    run(known, tmp_path, both)
    assert computed == ["last", "l2", "last"]
    assert first != both.made_from()
    assert first["criteria"] == both.made_from()["criteria"] == ("last", "l2")


def test_scores_are_computed_once_for_each_criterion(
    tmp_path: Path, known: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(
        Calibration,
        "scores",
        lambda self, name, one=Calibration.scores: [asked.append(name), one(self, name)][1],
    )
    options = {"network": "plain", "seed": 0}
    first = criteria_scores(known, tmp_path, criteria=("l2", "task_information"), **options)
    again = criteria_scores(known, tmp_path, criteria=("l2", "bn_scale", "l1"), **options)
    assert asked == ["l2", "task_information", "bn_scale", "l1"]
    assert {name.split("|")[0] for name in again} == {"l2", "bn_scale", "l1"}
    for name, values in again.items():
        if name.startswith("l2|"):
            np.testing.assert_array_equal(values, first[name])
            np.testing.assert_array_equal(values, known.scores("l2")[name.removeprefix("l2|")])


def test_criteria_meet_the_same_multiply_accumulates(finished: Finished) -> None:
    rows = finished[1]
    for share, group in rows[rows["criterion"] != "dense"].groupby("share"):
        assert group["macs_share"].nunique() == 1
        assert group["macs_share"].iloc[0] == pytest.approx(share, rel=0.01)


def test_networks_of_one_structure_share_one_latency(finished: Finished) -> None:
    rows = finished[1]
    assert (rows["latency_share"] > 0).all()
    assert (rows.groupby("macs_share")["latency_share"].nunique() == 1).all()
    tables = factorial_section(rows).tables
    assert tables["pruning_accuracy"]["latency_share"].notna().all()


def test_a_criterion_that_is_not_defined_has_its_error_in_the_table(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(108, 8), nn.ReLU(), nn.Linear(8, 10)).eval()
    factorial = Factorial(("bn_scale", "l2"), ("uniform",), ("none",), (0.5,))
    rows = run(Calibration(model, batches(3, 6)), tmp_path, factorial).set_index("criterion")
    assert "'bn_scale' is not defined on layer '1'" in rows.loc["bn_scale", "error"]
    assert np.isnan(rows.loc["bn_scale", "accuracy"])
    assert rows.loc["l2", "accuracy"] >= 0


def rows_by_hand() -> pd.DataFrame:
    """Two networks, three seeds; the local axis leads on the first, trails on the other."""
    rows = []
    for network, gap in (("a", 0.1), ("b", -0.05)):
        for seed in range(3):
            for share in (0.2, 0.5, 0.8):
                base = 0.4 + 0.5 * share + 0.01 * seed
                for criterion, value in (
                    ("-peer_predictability", base + gap),
                    ("task_information", base),
                    ("l2", base + 0.02),
                ):
                    rows.append(
                        {
                            "network": network, "seed": seed, "criterion": criterion,
                            "allocation": "uniform", "recovery": "none", "share": share,
                            "draw": 0, "accuracy": value,
                        }
                    )  # fmt: skip
    return pd.DataFrame(rows)


def test_draws_of_a_random_criterion_count_once() -> None:
    rows = rows_by_hand()
    more = rows[rows["criterion"] == "l2"].assign(draw=1, accuracy=lambda r: r["accuracy"] + 0.2)
    table = areas(pd.concat([rows, more]))
    assert len(table) == len(areas(rows))
    l2 = table[(table["criterion"] == "l2") & (table["network"] == "a") & (table["seed"] == 0)]
    assert l2["area"].item() == pytest.approx(0.4 + 0.25 + 0.02 + 0.1)


def test_axis_against_axis_and_its_wording_follow_the_numbers() -> None:
    table = areas(rows_by_hand())
    compared = axis_against_axis(table)
    assert compared["difference"].to_numpy() == pytest.approx([0.1, -0.05])
    sentences = [str(finding) for finding in axis_findings(compared, axis_verdicts(table))]
    assert "say better what can go, a: holds (+10.0 [" in sentences[0]
    assert "say better what can go, b: contradicted (-5.0 [" in sentences[1]
    assert "over all architectures: holds" in sentences[2]
    assert "over the 2 settings, the local axis is ahead in 1 and behind in 1" in sentences[3]
    one_seed = areas(rows_by_hand().query("seed == 0"))
    alone = axis_findings(axis_against_axis(one_seed), axis_verdicts(one_seed))
    assert "a: not resolved (+10.0 [no interval]" in str(alone[0])


def test_figures_are_labelled() -> None:
    rows = rows_by_hand()
    curves = accuracy_curves(rows, ["l2", "task_information"], "uniform")
    assert curves.axes[-1].get_xlabel() == "share of multiply-accumulates"
    assert curves.axes[0].get_ylabel() == "accuracy"
    timed = rows.assign(latency_share=rows["share"] ** 0.5)
    slower = accuracy_curves(timed, ["l2"], "uniform", against="latency_share")
    assert slower.axes[-1].get_xlabel() == "share of the dense network's latency"
    assert slower.axes[0].lines[0].get_xdata() == pytest.approx(np.sqrt([0.2, 0.5, 0.8]))
    forest = axis_differences(axis_against_axis(areas(rows)))
    assert "95 % interval" in forest.axes[0].get_xlabel()
    drawn = agreement_map(pd.DataFrame(np.eye(2), index=["a", "b"], columns=["a", "b"]))
    assert "Spearman" in drawn.axes[-1].get_ylabel()
