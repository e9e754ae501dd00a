from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image

from empirical.analysis.patches import patch_covariance, spectrum_summary
from empirical.data.images import ImageSet, channel_statistics, image_loader
from empirical.data.loading import load_data
from empirical.data.photographs import PHOTOGRAPHS, photograph_tiles
from empirical.data.splits import split_data, stratified_draw


def paint(folder, part, classes, per_class=3, size=(6, 6), mode="RGB", seed=0):
    rng = np.random.default_rng([seed, len(part)])
    pixels = {}
    for name in classes:
        where = folder / part / name
        where.mkdir(parents=True, exist_ok=True)
        for index in range(per_class):
            shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
            array = rng.integers(0, 256, shape, dtype=np.uint8)
            Image.fromarray(array, mode=None).save(where / f"{index}.png")
            pixels[part, name, index] = array
    return pixels


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "pictures"
    paint(root, "train", ("cat", "dog"))
    paint(root, "test", ("cat", "dog"), per_class=2)
    return root


def sample(n=20, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    return ImageSet(
        "sample/train",
        torch.from_numpy(rng.integers(0, 256, (n, 3, 5, 5), dtype=np.uint8)),
        torch.from_numpy(rng.permutation(np.arange(n) % classes)),
        tuple("abcdefgh"[:classes]),
        (0.5, 0.4, 0.3),
        (0.2, 0.3, 0.4),
    )


# --- image sets -------------------------------------------------------------------------------


def test_normalization_is_the_textbook_one():
    data = sample()
    expected = (data.images.double() / 255 - torch.tensor(data.mean).double().view(1, 3, 1, 1)) / (
        torch.tensor(data.std).double().view(1, 3, 1, 1)
    )
    torch.testing.assert_close(data.normalize(data.images).double(), expected, atol=1e-5, rtol=1e-6)


def test_loader_gives_the_same_batches_at_every_pass_and_all_images_in_order():
    data = sample(n=23)
    loader = image_loader(data, batch_size=8)
    first, second = list(loader), list(loader)
    assert [len(labels) for _, labels in first] == [8, 8, 7]
    assert len(loader) == 3
    for (images, labels), (again, same) in zip(first, second, strict=True):
        assert torch.equal(images, again)
        assert torch.equal(labels, same)
    assert torch.equal(torch.cat([labels for _, labels in first]), data.labels)


def test_loader_follows_the_given_indices():
    data = sample()
    images, labels = next(iter(image_loader(data, [5, 2, 2])))
    assert torch.equal(images, data.normalize(data.images[[5, 2, 2]]))
    assert torch.equal(labels, data.labels[[5, 2, 2]])


def test_channel_statistics_equal_the_direct_computation():
    images = sample(n=50).images
    pixels = images.double() / 255
    mean, std = channel_statistics(images)
    # Rounded to six digits, so that a data set's statistics can be written down.
    assert mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=1e-6)
    assert std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist(), abs=1e-6)


def test_fingerprint_changes_with_any_pixel_label_or_statistic():
    data = sample()
    images, labels = data.images.clone(), data.labels.clone()
    images[3, 1, 2, 2] ^= 1
    labels[0] = (labels[0] + 1) % 4
    names, mean, std = data.class_names, data.mean, data.std
    others = [
        ImageSet("sample/train", images, data.labels, names, mean, std),
        ImageSet("sample/train", data.images, labels, names, mean, std),
        ImageSet("sample/train", data.images, data.labels, names, (0.5, 0.4, 0.31), std),
    ]
    assert len({data.fingerprint, *(other.fingerprint for other in others)}) == 4
    assert sample().fingerprint == data.fingerprint


# --- photographs ------------------------------------------------------------------------------


def test_photographs_are_tiles_of_which_no_two_share_a_pixel(monkeypatch):
    """Pixels that are numbers of their own: each occurs once over training and test together."""
    height, width = 427, 640
    numbers = np.arange(2 * height * width).reshape(2, height, width)
    # three bytes hold the number of a pixel
    painted = np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], -1).astype(np.uint8)
    by_name = dict(zip(PHOTOGRAPHS, painted, strict=True))
    monkeypatch.setattr("sklearn.datasets.load_sample_image", by_name.__getitem__)
    parts, names = photograph_tiles()
    seen = {}
    for part, (images, labels) in parts.items():
        assert images.shape[1:] == (3, 16, 16)
        low, middle, high = images.numpy().astype(int).transpose(1, 0, 2, 3)
        seen[part] = low + 256 * middle + 65536 * high
        photograph, pixel = np.divmod(seen[part], height * width)
        # the class is the fifth of the photograph that all pixels of a tile lie in
        strip = photograph * 5 + (pixel % width) // 128
        assert (strip == labels.numpy()[:, None, None]).all()
        tile = seen[part] - seen[part][:, :1, :1]
        assert (tile == np.add.outer(np.arange(16) * width, np.arange(16))).all()
    everything = np.concatenate([seen["train"].ravel(), seen["test"].ravel()])
    assert len(np.unique(everything)) == everything.size
    # test tiles are blocks 32 pixels high: training tiles touch them above and below only
    rows = np.unique(seen["test"][:, 0, 0] % (height * width) // width // 16)
    assert rows.tolist() == [4, 5, 10, 11, 16, 17, 22, 23]
    assert names[0] == "china 1"
    assert names[-1] == "flower 5"


def test_photographs_have_every_class_in_both_parts_and_the_training_statistics():
    train, test = load_data("photographs")
    for part, least in ((train, 144), (test, 64)):
        assert torch.bincount(part.labels).tolist() == [least] * 10
    assert train.mean == channel_statistics(train.images)[0]
    assert test.mean == train.mean
    share = spectrum_summary({"tiles": patch_covariance(train.normalize(train.images))})
    assert share["first_share"].item() > 0.75  # steep, as in nature


# --- digits and splits ------------------------------------------------------------------------


def test_digits_are_stratified_and_share_no_image():
    train, test = load_data("digits")
    assert len(train) + len(test) == 1797
    counts = torch.bincount(test.labels) / torch.bincount(torch.cat([train.labels, test.labels]))
    assert counts.min() > 0.32
    assert counts.max() < 0.35
    assert test.mean == train.mean
    assert load_data("digits", seed=1)[1].fingerprint != test.fingerprint


def test_split_parts_are_disjoint_and_calibration_lies_within_fit():
    train, test = load_data("digits")
    # Every image gets its row number as pixels, so that images can be told apart.
    rows = torch.arange(len(train))
    marked = torch.zeros_like(train.images)
    marked[:, 0, 0, 0], marked[:, 0, 0, 1] = rows % 256, rows // 256
    parts = split_data(ImageSet(**{**vars(train), "images": marked}), test, calibration=300)

    def numbers(part):
        return set((part.images[:, 0, 0, 0].int() + 256 * part.images[:, 0, 0, 1].int()).tolist())

    fit, chosen = numbers(parts.fit), numbers(parts.selection)
    assert fit | chosen == set(range(len(train)))
    assert not fit & chosen
    assert numbers(parts.calibration) < fit
    assert len(parts.calibration) == 300
    assert parts.report is test
    assert parts.fit.name == "digits/fit"


def test_split_depends_on_its_seed_alone():
    pair = load_data("digits")
    first, again, other = (split_data(*pair, seed=seed) for seed in (0, 0, 1))
    assert first.calibration.fingerprint == again.calibration.fingerprint
    assert first.fit.fingerprint != other.fit.fingerprint


@pytest.mark.parametrize("size", [0, 3, 10, 57, 100])
def test_stratified_draw_gives_every_class_its_share(size):
    labels = np.repeat(np.arange(5), [10, 20, 30, 20, 20])
    drawn = stratified_draw(labels, size, np.random.default_rng(0))
    assert len(set(drawn.tolist())) == size
    shares = np.bincount(labels[drawn], minlength=5) - size * np.array([0.1, 0.2, 0.3, 0.2, 0.2])
    assert np.abs(shares).max() <= 1


def test_every_part_of_a_stratified_draw_is_stratified():
    """Folders come sorted by class: whoever reads the first images only must not get one class."""
    labels = np.repeat(np.arange(5), [10, 20, 30, 20, 20])
    drawn = stratified_draw(labels, 100, np.random.default_rng(0))
    for first in (5, 20, 50):
        found = np.bincount(labels[drawn[:first]], minlength=5)
        assert np.abs(found - first * np.array([0.1, 0.2, 0.3, 0.2, 0.2])).max() <= 1


# --- folders ----------------------------------------------------------------------------------


def test_folder_gives_the_pixels_of_its_files_by_sorted_class(tmp_path):
    pixels = paint(tmp_path, "train", ("dog", "cat"))
    pixels |= paint(tmp_path, "test", ("cat", "dog"), per_class=2)
    train, test = load_data(tmp_path, cache=None)
    assert train.class_names == ("cat", "dog")
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    expected = pixels["train", "dog", 1].transpose(2, 0, 1)
    assert np.array_equal(train.images[4].numpy(), expected)
    assert np.array_equal(test.images[0].numpy(), pixels["test", "cat", 0].transpose(2, 0, 1))
    assert test.mean == train.mean == channel_statistics(train.images)[0]


def test_second_load_reads_the_cache_and_a_changed_file_is_read_again(
    folder, tmp_path, monkeypatch
):
    cache = tmp_path / "cache"
    first, _ = load_data(folder, cache=cache)
    with monkeypatch.context() as patched:
        decode = "empirical.data.folders._decode_parts"
        patched.setattr(decode, lambda *_: pytest.fail("decoded again"))
        second, _ = load_data(folder, cache=cache)
    assert second.fingerprint == first.fingerprint
    changed = np.zeros((6, 6, 3), dtype=np.uint8)
    Image.fromarray(changed).save(folder / "train" / "cat" / "0.png", compress_level=0)
    third, _ = load_data(folder, cache=cache)
    assert int(third.images[0].sum()) == 0


def test_a_cache_that_cannot_be_written_is_said_and_done_without(folder, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    with pytest.warns(UserWarning, match="decoded images were not kept"):
        train, _ = load_data(folder, cache=blocked / "cache")
    assert len(train) == 6


def test_gray_images_have_one_channel(tmp_path):
    paint(tmp_path, "train", ("a", "b"), mode="L")
    paint(tmp_path, "test", ("a", "b"), mode="L")
    assert load_data(tmp_path, cache=None)[0].channels == 1


def test_mixed_sizes_are_refused_unless_a_size_is_given(folder):
    paint(folder, "train", ("bird",), size=(9, 7))
    paint(folder, "test", ("bird",))
    with pytest.raises(ValueError, match=r"one size; .* is 9×7 and .* is 6×6. Pass image_size"):
        load_data(folder, cache=None)
    train, test = load_data(folder, image_size=4, cache=None)
    assert train.images.shape[1:] == test.images.shape[1:] == (3, 4, 4)


def test_missing_folder_names_the_remedy(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"existing folder; got .*nowhere"):
        load_data(tmp_path / "nowhere")


@pytest.mark.parametrize(("kept", "missing"), [("train", "test"), ("test", "train")])
def test_a_folder_without_one_part_is_refused(tmp_path, kept, missing):
    paint(tmp_path, kept, ("a", "b"))
    with pytest.raises(FileNotFoundError, match=rf"has no images in {missing}/<class>/"):
        load_data(tmp_path, cache=None)


def test_different_classes_in_both_parts_are_named(folder):
    paint(folder, "train", ("eel",))
    with pytest.raises(ValueError, match="only in training: eel; only in testing: none"):
        load_data(folder, cache=None)


def test_a_file_that_is_no_image_is_named(folder):
    (folder / "train" / "cat" / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"broken\.png cannot be read as an image"):
        load_data(folder, cache=None)


def test_a_truncated_image_is_named(folder):
    file = folder / "train" / "cat" / "0.png"
    file.write_bytes(file.read_bytes()[:-60])
    with pytest.raises(ValueError, match=r"0\.png cannot be decoded"):
        load_data(folder, cache=None)


def test_tiny_imagenet_is_read_as_distributed(tmp_path):
    for name in ("n01", "n02"):
        paint(tmp_path, f"train/{name}", ("images",))
    paint(tmp_path, "test", ("images",))
    paint(tmp_path, "val", ("images",), per_class=2)
    rows = "0.png\tn02\t0\t0\t5\t5\n1.png\tn01\t0\t0\t5\t5\n"
    (tmp_path / "val" / "val_annotations.txt").write_text(rows)
    train, test = load_data(tmp_path, cache=None)
    assert train.class_names == ("n01", "n02")
    assert len(train) == 6
    assert test.labels.tolist() == [1, 0]


def test_imagenet_100_is_read_in_pieces(tmp_path):
    paint(tmp_path, "train.X1", ("n01",))
    paint(tmp_path, "train.X2", ("n02",))
    paint(tmp_path, "val.X", ("n01", "n02"))
    train, test = load_data(tmp_path, cache=None)
    assert (len(train), len(test), train.classes) == (6, 6, 2)


def test_cifar_that_is_not_there_says_how_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"cifar10 was not found.*--download"):
        load_data("cifar10", root=tmp_path)


def test_an_interrupted_download_is_said_with_its_remedy(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise URLError("connection reset")

    monkeypatch.setattr("torchvision.datasets.CIFAR10", broken)
    with pytest.raises(ConnectionError, match=r"could not be downloaded .*reset.*start again"):
        load_data("cifar10", root=tmp_path, download=True)
