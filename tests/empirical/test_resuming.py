"""A training in its folder: finished, half done, damaged, by other code, of other settings."""

import json

import pytest
import torch
from torch import nn

from empirical.data.loading import load_data
from empirical.models import ModelSpec
from empirical.reading.networks import Adapter
from empirical.training.checkpoints import read_tensors
from empirical.training.recipes import Recipe
from empirical.training.trainer import train
from theory.shared.store import content_hash

SPEC = ModelSpec("small_convnet", classes=10, image_size=8, channels=1)
SHORT = Recipe(epochs=1, batch_size=100, crop_padding=1, flip=True)
STEPS = [0, 1, 4, 11]


class KilledError(Exception):
    pass


@pytest.fixture(scope="module")
def digits():
    return load_data("digits")[0]


@pytest.fixture(scope="module")
def whole(digits, tmp_path_factory):
    """The content of every file of a finished training."""
    folder = tmp_path_factory.mktemp("whole")
    start(digits, folder)
    return contents(folder)


def start(digits, folder, *, stop=None, recipe=SHORT, spec=SPEC, named=True):
    """Train, unless it is killed at a step; return the steps that were kept now, and the model."""
    seen = []

    def on_checkpoint(step, _):
        if step == stop:
            raise KilledError
        seen.append(step)

    model = spec.build(0)
    options = {"recipe": recipe, "steps": STEPS, "spec": spec if named else None}
    train(model, digits, folder=folder, on_checkpoint=on_checkpoint, **options)
    return seen, model


def killed(digits, folder, stop=4):
    with pytest.raises(KilledError):
        start(digits, folder, stop=stop)


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.startswith(".")}


def cut(file):
    file.write_bytes(file.read_bytes()[:-10])


def overwrite(file):
    content = bytearray(file.read_bytes())
    content[-10] ^= 1
    file.write_bytes(bytes(content))


def test_a_finished_training_is_not_repeated_and_leaves_no_state(digits, tmp_path, whole):
    start(digits, tmp_path)
    names = [f"step-{step:07d}.safetensors" for step in STEPS]
    assert set(contents(tmp_path)) == {*names, "history.json", "history.json.made-from.json"}
    seen, model = start(digits, tmp_path)
    assert seen == []
    assert contents(tmp_path) == whole
    tensors, _ = read_tensors(tmp_path / names[-1])
    assert all(torch.equal(tensors[name], value) for name, value in model.state_dict().items())


def test_history_is_that_of_the_training_whether_it_was_loaded_or_not(digits, tmp_path):
    options = {"recipe": SHORT, "steps": STEPS, "spec": SPEC, "folder": tmp_path}
    first, again = (train(SPEC.build(0), digits, **options) for _ in range(2))
    assert first == again
    assert list(first.history) == json.loads((tmp_path / "history.json").read_text())


@pytest.mark.parametrize("damage", [cut, overwrite, lambda file: file.unlink()])
@pytest.mark.parametrize("name", ["step-0000001.safetensors", "step-0000011.safetensors"])
def test_a_damaged_checkpoint_is_made_again_to_the_same_bits(digits, tmp_path, whole, name, damage):
    start(digits, tmp_path)
    damage(tmp_path / name)
    with pytest.warns(UserWarning, match="lacks a checkpoint or has a damaged one: starting it"):
        seen, _ = start(digits, tmp_path)
    assert seen == STEPS
    assert contents(tmp_path) == whole


@pytest.mark.parametrize(
    ("name", "damage", "reason"),
    [
        ("state.safetensors", cut, "has a damaged state"),
        ("state.safetensors", overwrite, "has a damaged state"),
        ("state.safetensors", lambda file: file.unlink(), "has neither record nor state"),
        ("step-0000001.safetensors", overwrite, "lacks a checkpoint or has a damaged one"),
        ("step-0000000.safetensors", lambda file: file.unlink(), "lacks a checkpoint or has a"),
    ],
)
def test_a_half_done_training_that_was_damaged_starts_afresh(
    digits, tmp_path, whole, name, damage, reason
):
    killed(digits, tmp_path)
    damage(tmp_path / name)
    with pytest.warns(UserWarning, match=reason):
        seen, _ = start(digits, tmp_path)
    assert seen == STEPS
    assert contents(tmp_path) == whole


def test_other_code_starts_afresh_whether_half_done_or_finished(
    digits, tmp_path, whole, monkeypatch
):
    killed(digits, tmp_path / "half")
    start(digits, tmp_path / "finished")
    monkeypatch.setattr("theory.shared.store.fingerprint", lambda *modules: "changed")
    for name, reason in (("half", "was begun by other code"), ("finished", "was made by other")):
        with pytest.warns(UserWarning, match=reason):
            assert start(digits, tmp_path / name)[0] == STEPS
        found = contents(tmp_path / name)
        record = "history.json.made-from.json"
        assert found.pop(record) != whole[record]
        assert found == {name: content for name, content in whole.items() if name != record}


def test_leftovers_of_killed_writers_are_removed(digits, tmp_path, whole):
    killed(digits, tmp_path)
    for name in (".state.safetensors.x1.part", ".step-0000004.safetensors.y2.part"):
        (tmp_path / name).write_bytes(b"half")
    assert start(digits, tmp_path)[0] == [4, 11]
    assert not list(tmp_path.glob(".*.part"))
    assert contents(tmp_path) == whole


@pytest.mark.parametrize("stop", [None, 4])
def test_a_folder_of_another_training_is_refused_and_left_alone(digits, tmp_path, stop):
    start(digits, tmp_path) if stop is None else killed(digits, tmp_path, stop)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"other settings: .*learning_rate 0\.1 there, 0\.2 here"):
        start(digits, tmp_path, recipe=SHORT.but(learning_rate=0.2))
    wide = ModelSpec("small_convnet", 10, 8, 1, width=2.0)
    with pytest.raises(ValueError, match=r"other settings: model\.width 1\.0 there, 2\.0 here"):
        start(digits, tmp_path, spec=wide)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("stop", [None, 4])
def test_a_network_of_the_users_in_a_folder_of_another_is_refused(digits, tmp_path, stop):
    """Without a name it is told apart by the shapes of its weights."""

    def own(width, stop=None):
        spec = ModelSpec("small_convnet", 10, 8, 1, width=width)
        return start(digits, tmp_path, spec=spec, named=False, stop=stop)

    if stop is None:
        own(1.0)
    else:
        with pytest.raises(KilledError):
            own(1.0, stop)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="another architecture than Sequential"):
        own(2.0)
    assert {name: before[name] for name in contents(tmp_path)} == contents(tmp_path)


def test_a_history_that_its_record_vouches_for_and_that_is_none_is_named(digits, tmp_path):
    arguments = {"recipe": Recipe(epochs=0.1, batch_size=100), "steps": [0], "folder": tmp_path}
    train(SPEC.build(0), digits, **arguments)
    history, record = tmp_path / "history.json", tmp_path / "history.json.made-from.json"
    history.write_text("[{")
    stored = json.loads(record.read_text())
    stored["artifacts"]["history.json"] = content_hash(history)
    record.write_text(json.dumps(stored))
    with pytest.raises(ValueError, match=r"history\.json must hold the rows .* Remove it"):
        train(SPEC.build(0), digits, **arguments)


def test_a_training_reads_its_network_through_an_adapter(digits):
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = SPEC.build(0)

        def forward(self, images):
            return {"logits": self.inner(images)}

    plain, named = SPEC.build(0), Named()
    recipe = Recipe(epochs=0.1, batch_size=100)
    first = train(plain, digits, recipe=recipe)
    second = train(named, digits, recipe=recipe, adapt=Adapter(output=lambda o: o["logits"]))
    assert first.history == second.history
    assert not named.training
    for name, value in plain.state_dict().items():
        assert torch.equal(named.inner.state_dict()[name], value)
