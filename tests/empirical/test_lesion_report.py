"""The lesion report: every finding is worded from its tables, from the command line down."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import twoaxis
from empirical.analysis.lesions import analyze_lesions
from empirical.analysis.pairs import PairAnalysis, analyze_pairs
from empirical.lesions.replacement import ReplacementTable
from empirical.report.lesion_analysis import analysis_findings, lesion_analysis_section
from empirical.report.replacement import replacement_findings


def damages(effect: float, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    n = 150
    frame = pd.DataFrame(
        {
            "layer": np.repeat(["a", "b", "c"], 50),
            "channel": np.tile(np.arange(50), 3),
            "kind": "mean",
            "input_capture": rng.random(n),
            "task_information": rng.random(n),
            "peer_predictability": rng.random(n),
        }
    )
    frame["loss_increase"] = (
        frame["input_capture"] - effect * frame["peer_predictability"] + 0.3 * rng.random(n)
    )
    for name in ("input_capture", "task_information", "peer_predictability"):
        for half in (0, 1):
            frame[f"{name}_half{half}"] = frame[name] + 0.02 * rng.standard_normal(n)
    return frame


def test_an_effect_is_claimed_only_where_the_numbers_hold_it() -> None:
    options = {"permutations": 99, "draws": 200}
    clear = [str(f) for f in analysis_findings(analyze_lesions(damages(1.0), **options))]
    assert "beyond input capture and task information: holds (slope -" in clear[0]
    assert "of 99 tests fall below 0.05" in clear[1]
    none = [str(f) for f in analysis_findings(analyze_lesions(damages(0.0), **options))]
    assert "not resolved" in none[0]
    against = [str(f) for f in analysis_findings(analyze_lesions(damages(-1.0), **options))]
    assert "contradicted" in against[0]
    assert "The score that ranks damage best is input capture" in none[2]
    assert "ahead of every other score beyond chance" in none[2]
    unhalved = damages(1.0)
    unhalved = unhalved[[name for name in unhalved if "_half" not in name]]
    assert "not resolved" in str(analysis_findings(analyze_lesions(unhalved, **options))[0])


def replaced(hull: float, random: float) -> ReplacementTable:
    """Two channels and two random draws, with the shares that each set recovers."""
    rng = np.random.default_rng(1)
    n = 400
    kinds = ["mean", "hull", "random", "random"]
    lesioned = rng.random((2, n)) + np.array([[1.0], [2.0]])
    shares = {"mean": 0.0, "hull": hull, "random": random}
    rows = [(kind, c) for kind in kinds for c in range(2)]
    damage = np.stack([(1 - shares[kind]) * lesioned[c] for kind, c in rows])
    damage += (
        0.1
        * rng.standard_normal(damage.shape)
        * (np.array([k for k, _ in rows]) != "mean")[:, None]
    )
    return ReplacementTable(
        layer=np.full(8, "conv"),
        kind=np.array([kind for kind, _ in rows]),
        point=np.full(8, "pre_norm"),
        channels=tuple((c,) for _, c in rows),
        damage={"loss_increase": damage.astype(np.float32)},
        dense={},
        fallback={},
        predicted=np.array([shares[kind] for kind, _ in rows]),
        n_peers=np.full(8, 3),
        draw=np.array([0, 0, 0, 0, 0, 0, 1, 1]),
    )


def test_chosen_peers_are_compared_with_random_ones_image_by_image() -> None:
    table = replaced(hull=0.8, random=0.5)
    gain, error = table.pooled_difference("hull", "random")
    assert gain == pytest.approx(0.3, abs=4.5 * error)
    assert 0 < error < 0.01
    assert table.pooled("random")[0] == pytest.approx(0.5, abs=0.02)
    assert "on these images: holds (+" in str(replacement_findings(table)[1])
    assert "on these images: contradicted (-" in str(replacement_findings(replaced(0.2, 0.5))[1])
    same = str(replacement_findings(replaced(0.5, 0.5))[1])
    assert "on these images: not resolved" in same
    by_layer = table.by_layer().set_index("peers")
    np.testing.assert_allclose(by_layer["predicted"], by_layer["recovered"], atol=0.02)


def test_nothing_is_recovered_of_a_damage_that_is_not_there() -> None:
    table = replaced(hull=0.8, random=0.5)
    noise = np.random.default_rng(0).standard_normal((8, 400)).astype(np.float32)
    table.damage["loss_increase"][:] = noise - noise.mean(axis=1, keepdims=True)
    assert np.isnan(table.pooled("hull")).all()
    assert np.isnan(table.recovered()[0]).all()
    (finding,) = replacement_findings(table)
    assert "nothing for peers to win back" in str(finding)


def pairs(effect: float) -> PairAnalysis:
    rng = np.random.default_rng(3)
    rows = [
        {
            "layer": layer,
            "first": 0,
            "second": 1,
            "match": match,
            "group": group,
            "excess": (group == "high") + rng.random(),
            "overlap": rng.random(),
            "single_sum": rng.random(),
            "pair_damage": rng.random(),
            "interaction": rng.standard_normal() + effect * (group == "high"),
            "interaction_se": 0.1,
        }
        for layer in "abcdef"
        for match in range(12)
        for group in ("high", "control")
    ]
    return analyze_pairs(pd.DataFrame(rows))


def test_the_chapter_words_pairs_and_draws_every_figure() -> None:
    analysis = analyze_lesions(damages(1.0), permutations=99, draws=200)
    section = lesion_analysis_section(analysis, pairs(2.0))
    texts = [str(finding) for finding in section.findings]
    assert any("super-additive beyond their controls: holds" in text for text in texts)
    assert list(section.figures) == [
        "lesion_support",
        "lesion_predictors",
        "lesion_depth",
        "lesion_pairs",
    ]
    for figure, caption in section.figures.values():
        assert caption
        for axes in figure.axes:
            assert axes.get_xlabel()
    null = [str(f) for f in lesion_analysis_section(analysis, pairs(0.0)).findings]
    assert any("super-additive beyond their controls: not resolved" in text for text in null)


def test_command_writes_tables_and_a_report(tmp_path: Path) -> None:
    arguments = (
        "lesion --model small_convnet --images 60 --calibration-images 200 --pairs 3 --draws 1"
    )
    result = CliRunner().invoke(
        twoaxis.app, [*arguments.split(), "--permutations", "99", "--out", str(tmp_path)]
    )
    assert result.exit_code == 0, result.output
    lesions = pd.read_csv(tmp_path / "lesions.csv")
    assert len(lesions) == 2 * (16 + 32 + 32)
    assert {"hull_score", "peer_overlap", "loss_increase_se"} <= set(lesions)
    replacements = pd.read_csv(tmp_path / "replacements.csv")
    assert set(replacements["kind"]) == {"mean", "all", "hull", "random"}
    assert (tmp_path / "report.html").stat().st_size > 50_000
    assert "What was found" in result.output
    columns = json.loads((tmp_path / "maps" / "channels.json").read_text())["payload"]["columns"]
    packed = {column["name"]: column["values"] for column in columns}
    replaced = replacements[replacements["kind"] == "all"]
    for name, rows in (
        ("measured_damage", lesions[lesions["kind"] == "mean"]),
        ("measured_damage_with_peers", replaced),
    ):
        values = np.frombuffer(base64.b64decode(packed[name]), "<f4")
        np.testing.assert_allclose(values, rows["divergence"], rtol=1e-6)
    known = ["explain", str(tmp_path / "axes.npz"), "conv2", "3", "--lesions", str(tmp_path)]
    card = CliRunner().invoke(twoaxis.app, known).output
    assert "Measured by lesions: held at its mean" in card
    assert max(map(len, card.splitlines())) <= 80
    foretold = pd.read_csv(tmp_path / "tables" / "damage_channels.csv")
    assert len(foretold) == 2 * (16 + 32 + 32)
    # the scores of an untrained network from 200 images carry no verdict
    assert "reliability below 0.6: " in (tmp_path / "report.html").read_text("utf-8")
