import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from empirical import AxisTable, lesion, measure
from theory import QUANTITIES


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
    replicates = table.replicates["0"]
    assert replicates.shape == (4, len(QUANTITIES), 5)
    expected = np.sqrt(3 / 4 * ((replicates - replicates.mean(0)) ** 2).sum(0))
    found = table.standard_errors("0")
    np.testing.assert_array_equal(np.stack([found[name] for name in QUANTITIES]), expected)


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
