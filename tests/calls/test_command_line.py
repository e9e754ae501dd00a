"""Bad command lines: exit code 2, and one line that names option, value and remedy."""

import re

import pytest
from typer.testing import CliRunner

import twoaxis

NET = "--model small_convnet --images 60"
SHARED = (
    ("--data=nowhere", "nowhere", "folder"),
    ("--data=pyproject.toml", "pyproject.toml", "folder"),
    ("--model=small_convnett", "small_convnett", "Did you mean"),
    ("--model=no_such_module:f", "no_such_module", "PYTHONPATH"),
    ("--model=nowhere.py:f", "nowhere.py", "file.py:callable"),
    ("--checkpoint=nowhere.pt", "nowhere.pt", "Give"),
    ("--checkpoint=tests", "tests", "Give"),
    ("--width=0", "0", "must be"),
    ("--width=nan", "nan", "must be"),
    ("--width=wide", "wide", "valid number"),
    ("--mean=0.5", "0.5", "together"),
    ("--mean=a --std=0.5", "a", "numbers"),
    ("--mean=0.5,0.5 --std=0.5,0.5", "0.5", "one value per channel"),
    ("--batch-size=0", "0", "greater than"),
    ("--batch-size=1.5", "1.5", "valid integer"),
    ("--images=1", "1", "greater than"),
    ("--images=many", "many", "valid integer"),
    ("--seed=one", "one", "valid integer"),
    ("--seed=-1", "-1", "must be"),
    ("--seed=9223372036854775808", "9223372036854775808", "must be"),
    ("--image-size=big", "big", "valid integer"),
    ("--device=gpu", "gpu", "must be"),
    ("--device=cuda:x", "cuda:x", "must be"),
)
"""Of measure, lesion and prune: option, what the message shows, and its remedy."""

OWN = {
    "measure": (
        ("--target=logit_margn", "logit_margn", "Did you mean"),
        ("--layer=conv9", "conv9", "must be one of"),
        ("--positions=0", "0", "greater than"),
        ("--positions=few", "few", "valid integer"),
    ),
    "lesion": (
        ("--kind=meen", "meen", "Did you mean"),
        ("--peers=hulls", "hulls", "Did you mean"),
        ("--peers=none --peers=all", "none, all", "Leave out"),
        ("--draws=0", "0", "greater than"),
        ("--pairs=-1", "-1", "greater than"),
        ("--layer=conv9", "conv9", "must be one of"),
        ("--permutations=5", "5", "greater than"),
        ("--permutations=x", "x", "valid integer"),
        ("--memory=-1", "-1", "greater than"),
        ("--memory=inf", "inf", "must be"),
        ("--memory=nan", "nan", "must be|greater than"),
        ("--calibration-images=1", "1", "greater than"),
    ),
    "prune": (
        ("--macs=0", "0", "must be"),
        ("--macs=2", "2", "must be"),
        ("--macs=nan", "nan", "must be"),
        ("--macs=half", "half", "valid number"),
        ("--criterion=l3", "l3", "Did you mean"),
        ("--allocation=globe", "globe", "Did you mean"),
        ("--recovery=merged", "merged", "Did you mean"),
        ("--floor=-1", "-1", "must be"),
        ("--floor=nan", "nan", "must be"),
        ("--floor=2", "2", "must be"),
        ("--skip=conv9", "conv9", "must be|Did you mean"),
        ("--target=margin", "margin", "Did you mean"),
        ("--export=onxx", "onxx", "Did you mean"),
    ),
}
OTHERS = (
    ("theory show task_informatoin", "name", "task_informatoin", "Did you mean"),
    ("theory verify --only T9", "name", "T9", "must be one of"),
    ("theory verify --points 0", "--points", "0", "greater than"),
    ("theory verify --points few", "--points", "few", "valid integer"),
    ("theory verify --seed one", "--seed", "one", "valid integer"),
    ("sim separate --seeds 1", "--seeds", "1", "greater than"),
    ("sim separate --width 1", "--width", "1", "greater than"),
    ("sim separate --dimension 1", "--dimension", "1", "greater than"),
    ("sim separate --steps 0", "--steps", "0", "greater than"),
    ("sim separate --steps many", "--steps", "many", "valid integer"),
    ("sim separate --threads 0", "--threads", "0", "greater than"),
    ("sim phase --points 1", "--points", "1", "greater than"),
    ("sim phase --x exponentt", "x", "exponentt", "Did you mean"),
    ("sim phase --y scael", "y", "scael", "Did you mean"),
    ("sim phase --target lable", "target", "lable", "Did you mean"),
    ("sim phase --set scale", "--set", "scale", "NAME=NUMBER"),
    ("sim phase --x scale --y scale", "y", "scale", "two parameters"),
    ("sim phase --set depth=3", "fixed", "depth", "must be one of"),
    ("sim phase --set scale=big", "--set", "scale=big", "NAME=NUMBER"),
    ("sim phase --steps -1", "--steps", "-1", "greater than"),
    ("sim lesion --width 1", "--width", "1", "greater than"),
    ("sim lesion --width 64 --dimension 8 --seeds 2", "width", "64", "at most"),
    ("sim init --seeds 1", "--seeds", "1", "greater than"),
    ("sim init --dimension 0", "--dimension", "0", "greater than"),
    ("run nowhere.toml", "config", "nowhere.toml", "must|exist"),
    ("run tests", "config", "tests", "must|exist"),
    ("run", "CONFIG", "none", "must be"),
    ("run --show --set training.epochs=0", "training.epochs", "0", "must be"),
    ("run --show --set training.epoch=3", "epoch", "epoch", "Did you mean"),
    ("run --show --set trainin.epochs=3", "trainin", "trainin", "Did you mean"),
    ("run --show --set training", "--set|override", "training", "must|=value"),
    ("run --show --set seeds=[]", "seeds", r"\[\]|none|empty", "must|at least"),
    ("run --show --set seeds=[9223372036854775808]", "seeds", "9223372036854775808", "must be"),
    ("run --show --set data.seed=9223372036854775808", "seed", "9223372036854775808", "2.63 - 1"),
    ("run --show --set model.name=net.py", "name", "net.py", "Give net.py:callable"),
    ("measure --model net.py", "model", "net.py", "Give net.py:callable"),
    ("measure", "model", "checkpoint", "must be given"),
    ("measure --checkpoint none.pth --key net", "--key", "net", "--model"),
    ("report nowhere", "folder", "nowhere", "must|exist"),
    ("demo --seeds 0", "--seeds", "0", "greater than"),
    ("demo --seeds many", "--seeds", "many", "valid integer"),
    ("mesure", "mesure", "mesure", "Did you mean|No such command"),
)
LINES = [
    *(
        (f"{command} {NET} {option}", option.split("=")[0].lstrip("-"), value, remedy)
        for command in OWN
        for option, value, remedy in (*SHARED, *OWN[command])
    ),
    *OTHERS,
]


@pytest.mark.parametrize(("line", "name", "value", "remedy"), LINES, ids=lambda v: str(v)[:80])
def test_a_bad_command_line_is_refused(line, name, value, remedy, monkeypatch, capsys, tmp_path):
    words = line.split()
    if words[0] in ("measure", "lesion", "prune") or (words[0] == "sim" and words[1] != "init"):
        words += ["--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", ["twoaxis", *words])
    with pytest.raises(SystemExit) as stopped:
        twoaxis.main()
    assert stopped.value.code == 2
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    # what follows the usage or a progress bar
    message = [text for text in shown.splitlines() if text.strip()][-1]
    name = name.replace("-", "[-_ ]")
    assert re.search(rf"(?<![a-z])({name})s?(?![a-z])", message), message
    assert re.search(value if "|" in value else re.escape(value), message), message
    assert re.search(remedy, message), message
    assert not list(tmp_path.rglob("*.csv"))


def test_the_good_lines_work():
    for line in ("theory list", "run --show", "prune --criterion list"):
        assert CliRunner().invoke(twoaxis.app, line.split()).exit_code == 0
