import numpy as np
import torch
from torch import nn

from empirical import measure
from empirical.measuring.null import ImageSums, permutations, with_permuted_targets
from theory import TARGET_AXIS, Moments


def test_permuted_moments_equal_those_of_permuted_samples():
    rng = np.random.default_rng(0)
    n, positions, c, q = 30, 4, 5, 2
    y, t = rng.standard_normal((n, positions, c)) + 3, rng.standard_normal((n, q))
    order = rng.permutation(n)

    def stored(targets):
        return Moments.from_samples(y.reshape(-1, c), np.repeat(targets, positions, axis=0))

    sums = ImageSums(np.full(n, float(positions)), y.sum(1), t)
    found = with_permuted_targets(stored(t), sums, order)
    np.testing.assert_allclose(found.cov, stored(t[order]).cov, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(found.mean, stored(t[order]).mean, rtol=1e-12, atol=1e-13)


def measured(informative, null=99):
    """Channel 0 carries the target or does not; all positions of an image are alike."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(100, 4, 1, 1, generator=generator).expand(100, 4, 6, 6)
    model = nn.Sequential(nn.Conv2d(4, 5, 1), nn.Flatten(), nn.Linear(180, 3))
    with torch.no_grad():
        model[0].weight[:4, :, 0, 0] = torch.eye(4)
    noise = torch.randn(100, generator=generator)
    target = values[:, 0, 0, 0] + 0.5 * noise if informative else noise
    return measure(
        model,
        [(values, torch.zeros(100, dtype=torch.long))],
        target=lambda z, y: target[: len(z)],
        positions=9,
        null=null,
        standard_errors=False,
    )


def test_null_tells_a_channel_with_the_target_from_one_without():
    frame = measured(informative=True).to_frame()
    assert frame.task_information_p[0] == 0.01
    assert frame.task_information_null[0] < 0.1 * frame.task_information[0]
    # channels 1..3 are independent of the target: p is uniform, not small for all of them
    assert frame.task_information_p[1:4].max() > 0.05


def test_null_respects_the_dependence_of_positions():
    """Nine equal positions must not make noise significant, as nine times the samples would."""
    table = measured(informative=False)
    frame = table.to_frame()
    assert (frame.task_information_p[:4] > 0.02).all()
    # the null of one correlation from 100 images: mean information 1/2 · 1/99
    expected = 0.5 / 99
    assert abs(frame.task_information_null[:4].mean() - expected) < 0.3 * expected


def test_null_has_every_target_quantity_and_is_saved(tmp_path):
    table = measured(informative=True, null=3)
    assert set(table.null["0"]) == set(TARGET_AXIS)
    assert table.null["0"]["target_excess"].shape == (3, 5)
    table.save(tmp_path / "t.npz")
    loaded = type(table).load(tmp_path / "t.npz")
    for name in TARGET_AXIS:
        np.testing.assert_array_equal(loaded.null["0"][name], table.null["0"][name])


def test_permutations_are_seeded():
    one, two = permutations(10, 3, seed=1), permutations(10, 3, seed=1)
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert sorted(one[0]) == list(range(10))
