"""Commands say whose weights they use and how well these classify; bad options are one line."""

import sys

import pytest
import torch
from typer.testing import CliRunner

import twoaxis
from empirical.models import create_model

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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("measure --model small_convnet --device gpu", "device must be 'cpu'.*got 'gpu'"),
        ("prune --model small_convnet --device cuda:x", "device must be 'cpu'.*got 'cuda:x'"),
        ("lesion --model small_convnet --memory inf", "--memory must be in \\[0, 1e6\\]; got inf"),
        ("measure --checkpoint {out}/none.pth --key net", "--key goes with --model"),
        ("report {out}", "report.json does not exist. Name the folder"),
    ],
)
def test_bad_options_are_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["twoaxis", *arguments.format(out=tmp_path).split()])
    with pytest.raises(SystemExit) as ended:
        twoaxis.main()
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("twoaxis: ")
    with pytest.raises(ValueError, match=message):
        raise ValueError(line)
