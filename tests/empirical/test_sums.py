import numpy as np
import pytest
import torch

from empirical.reading.readings import WITH_TARGET
from empirical.reading.sums import Sums
from theory.moments import Moments, merge


def stored(samples, targets):
    """The same by storing everything: each image's target repeated for its positions."""
    n, positions, c = samples.shape
    return Moments.from_samples(
        samples.reshape(n * positions, c).numpy(), targets.repeat_interleave(positions, 0).numpy()
    )


def values(samples, targets):
    return {"y": samples[:, :, None], "t": targets}


def draw(seed, n=60, positions=5, c=7, q=2, mean=0.0):
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(c, c, generator=generator, dtype=torch.float64)
    samples = torch.randn(n, positions, c, generator=generator, dtype=torch.float64) @ mix + mean
    return samples, torch.randn(n, q, generator=generator, dtype=torch.float64)


def assert_same(a, b, tolerance):
    assert (a.n, a.n_targets) == (b.n, b.n_targets)
    scale = np.sqrt(np.diagonal(b.cov))
    assert np.abs((a.cov - b.cov) / np.outer(scale, scale)).max() < tolerance
    assert np.abs((a.mean - b.mean) / scale).max() < tolerance


@pytest.mark.parametrize("c", [7, 300])  # 300: more than one block of columns
def test_batches_and_groups_give_the_stored_result(c):
    samples, targets = draw(0, n=80, c=c)
    sums = Sums(WITH_TARGET, groups=2)
    for part in (slice(0, 30), slice(30, 80)):
        sums.add(
            {"y": samples[part][:, :, None], "t": targets[part]}, [10, part.stop - part.start - 10]
        )
    groups = sums.moments()
    first = np.r_[0:10, 30:40]
    second = np.r_[10:30, 40:80]
    # 1e-12: double rounding of sums of some hundred terms
    for group, index in zip(groups, (first, second), strict=True):
        assert_same(group, stored(samples[index], targets[index]), 1e-12)
        assert np.array_equal(group.cov, group.cov.T)
    assert_same(merge(groups), stored(samples, targets), 1e-12)


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_mean_a_thousand_times_the_deviation(precision):
    samples, targets = draw(1, n=2000, c=20, mean=1000 * 20**0.5)
    samples = samples.float()  # activations are float32: their own rounding is in both results
    sums = Sums(WITH_TARGET, precision=precision)
    for start in range(0, 2000, 250):
        sums.add(
            {"y": samples[start : start + 250][:, :, None], "t": targets[start : start + 250]},
            [250],
        )
    # required of the float32 products: 1e-5
    tolerance = 1e-5 if precision is torch.float32 else 1e-11
    assert_same(sums.moments()[0], stored(samples.double(), targets), tolerance)


def test_unshifted_float32_would_fail_that():
    """The test above can fail: plain float32 sums of squares lose all digits there."""
    samples, _ = draw(1, n=2000, c=20, mean=1000 * 20**0.5)
    rows = samples.float().reshape(-1, 20)
    mean = rows.mean(0)
    plain = (rows.T @ rows / len(rows) - torch.outer(mean, mean)).double().numpy()
    exact = np.cov(rows.double().numpy().T)
    assert np.abs(plain - exact).max() > 1e-2 * np.abs(exact).max()


def test_first_batch_far_from_the_rest():
    """A loader sorted by class: the shift is then a poor guess, and must cost nothing much."""
    samples, targets = draw(2, n=200)
    samples[:20] += 30
    sums = Sums(WITH_TARGET)
    for start in range(0, 200, 20):
        sums.add(
            {"y": samples[start : start + 20][:, :, None], "t": targets[start : start + 20]}, [20]
        )
    assert_same(sums.moments()[0], stored(samples, targets), 1e-11)


def test_groups_without_images_are_left_out():
    samples, targets = draw(3, n=4)
    sums = Sums(WITH_TARGET, groups=3)
    sums.add(values(samples, targets), [4, 0, 0])
    assert len(sums.moments()) == 1
