"""Features and targets of two steps crossed: what each carries of a fall."""

import numpy as np
import pytest

from sim import Mixture, Network, Regression, power_law, simulate
from sim.experiments.crossing import carrier_sentence, carriers, crossed_couplings
from theory import spearman

TASK = Regression(power_law(12, 2.0), outputs=1, alignment=0.0)


def run_of(**network):
    return simulate(
        TASK, Network(width=40, **network), steps=2000, seeds=6, records=4, quantities=False
    )


def by_hand(run, features, target):
    """Spearman of wᵀΣw with (wᵀΣm)²/(wᵀΣw), filters and output of two records."""
    sigma, found = np.diag(TASK.spectrum), []
    for member in range(6):
        w = run.filters[member, features]
        m = run.readout[member, target, 0] @ run.filters[member, target]
        power = np.einsum("ci,ij,cj->c", w, sigma, w)
        explained = (w @ sigma @ m) ** 2 / power
        ranks = [np.argsort(np.argsort(v)) for v in (power, explained)]
        found.append(np.corrcoef(*ranks)[0, 1])
    return found


@pytest.mark.parametrize("network", [{}, {"train_readout": False}])
def test_four_couplings_are_of_filters_and_outputs_of_two_records(network):
    run = run_of(**network)
    crossed = crossed_couplings(run)
    for features in (0, -1):
        for target in (0, -1):
            expected = by_hand(run, features, target)
            np.testing.assert_allclose(crossed[:, features, target], expected, atol=1e-9)
    np.testing.assert_allclose(crossed[:, 0, 0], run.coupling()[:, 0], atol=1e-9)
    np.testing.assert_allclose(crossed[:, 1, 1], run.coupling()[:, -1], atol=1e-9)


def test_features_and_targets_carry_the_whole_fall_between_them():
    run = run_of(scale=0.3)
    table = carriers(run).set_index("what")["mean"]
    both = table["fall carried by features"] + table["fall carried by targets"]
    assert both == pytest.approx(table["fall"])
    assert table["fall carried by targets"] > table["fall carried by features"]
    values = carrier_sentence(run).values
    assert values["fall"].mean == pytest.approx(table["fall"])
    assert values["targets"].low <= values["targets"].mean <= values["targets"].high


def test_filters_that_hardly_move_carry_nothing():
    run = run_of(scale=30.0, train_readout=False)
    table = carriers(run).set_index("what")
    assert abs(table["mean"]["fall carried by features"]) < 2 / 40  # one direction of forty moves


CLASSES = Mixture(power_law(6, 1.0), classes=3, loss="cross_entropy")


def test_a_deep_rectified_network_is_crossed_about_output_and_margin():
    """Against filters of one record and network outputs of another, both written out."""
    network = Network(width=40, depth=3, nonlinearity="relu")
    run = simulate(
        CLASSES, network, steps=200, seeds=2, batch=16, learning_rate=0.05, quantities=False
    )
    population = CLASSES.population
    rng = np.random.default_rng(1)
    labels = rng.integers(3, size=100_000)
    x = rng.standard_normal((100_000, 6)) * np.sqrt(population.spectrum)
    x += population.means[labels]
    for target in ("output", "margin"):
        crossed = crossed_couplings(run, target=target)
        np.testing.assert_allclose(crossed[:, 0, 0], run.coupling(target=target)[:, 0], atol=1e-9)
        for features, about in ((0, -1), (-1, 0)):
            hidden = np.maximum(x @ run.filters[0, about].T, 0)
            hidden = np.maximum(hidden @ run.inner[0, about, 0].T, 0)
            values = hidden @ run.readout[0, about].T
            if target == "margin":
                own = values[np.arange(len(x)), labels]
                values[np.arange(len(x)), labels] = -np.inf
                values = (own - values.max(1))[:, None]
            y = x @ run.filters[0, features].T
            cov = np.cov(np.column_stack([y, values]), rowvar=False)
            cross, inverse = cov[:40, 40:], np.linalg.pinv(cov[40:, 40:])
            share = np.einsum("ik,kl,il->i", cross, inverse, cross) / np.diag(cov)[:40]
            by_hand = spearman(np.diag(cov)[:40], share)
            assert crossed[0, features, about] == pytest.approx(by_hand, abs=0.05)


def test_the_label_is_no_target_of_the_network():
    with pytest.raises(ValueError, match="target must be one of 'output'; got 'label'"):
        crossed_couplings(run_of(), target="label")
    with pytest.raises(ValueError, match="target must be one of 'output'; got 'margin'"):
        crossed_couplings(run_of(), target="margin")
