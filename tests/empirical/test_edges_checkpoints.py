"""Checkpoints as others save them: loaded, or refused with the entries that there are."""

import argparse

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

from empirical import load_weights


def build(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 4))
    model[1].running_mean += seed
    return model


SOURCE = build(1)
WEIGHTS = SOURCE.state_dict()
PARALLEL = {f"module.{name}": value for name, value in WEIGHTS.items()}
OTHER = {name: value + 1 for name, value in WEIGHTS.items()}
LAYOUTS = {
    "plain": WEIGHTS,
    "state_dict": {"state_dict": PARALLEL},
    "net": {"net": PARALLEL, "acc": 93.0, "epoch": 9},
    "model_state_dict": {
        "model_state_dict": WEIGHTS, "optimizer_state_dict": {"state": {}}, "epoch": 9,
    },
    "lightning": {"state_dict": {f"model.{name}": value for name, value in WEIGHTS.items()}},
    "averaged": AveragedModel(SOURCE).state_dict(),
    "averaged, parallel": AveragedModel(nn.DataParallel(SOURCE)).state_dict(),
    "compiled, parallel": {f"_orig_mod.{name}": value for name, value in PARALLEL.items()},
    "parallel, compiled": {f"module._orig_mod.{name}": value for name, value in WEIGHTS.items()},
    "without counters": {n: v for n, v in WEIGHTS.items() if "num_batches" not in n},
    "with settings": {"model": WEIGHTS, "args": argparse.Namespace(lr=0.1)},
    "with an average": {"model": WEIGHTS, "model_ema": OTHER},
    "nested": {"model": {"state_dict": WEIGHTS}, "epoch": 3},
    "the only one": {"weights of the student": WEIGHTS, "epoch": 3},
}  # fmt: skip


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.pth"


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("wrap", [lambda model: model, nn.DataParallel], ids=["plain", "wrapped"])
def test_common_layouts_load(layout, wrap, path):
    torch.save(LAYOUTS[layout], path)
    model = build()
    load_weights(wrap(model), path)
    for name, value in model.state_dict().items():
        if "num_batches" not in name:
            torch.testing.assert_close(value, WEIGHTS[name], rtol=0, atol=0)


def test_a_network_whose_own_names_begin_so_keeps_them(path):
    model = nn.ModuleDict({"model": nn.Linear(2, 2)})
    torch.save(model.state_dict(), path)
    other = nn.ModuleDict({"model": nn.Linear(2, 2)})
    load_weights(other, path)
    assert torch.equal(other["model"].weight, model["model"].weight)


def test_a_key_chooses_the_entry(path):
    torch.save({"model": WEIGHTS, "ema": OTHER}, path)
    model = build()
    load_weights(model, path, key="ema")
    assert torch.equal(model[0].weight, OTHER["0.weight"])


@pytest.mark.parametrize(
    ("content", "key", "message"),
    [
        (
            {"student": WEIGHTS, "teacher": OTHER, "epoch": 3},
            None,
            r"'student' \(\w+\), 'teacher' \(\w+\), 'epoch' \(int\), .*them: 'student', 'teacher'"
            r".*key= \(--key\)",
        ),
        ({"epoch": 3}, None, r"entries are 'epoch' \(int\), .*among them: none.*--key"),
        ({}, None, r"its entries are none"),
        ({"model": WEIGHTS}, "ema", r"state dict at key 'ema'; its entries are 'model'"),
        (WEIGHTS, "ema", r"state dict at key 'ema'; its entries are '0.weight'"),
        ({"model": OTHER | {"extra": torch.ones(1)}}, None, "extra is unknown"),
    ],
)
def test_what_is_missing_is_said_with_what_there_is(content, key, message, path):
    torch.save(content, path)
    before = build().state_dict()
    model = build()
    with pytest.raises(ValueError, match=message):
        load_weights(model, path, key=key)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_missing_norm_is_not_filled_in(path):
    torch.save({n: v for n, v in WEIGHTS.items() if not n.startswith("1.")}, path)
    with pytest.raises(ValueError, match="running_mean is missing"):
        load_weights(build(), path)


def test_a_key_for_safetensors_is_refused(tmp_path):
    save_file(WEIGHTS, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=r"key must be left out .*got 'model'"):
        load_weights(build(), tmp_path / "weights.safetensors", key="model")
