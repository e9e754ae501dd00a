import numpy as np
import pytest
import torch

from empirical.analysis.couplings import BETWEEN, layer_couplings
from empirical.analysis.robustness import (
    BASE,
    VARIATIONS,
    coupling_robustness,
    estimator_robustness,
    sample_count_robustness,
)
from empirical.analysis.sampled_information import ESTIMATORS, task_information
from empirical.measuring.measurement import measure
from empirical.measuring.table import AxisTable
from theory import spearman


@pytest.fixture(scope="module")
def case():
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(8 * 16, 3),
    )
    images = torch.randn(60, 1, 6, 6, generator=generator)
    return model, [(images, torch.randint(3, (60,), generator=generator))]


def test_one_row_per_variation_and_each_equals_a_measurement_of_its_own(case):
    model, loader = case
    base = measure(model, loader, hull=False)
    frame = coupling_robustness(model, loader, base, pairs=[BETWEEN])
    assert frame["variation"].tolist() == [BASE, *(name for name, _ in VARIATIONS)]
    for found, (_, changed) in zip(frame["coupling"], [(BASE, {}), *VARIATIONS], strict=True):
        own = measure(model, loader, hull=False, **changed)
        expected = layer_couplings(own, pairs=[BETWEEN], permutations=1)["coupling"].mean()
        assert found == pytest.approx(expected)
    # The reference noise is one number for the layer: it cannot change ranks of input capture.
    np.testing.assert_allclose(frame["coupling"][1:3], frame["coupling"][0])
    assert frame["coupling"].nunique() > 3


def test_a_point_that_no_layer_has_is_left_out(case):
    model, loader = case
    plain = torch.nn.Sequential(model[0], model[2:])
    base = measure(plain, loader, hull=False)
    frame = coupling_robustness(plain, loader, base, pairs=[BETWEEN])
    missing = {name for name, _ in VARIATIONS} - set(frame["variation"])
    assert missing == {"point: after the norm"}


def test_estimators_on_the_same_samples(case):
    """The Gaussian estimator on one position per image is `measure` at one position."""
    model, loader = case
    base = measure(model, loader, hull=False)
    frame = estimator_robustness(model, loader, base, target="logit_margin")
    gaussian, copula, neighbours = frame["coupling"]
    alone = measure(model, loader, hull=False, positions=1, groups=1, standard_errors=False)
    expected = spearman(base.axes["0"].input_capture, alone.axes["0"].task_information)
    assert gaussian == pytest.approx(float(expected))
    assert gaussian != copula
    assert -1 <= neighbours <= 1


def test_a_dead_channel_says_nothing_to_any_estimator():
    samples = np.random.default_rng(0).standard_normal((50, 3))
    target = samples[:, :1] + 0.3 * samples[:, 2:]
    samples[:, 1] = 4.0
    for estimator in ESTIMATORS:
        found = task_information(samples, target, estimator)
        assert found[1] == 0
        assert found[0] > 0.5 > found[2]


def test_all_groups_together_are_the_whole_measurement(case):
    model, loader = case
    table = measure(model, loader, hull=False)
    frame = sample_count_robustness(table, pairs=[BETWEEN])
    assert frame["images"].tolist() == pytest.approx([g / 10 for g in range(1, 11)])
    whole = layer_couplings(table, pairs=[BETWEEN], permutations=1)["coupling"].mean()
    assert frame["coupling"].iloc[-1] == pytest.approx(whole)


def test_a_table_without_groups_says_so():
    with pytest.raises(ValueError, match="save with moments='groups'"):
        sample_count_robustness(AxisTable({}, {}, {}, {}, {}, {}))
