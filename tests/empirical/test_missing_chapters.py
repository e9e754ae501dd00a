"""A run of which some chapters have no data: they say so, and the rest of the report is written."""

import re

import numpy as np
import pandas as pd
import pytest

from empirical.analysis.lesions import analyze_lesions
from empirical.analysis.missing import NoDataError
from empirical.report.factorial import factorial_section
from empirical.report.page import chapter, write_report
from empirical.runs.pipeline import run
from tests.empirical.test_pruning_tables import rows

pytestmark = pytest.mark.usefixtures("figures_not_drawn")

NETWORK = """
from torch import nn

def narrow(classes, channels):
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Conv2d(6, 5, 3), nn.BatchNorm2d(5), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, classes),
    )
"""
SETTINGS = {
    "seeds": [0],
    "device": "cpu",
    "data": {"calibration": 60},
    "training": {"epochs": 0.3, "batch_size": 128},
    "measure": {"checkpoints": 2, "positions": 2, "permutations": 5},
    "lesion": {"enabled": True, "images": 20, "random_draws": 1},
    "pruning": {
        "enabled": True,
        "images": 60,
        "report": 60,
        "batch_size": 60,
        "criteria": ["task_information", "l2"],
        "allocations": ["uniform"],
        "recoveries": ["recalibrate"],
        "shares": [0.7, 0.3],
        "draws": 1,
    },
}


def test_layers_too_narrow_and_shares_without_a_half_leave_the_rest_of_the_report(tmp_path):
    """A network of the user's own, whose code the checkpoints may not choose but he does."""
    (tmp_path / "own.py").write_text(NETWORK)
    settings = {**SETTINGS, "model": {"name": f"{tmp_path}/own.py:narrow"}}
    result = run(settings, out=tmp_path / "run")
    notes = {section.title: section.note for section in result.sections}
    explained = notes["Does peer support explain lesion damage beyond the other axes?"]
    assert explained.startswith("Nothing to report: frame must have a layer with enough channels")
    assert re.search(r"\d families of channels, fewer than 16", explained)
    html = result.report.read_text()
    assert "Our selectors are not compared with the others" in html
    assert "The axes are not compared: that needs criteria of the local axis" in html
    assert "At one share of the multiply-accumulates, paired by network: nothing to show." in html
    assert "What does losing a channel cost" in html
    again = run(settings, out=tmp_path / "run")
    pd.testing.assert_frame_equal(again.couplings, result.couplings)


@pytest.mark.parametrize(
    "kept",
    [
        {"share": [0.3, 0.9]},
        {"criterion": ["l2", "taylor"]},
        {"criterion": ["peer_overlap"]},
        {"criterion": ["task_information"], "recovery": ["compensate"]},
        {"recovery": ["recalibrate"]},
    ],
    ids=str,
)
def test_a_factorial_of_any_factors_becomes_a_report(kept, tmp_path):
    frame = rows().assign(macs_share=lambda found: found["share"])
    for name, values in kept.items():
        frame = frame[frame[name].isin(values)]
    found = chapter("Which channels can go?", lambda: factorial_section(frame))
    assert "pruning_uniform" in found.figures
    assert write_report(tmp_path, "t", "l", [found]).is_file()


def test_cells_that_all_failed_are_a_chapter_without_data():
    frame = rows().assign(accuracy=np.nan)
    found = chapter("Which channels can go?", lambda: factorial_section(frame))
    assert found.note.startswith("Nothing to report: rows of the comparison have no accuracy")


def test_only_missing_data_are_excused():
    frame = pd.DataFrame({"layer": [], "channel": [], "kind": []})
    with pytest.raises(ValueError, match="column of frame") as refused:
        chapter("t", lambda: analyze_lesions(frame))
    assert not isinstance(refused.value, NoDataError)
