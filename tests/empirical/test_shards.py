"""Shares of the images, each in a command of its own, merge to the whole."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

import twoaxis
from empirical import (
    AxisTable,
    LesionTable,
    lesion,
    measure,
    merge_lesions,
    merge_tables,
    replace,
)
from empirical.commands.shards import Shard, complete

NETWORK = ["--data", "digits", "--model", "small_convnet", "--device", "cpu"]
MEASURE = ["measure", *NETWORK, "--images", "150", "--batch-size", "20"]
LESION = ["lesion", *NETWORK, "--images", "50", "--batch-size", "7"]


def command(*words: str) -> str:
    result = CliRunner().invoke(twoaxis.app, [*map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A whole measurement with whole lesions, and the same in seven and three shares."""
    out = tmp_path_factory.mktemp("shards")
    command(*MEASURE, "--out", out / "whole")
    lesions = [*LESION, "--axes", out / "whole" / "axes.npz"]
    for k in (3, 1, 7, 2, 6, 5, 4):
        command(*MEASURE, "--out", out, "--shard", f"{k}/7")
    for k in (2, 1, 3):
        command(*lesions, "--out", out, "--shard", f"{k}/3")
    command(*lesions, "--out", out / "one", "--shard", "1/1")
    assert "7 shares merged" in command("merge", out)
    return out


def test_seven_shares_of_a_measurement_are_the_whole(folder):
    assert_measured_whole(folder, folder)


def assert_measured_whole(folder, shares):
    whole, merged = (
        AxisTable.load(folder / "whole" / "axes.npz"),
        AxisTable.load(shares / "axes.npz"),
    )
    assert merged.layers == whole.layers
    assert merged.image_digests == whole.image_digests
    assert merged.settings["n_images"] == 150
    for layer in whole.layers:
        scale = np.abs(whole.moments[layer].cov).max()
        gap = merged.moments[layer].cov - whole.moments[layer].cov
        assert np.abs(gap).max() <= 1e-12 * scale
        for name, values in whole[layer].as_dict().items():
            np.testing.assert_allclose(merged[layer].as_dict()[name], values, rtol=1e-8, atol=1e-10)
            np.testing.assert_allclose(
                merged.replicates[layer][name], whole.replicates[layer][name], rtol=1e-7, atol=1e-9
            )


def test_three_shares_of_lesions_are_the_whole(folder):
    assert_lesioned_whole(folder, folder)


def assert_lesioned_whole(folder, shares):
    whole, merged = (
        LesionTable.load(path)
        for path in (folder / "one" / "lesions-1-of-1.npz", shares / "lesions.npz")
    )
    assert merged.channels == whole.channels
    assert merged.n_images == 50
    assert merged.image_digests == whole.image_digests
    for name, values in whole.damage.items():
        np.testing.assert_allclose(merged.damage[name], values, rtol=0, atol=1e-12)
    assert (shares / "lesions.csv").read_text().startswith("layer,channel,kind,point,loss_increase")


@pytest.mark.slow
def test_seven_processes_are_one(folder, tmp_path):
    """Seven measurements and seven runs of lesions, each a process, merged."""
    axes = folder / "whole" / "axes.npz"
    for words in (MEASURE, [*LESION, "--axes", axes]):
        given = [sys.executable, "-m", "twoaxis", *words, "--out", tmp_path, "--shard"]
        running = [
            subprocess.Popen([*map(str, given), f"{k}/7"], stdout=subprocess.DEVNULL)
            for k in range(1, 8)
        ]
        assert [process.wait() for process in running] == [0] * 7
    command("merge", tmp_path)
    assert_measured_whole(folder, tmp_path)
    assert_lesioned_whole(folder, tmp_path)


def refusal(*words: str) -> str:
    result = CliRunner().invoke(twoaxis.app, [*map(str, words)])
    assert isinstance(result.exception, ValueError), result.output
    return str(result.exception)


def test_shares_of_other_batches_draws_or_calibrations_are_not_the_whole(tmp_path):
    """Each of these merged, and said so, into a table of other images than the whole's."""
    given = [*MEASURE, "--layer", "conv1", "--out", tmp_path]
    command(*given, "--shard", "1/2", "--batch-size", "50")
    command(*given, "--shard", "2/2")  # of 20: from image 80, and the first share ends at 50
    assert re.search(
        r"all 150 images; 30 of them, from row 50 on.*--batch", refusal("merge", tmp_path)
    )
    command(*given, "--shard", "1/2", "--batch-size", "100")
    assert re.search(r"rows 80 to 99 are in two.*--batch-size", refusal("merge", tmp_path))
    command(*given, "--shard", "1/2", "--images", "120")
    assert "of different draws, of 120 and 150 images. Run all" in refusal("merge", tmp_path)
    command(*given, "--shard", "1/2")
    assert "2 shares merged" in command("merge", tmp_path)
    axes, other = (tmp_path / name / "axes.npz" for name in ("of seed 0", "of seed 1"))
    for seed, path in enumerate((axes, other)):
        command(*MEASURE, "--out", path.parent, "--layer", "conv1", "--seed", seed)
    lesions = [*LESION, "--layer", "conv1", "--out", tmp_path / "lesions"]
    command(*lesions, "--axes", axes, "--shard", "1/2")
    command(*lesions, "--axes", other, "--shard", "2/2")
    assert "measured alike; calibration is" in refusal("merge", tmp_path / "lesions")
    command(*lesions, "--axes", axes, "--shard", "2/2", "--images", "60")
    assert "different draws, of 50 and 60" in refusal("merge", tmp_path / "lesions")
    command(*lesions, "--axes", axes, "--shard", "2/2")
    assert "2 shares merged" in command("merge", tmp_path / "lesions")


def test_an_image_that_the_data_holds_twice_may_be_in_two_shares(tmp_path):
    """People copy files: shares of such data are those of the whole all the same."""
    rng = np.random.default_rng(0)
    for part, label in itertools.product(("train", "test"), ("a", "b")):
        (place := tmp_path / "data" / part / label).mkdir(parents=True)
        for number in range(24):
            pixels = rng.integers(0, 255, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(place / f"{number}.png")
        for number in range(24, 30):
            shutil.copy(place / "0.png", place / f"{number}.png")
    given = ["--data", tmp_path / "data", "--model", "small_convnet", "--device", "cpu"]
    given += ["--cache", tmp_path / "cache", "--images", "60", "--batch-size", "5", "--layer"]
    given += ["conv1", "--out"]
    for out, shards in (("whole", ["1/1"]), ("parts", ["1/3", "2/3", "3/3"])):
        for shard in shards:
            command("measure", *given, tmp_path / out, "--shard", shard)
        command("merge", tmp_path / out)
    axes = tmp_path / "whole" / "axes.npz"
    for out, shards in (("whole", ["1/1"]), ("parts", ["1/3", "2/3", "3/3"])):
        for shard in shards:
            command("lesion", *given, tmp_path / out, "--axes", axes, "--shard", shard)
        command("merge", tmp_path / out)
    whole, merged = (AxisTable.load(tmp_path / out / "axes.npz") for out in ("whole", "parts"))
    assert merged.settings == whole.settings
    np.testing.assert_allclose(
        merged.moments["conv1"].cov, whole.moments["conv1"].cov, rtol=1e-12, atol=1e-12
    )
    whole, merged = (LesionTable.load(tmp_path / out / "lesions.npz") for out in ("whole", "parts"))
    assert whole.n_images == merged.n_images == 60
    for name, values in whole.damage.items():
        np.testing.assert_allclose(merged.damage[name], values, rtol=0, atol=1e-12)


def test_what_is_missing_or_mixed_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no shares .*--shard"):
        complete(tmp_path)
    for name in ("axes-1-of-3.npz", "axes-3-of-3.npz"):
        (tmp_path / name).touch()
    with pytest.raises(FileNotFoundError, match=r"lacks the shares 2/3 of axes\. Run them"):
        complete(tmp_path)
    (tmp_path / "axes-1-of-2.npz").touch()
    with pytest.raises(ValueError, match=r"axes divided into \[2, 3\] shares"):
        complete(tmp_path)


@pytest.mark.parametrize("text", ["9/8", "0/3", "3", "1/0", "a/b", "-1/2", "1.5/3", ""])
def test_a_share_is_one_of_so_many(text):
    with pytest.raises(ValueError, match=r"--shard must be K/N .*got"):
        Shard.read(text)


def test_a_target_that_depends_on_all_images_is_not_shared(tmp_path):
    words = ["measure", *NETWORK, "--target", "logit_pc1", "--shard", "1/2", "--out", tmp_path]
    with pytest.raises(ValueError, match="must not be 'logit_pc1' with --shard"):
        command(*words)


@pytest.mark.parametrize("batch", [1, 4, 8, 9, 53, 250])
def test_shares_cover_every_image_once_in_whole_batches(batch):
    shares = [Shard(k, 7).rows(53, batch) for k in range(1, 8)]
    assert [i for share in shares for i in share] == list(range(53))
    assert all(share.start % batch == 0 for share in shares) == (batch <= 8)
    assert max(map(len, shares)) - min(map(len, shares)) <= (batch if batch <= 8 else 1)
    with pytest.raises(ValueError, match="at most one share per image; got 1/7 of 6 images"):
        Shard(1, 7).rows(6, 2)


@pytest.mark.parametrize("per_image", [True, False])
def test_seven_shares_of_lesions_and_replacements_have_the_same_logits(per_image):
    """Of whole batches, wide enough that single precision depends on their size."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 24, 3), nn.BatchNorm2d(24), nn.ReLU(), nn.Conv2d(24, 24, 3), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(96, 3)),
    ).eval()
    images, labels = batch(0, 60)
    known = measure(model, [batch(1, 60)], groups=2)

    def table(share: range, replaced: bool):
        rows = [slice(i, min(i + 8, 60)) for i in range(share.start, share.stop, 8)]
        loader = [(images[part], labels[part]) for part in rows]
        if replaced:
            return replace(model, loader, known, peers=["all", "random"], layers=["3"])
        kinds = ["mean", "zero", "resample"]
        return lesion(model, loader, kinds=kinds, calibration=known, per_image=per_image)

    for replaced in (False, True):
        whole = table(range(60), replaced)
        merged = merge_lesions([table(Shard(k, 7).rows(60, 8), replaced) for k in range(1, 8)])
        assert merged.n_images == 60
        for kept in ("damage", "sums", "dense"):
            assert getattr(merged, kept).keys() == getattr(whole, kept).keys()
            for name, values in getattr(whole, kept).items():
                np.testing.assert_allclose(
                    getattr(merged, kept)[name], values, rtol=1e-12, atol=1e-12, err_msg=name
                )
        pd.testing.assert_frame_equal(merged.to_frame(), whole.to_frame(), rtol=1e-9, atol=1e-12)


def batch(seed: int, n: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(n, 1, 6, 6, generator=torch.Generator().manual_seed(seed)), torch.arange(
        n
    ) % 3


def test_shares_of_two_networks_are_not_merged(tmp_path):
    models = [
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).eval()
        for _ in range(2)
    ]
    models[1].load_state_dict(models[0].state_dict())
    for same in (True, False):
        tables, lesions = [], []
        for number, model in enumerate(models):
            images = [batch(number)]
            measure(model, images, groups=2, first_image=24 * number).save(
                tmp_path / "axes.npz", moments="groups"
            )
            lesion(model, images, kinds=["zero"]).save(tmp_path / "lesions.npz")
            tables.append(AxisTable.load(tmp_path / "axes.npz"))
            lesions.append(LesionTable.load(tmp_path / "lesions.npz"))
        if same:
            assert merge_tables(tables).settings["n_images"] == 48
            assert merge_lesions(lesions).n_images == 48
            with torch.no_grad():
                models[1][3].weight[2, 5] += 1e-3  # trained on, by one weight
        else:
            with pytest.raises(ValueError, match="measured alike; network is"):
                merge_tables(tables)
            with pytest.raises(ValueError, match="must be of one network; their weights differ"):
                merge_lesions(lesions)


def test_an_image_is_not_counted_twice(tmp_path):
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).eval()
    one, two = batch(0), batch(1)
    both = [torch.cat([a[:20], b[:1]]) for a, b in zip(two, one, strict=True)]
    tables = [
        measure(model, [one], groups=2),
        measure(model, [tuple(both)], groups=2, first_image=24),
    ]
    with pytest.raises(ValueError, match="share no image; 1 of the 21 images of table 1"):
        merge_tables(tables)
    lesions = [lesion(model, [data], kinds=["zero"]) for data in (one, tuple(both))]
    with pytest.raises(ValueError, match="share no image; 1 of the 21 images of table 1"):
        merge_lesions(lesions)
    other = lesion(model, [two], kinds=["zero"], channels={"0": [0, 1]})
    with pytest.raises(ValueError, match="must hold the same lesions"):
        merge_lesions([lesions[0], other])
    with pytest.raises(ValueError, match="at least one LesionTable"):
        merge_lesions([])


def test_lesions_survive_their_file_and_damaged_files_are_named(tmp_path):
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).eval()
    table = lesion(model, [batch(0)], kinds=["zero"], channels={"0": [(0, 1), (2, 3)]})
    path = tmp_path / "lesions.npz"
    table.save(path)
    again = LesionTable.load(path)
    assert again.channels == ((0, 1), (2, 3))
    np.testing.assert_array_equal(again.damage["divergence"], table.damage["divergence"])
    assert again.to_frame().equals(table.to_frame())
    measured = measure(model, [batch(0)], groups=2)
    measured.save(path)
    with pytest.raises(ValueError, match=r"that of a twoaxis.LesionTable/1; got 'twoaxis.A"):
        LesionTable.load(path)
    np.savez(path, header=np.frombuffer(b'{"format": "twoaxis.LesionTable/1"}', dtype=np.uint8))
    with pytest.raises(ValueError, match="is damaged"):
        LesionTable.load(path)
