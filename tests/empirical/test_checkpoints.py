import errno
import json
import os
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from empirical.models import ModelSpec
from empirical.training.checkpoints import (
    CheckpointInfo,
    checkpoint_path,
    list_checkpoints,
    load_model,
    load_weights,
    read_info,
    save_checkpoint,
)

SPEC = ModelSpec("small_convnet", classes=10, image_size=8, channels=1)
NAMES = tuple("0123456789")


def info(spec=SPEC, step=0):
    return CheckpointInfo(step, 0.5, 7, spec, "digits/fit", "abc", NAMES, (0.3,), (0.4,), {"a": 1})


@pytest.fixture
def saved(tmp_path):
    model = SPEC.build(1)
    model[1].running_mean += 0.25
    return model, save_checkpoint(checkpoint_path(tmp_path, 0), model, info())


def test_a_checkpoint_gives_back_weights_buffers_and_what_was_said(saved):
    model, path = saved
    loaded, read = load_model(path)
    assert read == info() == read_info(path)
    assert not loaded.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name])


def test_channels_last_weights_are_the_same_weights(tmp_path):
    model = ModelSpec("resnet18", 10, 32, 3, 0.125).build(0)
    first = save_checkpoint(tmp_path / "first.safetensors", model, info()).read_bytes()
    model.to(memory_format=torch.channels_last)
    assert save_checkpoint(tmp_path / "second.safetensors", model, info()).read_bytes() == first


def test_checkpoints_are_listed_in_the_order_of_their_steps(tmp_path):
    for step in (100, 9, 0):
        save_checkpoint(checkpoint_path(tmp_path, step), SPEC.build(0), info(step=step))
    assert [read_info(path).step for path in list_checkpoints(tmp_path)] == [0, 9, 100]


def test_weights_load_from_safetensors_and_from_a_wrapped_torch_state_dict(saved, tmp_path):
    model, path = saved
    prefixed = {f"module.{name}": value for name, value in model.state_dict().items()}
    torch.save({"state_dict": prefixed}, tmp_path / "theirs.pth")
    save_file(model.state_dict(), tmp_path / "plain.safetensors")
    for file in (path, tmp_path / "theirs.pth", tmp_path / "plain.safetensors"):
        other = SPEC.build(2)
        load_weights(other, file)
        assert torch.equal(other[0].weight, model[0].weight)


def test_shared_weights_are_saved_under_each_name(tmp_path):
    layer = nn.Linear(3, 3)
    model = nn.Sequential(layer, layer)
    path = save_checkpoint(tmp_path / "shared.safetensors", model, info(None))
    other = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    load_weights(other, path)
    assert torch.equal(other[1].weight, layer.weight)


# --- what is no checkpoint of ours ------------------------------------------------------------


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"checkpoint '.*none\.safetensors' does not exist"):
        load_model(tmp_path / "none.safetensors")


@pytest.mark.parametrize("keep", [0, 5, 200, -10])
def test_a_cut_file_is_refused(saved, keep):
    _, path = saved
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="is not a complete safetensors file"):
        load_model(path)


def test_a_foreign_file_is_refused_but_its_weights_can_be_used(saved, tmp_path):
    model, _ = saved
    foreign = tmp_path / "foreign.safetensors"
    save_file(model.state_dict(), foreign)
    with pytest.raises(ValueError, match=r"was not written by twoaxis.*--model"):
        load_model(foreign)


def test_another_architecture_is_named_by_its_first_differences(saved):
    _, path = saved
    wide = ModelSpec("small_convnet", 10, 8, 1, width=2.0).build()
    with pytest.raises(ValueError, match=r"conv1\.weight is \(16, 1, 3, 3\) instead of \(32, 1"):
        load_weights(wide, path)
    with pytest.raises(ValueError, match=r"another architecture than ResNet: .*is missing"):
        load_weights(ModelSpec("resnet18", 10, 32, 3, 0.125).build(), path)


def test_a_newer_format_is_refused(saved):
    _, path = saved
    content = path.read_bytes()
    path.write_bytes(content.replace(b'\\"format\\": 1', b'\\"format\\": 7'))
    with pytest.raises(ValueError, match="has format 7; this version reads format 1"):
        load_model(path)


def test_a_network_without_a_name_must_be_built_by_its_owner(tmp_path):
    path = save_checkpoint(tmp_path / "own.safetensors", nn.Linear(2, 2), info(None))
    with pytest.raises(ValueError, match=r"does not say which network.*load_weights"):
        load_model(path)


class RunsCode:
    def __reduce__(self):
        return os.mkdir, ("ran",)


def test_a_pickle_with_code_is_refused_and_does_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": RunsCode()}, "evil.pth")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(RunsCode(), protocol=2))
    for name in ("evil.pth", "plain.pt"):
        with pytest.raises(ValueError, match="could run code"):
            load_weights(nn.Linear(2, 2), name)
    assert not (tmp_path / "ran").exists()


def test_a_torch_file_without_a_state_dict_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ValueError, match=r"must hold a state dict.*got list"):
        load_weights(nn.Linear(2, 2), tmp_path / "list.pt")


def test_a_full_disk_leaves_the_old_file_and_says_so(saved, monkeypatch):
    _, path = saved
    before = path.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("theory.shared.files.os.fsync", full)
    with pytest.raises(OSError, match=r"no space left to write .*start again to resume"):
        save_checkpoint(path, SPEC.build(3), info())
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_header_is_plain_json(saved):
    _, path = saved
    size = int.from_bytes(path.read_bytes()[:8], "little")
    header = json.loads(path.read_bytes()[8 : 8 + size])
    content = json.loads(header["__metadata__"]["twoaxis"])
    assert content["info"]["spec"]["name"] == "small_convnet"
