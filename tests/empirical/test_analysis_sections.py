"""Wording of the analysis chapters follows from planted numbers."""

import pandas as pd
import pytest

from empirical.report.grouping import grouping_findings
from empirical.report.robustness import robustness_section


@pytest.mark.parametrize(
    ("between", "stable", "verdict"),
    [(0.05, 0.9, "differently"), (0.05, 0.3, "unstable"), (0.8, 0.9, "much alike")],
)
def test_disagreement_counts_only_where_each_grouping_is_stable(between, stable, verdict):
    frame = pd.DataFrame(
        [
            {
                "seed": seed,
                "layer": "a",
                "rand_between": between,
                "stability_local": stable,
                "stability_target": 1.0,
                "p_value": 0.5,
            }
            for seed in (0, 1, 2)
        ]
    )
    assert verdict in str(grouping_findings(frame)[0])


def test_robustness_names_the_farthest_variation():
    pair = {"first": "input_capture", "second": "task_information"}
    variations = pd.DataFrame(
        [
            {"variation": name, "coupling": value, "seed": 0, **pair}
            for name, value in (("as measured", 0.1), ("target: label", 0.5), ("noise: mean", 0.1))
        ]
    )
    counts = pd.DataFrame(
        [{"groups": g, "images": g / 4, "coupling": g / 10, "seed": 0, **pair} for g in range(1, 5)]
    )
    first, second = map(str, robustness_section(variations, counts).findings)
    assert "the farthest is “target: label”, +0.50" in first
    assert second == "From 25% of the images it is +0.10, from half +0.20, from all +0.40."
