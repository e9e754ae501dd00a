"""A whole run in a small setting, killed and started again, and the command line around it."""

import json
import os
import runpy
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

import twoaxis
from empirical.devices import chosen_device, halving_batches
from empirical.measuring.table import AxisTable
from empirical.pruning import comparison
from empirical.report.intervention import TITLE
from empirical.runs.chapters import read_accuracy, read_tables, run_couplings, run_sections
from empirical.runs.config import read_config
from empirical.runs.pipeline import run
from empirical.runs.steps import RunStages
from theory.shared.foreign import parse_json

SMALL = {
    "seeds": [0, 1],
    "device": "cpu",
    "data": {"calibration": 150},
    "training": {"epochs": 1, "batch_size": 64},
    "measure": {"checkpoints": 3, "positions": 4, "permutations": 20},
}
TOML = """
seeds = [0]
device = "cpu"
[data]
calibration = 150
[training]
epochs = 1
batch_size = 64
[measure]
checkpoints = 3
positions = 4
permutations = 20
"""


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, one_thread):
    return run(SMALL, out=tmp_path_factory.mktemp("run"))


def stages_of(settings, out):
    """Every stage but the report."""
    device = torch.device("cpu")
    stages = RunStages(read_config(settings), out, device, False, None, lambda what, share: None)
    stages.all_seeds()
    return stages


def tables_of(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "tables").glob("*.csv"))}


# --- a run ------------------------------------------------------------------------------------


def test_a_run_leaves_tables_figures_report_and_record(finished):
    out = finished.out
    assert finished.report.read_text().startswith("<!doctype html>")
    assert {"couplings.csv", "accuracy.csv", "training.csv"} <= set(tables_of(out))
    assert (out / "figures" / "training.pdf").stat().st_size > 1000
    record = json.loads((out / "run.json").read_text())
    assert record["config"]["training"]["batch_size"] == 64
    assert record["data"]["digits/test"]["n"] == 599


def test_a_run_measures_every_seed_at_every_checkpoint_from_step_0(finished):
    steps = sorted({step for _, step in finished.tables})
    assert steps[0] == 0
    assert set(finished.tables) == {(seed, step) for seed in (0, 1) for step in steps}
    accuracy = finished.accuracy.set_index(["seed", "step"])["accuracy"]
    assert (accuracy[:, steps[-1]] > accuracy[:, 0]).all()
    table = AxisTable.load(finished.out / "seed-1" / "axes" / "step-0000000.npz")
    pd.testing.assert_frame_equal(table.to_frame(), finished.tables[1, 0].to_frame())


@pytest.mark.usefixtures("figures_not_drawn")
def test_a_second_start_repeats_nothing(finished, monkeypatch):
    before = tables_of(finished.out)
    for again in ("measuring.measurement.measure", "training.evaluation.evaluate"):
        monkeypatch.setattr(f"empirical.{again}", lambda *_, **__: pytest.fail("done again"))
    run(SMALL, out=finished.out)
    assert tables_of(finished.out) == before


def test_changed_measurement_settings_measure_again_but_do_not_train(finished, monkeypatch):
    monkeypatch.setattr(
        "empirical.training.loop.TrainingLoop._step", lambda _: pytest.fail("trained")
    )
    settings = {**SMALL, "measure": {**SMALL["measure"], "positions": 5, "damage": True}}
    stages = stages_of(settings, finished.out)
    tables, accuracy = read_tables(stages), read_accuracy(stages)
    assert tables[0, 0].settings["positions"] == 5
    sections = run_sections(stages, tables, run_couplings(stages, tables), accuracy)
    chapter = next(section for section in sections if section.title == TITLE)
    assert set(chapter.tables["intervention_couplings"]["seed"]) == {0, 1}
    assert "Peers win back" in str(chapter.findings[-1])
    # As the other tests expect it.
    stages_of(SMALL, finished.out)


KILLED = """
import os, signal, sys
import torch
torch.set_num_threads(1)
from empirical.runs.pipeline import run
from empirical.runs.chapters import read_accuracy, read_tables, run_couplings
from empirical.runs.steps import RunStages

def progress(what, share):
    if sys.argv[3] in what:
        os.kill(os.getpid(), signal.SIGKILL)

run(sys.argv[1], out=sys.argv[2], progress=progress)
"""


def test_killed_in_training_and_in_measuring_then_the_same_tables(finished, tmp_path):
    script, config, out = tmp_path / "killed.py", tmp_path / "small.toml", tmp_path / "run"
    script.write_text(KILLED)
    config.write_text(TOML)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for moment in ("training, epoch 0.6", "measuring, step 4"):
        killed = subprocess.run(
            [sys.executable, str(script), str(config), str(out), moment], env=environment
        )
        assert killed.returncode == -9
        assert not (out / "report.html").exists()
    stages = stages_of(config, out)
    resumed = read_tables(stages)
    assert set(resumed) == {key for key in finished.tables if key[0] == 0}
    for key, table in resumed.items():
        pd.testing.assert_frame_equal(finished.tables[key].to_frame(), table.to_frame())
    pd.testing.assert_frame_equal(
        finished.couplings.query("seed == 0"), run_couplings(stages, resumed)
    )
    pd.testing.assert_frame_equal(finished.accuracy.query("seed == 0"), read_accuracy(stages))
    for kept in ("gradients/*.csv", "train/step-*"):
        expected = sorted((finished.out / "seed-0").glob(kept))
        assert expected
        for file in expected:
            assert (out / file.relative_to(finished.out)).read_bytes() == file.read_bytes()


@pytest.mark.usefixtures("figures_not_drawn")
def test_lesions_join_the_report_when_asked_for(tmp_path):
    settings = {
        **SMALL,
        "seeds": [0],
        "lesion": {"enabled": True, "images": 60, "random_draws": 1},
    }
    result = run(settings, out=tmp_path)
    assert len(result.sections) == 10
    mapped = parse_json((tmp_path / "maps" / "channels.json").read_bytes(), "map")["payload"]
    names = {column["name"] for column in mapped["columns"]}
    assert {"measured_damage", "measured_damage_with_peers", "loss_increase"} <= names
    lesions = pd.read_csv(tmp_path / "tables" / "lesions.csv")
    assert set(lesions["kind"]) == {"mean", "zero"}
    assert set(lesions["n_images"]) == {60}


PRUNING = {
    "enabled": True,
    "images": 150,
    "report": 200,
    "criteria": ["replaceability", "task_information", "-peer_overlap", "group_l2", "random"],
    "allocations": ["uniform"],
    "recoveries": ["recalibrate", "compensate"],
    "shares": [0.7, 0.5],
    "draws": 2,
}


@pytest.mark.usefixtures("figures_not_drawn")
def test_pruning_joins_the_report_continues_and_takes_more_factors(
    tmp_path, monkeypatch, pytestconfig, capsys
):
    """Killed after some cells: the others are added. A new recovery computes its own cells only."""
    settings = {**SMALL, "pruning": PRUNING}
    cells = []
    one = comparison._run_cell

    def count_and_kill(known, report, cell, *rest):
        cells.append(cell)
        if len(cells) == 8:
            raise KeyboardInterrupt
        return one(known, report, cell, *rest)

    monkeypatch.setattr(comparison, "_run_cell", count_and_kill)
    with pytest.raises(KeyboardInterrupt):
        run(settings, out=tmp_path)
    result = run(settings, out=tmp_path)
    assert len(cells) == 1 + 2 * 24  # two seeds; the cell of the kill is run again
    rows = pd.read_csv(tmp_path / "seed-1" / "pruning" / "cells.csv")
    assert len(rows) == 25
    assert set(rows["images"]) == {200}
    assert result.sections[-1].title == "Which channels can go?"
    headline = pd.read_csv(tmp_path / "tables" / "pruning_headline.csv")
    assert headline["against"].tolist() == ["library criterion", "other selector"]
    assert "replaceability, compensate" in result.report.read_text()
    more = {**settings, "pruning": {**PRUNING, "recoveries": ["reconstruct"], "shares": [0.5]}}
    run(more, out=tmp_path)
    assert {cell.recovery for cell in cells[49:]} == {"reconstruct"}
    assert len(pd.read_csv(tmp_path / "seed-0" / "pruning" / "cells.csv")) == 1 + 6
    run(settings, out=tmp_path)
    assert len(cells) == 49 + 2 * 6  # those of the first factors were kept
    script = str(pytestconfig.rootpath / "scripts/pruning_across_networks.py")
    monkeypatch.setattr(sys, "argv", [script, str(tmp_path), "--out", str(tmp_path / "all")])
    runpy.run_path(script, run_name="__main__")
    said = capsys.readouterr().out
    assert "uniform allocation: replaceability, compensate reaches" in said
    assert (tmp_path / "all" / "report.html").exists()
    monkeypatch.setattr(sys, "argv", [script, str(tmp_path / "all")])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(script, run_name="__main__")
    assert "holds no pruned networks" in capsys.readouterr().err


# --- refusals ------------------------------------------------------------------------------------


def test_data_that_does_not_fit_stops_before_training(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"existing folder; got '.*nowhere'"):
        run(SMALL, out=tmp_path, overrides=[f"data.source={tmp_path}/nowhere"])
    with pytest.raises(ValueError, match="image_size must be >= 16 for vgg16; got 8"):
        run(SMALL, out=tmp_path, overrides=["model.name=vgg16"])


# --- devices -----------------------------------------------------------------------


def test_short_memory_halves_the_batch_and_says_so():
    asked = []

    def fits_two(size):
        asked.append(size)
        if size > 2:
            raise torch.OutOfMemoryError
        return size

    with pytest.warns(UserWarning, match="continuing with batch_size"):
        assert halving_batches(fits_two, 8) == 2
    assert asked == [8, 4, 2]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_that_is_not_there_is_named():
    assert chosen_device("auto").type == "cpu"
    with pytest.raises(ValueError, match=r"'cuda' is not available.*Use 'cpu'"):
        chosen_device("cuda")


# --- command line -----------------------------------------------------------------------------


def test_measure_by_checkpoint_writes_tables(finished, tmp_path):
    checkpoint = sorted((finished.out / "seed-0" / "train").glob("step-*"))[-1]
    out = tmp_path / "out"
    arguments = ["measure", "--checkpoint", str(checkpoint), "--images", "120", "--out", str(out)]
    result = CliRunner().invoke(twoaxis.app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "conv3" in result.output
    frame = pd.read_csv(out / "axes.csv")
    assert list(frame.columns[:2]) == ["layer", "channel"]
    assert len(frame) == 16 + 32 + 32
    assert len(AxisTable.load(out / "axes.npz").layers) == 3


def test_measure_takes_the_users_own_network_and_its_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_network.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self, num_classes):\n"
        "        super().__init__(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(),\n"
        "                         nn.Linear(144, num_classes))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    from my_network import Net

    generator = torch.Generator().manual_seed(0)
    network = Net(10)
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    torch.save(network.state_dict(), "weights.pth")
    arguments = ["measure", "--model", "my_network:Net", "--checkpoint", "weights.pth"]
    options = ["--images", "100", "--mean", "0.3", "--std", "0.4", "--out", "out"]
    result = CliRunner().invoke(twoaxis.app, [*arguments, *options], catch_exceptions=False)
    assert result.exit_code == 0
    frame = pd.read_csv("out/axes.csv")
    assert frame["layer"].astype(str).unique().tolist() == ["0"]
    assert np.isfinite(frame["input_capture"]).all()


def test_measure_refuses_a_checkpoint_of_other_classes(finished, tmp_path):
    from PIL import Image

    for part in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
            Image.new("L", (8, 8)).save(tmp_path / part / name / "0.png")
    checkpoint = finished.out / "seed-0" / "train" / "step-0000000.safetensors"
    arguments = ["measure", "--checkpoint", str(checkpoint), "--data", str(tmp_path)]
    with pytest.raises(ValueError, match="trained on the 10 classes of digits/fit"):
        CliRunner().invoke(
            twoaxis.app, [*arguments, "--cache", str(tmp_path / "c")], catch_exceptions=False
        )


@pytest.mark.parametrize("begun", [True, False])
def test_an_interrupted_run_says_where_to_continue_if_there_is_anything(
    begun, tmp_path, monkeypatch
):
    def interrupted(*_, **__):
        if begun:
            (tmp_path / "run").mkdir(exist_ok=True)
        raise KeyboardInterrupt

    monkeypatch.setattr("empirical.training.trainer.train", interrupted)
    config = tmp_path / "small.toml"
    config.write_text(TOML)
    result = CliRunner().invoke(twoaxis.app, ["run", str(config), "--out", str(tmp_path / "run")])
    assert result.exit_code != 0
    assert (tmp_path / "run").exists() == begun
    assert ("the same command continues there" in result.output) == begun
