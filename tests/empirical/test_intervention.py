"""Damage alone and the share recovered, as axes over training: couplings, wording, the run's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from empirical import measure
from empirical.analysis.couplings import OF_INTERVENTION, layer_couplings, training_couplings
from empirical.analysis.missing import NoDataError
from empirical.analysis.reliability import channel_scores, corrected_coupling
from empirical.measuring.damage_table import LayerDamage
from empirical.report.intervention import intervention_section, median_shares
from empirical.runs.config import read_config
from theory.rank_coupling import spearman


@pytest.fixture(scope="module")
def measured():
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(2, 12, 3), torch.nn.ReLU(), torch.nn.Conv2d(12, 8, 3),
        torch.nn.Flatten(), torch.nn.Linear(8 * 16, 4),
    )  # fmt: skip
    loader = [(torch.randn(60, 2, 8, 8), torch.randint(4, (60,)))]
    return measure(model, loader, damage=True, hull=False)


def planted(table, alone, recovered, noise, rng):
    """The table with these damages in its first layer, each group's with errors of its own."""
    errors = np.exp(noise * rng.standard_normal((2, 10, len(alone))))
    own = LayerDamage(np.full(10, 6.0), alone * errors[0], alone * (1 - recovered) * errors[1])
    return replace(table, damage={"0": own})


def test_halves_are_of_even_and_odd_groups_and_without_one_group_of_all_others():
    rng = np.random.default_rng(0)
    images = np.array([3.0, 2.0, 4.0, 1.0])
    alone, peers = rng.random((2, 4, 5))
    found = LayerDamage(images, alone, peers)
    even = np.average(alone[[0, 2]], axis=0, weights=[3, 4])
    odd = np.average(peers[[1, 3]], axis=0, weights=[2, 1])
    np.testing.assert_allclose(found.halves()["damage_alone"][0], even)
    np.testing.assert_allclose(found.halves()["damage_with_peers"][1], odd)
    np.testing.assert_allclose(
        found.halves()["recovered"][0], 1 - np.average(peers[[0, 2]], axis=0, weights=[3, 4]) / even
    )


def test_foretold_damages_are_coupled_as_the_quantities_of_the_axes_are(measured):
    frame = layer_couplings(measured, pairs=OF_INTERVENTION, permutations=50).set_index(
        ["layer", "first", "second"]
    )
    for layer in measured.layers:
        damage = measured.damage[layer]
        values = measured[layer].as_dict() | damage.values()
        for pair in OF_INTERVENTION:
            row = frame.loc[(layer, pair.first, pair.second)]
            expected = spearman(values[pair.first], values[pair.second])
            np.testing.assert_allclose(row["coupling"], expected, rtol=1e-12)
        halves, parts = damage.halves(), damage.replicates()
        row = frame.loc[(layer, "damage_alone", "recovered")]
        names = ("damage_alone", "recovered")
        expected = corrected_coupling(*(halves[n] for n in names), tuple(parts[n] for n in names))
        np.testing.assert_equal(row["corrected"], expected.mean)
    scores = channel_scores(measured, ["recovered"])
    np.testing.assert_array_equal(
        scores.loc[scores["layer"] == "2", "recovered_half1"],
        measured.damage["2"].halves()["recovered"][1],
    )
    with pytest.raises(ValueError, match="pairs must be one of"):
        layer_couplings(replace(measured, damage={}), pairs=OF_INTERVENTION)


def test_errors_that_both_axes_share_are_no_coupling_once_corrected(measured):
    """Both hold the damage alone; its errors couple them where nothing does."""
    rng = np.random.default_rng(1)
    found = []
    for _ in range(40):
        alone, recovered = np.exp(rng.standard_normal(12)), rng.uniform(0.2, 0.9, 12)
        table = planted(measured, alone, recovered, 0.8, rng)
        table = replace(table, axes={"0": table["0"]})
        row = layer_couplings(table, pairs=OF_INTERVENTION[:1], permutations=1).iloc[0]
        found.append([row["coupling"], row["corrected"]])
    raw, corrected = np.array(found).T
    assert raw.mean() > 3 * raw.std() / np.sqrt(len(raw))
    known = corrected[~np.isnan(corrected)]
    assert len(known) > 10
    assert abs(known.mean()) < 3 * known.std() / np.sqrt(len(known))


def test_the_chapter_says_that_planted_axes_come_apart(measured):
    rng = np.random.default_rng(2)
    rank = np.linspace(0, 1, 12)
    tables = {}
    for seed in (0, 1, 2):
        for step, coupled in ((0, 1.0), (5, 0.6), (90, 0.0)):
            other = coupled * rank + (1 - coupled) * rng.permutation(rank)
            table = planted(measured, np.exp(3 * rank), 0.1 + 0.8 * other, 0.01, rng)
            tables[seed, step] = replace(table, axes={"0": table["0"]})
    section = intervention_section(tables, "Planted", permutations=50)
    first, corrected, apart, follows, share = map(str, section.findings)
    assert first.startswith("Damage alone ~ recovered (between axes): +1.00 [+")
    assert first.endswith("it falls.")
    assert "split-half reliability of damage alone is 1.00" in corrected
    assert "takes them apart: holds" in apart
    assert "peer predictability ranks channels" in follows
    assert share.startswith("Peers win back 0.5")
    shares = median_shares(tables)
    assert shares["damage_alone"].iloc[0] == pytest.approx(np.exp(1.5), rel=0.05)
    assert set(section.figures) == {
        "intervention_over_training", "recovered_over_training", "intervention_scatter"
    }  # fmt: skip
    alike = {key: tables[key[0], 0] for key in tables}
    assert "contradicted" not in str(intervention_section(alike, "x", permutations=9).findings[2])
    assert "takes them apart: not resolved" in str(
        intervention_section(
            {key: t for key, t in tables.items() if key[0] < 2}, "Two", permutations=9
        ).findings[2]
    )
    bare = {key: replace(t, damage={}) for key, t in tables.items()}
    with pytest.raises(NoDataError, match="damages were not foretold"):
        intervention_section(bare, "x")
    assert len(training_couplings(tables, pairs=OF_INTERVENTION, permutations=1)) == 9 * 4


def test_pooled_sampling_is_refused_beside_damage():
    with pytest.raises(ValueError, match="damage needs sampling = 'positions'"):
        read_config({"measure": {"damage": True, "sampling": "pooled"}})
    assert read_config({"measure": {"damage": True}}).measure.options()["damage"] is True
