"""Exact passes where they matter: channels that the law chooses, and the law as control variate."""

from __future__ import annotations

import numpy as np
import pytest

from empirical import damage, lesion, measure, replace
from empirical.lesions.choosing import chosen_channels
from empirical.lesions.controlled import controlled
from empirical.lesions.table import DAMAGES, LesionTable
from empirical.measuring.damage_table import DamageTable, LayerDamage
from tests.empirical.test_damage_law import LOADER, net


def of_groups(alone, *, layer="a", n=None, **settings):
    """A table of these (G, L) damages, peers recovering half."""
    g, channels = alone.shape
    known = {"point": "pre_norm", "loss": "prediction", "form": "quadratic", "ridge": 0.0}
    return DamageTable(
        {layer: LayerDamage(np.ones(g), alone, alone / 2)},
        {layer: [(c,) for c in range(channels)]},
        {**known, "n_images": n or g, **settings},
    )


def test_uncertain_are_those_that_many_others_cannot_be_told_from():
    rng = np.random.default_rng(0)
    level = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 5.0, 5.0, 5.0, 0.0, 0.0])
    shared = rng.standard_normal((10, 1))  # errors that all channels share order none anew
    noise = 0.02 * rng.standard_normal((10, 10)) * (level > 0)
    table = of_groups(level * np.exp(0.3 * shared) + noise)
    assert table.uncertain() == {"a": [(4,), (5,), (6,), (7,)]}
    assert table.uncertain(share=0.5) == {"a": []}
    free = of_groups(np.maximum(level + 2 * rng.standard_normal((10, 10)), 0))
    assert len(free.uncertain()["a"]) > 5
    with pytest.raises(ValueError, match="share must be in"):
        table.uncertain(share=2)


def test_lesions_and_replacements_of_channels_that_the_law_chooses():
    model, names = net(), ["wide", "depthwise"]
    table = measure(model, [LOADER[0]], damage=True, hull=False, layers=names, groups=4)
    other = [LOADER[1]]
    top = lesion(model, other, channels=3, kinds=["mean"], calibration=table)
    expected = table.foretold.largest(3)
    assert {name: [m for m, own in zip(top.channels, top.layer, strict=True) if own == name]
            for name in names} == expected  # fmt: skip
    whole = lesion(model, other, kinds=["mean"], calibration=table, layers=names)
    frame = whole.to_frame().set_index(["layer", "channel"])["divergence"]
    for row in top.to_frame().itertuples():
        assert row.divergence == pytest.approx(frame[row.layer, row.channel], rel=1e-5)
    one = replace(model, other, table, channels=2, peers="all", layers=["wide"])
    chosen = table.foretold.largest(2, name="damage_with_peers")["wide"]
    assert [m for m, kind in zip(one.channels, one.kind, strict=True) if kind == "all"] == chosen
    some = lesion(model, other, channels="uncertain", kinds=["mean"], calibration=table)
    uncertain = {name: sets for name, sets in table.foretold.uncertain().items() if sets}
    assert set(some.layer) == set(uncertain)
    assert len(some.channels) == sum(map(len, uncertain.values()))
    loader = chosen_channels(model, 3, [LOADER[0]], names)
    direct = damage(model, [LOADER[0]], layers=names).largest(3)
    assert loader == direct


BAD = [
    ({"channels": "certain"}, "channels must be one of 'uncertain'"),
    ({"channels": 0}, "channels must be"),
    ({"channels": [1, 2]}, "channels must be a Mapping|Pass {layer: channels}"),
    ({"channels": 2, "calibration": None}, "calibration must foretell damages"),
    ({"channels": 2, "layers": ["wid"]}, "layers must be one of .*Did you mean 'wide'"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=[str(n) for n in range(len(BAD))])
def test_bad_choices_are_named(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        lesion(net(), [LOADER[1]], **{"calibration": [LOADER[0]], **options})


def test_channels_in_order_leave_nothing_uncertain():
    class Table:
        foretold = of_groups(np.tile([1.0, 2.0, 3.0], (10, 1)))

    with pytest.raises(ValueError, match="leaves nothing to lesion"):
        chosen_channels(net(), "uncertain", Table(), None)


def exact(d):
    """Lesions of kind mean, (L, n) divergences."""
    n = len(d)
    damages = {name: d.astype(np.float32) for name in DAMAGES}
    return LesionTable(
        np.repeat("a", n), np.repeat("mean", n), np.repeat("pre_norm", n),
        tuple((c,) for c in range(n)), damages, {}, {},
    )  # fmt: skip


def planted(rng, n, many, slope=1.5, noise=0.5):
    """Exact damages that follow the law image by image, and the law on many other images."""
    q = rng.gamma(0.5, 2.0, (n + many, 6))  # mean 1, skewed as damages are
    d = slope * q[:n] + noise * (rng.gamma(0.5, 2.0, (n, 6)) - 1)
    blocks = np.stack([part.mean(axis=0) for part in np.array_split(q[n:], 10)])
    return exact(d.T), of_groups(q[:n]), of_groups(blocks, n=many)


@pytest.mark.parametrize("slope", [1.5, 0.0])
def test_the_law_makes_exact_damages_precise_and_not_wrong(slope):
    rng = np.random.default_rng(1)
    found = [controlled(*planted(rng, 60, 2000, slope)) for _ in range(150)]
    values = np.stack([f["controlled"] for f in found])
    plain = np.stack([f["measured"] for f in found])
    errors = np.stack([f["controlled_se"] for f in found])
    count = values.size
    assert abs((values - slope).mean()) < 3 * values.std() / np.sqrt(count)  # unbiased
    assert np.sqrt((errors**2).mean()) == pytest.approx(values.std(), rel=0.08)
    if slope:
        assert values.std() < 0.45 * plain.std()  # variance .5² of 1.5² + .5², and the law's own
        assert np.mean(np.abs(values - slope) < 1.96 * errors) > 0.9
    else:
        assert values.std() < 1.1 * plain.std()


def test_real_lesions_agree_with_those_on_all_images():
    """Exact on 13 images and the law on 27 others say what is exact on these 27."""
    model, names = net(), ["wide"]
    calibration = measure(model, LOADER, layers=names, hull=False)
    law = {"calibration": calibration, "layers": names, "form": "linearized"}
    few, rest = [LOADER[0]], [LOADER[1]]
    measured, truth = (
        lesion(model, part, layers=names, kinds=["mean"], calibration=calibration.moments)
        for part in (few, rest)
    )
    found = controlled(
        measured, damage(model, few, groups=13, **law), damage(model, rest, **law), folds=3
    )
    true = truth.mean_and_error("divergence")[0]
    off = {name: np.abs(found[name] - true).mean() for name in ("measured", "controlled")}
    assert off["controlled"] < 0.3 * off["measured"]
    assert found["correlation"].min() > 0.9  # NaN where a channel is dead


def test_laws_of_other_images_or_forms_are_refused():
    rng = np.random.default_rng(2)
    measured, same, many = planted(rng, 20, 100)
    with pytest.raises(ValueError, match="same must be foretold on the 20 images of measured"):
        controlled(measured, many, many)
    with pytest.raises(ValueError, match="their form is 'quadratic' and 'linearized'"):
        controlled(measured, same, of_groups(np.ones((10, 6)), n=100, form="linearized"))
    with pytest.raises(ValueError, match="folds must be at most 10 for 20 images"):
        controlled(measured, same, many, folds=11)
    with pytest.raises(ValueError, match="measured must hold lesions of kind"):
        controlled(measured, of_groups(np.ones((20, 6)), layer="b"), many)
