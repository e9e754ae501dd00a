"""The analysis finds what was planted, nothing where nothing was, and nothing after a shuffle."""

from __future__ import annotations

from dataclasses import replace as with_fields

import numpy as np
import pandas as pd
import pytest

from empirical.analysis.lesions import CONTROLS, PREDICTORS, LesionAnalysis, analyze_lesions
from empirical.lesions.table import DAMAGES, LesionTable
from empirical.report.lesion_analysis import _control, analysis_findings, hull_first

LAYERS, CHANNELS, IMAGES = 6, 60, 150
SMALL = {"permutations": 99, "draws": 300}


def scores(rng: np.random.Generator) -> pd.DataFrame:
    """Six layers whose scores are correlated with each other, as real ones are."""
    frame = pd.DataFrame(
        {
            "layer": np.repeat([f"conv{i}" for i in range(LAYERS)], CHANNELS),
            "channel": np.tile(np.arange(CHANNELS), LAYERS),
        }
    )
    common = rng.standard_normal(len(frame))
    for name in PREDICTORS:
        frame[name] = 0.5 * common + rng.standard_normal(len(frame))
    return frame


def planted(
    frame: pd.DataFrame, weight: float, noise: float, rng: np.random.Generator
) -> LesionTable:
    """Damage image by image: both controls hurt, peer support helps with `weight`."""
    signal = (
        frame["input_capture"] + frame["task_information"] - weight * frame["peer_predictability"]
    ).to_numpy()
    damage = signal[:, None] + noise * rng.standard_normal((len(frame), IMAGES))
    return LesionTable(
        layer=frame["layer"].to_numpy(dtype=str),
        kind=np.full(len(frame), "mean"),
        point=np.full(len(frame), "pre_norm"),
        channels=tuple((int(c),) for c in frame["channel"]),
        damage={name: damage.astype(np.float32) for name in DAMAGES},
        dense={},
        fallback={},
    )


def analysed(
    table: LesionTable, frame: pd.DataFrame, options: dict[str, int] = SMALL
) -> LesionAnalysis:
    return analyze_lesions(table.to_frame().merge(frame, on=["layer", "channel"]), **options)


def last(table: pd.DataFrame) -> pd.Series:
    assert table["layer"].iloc[-1] == "pooled"
    return table.iloc[-1]


def halved(frame: pd.DataFrame, error: float, rng: np.random.Generator) -> pd.DataFrame:
    """The frame as it would be measured: both halves of the images, and their mean."""
    measured = frame.copy()
    for name in ("peer_predictability", *CONTROLS):
        halves = frame[name].to_numpy() + error * rng.standard_normal((2, len(frame)))
        measured[[f"{name}_half0", f"{name}_half1"]] = halves.T
        measured[name] = halves.mean(axis=0)
    return measured


def test_a_planted_effect_of_peer_support_is_found() -> None:
    rng = np.random.default_rng(1)
    frame = scores(rng)
    result = analysed(planted(frame, weight=1.0, noise=2.0, rng=rng), halved(frame, 0.3, rng))
    beyond = last(result.beyond)
    assert beyond.high < -0.3
    assert beyond.p < 1e-6
    assert 0.9 < beyond.task_information_reliability < 1
    assert (result.beyond["p_holm"][:-1] < 0.05).sum() >= 3
    assert str(analysis_findings(result)[0]).startswith("Claim C4, that channels which peers")
    assert "task information: holds (slope -" in str(analysis_findings(result)[0])


def test_what_only_the_controls_do_is_not_found_though_scores_correlate_and_err() -> None:
    rng = np.random.default_rng(2)
    p_values, naive, few = [], [], {"permutations": 19, "draws": 20}
    for _ in range(5):
        frame = scores(rng)
        frame["peer_predictability"] += 2 * frame["task_information"]
        measured = halved(frame, 0.8, rng)
        table = planted(frame, weight=0.0, noise=2.0, rng=rng)
        result = analysed(table, measured, few)
        p_values.append(last(result.beyond).p)
        alone = measured[[name for name in measured if "_half" not in name]]
        naive.append(last(analysed(table, alone, few).beyond).p)
    # Of 5 tests at level 0.05, 3 or more fall below it with probability 0.001.
    assert (np.array(p_values) < 0.05).sum() < 3
    assert (np.array(naive) < 0.05).sum() == 5
    text = str(analysis_findings(analysed(table, alone))[0])
    assert "not resolved" in text  # without halves there is no verdict
    assert "No halves of the images were measured" in text


def test_the_control_states_a_share_with_its_interval() -> None:
    rng = np.random.default_rng(3)
    frame = scores(rng)
    control = analysed(planted(frame, 1.0, 2.0, rng), halved(frame, 0.3, rng)).control.iloc[0]
    assert control["permutations"] == 99
    assert control["below"] == round(99 * control["mean"])
    assert control["low"] < 0.05 < control["high"]
    bad = control.copy()
    bad["below"], bad["mean"], bad["low"], bad["high"] = 30, 0.3, 0.2, 0.4
    assert "do not rely on it" in str(_control(bad))
    assert "30 of 99 tests" in str(_control(bad))


def test_layers_of_unreliable_scores_carry_no_verdict() -> None:
    rng = np.random.default_rng(5)
    frame = scores(rng)
    measured = halved(frame, 0.2, rng)
    poor = measured["layer"] == "conv1"
    for half in ("_half0", "_half1"):
        measured.loc[poor, f"task_information{half}"] = rng.standard_normal(poor.sum())
    result = analysed(planted(frame, 1.0, 2.0, rng), measured)
    assert list(result.skipped) == ["conv1"]
    assert result.skipped["conv1"].startswith("reliability below 0.6: task_information ")


def test_the_best_predictor_is_the_planted_one() -> None:
    rng = np.random.default_rng(3)
    frame = scores(rng)
    table = planted(frame, weight=0.0, noise=1.0, rng=rng)
    table = with_fields(
        table,
        damage={
            name: values + 3 * frame["hull_score"].to_numpy(dtype=np.float32)[:, None]
            for name, values in table.damage.items()
        },
    )
    result = analysed(table, frame).prediction
    assert result["score"].iloc[0] == "hull_score"
    assert result["behind"].iloc[0] == 0
    assert (result["behind_low"].iloc[1:] > 0).all()
    assert (result["p_holm"].iloc[1:] < 0.05).all()


def test_layers_too_small_are_left_out_and_listed() -> None:
    rng = np.random.default_rng(9)
    frame = scores(rng)
    table = planted(frame, weight=1.0, noise=1.0, rng=rng)
    damaged = table.to_frame().merge(frame, on=["layer", "channel"])
    damaged.loc[damaged["layer"] == "conv1", "peer_predictability"] = np.nan
    result = analyze_lesions(damaged, **SMALL)
    assert result.skipped == {"conv1": "no channel with all scores"}
    assert "conv1" not in set(result.beyond["layer"])
    with pytest.raises(ValueError, match="frame must have a layer with enough channels"):
        analyze_lesions(damaged[damaged["layer"] == "conv1"], **SMALL)


@pytest.mark.parametrize(
    ("first", "p_holm", "word"),
    [
        ("hull_score", 0.01, "holds"),
        ("hull_score", 0.2, "not resolved"),
        ("input_capture", 0.01, "contradicted"),
        ("input_capture", 0.2, "not resolved"),
    ],
)
def test_the_hull_is_first_only_where_it_leads_beyond_chance(first, p_holm, word):
    second = {"hull_score": "input_capture", "input_capture": "hull_score"}[first]
    columns = ("correlation", "low", "high", "behind", "behind_low", "behind_high", "p_holm")
    rows = [(0.5, 0.4, 0.6, 0.0, 0.0, 0.0, 1.0), (-0.3, -0.4, -0.2, 0.2, 0.1, 0.3, p_holm)]
    table = pd.DataFrame(rows, columns=columns).assign(score=[first, second])
    found = hull_first(table).values
    assert found["word"] == word
    assert found["lead"].mean == pytest.approx(0.2 if first == "hull_score" else -0.2)
    assert found["lead"].low < found["lead"].high
    assert "not measured" in str(hull_first(table.assign(score=["input_capture", "peer_overlap"])))
