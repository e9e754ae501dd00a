import numpy as np
import pytest
import torch
from scipy import stats

from empirical.reading.positions import Sampler, random_fractions, random_positions


@pytest.mark.parametrize(("n_positions", "size"), [(3, 4), (16, 64), (5, 1000), (1, 2)])
def test_positions_are_distinct_and_in_range(n_positions, size):
    drawn = random_positions(1, "conv", 0, 500, n_positions, size)
    assert drawn.shape == (500, n_positions)
    assert drawn.min() >= 0
    assert drawn.max() < size
    assert all(len(set(row)) == n_positions for row in drawn.tolist())


def test_every_position_is_equally_likely():
    drawn = random_positions(0, "conv", 0, 20_000, 5, 12)
    counts = np.bincount(drawn.ravel(), minlength=12)
    # distinct positions of one image vary less than independent ones: the test is conservative
    assert stats.chisquare(counts).pvalue > 1e-3


def test_pairs_of_positions_are_equally_likely():
    drawn = np.sort(random_positions(2, "conv", 0, 30_000, 2, 6), axis=1)
    counts = np.bincount(drawn[:, 0] * 6 + drawn[:, 1], minlength=36)
    assert stats.chisquare(counts[counts > 0]).pvalue > 1e-3
    assert (counts > 0).sum() == 15


def test_positions_belong_to_the_image_not_to_the_batch():
    whole = random_positions(3, "conv", 0, 20, 7, 100)
    parts = [random_positions(3, "conv", start, 1, 7, 100) for start in range(20)]
    assert np.array_equal(np.concatenate(parts), whole)
    assert not np.array_equal(random_positions(4, "conv", 0, 20, 7, 100), whole)


def test_each_layer_has_positions_of_its_own():
    one, two = (random_positions(0, name, 0, 50, 4, 64) for name in ("layer1.conv", "layer2.conv"))
    assert not np.array_equal(one, two)
    # two independent draws of 4 out of 64 share 4 * 4 / 64 = 1/4 of a position in the mean
    shared = [len(set(a) & set(b)) for a, b in zip(one.tolist(), two.tolist(), strict=True)]
    assert np.mean(shared) < 0.6


@pytest.mark.parametrize("size", [1, 7, 100, 300])
def test_a_sampler_draws_the_same_positions_however_the_images_are_cut(size):
    whole = random_positions(5, "conv", 0, 600, 3, 40)
    sampler = Sampler(3, seed=5)
    for start in range(0, 600, size):
        stop = min(600, start + size)
        sampler.begin(start, stop - start)
        assert np.array_equal(sampler.places("conv", 40).numpy(), whole[start:stop])


def test_fractions_belong_to_the_image_and_are_uniform():
    whole = random_fractions(2, "classes", 0, 5000)
    parts = [random_fractions(2, "classes", start, 1) for start in range(4990, 5000)]
    assert np.array_equal(np.concatenate(parts), whole[4990:])
    assert stats.kstest(whole, "uniform").pvalue > 1e-3
    assert not np.array_equal(random_fractions(2, "others", 0, 5000), whole)


def labelled_map(n, channels, height, width):
    """Value = 10000 image + 100 channel + position: each entry says where it comes from."""
    image = 10_000 * torch.arange(n).reshape(-1, 1, 1)
    channel = 100 * torch.arange(channels).reshape(1, -1, 1)
    values = image + channel + torch.arange(height * width)
    return values.reshape(n, channels, height, width).double()


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("positions", [4, 100])
def test_samples_are_whole_columns_of_the_map(memory, positions):
    sampler = Sampler(positions, groups=3)
    sampler.begin(first_image=4, n_images=5)
    output = labelled_map(5, 6, 3, 4).contiguous(memory_format=memory)
    samples = sampler.take("conv", output, 1)
    assert samples.shape == (5, min(positions, 12), 6)
    assert (samples // 10_000 == sampler.order[:, None, None]).all()
    assert (samples // 100 % 100 == torch.arange(6)).all()
    place = samples % 100
    assert (place == place[:, :, :1]).all()
    # images 4..8 in groups 1, 2, 0, 1, 2
    assert sampler.order.tolist() == [2, 0, 3, 1, 4]
    assert sampler.images_per_group == [1, 2, 2]


def test_samples_survive_an_in_place_change_of_the_output():
    sampler = Sampler(100, groups=2)
    sampler.begin(0, 2)
    output = labelled_map(2, 3, 2, 2)
    samples = sampler.take("conv", output, 1)
    kept = samples.clone()
    output.zero_()
    assert torch.equal(samples, kept)


def test_pooled_sample_is_the_mean_over_the_map():
    sampler = Sampler(16, groups=2, pooled=True)
    sampler.begin(0, 4)
    output = labelled_map(4, 3, 2, 5)
    assert torch.equal(sampler.take("conv", output, 1)[:, 0], output.mean((2, 3))[sampler.order])


def test_linear_outputs_with_and_without_tokens():
    sampler = Sampler(100, groups=1)
    sampler.begin(0, 2)
    tokens = torch.arange(24.0).reshape(2, 3, 4)
    assert torch.equal(sampler.take("fc", tokens, -1), tokens)
    assert torch.equal(sampler.take("fc", tokens[:, 0], -1), tokens[:, :1])


def test_outputs_without_an_image_dimension_are_refused():
    sampler = Sampler(16, groups=1)
    sampler.begin(0, 2)
    with pytest.raises(ValueError, match=r"images along the first dimension.*\(6, 5\)"):
        sampler.take("fc", torch.zeros(6, 5), -1)
