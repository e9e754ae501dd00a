from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from empirical import AxisTable, lesion, measure
from theory import QUANTITIES, TARGET_AXIS


@pytest.fixture(scope="module")
def table():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(180, 4)
        )
        with torch.no_grad():
            model[0].weight[2] = 0
        images, labels = torch.randn(40, 3, 8, 8), torch.randint(4, (40,))
    return measure(model, [(images, labels)], groups=4, positions=3)


@pytest.mark.parametrize("moments", ["none", "total", "groups"])
def test_saved_and_loaded_table_is_the_same(table, tmp_path, moments):
    table.save(tmp_path / "table.npz", moments=moments)
    loaded = AxisTable.load(tmp_path / "table.npz")
    pd.testing.assert_frame_equal(loaded.to_frame(), table.to_frame(), check_exact=True)
    assert loaded.affected == table.affected != {}
    assert (loaded.norms, loaded.settings) == (table.norms, table.settings)
    assert (loaded["0"].noise_power, loaded["0"].n) == (table["0"].noise_power, table["0"].n)
    assert list(loaded.moments) == ([] if moments == "none" else ["0"])
    assert list(loaded.groups) == (["0"] if moments == "groups" else [])
    for part, kept in zip(loaded.groups.get("0", []), table.groups["0"], strict=False):
        assert np.array_equal(part.cov, kept.cov)
        assert (part.n, part.n_targets) == (kept.n, kept.n_targets)


def test_foreign_files_are_refused(tmp_path):
    (tmp_path / "text.npz").write_text("not an archive")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    np.savez(tmp_path / "pickled.npz", header=np.array([{"a": 1}], dtype=object))
    for name in ("text", "other", "pickled"):
        with pytest.raises(ValueError, match="path must be a saved AxisTable"):
            AxisTable.load(tmp_path / f"{name}.npz")


def test_truncated_file_is_refused(table, tmp_path):
    table.save(tmp_path / "table.npz")
    data = (tmp_path / "table.npz").read_bytes()
    (tmp_path / "table.npz").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="path must be a saved AxisTable"):
        AxisTable.load(tmp_path / "table.npz")


def test_standard_errors_are_those_of_the_replicates(table):
    found = table.standard_errors("0")
    assert set(found) == set(QUANTITIES)
    for name, replicates in table.replicates["0"].items():
        assert replicates.shape == (4, 5)
        expected = np.sqrt(3 / 4 * ((replicates - replicates.mean(0)) ** 2).sum(0))
        np.testing.assert_array_equal(found[name], expected)


def test_the_order_of_the_quantities_means_nothing(table, tmp_path, monkeypatch):
    """A file is written under one order of the fields and read under another."""
    table.save(tmp_path / "table.npz")
    expected = table.to_frame()
    swapped = ("task_information", *(q for q in QUANTITIES[1:] if q != "task_information"))
    swapped = (*swapped, "signal_power")
    assert set(swapped) == set(QUANTITIES)
    for module in ("theory.quantity", "empirical.measuring.table"):
        monkeypatch.setattr(f"{module}.QUANTITIES", swapped)
    loaded = AxisTable.load(tmp_path / "table.npz")
    assert list(loaded["0"].as_dict()) == list(swapped)
    for values in (loaded["0"].as_dict(), loaded.replicates["0"], loaded.standard_errors("0")):
        assert list(values) == list(swapped)
    found = loaded.to_frame()[expected.columns]
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    loaded.save(tmp_path / "again.npz")
    monkeypatch.undo()
    again = AxisTable.load(tmp_path / "again.npz")
    pd.testing.assert_frame_equal(again.to_frame(), expected, check_exact=True)


def rewritten(path, change):
    """The arrays of a saved table after `change`, in a file of their own."""
    with np.load(path) as stored:
        arrays = change(dict(stored))
    np.savez(path.with_suffix(".changed.npz"), **arrays)
    return path.with_suffix(".changed.npz")


def test_a_file_with_other_quantities_is_read_by_their_names(table, tmp_path):
    table.save(tmp_path / "table.npz")
    loaded = AxisTable.load(
        rewritten(
            tmp_path / "table.npz",
            lambda arrays: {
                key.replace("/hull_size", "/a_quantity_of_the_future"): array
                for key, array in arrays.items()
            },
        )
    )
    assert list(loaded["0"].as_dict()) == list(loaded.replicates["0"]) == list(QUANTITIES)
    assert loaded["0"].hull_size.shape == (5,)
    assert loaded.replicates["0"]["hull_size"].shape == (4, 5)
    missing = ["hull_size", "hull_size_se"]
    assert loaded.to_frame()[missing].isna().all(axis=None)
    pd.testing.assert_frame_equal(
        loaded.to_frame().drop(columns=missing), table.to_frame().drop(columns=missing)
    )


def test_a_null_of_other_quantities_is_read_by_name_and_gives_no_p_value(table, tmp_path):
    nulls = {name: np.zeros((3, 5)) for name in TARGET_AXIS}
    replace(table, null={"0": nulls}).save(tmp_path / "table.npz")
    loaded = AxisTable.load(
        rewritten(
            tmp_path / "table.npz",
            lambda arrays: {
                key.replace("null/task_unique", "null/task_unheard_of"): array
                for key, array in arrays.items()
            },
        )
    )
    assert set(loaded.null["0"]) == set(TARGET_AXIS)
    frame = loaded.to_frame()
    assert frame[["task_unique_null", "task_unique_p"]].isna().all(axis=None)
    # channel 2 is dead: its information is 0, and no draw is below
    assert frame["task_information_p"].tolist() == [0.25, 0.25, 1.0, 0.25, 0.25]


def test_tables_by_position_are_refused(table, tmp_path):
    table.save(tmp_path / "table.npz")

    def as_before(arrays):
        header = bytes(arrays["header"]).replace(b"AxisTable/2", b"AxisTable/1")
        return {**arrays, "header": np.frombuffer(header, dtype=np.uint8)}

    path = rewritten(tmp_path / "table.npz", as_before)
    with pytest.raises(ValueError, match=r"AxisTable/1\. Measure again with this version"):
        AxisTable.load(path)


def test_unknown_layer_names_the_nearest(table):
    with pytest.raises(ValueError, match="layer must be one of '0'; got 'conv'"):
        table["conv"]
    with pytest.raises(ValueError, match="moments must be one of"):
        table.save("nowhere.npz", moments="all")


def test_measured_images_are_remembered_and_refused_in_an_evaluation(tmp_path):
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(16, 3)
    )
    images, labels = torch.randn(40, 1, 4, 4), torch.arange(40) % 3
    table = measure(model, [(images[:30], labels[:30])])
    table.save(tmp_path / "axes.npz")
    read = AxisTable.load(tmp_path / "axes.npz")
    assert read.image_digests == table.image_digests
    assert len(read.image_digests) == 30
    assert len(lesion(model, [(images[30:], labels[30:])], calibration=read).layer) == 8
    with pytest.raises(ValueError, match="5 of its images are among the 30 calibration images"):
        lesion(model, [(images[25:], labels[25:])], calibration=read)
