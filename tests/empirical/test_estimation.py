import itertools

import numpy as np
import pytest
import torch
from torch import nn

from empirical import measure
from empirical.measuring.estimation import merge_tables
from empirical.reading.groups import without
from theory import Moments, merge


def net(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(216, 4)
        ).double()


def data(n=63):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(n, 3, 8, 8, generator=generator, dtype=torch.float64)
    return images, torch.randint(4, (n,), generator=generator)


def test_without_equals_leaving_the_samples_out():
    rng = np.random.default_rng(0)
    y, t = rng.standard_normal((50, 4)) + 100, rng.standard_normal(50)
    whole, part = Moments.from_samples(y, t), Moments.from_samples(y[:5], t[:5])
    rest, expected = without(whole, part), Moments.from_samples(y[5:], t[5:])
    # mean / deviation = 100 costs two digits
    np.testing.assert_allclose(rest.cov, expected.cov, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(rest.mean, expected.mean, rtol=1e-12)
    assert rest.n == 45


def test_replicates_are_measurements_without_one_group():
    model, (images, labels) = net(), data(60)
    options = {"positions": 1000, "estimate": "plug_in"}
    table = measure(model, [(images, labels)], groups=6, **options)
    for group in range(6):
        keep = np.arange(60) % 6 != group
        rest = measure(model, [(images[keep], labels[keep])], standard_errors=False, **options)
        for name, values in rest["0"].as_dict().items():
            np.testing.assert_allclose(
                table.replicates["0"][name][group], values, rtol=1e-9, atol=1e-12, err_msg=name
            )


@pytest.mark.parametrize("shares", [1, 2, 5])
def test_merged_shares_equal_one_measurement(shares):
    model, (images, labels) = net(), data()
    options = {"groups": 4, "positions": 5}
    whole = measure(model, [(images, labels)], **options).to_frame()
    bounds = np.linspace(0, 63, shares + 1).astype(int)
    tables = [
        measure(model, [(images[a:b], labels[a:b])], **options, first_image=int(a))
        for a, b in itertools.pairwise(bounds)
    ]
    merged = merge_tables(tables)
    assert merged.settings["n_images"] == 63
    for column in whole.columns[1:]:
        np.testing.assert_allclose(
            merged.to_frame()[column], whole[column], rtol=1e-8, atol=1e-10, err_msg=column
        )


def test_tables_that_do_not_belong_together_are_refused():
    model, batch = net(), data()
    one = measure(model, [batch], groups=4)
    with pytest.raises(ValueError, match="at least one AxisTable"):
        merge_tables([])
    first = [measure(model, [(data()[0] + shift, data()[1])], groups=4) for shift in (0, 1)]
    with pytest.raises(ValueError, match=r"rows 0 to 62 are in two of them\. Pass .*first_image="):
        merge_tables(first)
    with pytest.raises(ValueError, match="measured alike; seed is 0 in one and 1"):
        merge_tables([one, measure(model, [batch], groups=4, seed=1)])
    few = measure(model, [data(3)], groups=4, standard_errors=False)
    with pytest.raises(ValueError, match="measured alike; standard_errors"):
        merge_tables([one, few])
    one = measure(model, [batch], groups=4, standard_errors=False)
    with pytest.raises(ValueError, match=r"moments of their 4 groups.*moments='groups'"):
        merge_tables([one, few])
    component = measure(model, [batch], groups=4, target="logit_pc1")
    with pytest.raises(ValueError, match="target 'logit_pc1'"):
        merge_tables([component, component])


def test_totals_are_the_sum_of_the_groups():
    table = measure(net(), [data()], groups=4)
    total = merge(table.groups["0"])
    np.testing.assert_allclose(table.moments["0"].cov, total.cov, rtol=1e-12)
