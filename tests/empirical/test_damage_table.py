"""What the law of damage returns, keeps and refuses, beside what lesions measure."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from empirical import AxisTable, damage, lesion, measure, merge_tables, replace
from empirical.lesions.foretold import agreement
from empirical.lesions.table import DAMAGES, LesionTable
from empirical.measuring.damage_table import DamageTable, LayerDamage
from tests.empirical.test_damage_law import GENERATOR, IMAGES, LABELS, LOADER, Net, net, squared
from tests.tolerances import NAIVE
from theory.rank_coupling import jackknife_quantile, spearman


@pytest.mark.parametrize("size", [1, 7, 40])
def test_batches_of_any_size_give_the_same_damages(size: int) -> None:
    cut = [(IMAGES[i : i + size], LABELS[i : i + size]) for i in range(0, 40, size)]
    whole, parts = damage(net(), LOADER, joint=True), damage(net(), cut, joint=True)
    for layer, found in whole.layers.items():
        other = parts[layer]
        for name in ("alone", "with_peers", "joint"):
            np.testing.assert_allclose(
                getattr(other, name), getattr(found, name), rtol=NAIVE, atol=1e-18
            )


@pytest.mark.parametrize("few", [1, 9])
def test_fewer_images_than_groups_are_refused(few: int) -> None:
    loader = [(IMAGES[:few], LABELS[:few])]
    for call in (damage, partial(damage, calibration=LOADER)):
        with pytest.raises(ValueError, match=rf"at least groups = 10 images; got {few}\."):
            call(net(), loader)


def test_nothing_is_left_behind() -> None:
    model = net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    damage(model, LOADER)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_joint_table_holds_the_damage_of_every_set() -> None:
    table = damage(net(), LOADER, joint=True, draws=2)["wide"]
    values, errors = table.of_sets([[3], [5]])
    single = table.values()["damage_alone"]
    np.testing.assert_allclose(values, single[[3, 5]], rtol=NAIVE)
    np.testing.assert_allclose(errors, table.standard_errors()["damage_alone"][[3, 5]], rtol=1e-6)
    both = damage(net(), LOADER, channels={"wide": [(3, 5)]}, draws=2)["wide"]
    np.testing.assert_allclose(
        table.of_sets([[3, 5]])[0], both.values()["damage_alone"], rtol=NAIVE
    )


def test_intervals_hold_skewed_damages_more_often_than_symmetric_ones() -> None:
    """Squares of a few large values: ten groups of 30 images, 2,000 draws of one channel's law."""
    rng = np.random.default_rng(0)
    parts = (rng.standard_normal((10, 30, 2000)) ** 4).mean(1)
    layer = LayerDamage(np.full(10, 30.0), parts, 0.5 * parts + 0.5)
    truth = {"damage_alone": 3.0, "damage_with_peers": 2.0, "recovered": 1 / 3}
    held = {}
    for name, (low, high) in layer.intervals().items():
        held[name] = np.mean((low <= truth[name]) & (truth[name] <= high))
        assert 0.92 <= held[name] <= 0.97
    alone, errors = layer.values()["damage_alone"], layer.standard_errors()["damage_alone"]
    assert np.mean(np.abs(alone - 3.0) <= jackknife_quantile(10) * errors) < held["damage_alone"]
    silent = LayerDamage(np.ones(2), np.zeros((2, 1)), np.zeros((2, 1)))
    assert np.isnan(silent.intervals()["damage_alone"]).all()


def test_measure_holds_the_same_columns_saves_and_merges_them(tmp_path) -> None:
    model = net()
    table = measure(model, LOADER, positions=16, damage=True)
    direct = damage(model, LOADER, positions=16)
    columns = ["damage_alone", "damage_alone_se", "damage_with_peers", "recovered", "recovered_se"]
    frame = table.to_frame()
    for name in columns:
        np.testing.assert_allclose(frame[name], direct.to_frame()[name], rtol=1e-6)
    table.save(tmp_path / "axes.npz", moments="groups")
    loaded = AxisTable.load(tmp_path / "axes.npz")
    np.testing.assert_array_equal(loaded.to_frame()[columns], frame[columns])
    halves = [
        measure(model, [LOADER[0]], damage=True, groups=4),
        measure(model, [LOADER[1]], damage=True, groups=4, first_image=13),
    ]
    merged = merge_tables(halves).to_frame()["damage_alone"]
    weights = [13 / 40, 27 / 40]
    parts = [half.to_frame()["damage_alone"] for half in halves]
    np.testing.assert_allclose(merged, sum(w * p for w, p in zip(weights, parts, strict=True)))


def test_foretold_ranks_what_lesions_and_replacements_measure() -> None:
    model = net()
    names = ["a", "depthwise", "wide"]
    calibration = measure(model, LOADER, layers=names, positions=99, hull=False)
    other = torch.randn(60, 3, 8, 8, generator=GENERATOR, dtype=torch.float64)
    measured = replace(
        model, [(other, torch.arange(60) % 4)], calibration, layers=names, peers="all"
    )
    table = damage(model, LOADER, calibration=calibration, layers=names, form="linearized")
    found = agreement(measured, table)
    assert set(found.channels["kind"]) == {"mean", "all"}
    assert len(found.channels) == 2 * 32
    wide = found.layers.set_index(["layer", "kind"]).loc[("wide", "mean")]
    assert wide["spearman"] > 0.9
    assert wide["spearman_low"] <= wide["spearman"] <= wide["spearman_high"]
    assert abs(wide["ratio"] - 1) < 5 * wide["ratio_se"]
    assert 0.9 < wide["attainable"] <= 1
    with pytest.raises(ValueError, match="measured must hold lesions of kind 'mean' or 'all'"):
        agreement(lesion(model, LOADER, layers=["a"], kinds=["zero"]), table)


def test_divergence_is_that_of_the_edited_network() -> None:
    model = net()
    table = lesion(model, LOADER, layers=["a"], kinds=["zero"])
    p, row = torch.softmax(model(IMAGES), 1), 2
    with torch.no_grad():
        model.norm.weight[row] = model.norm.bias[row] = 0
    q = torch.softmax(model(IMAGES), 1)
    expected = (p * (p / q).log()).sum(1).detach().numpy()
    np.testing.assert_allclose(table.damage["divergence"][row], expected, rtol=1e-5, atol=1e-12)


BAD = [
    ({"form": "linearized", "loss": squared}, "form must be 'quadratic' with a loss"),
    ({"form": "linearized", "joint": True}, "joint needs every single channel"),
    ({"channels": {"a": [0]}, "joint": True}, "joint needs every single channel"),
    ({"groups": 41}, "loader must yield at least"),
    ({"loss": lambda f, _: -f.exp().sum(1)}, "loss must be convex"),
    ({"loss": lambda f, _: f.sum(1)}, "loss must be curved"),
    ({"loss": lambda f, _: f.sum()}, "loss must return one differentiable value"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=[str(n) for n in range(len(BAD))])
def test_bad_arguments_are_named(options, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        damage(net(), LOADER, **options)


def test_a_loader_that_changes_its_order_is_refused() -> None:
    class Shuffling:
        hidden = np.random.default_rng(0)

        def __iter__(self):
            order = self.hidden.permutation(len(IMAGES))
            return iter([(IMAGES[order], LABELS[order])])

    with pytest.raises(ValueError, match="loader must give the same images in the same order"):
        damage(net(), Shuffling())
    with pytest.raises(TypeError, match="loader must be readable more than once"):
        damage(net(), iter(LOADER))
    with pytest.raises(ValueError, match="sampling must be 'positions' with damage=True"):
        measure(net(), LOADER, damage=True, sampling="pooled")


def test_a_model_without_gradients_is_refused() -> None:
    class Detached(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).detach()

    with pytest.raises(ValueError, match="model must be differentiable"):
        damage(Detached().double(), LOADER)


def test_halved_batches_give_the_same_damages(monkeypatch) -> None:
    """Where memory ends, the batch goes on in parts; nothing of the failed one is left."""
    whole, model = damage(net(), LOADER), net()
    seen, forward = [], Net.forward

    def short(self: Net, x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        y = forward(self, x)
        if torch.is_grad_enabled() and len(x) > 5:
            raise torch.OutOfMemoryError
        return y

    monkeypatch.setattr(Net, "forward", short)
    with pytest.warns(RuntimeWarning, match="out of device memory"):
        found = damage(model, LOADER)
    assert max(seen) > 5
    for layer, own in whole.layers.items():
        np.testing.assert_allclose(found[layer].alone, own.alone, rtol=NAIVE, atol=1e-18)


def test_one_draw_on_many_images_ranks_channels_as_many_draws_do() -> None:
    one, many = damage(net(), LOADER), damage(net(), LOADER, draws=30, seed=1)
    a, b = (table["wide"].values()["damage_alone"] for table in (one, many))
    assert spearman(a, b) > 0.9


def test_what_sampling_leaves_of_an_exact_law_is_what_its_halves_say() -> None:
    """Truth ranked through errors of both sides: the rank correlation meets `attainable`."""
    rng = np.random.default_rng(3)
    found = []
    for _ in range(30):
        truth = np.exp(rng.standard_normal(40))
        sides = [truth * np.exp(0.9 * rng.standard_normal((20, 40))) for _ in range(2)]
        table = DamageTable(
            {"a": LayerDamage(np.ones(20), sides[0], sides[0])},
            {"a": [(c,) for c in range(40)]},
            {"point": "pre_norm"},
        )
        shape = (len(DAMAGES), 40, 20)
        measured = LesionTable(
            *(np.repeat(text, 40) for text in ("a", "mean", "pre_norm")),
            tuple((c,) for c in range(40)),
            dict(zip(DAMAGES, np.broadcast_to(sides[1].T, shape).astype(np.float32), strict=True)),
            {},
            {},
        )
        layer = agreement(measured, table).layers.iloc[0]
        found.append([layer["spearman"], layer["attainable"]])
    correlation, attainable = np.mean(found, axis=0)
    assert attainable < 0.97
    assert correlation == pytest.approx(attainable, abs=0.01)
