"""A run whose folder was damaged, or was made with another configuration, and two runs at once.

Whatever happened to the folder, the tables are those of a fresh run.
"""

import functools
import json
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import torch

from empirical.measuring.table import AxisTable
from empirical.pruning import comparison
from empirical.runs import steps
from empirical.runs.config import read_config
from empirical.runs.pipeline import run
from empirical.runs.steps import RunStages
from empirical.training.loop import TrainingLoop
from theory.shared import store

PRUNING = {
    "enabled": True,
    "images": 60,
    "report": 60,
    "batch_size": 60,
    "criteria": ["replaceability", "-peer_overlap", "task_information", "random"],
    "allocations": ["uniform"],
    "recoveries": ["compensate"],
    "shares": [0.7, 0.5],
    "draws": 2,
}
SMALL = {
    "seeds": [0, 1],
    "device": "cpu",
    "data": {"calibration": 80},
    "training": {"epochs": 0.5, "batch_size": 128},
    "measure": {"checkpoints": 2, "positions": 2, "permutations": 5},
    "lesion": {"enabled": True, "images": 20, "random_draws": 1},
    "pruning": PRUNING,
}
STAGES = (
    "measure_checkpoint",
    "evaluate_checkpoint",
    "compare_gradients",
    "measure_variations",
    "lesion_channels",
    "replace_channels",
    "prune_network",
)
VOLATILE = ["seconds", "latency_share"]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def computed(monkeypatch):
    """What is computed while the test runs."""
    done = []

    def counted(name, function):
        @functools.wraps(function)
        def wrapper(*args, **options):
            done.append(name)
            return function(*args, **options)

        return wrapper

    for name in STAGES:
        monkeypatch.setattr(steps, name, counted(name, getattr(steps, name)))
    monkeypatch.setattr(TrainingLoop, "loop", counted("train", TrainingLoop.loop))
    monkeypatch.setattr(comparison, "_run_cell", counted("cell", comparison._run_cell))
    return done


def results(settings, out):
    """Every table that the chapters of the report read."""
    stages = RunStages(
        read_config(settings), out, torch.device("cpu"), False, None, lambda what, share: None
    )
    stages.all_seeds()
    found = {}
    for seed in stages.config.seeds:
        folder = stages.folder(seed)
        found[seed, "history"] = pd.read_json(folder / "train" / "history.json")
        for step in stages.steps:
            table = AxisTable.load(stages.table_path(seed, step)).to_frame()
            row = pd.Series(json.loads(stages.accuracy_path(seed, step).read_text()))
            found |= {(seed, step, "axes"): table, (seed, step, "accuracy"): row.to_frame()}
        for step in (stages.steps[0], stages.steps[-1]):
            found[seed, step, "gradients"] = pd.read_csv(stages.gradients_path(seed, step))
        for file in sorted(stages.robustness_folder(seed).glob("*.csv")):
            found[seed, file.name] = pd.read_csv(file)
    if stages.config.lesion.enabled:
        for seed, result in zip(stages.config.seeds, stages.lesions(), strict=True):
            found |= {(seed, name): frame for name, frame in vars(result).items()}
    if stages.config.pruning.enabled:
        pruned = stages.pruning()
        found["cells"] = pruned.rows.drop(columns=VOLATILE)
        for seed, scores in zip(stages.config.seeds, pruned.scores, strict=True):
            found |= {(seed, name): pd.Series(array).to_frame() for name, array in scores.items()}
    return found


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, frame in expected.items():
        pd.testing.assert_frame_equal(found[name], frame, check_exact=True, obj=str(name))


@pytest.fixture(scope="module")
def done(tmp_path_factory, one_thread):
    """The folder of a run, its tables, and the last training step."""
    out = tmp_path_factory.mktemp("run")
    return out, results(SMALL, out)


@pytest.fixture
def copy(done, tmp_path):
    return shutil.copytree(done[0], tmp_path / "run")


def test_a_second_start_computes_nothing(done, copy, computed):
    assert_same(results(SMALL, copy), done[1])
    assert computed == []


# --- damage -----------------------------------------------------------------------------------

DAMAGE = {
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:-7]),
    "overwritten": lambda file: file.write_bytes(b"0" * file.stat().st_size),
    "deleted": lambda file: file.unlink(),
}


APART = (
    {
        "axes/step-0000000.npz": "measure_checkpoint",
        "accuracy/step-0000004.json": "evaluate_checkpoint",
        "lesions/lesions.csv": "lesion_channels",
    },
    {
        "axes/step-0000004.npz": "measure_checkpoint",
        "gradients/step-0000000.csv": "compare_gradients",
        "pruning/cells.csv": "prune_network",
    },
    {
        "axes/step-0000004.npz.made-from.json": "measure_checkpoint",
        "robustness/sample_counts.csv": "measure_variations",
        "lesions/replacements.csv": "replace_channels",
        "pruning/scores.npz": "prune_network",
    },
)
"""Artifacts with the stage that makes each; of those side by side none is made from another."""


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("artifacts", APART, ids=lambda artifacts: next(iter(artifacts)))
def test_a_damaged_artifact_is_made_again_and_nothing_else(done, copy, computed, artifacts, damage):
    """What depends on it is not, since its content is again what it was."""
    for artifact in artifacts:
        DAMAGE[damage](copy / "seed-1" / artifact)
    assert_same(results(SMALL, copy), done[1])
    assert sorted(computed) == sorted(artifacts.values())


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_training_is_made_again_and_nothing_else(done, copy, computed, damage):
    DAMAGE[damage](copy / "seed-0" / "train" / "step-0000001.safetensors")
    DAMAGE[damage](copy / "seed-1" / "train" / "history.json")
    with pytest.warns(UserWarning, match="train lacks a checkpoint or has a damaged one") as said:
        found = results(SMALL, copy)
    assert [f"seed-{seed}/train" in str(w.message) for seed, w in enumerate(said)] == [True] * 2
    assert_same(found, done[1])
    assert computed == ["train"] * 2


@pytest.mark.parametrize(
    "damage", [lambda text: text[:-9], lambda text: text.replace("acc", "ecc")]
)
def test_a_damaged_cell_is_computed_again_and_nothing_else(done, copy, computed, damage):
    folder = copy / "seed-0" / "pruning"
    cells = folder / "small_convnet-0.jsonl"
    *others, last = cells.read_text().splitlines(keepends=True)
    cells.write_text("".join([*others, damage(last)]))
    (folder / "cells.csv").unlink()
    assert_same(results(SMALL, copy), done[1])
    assert computed == ["prune_network", "cell"]


def test_what_depends_on_a_changed_file_is_made_again(done, copy, computed):
    """Other checkpoints, as if trained elsewhere, with their records: all that reads them does."""
    other = {**SMALL, "training": {"epochs": 0.5, "batch_size": 128, "learning_rate": 0.05}}
    fresh = results(other, copy.parent / "fresh")
    computed.clear()
    for seed in ("seed-0", "seed-1"):
        shutil.rmtree(copy / seed / "train")
        shutil.copytree(copy.parent / "fresh" / seed / "train", copy / seed / "train")
    assert_same(results(other, copy), fresh)
    assert set(computed) == {*STAGES, "cell"}


def test_changed_code_is_never_served_old_results(done, copy, computed, monkeypatch):
    def fingerprint(*modules, known=store.fingerprint):
        changed = "changed" if "empirical.runs.lesion_stage" in modules else ""
        return changed + known(*modules)

    monkeypatch.setattr(store, "fingerprint", fingerprint)
    assert_same(results(SMALL, copy), done[1])
    assert computed == ["lesion_channels", "replace_channels"] * 2


# --- changed configurations -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "cells"),
    [
        ({"criteria": [*PRUNING["criteria"], "l2"]}, 4),
        ({"criteria": ["l1", "-peer_overlap", "task_information"]}, 4),
        ({"draws": 3}, 4),
        ({"draws": 1, "shares": [0.5]}, 0),
        ({"report": 50}, 20),
    ],
    ids=["criterion added", "criteria removed and added", "draw added", "draw and share removed",
         "other images"],
)  # fmt: skip
def test_changed_factors_give_the_tables_of_a_fresh_run(done, copy, computed, changes, cells):
    settings = {**SMALL, "pruning": {**PRUNING, **changes}}
    found = results(settings, copy)
    assert sorted(computed) == ["cell"] * cells + ["prune_network"] * 2
    fresh = shutil.copytree(done[0], copy.parent / "fresh")
    for folder in fresh.glob("seed-*/pruning"):
        shutil.rmtree(folder)
    assert_same(found, results(settings, fresh))
    assert_same(results(SMALL, copy), done[1])


def test_a_seed_removed_and_a_seed_added(done, copy, computed):
    settings = {**SMALL, "seeds": [1, 2]}
    found = results(settings, copy)
    assert computed.count("train") == computed.count("prune_network") == 1
    assert_same(found, results(settings, copy.parent / "fresh"))


def test_changed_measurements_lesions_and_what_depends_on_them(done, copy, computed):
    settings = {
        **SMALL,
        "measure": {**SMALL["measure"], "positions": 3},
        "lesion": {"enabled": True, "images": 20, "random_draws": 2, "channels": 3},
    }
    found = results(settings, copy)
    drawn = [
        found[0, name].groupby("layer")["channel"].unique() for name in ("lesions", "recovered")
    ]
    assert all(len(channels) == 3 for channels in drawn[0])
    assert drawn[0].map(sorted).equals(drawn[1].map(sorted))
    assert {"train", "evaluate_checkpoint", "prune_network"}.isdisjoint(computed)
    assert_same(found, results(settings, copy.parent / "fresh"))


@pytest.mark.usefixtures("figures_not_drawn")
def test_a_report_knows_nothing_of_stages_and_seeds_that_are_gone(done, copy):
    """Tables, figures and index are those of a fresh run; only images of figures are not drawn."""
    result = run(SMALL, out=copy)
    lesions = pd.read_csv(copy / "tables" / "lesions.csv")
    assert set(lesions["kind"]) == {"mean", "zero"}
    assert set(lesions["n_images"]) == {20}
    assert result.sections[-1].title == "Which channels can go?"
    (copy / "tables" / ".couplings.csv.x3.part").write_text("left by a killed writer")
    settings = {**SMALL, "seeds": [1], "lesion": {"enabled": False}}
    settings["pruning"] = {**PRUNING, "enabled": False}
    fresh = copy.parent / "fresh"
    for out in (copy, fresh):
        run(settings, out=out)
    for kind in ("tables", "figures"):
        files = sorted(p.name for p in (fresh / kind).iterdir())
        assert sorted(p.name for p in (copy / kind).iterdir()) == files
        for name in files:
            assert (copy / kind / name).read_bytes() == (fresh / kind / name).read_bytes()
    for name in ("report.json", "report.html"):
        assert (copy / name).read_bytes() == (fresh / name).read_bytes()
    assert not {"lesions.csv", "pruning_areas.csv"} & {p.name for p in (copy / "tables").iterdir()}


# --- two processes ----------------------------------------------------------------------------

TWO = """
import functools, json, pathlib, sys, time
import torch
torch.set_num_threads(1)
from tests.empirical import test_run_store as own
from empirical.runs import steps
from empirical.training.loop import TrainingLoop

folder, name = pathlib.Path(sys.argv[1]), sys.argv[2]

def counted(what, function):
    @functools.wraps(function)
    def wrapper(*args, **options):
        with (folder / "log").open("a") as stream:
            stream.write(what + "\\n")
        return function(*args, **options)
    return wrapper

for stage in own.STAGES:
    setattr(steps, stage, counted(stage, getattr(steps, stage)))
TrainingLoop.loop = counted("train", TrainingLoop.loop)
(folder / f"ready {name}").touch()
while len(list(folder.glob("ready*"))) < 2:
    time.sleep(0.01)
settings = {**own.SMALL, "seeds": [1], "pruning": {"enabled": False}}
found = own.results(settings, folder / "run")
print(json.dumps({str(name): frame.to_json() for name, frame in found.items()}))
"""


def test_two_runs_in_one_folder_compute_everything_once(tmp_path):
    both = [
        subprocess.Popen(
            [sys.executable, "-c", TWO, str(tmp_path), name], stdout=subprocess.PIPE, text=True
        )
        for name in "ab"
    ]
    printed = [process.communicate(timeout=250)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    log = (tmp_path / "log").read_text().splitlines()
    once = {"train", "measure_variations", "lesion_channels", "replace_channels"}
    each = {"measure_checkpoint": 3, "evaluate_checkpoint": 3, "compare_gradients": 2}
    assert {name: log.count(name) for name in log} == dict.fromkeys(once, 1) | each
    assert printed[0] == printed[1]
