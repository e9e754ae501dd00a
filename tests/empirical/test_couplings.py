import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from empirical.analysis.couplings import (
    BETWEEN,
    Pair,
    layer_couplings,
    mean_couplings,
    separation_step,
)
from empirical.analysis.seeds import t_interval
from empirical.measuring.measurement import measure
from empirical.report.coupling import coupling_findings
from theory import jackknife, spearman


@pytest.fixture(scope="module")
def table():
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 6, 3),
        torch.nn.Flatten(),
        torch.nn.Linear(6 * 16, 4),
    )
    images = torch.randn(80, 1, 8, 8)
    return measure(model, [(images, torch.randint(4, (80,)))])


def test_layer_couplings_are_spearman_with_a_jackknife_over_images(table):
    frame = layer_couplings(table, pairs=[BETWEEN], permutations=200)
    assert frame["layer"].tolist() == ["0", "2"]
    assert frame["depth"].tolist() == [0, 1]
    axes = table["2"]
    expected = stats.spearmanr(axes.input_capture, axes.task_information).statistic
    assert frame["coupling"][1] == pytest.approx(expected)

    def statistic(moments):
        from theory import channel_axes

        rest = channel_axes(moments)
        return spearman(rest.input_capture, rest.task_information)

    assert frame["se"][1] == pytest.approx(float(jackknife(table.groups["2"], statistic)), rel=1e-6)


def test_unknown_quantities_are_named(table):
    with pytest.raises(ValueError, match=r"pairs must be one of .* Did you mean 'input_capture'"):
        layer_couplings(table, pairs=[Pair("input_captur", "task_information", "between")])


def planted(start, end, seeds=3, layers=4, noise=0.02):
    """Couplings that go from `start` to `end`, half of the way between steps 2 and 4."""
    rng = np.random.default_rng(0)
    path = {0: start, 1: start, 2: start, 4: end, 8: end}
    rows = [
        {
            "seed": seed,
            "step": step,
            "layer": f"l{layer}",
            "first": pair.first,
            "second": pair.second,
            "kind": pair.kind,
            "coupling": value + noise * rng.standard_normal(),
            "null_low": -0.4,
            "null_high": 0.4,
        }
        for pair in (BETWEEN, Pair("input_capture", "peer_overlap", "within"))
        for seed in range(seeds)
        for layer in range(layers)
        for step, value in path.items()
    ]
    return pd.DataFrame(rows)


def test_means_pool_layers_then_seeds_and_the_null_shrinks_with_both():
    frame = planted(0.7, 0.1)
    means = mean_couplings(frame)
    start = means.iloc[0]
    assert start["coupling"] == pytest.approx(0.7, abs=0.03)
    assert start["low"] < start["coupling"] < start["high"]
    # 12 independent rankings: the band of one, 0.4, over √12.
    assert start["null_high"] == pytest.approx(0.4 / np.sqrt(12))


@pytest.mark.parametrize(
    ("start", "end", "wording", "claim"),
    [
        (0.7, 0.1, "it falls", "holds here"),
        (0.7, 0.65, "it falls", "leaves more than half"),
        (0.0, 0.0, "within the spread of seeds", "no coupling for training to undo"),
        (-0.2, 0.2, "it rises", "does not show here"),
    ],
)
def test_wording_follows_from_the_numbers(start, end, wording, claim):
    sentences = [str(f) for f in coupling_findings(planted(start, end, noise=0.005))]
    assert wording in sentences[0]
    assert any(claim in sentence for sentence in sentences)


def test_separation_is_dated_and_only_where_there_is_one():
    assert separation_step(mean_couplings(planted(0.7, 0.1)), BETWEEN) == 4
    assert separation_step(mean_couplings(planted(0.1, 0.1)), BETWEEN) is None


def test_one_seed_has_no_interval():
    assert all(np.isnan(t_interval([1.0])))
    sentences = [str(f) for f in coupling_findings(planted(0.7, 0.1, seeds=1))]
    assert "one seed gives no interval" in sentences[0]
