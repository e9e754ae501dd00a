"""The experiments: what they find at small settings, and that their words follow their numbers."""

import dataclasses
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from sim.cli import app
from sim.experiments import initial, lesion, phase, separate
from sim.experiments.cells import phase_cell
from sim.experiments.estimates import estimate
from sim.experiments.phases import Phase
from sim.experiments.separation import REGIMES

RUN = CliRunner()


@pytest.fixture(scope="module")
def separation():
    return separate(width=96, dimension=12, seeds=10, steps=40_000, records=12)


def test_theory_names_a_regime_that_separates_and_two_that_do_not(separation):
    verdicts = [regime.verdict for regime in separation.regimes]
    assert verdicts == ["separates", "does not separate", "does not separate"]
    for regime in separation.regimes:
        start, end = (estimate(regime.coupling[:, r]).mean for r in (0, -1))
        assert start > 0.5
        assert (abs(end) < 0.2) == (regime.verdict == "separates")


def test_simulation_lies_on_the_law(separation):
    for regime in separation.regimes:
        gap = regime.measured - regime.law
        error = gap.std(axis=0, ddof=1) / np.sqrt(len(gap))
        # A correlation across 96 heavy-tailed values is biased by some hundredths.
        assert (np.abs(gap.mean(axis=0)) < 4 * error + 0.05).all()


def test_the_wide_limit_misses_the_rich_regime_and_the_law_does_not(separation):
    rich = separation.regimes[2]
    assert np.abs(rich.measured - rich.wide).mean(axis=0).max() > 0.15
    assert np.abs((rich.measured - rich.law).mean(axis=0)).max() < 0.05


def test_findings_say_when_a_prediction_fails(separation):
    regime = separation.regimes[0]
    wrong = dataclasses.replace(regime, predicted=(0.6, 0.6))
    sentences = {
        name: str(dataclasses.replace(separation, regimes=(r,)).findings()[0])
        for name, r in (("right", regime), ("wrong", wrong))
    }
    assert "which agrees" in sentences["right"]
    assert "contradicts" in sentences["wrong"]


def test_separation_resumes_from_its_files(tmp_path):
    options = {"width": 16, "dimension": 6, "seeds": 2, "steps": 50, "records": 4}
    first = separate(**options, out=tmp_path)
    files = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*.npz")}
    assert len(files) == len(REGIMES)
    missing, damaged, _ = files
    missing.unlink()
    damaged.write_bytes(damaged.read_bytes()[:-100])
    again = separate(**options, out=tmp_path)
    assert set(tmp_path.glob("*.npz")) == set(files)
    for a, b in zip(first.regimes, again.regimes, strict=True):
        assert a.run == b.run
    kept = sum(p.stat().st_mtime_ns == t for p, t in files.items())
    assert kept == len(REGIMES) - 2


def test_phase_agrees_with_its_prediction_and_marks_what_does_not_separate():
    found = phase(
        points=3, seeds=8, steps=4000, dimension=12, fixed={"width": 96}, x="alignment", y="scale"
    )
    known = np.isfinite(found.end)
    assert known.all()
    assert found.separated.any()
    assert not found.separated.all()
    assert np.abs(found.end - found.predicted_end).max() < 0.15
    assert len(found.to_frame()) == 9
    assert len(found.figure().axes) >= 4
    assert "still coupled" in str(found.findings()[0])


def test_every_setting_has_networks_of_its_own(monkeypatch):
    """No two settings share a seed, in training or in the law's draws."""
    asked = []

    def kept(function, settings, **options):
        asked.extend(settings)
        return [phase_cell(settings[0])] * len(settings)

    monkeypatch.setattr("sim.experiments.phases.run_sweep", kept)
    phase(points=2, seeds=3, steps=20, dimension=4, fixed={"width": 8})
    spans = sorted((s["first_seed"], s["first_seed"] + s["seeds"]) for s in asked)
    assert spans == [(0, 3), (3, 6), (6, 9), (9, 12)]


def test_law_rule_and_majority_are_scored_where_axes_start_coupled():
    """Four settings, three coupled at the start: the law names 3, the static rule 2, most 2."""
    numbers = {
        "start": [[0.5, 0.5], [0.5, 0.1]],
        "end": [[0.1, 0.5], [0.1, 0.1]],
        "predicted_end": [[0.1, 0.4], [0.0, 0.5]],
        "static": [[0.5, 0.5], [0.1, 0.5]],
        "time": [[2.0, np.nan], [8.0, np.nan]],
        "predicted_time": [[1.0, 1.0], [4.0, np.nan]],
    }
    cells = {name: np.array(values) for name, values in numbers.items()}
    rest = ("end_half", "predicted_start", "predicted_half", "loss")
    cells |= {name: np.full((2, 2), 0.01) for name in rest}
    found = Phase("exponent", "alignment", np.arange(2.0), np.arange(2.0), "output", **cells)
    values = [finding.values for finding in found.findings()]
    shares = values[2]
    assert shares["total"] == 3
    assert shares["law"].mean == pytest.approx(1)
    assert shares["static"].mean == pytest.approx(2 / 3)
    assert shares["majority"].mean == pytest.approx(2 / 3)
    assert values[3]["ratio"].mean == pytest.approx(2)
    assert values[3]["both"] == 2
    assert values[1]["middle"].mean == pytest.approx(-0.05)


def test_lesions_obey_the_identities_at_and_away_from_the_optimum():
    found = lesion(width=8, dimension=16, seeds=3, steps=500, records=4)
    for kind in ("mean", "replacement", "refit"):
        assert found.deviation(kind) < 1e-10
    ratio = found.measured["replacement"][:, -1] / found.measured["mean"][:, -1]
    np.testing.assert_allclose(ratio, 1 - found.axes["peer_predictability"][:, -1], rtol=1e-7)
    # MSE_without_i / MSE = exp(2 I(T; Y_i | Y_-i))
    growth = 1 + found.measured["refit"][:, -1] / found.error[:, -1, None]
    conditional = found.axes["conditional_task_information"][:, -1]
    np.testing.assert_allclose(growth, np.exp(2 * conditional), rtol=1e-8)
    assert found.to_frame().shape[0] == 3 * 5 * 8
    with pytest.raises(ValueError, match="width must be at most dimension"):
        lesion(width=9, dimension=8)


def test_initial_coupling_is_within_three_standard_errors_at_twelve_settings():
    found = initial(seeds=200)
    assert found.plain.size == 12
    assert np.abs(found.deviations).max() < 3
    assert found.plain_se.max() < 0.02  # the comparison has power


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("separate", ["--width", "16", "--dimension", "6", "--steps", "50"]),
        ("phase", ["--points", "2", "--steps", "50", "--set", "width=16", "--x", "noise"]),
        ("lesion", ["--width", "4", "--dimension", "8", "--steps", "50"]),
        ("init", ["--width", "16", "--dimension", "8"]),
        ("carriers", ["--width", "8", "--dimension", "4", "--steps", "20"]),
    ],
)
def test_commands_print_findings_and_write_them(command, options, tmp_path):
    result = RUN.invoke(app, [command, "--seeds", "3", *options, "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / f"{command}.json").read_text())
    for finding in record:
        assert finding["sentence"] in result.output
    assert (tmp_path / f"{command}.csv").stat().st_size > 100
    assert (tmp_path / f"{command}.png").read_bytes().startswith(b"\x89PNG")
