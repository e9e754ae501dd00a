"""Commands say whose weights they use and how well these classify; bad options are one line."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import twoaxis
from empirical.commands.source import NetworkSource
from empirical.data import folders
from empirical.models import ModelSpec, create_model
from empirical.training.checkpoints import CheckpointInfo, save_checkpoint
from theory.shared.tasks import TasksFailedError

NET = ["--model", "small_convnet"]

MEASURE = "measure --model small_convnet --images 60 --out {out}"
PRUNE = (
    "prune --model small_convnet --images 60 --criterion l2 --recovery none --macs 0.6 --out {out}"
)
LESION = (
    "lesion --model small_convnet --images 200 --calibration-images 300 --peers none --pairs 0 "
    "--kind zero --permutations 99 --out {out}"
)


def output(command, out):
    arguments = command.format(out=out).split()
    result = CliRunner().invoke(twoaxis.app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


@pytest.mark.parametrize("command", [MEASURE, PRUNE, LESION], ids=["measure", "prune", "lesion"])
def test_random_weights_and_their_accuracy_are_said(command, tmp_path):
    said = output(command, tmp_path)
    assert "small_convnet: RANDOM weights of seed 0 (no --checkpoint is given)" in said
    assert "accuracy on " in said
    assert "by chance 10.0%" in said


def test_a_checkpoint_and_a_callable_are_named(tmp_path):
    file = tmp_path / "weights.pth"
    model = create_model("small_convnet", classes=10, image_size=8, channels=1, seed=5)
    torch.save({"student": model.state_dict(), "teacher": model.state_dict()}, file)
    said = output(f"{MEASURE} --checkpoint {file} --key student", tmp_path)
    assert f"weights of {file}; accuracy on 60 images of digits" in said
    callable_name = "empirical.models.small:small_convnet"
    said = output(MEASURE.replace("small_convnet", callable_name), tmp_path)
    assert f"weights as {callable_name} returns them (no --checkpoint is given)" in said


def test_ctrl_c_is_one_line_and_the_shells_exit_code(monkeypatch, capsys):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("empirical.report.page.render", stop)
    monkeypatch.setattr(sys, "argv", ["twoaxis", "report", "folder"])
    with pytest.raises(SystemExit) as ended:
        twoaxis.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err.strip() == "Interrupted. Every file that was written is whole."


def test_tasks_that_failed_are_one_line(monkeypatch, capsys, tmp_path):
    """Of a campaign whose errors are a user's: no traceback."""

    def fail(*_, **__):
        raise TasksFailedError({"run: seed 0: train": "ValueError: no such thing"}, 3)

    monkeypatch.setattr("empirical.runs.campaign.campaign", fail)
    (tmp_path / "a.toml").write_text("seeds = [0]\n")
    words = ["run", str(tmp_path / "a.toml"), "--workers", "1", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["twoaxis", *words])
    with pytest.raises(SystemExit) as ended:
        twoaxis.main()
    assert ended.value.code == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("twoaxis: 1 tasks failed, each of 2 times: run: seed 0: train: Value")


def test_a_file_in_the_place_of_the_folder_is_refused_before_an_image_is_read(
    monkeypatch, capsys, tmp_path
):
    monkeypatch.setattr("empirical.data.loading.load_data", lambda *_, **__: pytest.fail("read"))
    monkeypatch.setattr("empirical.runs.steps.load_data", lambda *_, **__: pytest.fail("read"))
    (tmp_path / "a.toml").write_text("seeds = [0]\n")
    (file := tmp_path / "file").write_text("mine")
    for words in (["run", str(tmp_path / "a.toml")], *([n, *NET] for n in ("measure", "lesion"))):
        for out in (file, file / "below"):
            monkeypatch.setattr(sys, "argv", ["twoaxis", *words, "--out", str(out)])
            with pytest.raises(SystemExit) as ended:
                twoaxis.main()
            assert ended.value.code == 2
            assert f"out must be a folder; {str(out)!r} is not" in capsys.readouterr().err
    assert file.read_text() == "mine"


@pytest.fixture
def own_checkpoint(tmp_path):
    """A checkpoint of twoaxis, of a training with a normalization of its own."""
    model = create_model("small_convnet", classes=10, image_size=8, channels=1)
    spec = ModelSpec("small_convnet", 10, 8, 1)

    def write(classes=tuple("0123456789")):
        info = CheckpointInfo(0, 0.0, 0, spec, "digits", "", classes, (0.125,), (0.75,))
        return save_checkpoint(tmp_path / "own.safetensors", model, info)

    return write


def test_a_checkpoint_of_ours_brings_its_normalization_beside_model_too(own_checkpoint):
    opened = NetworkSource(model="small_convnet", checkpoint=own_checkpoint()).open()
    assert (opened.train.mean, opened.train.std) == ((0.125,), (0.75,))
    assert (opened.test.mean, opened.test.std) == ((0.125,), (0.75,))


def test_a_checkpoint_of_ours_of_other_classes_is_refused_beside_model_too(own_checkpoint):
    file = own_checkpoint(tuple("abcdefghij"))
    with pytest.raises(ValueError, match=r"own\.safetensors.* trained on the 10 classes of digits"):
        NetworkSource(model="small_convnet", checkpoint=file).open()


def decoded(folder, command, monkeypatch, out):
    """How many images of a folder a command decodes."""
    read = []
    monkeypatch.setattr(
        folders, "_pixels", lambda *a, own=folders._pixels: read.append(a) or own(*a)
    )
    output(f"{command} --data {folder} --cache {out}/cache", out)
    return len(read)


def test_measure_and_prune_decode_only_the_images_that_they_use(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for part, number in (("train", 40), ("test", 3)):
        for name in "ab":
            (tmp_path / "data" / part / name).mkdir(parents=True)
            for image in range(number):
                pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / part / name / f"{image}.png")
    measured = decoded(tmp_path / "data", MEASURE.replace("60", "10"), monkeypatch, tmp_path / "m")
    pruned = decoded(tmp_path / "data", PRUNE.replace("60", "10"), monkeypatch, tmp_path / "p")
    assert (measured, pruned) == (10 + 1, 10 + 2 * 3)
