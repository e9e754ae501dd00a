"""Features and targets of two steps crossed: what each carries of a fall."""

import numpy as np
import pytest

from sim import Network, Regression, power_law, simulate
from sim.experiments.carriers import carrier_sentence, carriers, crossed_couplings

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


def test_a_relu_network_is_refused():
    run = simulate(TASK, Network(width=8, nonlinearity="relu"), steps=5, seeds=2, quantities=False)
    with pytest.raises(ValueError, match="run must be of a linear network"):
        crossed_couplings(run)
