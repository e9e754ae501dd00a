"""A folder of files that somebody hostile wrote: nothing runs, nothing outside is touched.

Every refusal is one sentence that names the file.
"""

import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from empirical.data.tables import read_table
from empirical.measuring.table import AxisTable
from empirical.models import ModelSpec
from empirical.pruning.pruned_file import load_pruned
from empirical.report.page import Section, render, write_report
from empirical.runs.config import read_config
from empirical.training.checkpoints import load_model, load_weights, read_info
from empirical.training.state import StoredState
from sim.trajectory import Trajectory
from theory.shared import foreign
from theory.shared.store import Cells, Stage

EVIL = "open('ran', 'w').close()\ndef f(**options): open('ran', 'w').close()\n"
INFO = {
    "step": 0, "epoch": 0.0, "seed": 0, "data": "d", "fingerprint": "", "class_names": ["a", "b"],
    "mean": [0.5], "std": [0.5], "notes": {},
    "spec": {"name": "small_convnet", "classes": 2, "image_size": 8, "channels": 1, "width": 1.0},
}  # fmt: skip
DEEP = "[" * 200_000


class RunsCode:
    def __reduce__(self):
        return os.mkdir, ("ran",)


@pytest.fixture(autouse=True)
def hostile(tmp_path, monkeypatch):
    """The folder, inside another one; nothing may appear in the other, nor run."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "evil.py").write_text(EVIL)
    (tmp_path / "secret.png").write_bytes(b"secret")
    (tmp_path / "secret.csv").write_text("secret\n1\n")
    yield folder
    assert not (folder / "ran").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"hostile", "secret.png", "secret.csv"}
    assert (tmp_path / "secret.png").read_bytes() == b"secret"


def one_sentence(refused, name):
    message = str(refused.value)
    assert name in message
    assert len(message) < 600
    assert "Traceback" not in message


def safetensors(path, header, tensors=None):
    text = header if isinstance(header, str) else json.dumps({"format": 1, **header})
    save_file(tensors or {"a": torch.ones(1)}, path, {"twoaxis": text})


# --- networks by name -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["evil.py:f", "evil:f", "os:mkdir", "torchvision.models:vgg11"])
def test_a_file_names_no_code(name):
    spec = {**INFO["spec"], "name": name}
    safetensors("c.safetensors", {"info": {**INFO, "spec": spec}})
    pruned = {"pruned": "twoaxis.pruned/1", "spec": spec, "modules": {}, "report": {}}
    safetensors("p.safetensors", pruned)
    for load, file in ((load_model, "c.safetensors"), (load_pruned, "p.safetensors")):
        with pytest.raises(ValueError, match=r"may not choose which code runs.*--model") as refused:
            load(file)
        one_sentence(refused, file)
        assert repr(name) in str(refused.value)


def test_what_the_user_names_is_built_whatever_the_file_says():
    spec = ModelSpec("small_convnet", classes=2, image_size=8, channels=1)
    other = {**INFO["spec"], "name": "evil.py:f"}
    safetensors("c.safetensors", {"info": {**INFO, "spec": other}}, spec.build(3).state_dict())
    model, info = load_model("c.safetensors", spec)
    assert torch.equal(model[0].weight, spec.build(3)[0].weight)
    assert info.spec.name == "evil.py:f"


@pytest.mark.parametrize(
    "sizes",
    [{"width": 1e9}, {"width": 3000.0}, {"classes": 10**15}, {"classes": -1}, {"width": -1.0}],
    ids=str,
)
def test_a_file_asks_for_no_network_larger_than_memory(sizes):
    safetensors("c.safetensors", {"info": {**INFO, "spec": {**INFO["spec"], **sizes}}})
    with pytest.raises(ValueError, match=r"names a network (of|that cannot)|must be") as refused:
        load_model("c.safetensors")
    one_sentence(refused, "c.safetensors")


# --- headers ----------------------------------------------------------------------------------

HEADERS = [
    "", "{", "[]", "1", "null", '{"format": 1}', '{"format": 1, "info": 3}', DEEP,
    '{"format": "' + "9" * 5000 + '"}', '{"format": 1, "info": {"step": 1}}',
    json.dumps({"format": 1, "info": {**INFO, "step": "1"}}),
    json.dumps({"format": 1, "info": {**INFO, "spec": [1]}}),
    json.dumps({"format": 1, "info": {**INFO, "spec": {**INFO["spec"], "classes": "2"}}}),
    json.dumps({"format": 1, "info": {**INFO, "mean": ["x"]}}),
    json.dumps({"format": 1, "info": {**INFO, "class_names": 7}}),
]  # fmt: skip


@pytest.mark.parametrize("header", HEADERS, ids=range(len(HEADERS)))
def test_a_malformed_header_is_one_sentence(header):
    safetensors("c.safetensors", header)
    for read in (load_model, read_info, load_pruned):
        with pytest.raises(ValueError, match=r"c\.safetensors") as refused:
            read("c.safetensors")
        one_sentence(refused, "c.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        {"spec": 1}, {"modules": []}, {"modules": {"0": {"weight": 3}}}, {"report": "x"},
        {"modules": {"0": {"out_channels": "3"}}}, {"modules": {"0": {"forward": 3}}},
    ],
    ids=str,
)  # fmt: skip
def test_a_malformed_structure_of_a_pruned_file_is_one_sentence(change):
    header = {"pruned": "twoaxis.pruned/1", "spec": None, "modules": {}, "report": {}, **change}
    safetensors("p.safetensors", header)
    with pytest.raises(ValueError, match=r"p\.safetensors") as refused:
        load_pruned("p.safetensors", nn.Sequential(nn.Conv2d(1, 2, 3)))
    one_sentence(refused, "p.safetensors")


def test_a_state_names_no_file_outside_its_folder(hostile):
    from empirical.training.checkpoints import tensor_hash

    tensors = {"totals": torch.zeros(3)}
    state = {"step": 0, "history": [], "settings": {}, "key": ""}
    for checkpoints in ({"../secret.png": "x"}, {"/etc/passwd": "x"}, 3):
        content = {"state": {**state, "checkpoints": checkpoints}, "digest": tensor_hash(tensors)}
        safetensors("state.safetensors", content, tensors)
        with pytest.raises(ValueError, match=r"other folders|malformed"):
            StoredState.read(hostile)


@pytest.mark.parametrize("text", ["a = ", "[" * 50, "a = " + DEEP, "\x00", "seeds = {a = 1}"])
def test_a_malformed_configuration_is_one_sentence(hostile, text):
    (hostile / "c.toml").write_text(text)
    with pytest.raises(ValueError, match=r"c\.toml|seeds"):
        read_config(hostile / "c.toml")


@pytest.mark.parametrize("text", ["", "{", "[]", DEEP, '{"key": 3}', '{"artifacts": 3}'])
def test_a_malformed_record_is_none(hostile, text):
    (hostile / "a.txt.made-from.json").write_text(text)
    made = Stage((hostile / "a.txt",), {}, ()).ensure(lambda: (hostile / "a.txt").touch())
    assert made


@pytest.mark.parametrize("line", ["", "{", "[]", DEEP, "3", '{"hash": 3}'])
def test_a_malformed_cell_is_computed_again(hostile, line):
    (hostile / "c.jsonl").write_text(line + "\n")
    with Cells(hostile / "c.jsonl", {}, ()) as cells:
        assert cells.ensure({"x": 1}, lambda: 5) == 5


def test_cells_are_not_written_through_a_link(hostile):
    (hostile / "c.jsonl").symlink_to(hostile.parent / "secret.png")
    with Cells(hostile / "c.jsonl", {}, ()) as cells:
        cells.add({"x": 1}, 5)
    assert not (hostile / "c.jsonl").is_symlink()


# --- archives ---------------------------------------------------------------------------------


def member(array=None, header=None, data=b"", pickles=False):
    """The bytes of an .npy file, or those of one with a header of ours."""
    stream = io.BytesIO()
    if header is None:
        np.lib.format.write_array(stream, array, allow_pickle=pickles)
    else:
        np.lib.format.write_array_header_1_0(stream, header)
        stream.write(data)
    return stream.getvalue()


def promised(shape, order=False, descr="<f8"):
    return member(header={"descr": descr, "fortran_order": order, "shape": shape})


def archive(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)


HEADER = np.frombuffer(b'{"format": "twoaxis.AxisTable/2"}', dtype=np.uint8)
ARCHIVES = {
    "pickle": {"header.npy": member(np.array([RunsCode()], dtype=object), pickles=True)},
    "promise": {"header.npy": promised((10**12,))},
    "negative": {"header.npy": promised((-1,))},
    "overflow": {"header.npy": promised((2**40, 2**40))},
    "format": {"header.npy": b"\x93NUMPY\x09\x00" + b"x" * 90},
    "text": {"header.npy": b"os.mkdir('ran')"},
    "code": {"header.npy": b"\x93NUMPY\x01\x00\x20\x00__import__('os').mkdir('ran')  \n"},
    "bare": {"header.npy": member(HEADER)},
    "nothing": {},
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_that_is_none_is_one_sentence(name):
    archive("a.npz", ARCHIVES[name])
    for load in (AxisTable.load, Trajectory.load):
        with pytest.raises(ValueError, match=r"a\.npz") as refused:
            load("a.npz")
        one_sentence(refused, "a.npz")


def test_a_pickle_in_the_place_of_an_archive_does_not_run():
    for load, name in ((AxisTable.load, "a.npz"), (load_weights_into_linear, "a.pt")):
        with open(name, "wb") as file:
            file.write(pickle.dumps(RunsCode(), protocol=2))
        with pytest.raises(ValueError, match=name):
            load(name)


def load_weights_into_linear(path):
    load_weights(nn.Linear(2, 2), path)


def test_an_archive_that_would_fill_memory_is_refused(monkeypatch):
    """64 MiB of zeros in 64 KiB."""
    archive("a.npz", {"header.npy": member(np.zeros(2**23))}, zipfile.ZIP_DEFLATED)
    assert os.path.getsize("a.npz") < 2**17
    with pytest.raises(ValueError, match=r"would expand to 67,\d+,\d+ bytes, more than 100 times"):
        AxisTable.load("a.npz")
    monkeypatch.setattr(foreign, "ALLOWANCE", 2**27)
    assert foreign.read_arrays("a.npz")["header"].shape == (2**23,)


def test_a_member_that_holds_more_than_it_says_is_cut_at_what_it_says():
    archive("a.npz", {"header.npy": member(np.zeros(2**16))}, zipfile.ZIP_DEFLATED)
    content = bytearray(Path("a.npz").read_bytes())
    place = content.rfind(b"PK\x01\x02") + 24
    content[place : place + 4] = (200).to_bytes(4, "little")
    Path("a.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npz"):
        foreign.read_arrays("a.npz")


def test_names_of_members_are_names_of_arrays_and_of_no_files(hostile):
    archive("a.npz", {"../../out.npy": member(np.ones(2)), "/tmp/x.npy": member(np.ones(1))})
    assert set(foreign.read_arrays("a.npz")) == {"../../out", "/tmp/x"}


def test_what_numpy_writes_is_read_to_the_bit():
    rng = np.random.default_rng(0)
    arrays = {
        "a": rng.random((3, 4)), "b": np.asfortranarray(rng.random((3, 4))), "c": np.array("text"),
        "d": np.zeros((0, 5)), "e/f": np.array(3), "g": np.array([True]),
    }  # fmt: skip
    for save in (np.savez, np.savez_compressed):
        save("a.npz", **arrays)
        found = foreign.read_arrays("a.npz")
        assert list(found) == list(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array, strict=True)


# --- reports ----------------------------------------------------------------------------------


def index(**section):
    chapter = {"title": "t", "note": "", "findings": [], "figures": {}, "tables": [], "shown": {}}
    return json.dumps({"title": "t", "lead": "l", "sections": [{**chapter, **section}]})


@pytest.mark.parametrize("stem", ["../../secret", "/etc/hostname", "a/../../../secret", "..", ""])
@pytest.mark.parametrize("kind", ["figures", "shown"])
def test_a_report_names_nothing_outside_its_folder(hostile, stem, kind):
    for name in ("figures", "tables"):
        (hostile / name).mkdir()
    (hostile / "report.json").write_text(index(**{kind: {stem: "c"}}))
    with pytest.raises((ValueError, FileNotFoundError), match=r"no name of a file|does not exist"):
        render(hostile)
    assert not (hostile / "report.html").exists()


def test_a_report_follows_no_link_out_of_its_folder(hostile):
    (hostile / "figures").mkdir()
    (hostile / "figures" / "a.png").symlink_to(hostile.parent / "secret.png")
    (hostile / "tables").symlink_to(hostile.parent)
    for section in ({"figures": {"a": "c"}}, {"shown": {"secret": "c"}}):
        (hostile / "report.json").write_text(index(**section))
        with pytest.raises(ValueError, match=r"leads out of its folder"):
            render(hostile)
    with pytest.raises(ValueError, match=r"tables leads out of its folder"):
        write_report(hostile, "t", "l", [Section("t")])
    (hostile / "report.json").unlink()
    (hostile / "report.json").symlink_to("/etc/hostname")
    with pytest.raises(ValueError, match=r"leads out of its folder"):
        render(hostile)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", DEEP, '{"title": 1}', index(figures=[]), index(shown={"a": 1}), index(x=1)],
)
def test_a_malformed_index_is_one_sentence(hostile, text):
    (hostile / "report.json").write_text(text)
    with pytest.raises(ValueError, match=r"report\.json is no index of a report") as refused:
        render(hostile)
    one_sentence(refused, "report.json")


def test_a_page_of_hostile_text_holds_no_markup(hostile):
    (hostile / "tables").mkdir()
    (hostile / "tables" / "a.csv").write_text("<script>x</script>\n<script>y</script>\n")
    evil = "<script>z</script>{{ 7 * 7 }}"
    (hostile / "report.json").write_text(index(shown={"a": evil}, findings=[evil], note=evil))
    page = render(hostile).read_text()
    assert "<script>" not in page
    assert "{{ 7 * 7 }}" in page


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b'a,b\n"1', b"a\n1,2\n3,4,5\n"])
def test_a_malformed_table_is_one_sentence(hostile, content):
    (hostile / "t.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"table 't\.csv' cannot be read as CSV") as refused:
        read_table("t.csv")
    one_sentence(refused, "t.csv")
