"""Heads measured, lesioned, replaced and removed, each against the same by hand."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from empirical import Adapter, damage_heads, lesion_heads, measure_heads, prune_heads
from empirical.measuring.heads import QUANTITIES
from empirical.reading.attention_modules import HeadedAttention
from empirical.reading.hooks import capture_calls
from tests.empirical.attention_networks import (
    HEADS,
    WIDTH,
    Fused,
    Rigid,
    Separate,
    Torch,
    image_batches,
    transformer,
)
from theory import Moments, block_axes_of_groups, blocks_recovered_outside

D = WIDTH // HEADS


@pytest.fixture(scope="module")
def model():
    return transformer(Separate, Fused)


@pytest.fixture(scope="module")
def table(model):
    return measure_heads(model, image_batches(80, 1))


def tokens_of(model, name, batches):
    """(n, tokens, C) inputs of a projection."""
    seen = []
    with torch.no_grad(), capture_calls(model, {name: lambda inputs, _: seen.append(inputs)}):
        logits = torch.cat([model(images) for images, _ in batches])
    return torch.cat(seen), logits


def test_measured_heads_are_blocks_of_what_the_projection_reads(model, table):
    batches = image_batches(80, 1)
    labels = torch.cat([found for _, found in batches])
    for name, projection in (("attention.0", "to_out.0"), ("attention.1", "proj")):
        heads, logits = tokens_of(model, f"{name}.{projection}", batches)
        true = logits.gather(1, labels[:, None])
        margin = true - logits.scatter(1, labels[:, None], -torch.inf).amax(1, keepdim=True)
        y = heads.flatten(0, 1).double().numpy()  # nine tokens, fewer than 16 positions
        t = margin.repeat_interleave(heads.shape[1], 0).double().numpy()
        moments = Moments.from_samples(y, t)
        np.testing.assert_allclose(table.moments[name].cov, moments.cov, rtol=1e-5, atol=1e-6)
        readout = model.get_submodule(f"{name}.{projection}").weight.detach().numpy()
        images = np.arange(80).repeat(heads.shape[1])
        groups = [Moments.from_samples(y[images % 10 == g], t[images % 10 == g]) for g in range(10)]
        blocks = list(np.arange(WIDTH).reshape(HEADS, D))
        expected, _ = block_axes_of_groups(groups, blocks, readout=readout)
        for quantity in QUANTITIES:
            np.testing.assert_allclose(
                getattr(table.axes[name], quantity), getattr(expected, quantity), rtol=1e-3
            )


def test_the_table_has_a_row_per_head(table):
    frame = table.to_frame()
    assert frame["head"].tolist() == [0, 1, 2] * 2
    assert frame["layer"].tolist() == ["attention.0"] * 3 + ["attention.1"] * 3
    assert frame.filter(like="_se").notna().all(axis=None)
    assert (frame["peer_information_se"] > 0).all()


def test_heads_do_not_depend_on_batches_and_an_adapter_is_read(model, table):
    given = [{"x": images, "y": labels} for images, labels in image_batches(80, 1, size=17)]
    adapt = Adapter(batch=lambda batch: (batch["x"], batch["y"]))
    again = measure_heads(model, given, adapt=adapt)
    for name, moments in table.moments.items():
        np.testing.assert_allclose(again.moments[name].cov, moments.cov, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["fast", "naive"])
def test_lesioned_and_replaced_heads_by_hand(model, table, method):
    evaluation = image_batches(12, 2, size=6)
    damage = lesion_heads(model, evaluation, table, method=method, ridge=0)
    assert damage.fallback == {}
    frame = damage.to_frame()
    assert frame["head"].tolist() == [0, 1, 2] * 4
    labels = torch.cat([found for _, found in evaluation])
    images = torch.cat([found for found, _ in evaluation])
    loss = nn.CrossEntropyLoss(reduction="none")
    dense = loss(model(images).double(), labels)
    for row in range(len(frame)):
        name, kind, head = frame.loc[row, ["layer", "kind", "head"]]
        projection = model.get_submodule(name + (".to_out.0" if name.endswith("0") else ".proj"))
        own = np.arange(WIDTH) // D == head
        mean, cov = table.moments[name].mean[:WIDTH], table.moments[name].cov[:WIDTH, :WIDTH]
        slopes = np.linalg.solve(cov[np.ix_(~own, ~own)], cov[np.ix_(~own, own)])

        def change(_, inputs, own=own, mean=mean, slopes=slopes, kind=kind):
            values = inputs[0].detach().double().numpy().copy()
            deviations = values[..., ~own] - mean[~own]
            values[..., own] = mean[own] + (deviations @ slopes if kind == "heads" else 0)
            return (torch.from_numpy(values).float(),)

        handle = projection.register_forward_pre_hook(change)
        expected = loss(model(images).double(), labels) - dense
        handle.remove()
        np.testing.assert_allclose(
            damage.damage["loss_increase"][row], expected.detach().numpy(), atol=2e-5
        )


def test_foretold_is_what_is_recovered_outside(model, table):
    frame = lesion_heads(model, image_batches(12, 2), table, layers=["attention.1"]).to_frame()
    assert set(frame["layer"]) == {"attention.1"}
    foretold = blocks_recovered_outside(
        table.groups["attention.1"],
        list(np.arange(WIDTH).reshape(HEADS, D)),
        readout=model.attention[1].proj.weight.detach().numpy(),
    )
    np.testing.assert_allclose(frame.loc[frame["kind"] == "heads", "predicted"], foretold)


def test_a_head_that_others_repeat_is_wholly_recovered():
    model = transformer(Fused, Fused, seed=3)
    attention = model.attention[0]
    with torch.no_grad():
        for rows in (attention.qkv.weight, attention.qkv.bias):
            parts = rows.unflatten(0, (3, HEADS, D))
            parts[:, 1] = parts[:, 0]
    table = measure_heads(model, image_batches(80, 1))
    found = table.axes["attention.0"]
    assert found.peer_predictability[:2].tolist() == [1.0, 1.0]
    np.testing.assert_allclose(found.recoverable[:2], 1.0)
    assert found.recoverable[2] < 0.99
    frame = lesion_heads(
        model, image_batches(200, 2), table, layers=["attention.0"], ridge=1e-9
    ).to_frame()
    replaced = frame[frame["kind"] == "heads"]
    np.testing.assert_allclose(replaced["loss_increase"][:2], 0.0, atol=1e-4)
    images = image_batches(20, 6)[0][0]
    pruned = prune_heads(model, table, heads={"attention.0": [1]}, example=images)
    torch.testing.assert_close(pruned.model(images), model(images), atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("first", [Torch, Separate])
@pytest.mark.parametrize("compensate", [True, False])
def test_removed_heads_are_silent_ones(first, compensate):
    model, batches = transformer(first, Fused), image_batches(80, 1)
    before = copy.deepcopy(model.state_dict())
    pruned = prune_heads(model, batches, share=0.4, compensate=compensate)
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in before.items())
    assert [len(kept) for kept in pruned.kept.values()] == [2, 2]
    assert pruned.skipped == {}
    assert pruned.parameters_after == pruned.parameters_before - (
        sum(4 * WIDTH * D + (0 if isinstance(a, Separate) else 3 * D) for a in model.attention)
        - (WIDTH if compensate and first is Separate else 0)
    )
    if first is Torch:
        assert isinstance(pruned.model.attention[0].inner, HeadedAttention)
    if compensate:
        return
    images = image_batches(8, 2)[0][0]
    for index, attention in enumerate(model.attention):
        kept = next(k for name, k in pruned.kept.items() if name.startswith(f"attention.{index}"))
        columns = np.repeat(np.isin(np.arange(HEADS), kept), D)
        for name, weight in attention.named_parameters():
            if name in ("proj.weight", "to_out.0.weight", "inner.out_proj.weight"):
                weight.data *= torch.from_numpy(columns).float()
    torch.testing.assert_close(pruned.model(images), model(images), atol=1e-5, rtol=1e-5)


def test_compensated_heads_are_the_regression_on_the_others():
    model, batches = transformer(Separate, Fused), image_batches(80, 1)
    table = measure_heads(model, batches)
    images = image_batches(8, 2)[0][0]
    pruned = prune_heads(model, table, heads={"attention.1": [0]}, example=images)
    replaced = lesion_heads(model, image_batches(8, 2), table, layers=["attention.1"])
    row = int(np.flatnonzero(replaced.kind == "heads")[0])
    loss = nn.CrossEntropyLoss(reduction="none")
    labels = image_batches(8, 2)[0][1]
    rise = loss(pruned.model(images), labels) - loss(model(images), labels)
    np.testing.assert_allclose(
        rise.detach(), replaced.damage["loss_increase"][row], atol=1e-3
    )  # two ridges


def conditional(cov, some, others):
    """Covariance of some channels that is left when the others are known."""
    across = cov[np.ix_(some, others)]
    return cov[np.ix_(some, some)] - across @ np.linalg.solve(cov[np.ix_(others, others)], across.T)


@pytest.mark.parametrize("criterion", ["replaceability", "signal_power", "recoverable"])
def test_the_criterion_decides_which_head_goes(model, table, criterion):
    images = image_batches(4, 5)[0][0]
    pruned = prune_heads(model, table, share=0.4, criterion=criterion, example=images)
    for name, kept in pruned.kept.items():
        if criterion == "replaceability":
            cov, scores = table.moments[name].cov, []
            for block in table.heads[name].blocks:
                readout = table.readouts[name][:, block]
                left = conditional(cov, block, np.setdiff1d(table.heads[name].blocks, block))
                scores.append(np.sum((readout @ left) * readout))
        else:
            scores = getattr(table.axes[name], criterion)
        assert set(range(HEADS)) - set(kept.tolist()) == {int(np.argmin(scores))}


def test_an_attention_that_needs_its_heads_stays_whole_and_is_named():
    model, batches = transformer(Rigid, Fused), image_batches(80, 1)
    pruned = prune_heads(model, batches, share=0.4)
    assert list(pruned.kept) == ["attention.1"]
    assert "its forward needs all of its heads" in pruned.skipped["attention.0"]
    with pytest.raises(ValueError, match=r"heads of 'attention.0' cannot be removed: its forward"):
        prune_heads(model, batches, heads={"attention.0": [1]})


def two_heads():
    """The same names and shapes, read as two heads of six instead of three of four."""
    model = transformer(Separate, Fused)
    model.attention[1].num_heads, model.attention[1].head_dim = 2, WIDTH // 2
    return model


def test_bad_arguments_are_named(model, table):
    images = image_batches(4, 5)[0][0]
    with pytest.raises(ValueError, match=r"heads must be one of 'attention\.0', 'attention\.1'"):
        prune_heads(model, table, heads={"attention.7": [0]}, example=images)
    with pytest.raises(ValueError, match=r"heads\['attention.0'\] must be from 0 to 2; got 3"):
        prune_heads(model, table, heads={"attention.0": [3]}, example=images)
    with pytest.raises(ValueError, match=r"must leave one of its 3 heads; got all"):
        prune_heads(model, table, heads={"attention.0": [0, 1, 2]}, example=images)
    with pytest.raises(ValueError, match="example must be given with a HeadTable"):
        prune_heads(model, table)
    with pytest.raises(ValueError, match="criterion must be one of 'replaceability'"):
        prune_heads(model, table, criterion="l2", example=images)
    with pytest.raises(ValueError, match=r"share must be in \[0, 1\)"):
        prune_heads(model, table, share=1.0, example=images)
    with pytest.raises(ValueError, match=r"must hold the 3 heads of 'attention\.0\.inner'"):
        lesion_heads(transformer(Torch, Fused), image_batches(8, 2), table)
    with pytest.raises(ValueError, match=r"must hold the 3 heads of 'attention\.0\.inner'"):
        damage_heads(transformer(Torch, Fused), image_batches(20, 2), calibration=table)
    with pytest.raises(ValueError, match=r"must hold the 2 heads of 'attention\.1'"):
        prune_heads(two_heads(), table, heads={"attention.1": [0]}, example=images)
    with pytest.raises(
        TypeError, match="calibration must be a HeadTable or NoneType; got the list"
    ):
        damage_heads(model, image_batches(20, 2), calibration=image_batches(20, 2))
    with pytest.raises(ValueError, match="layers must name at least one layer; got none"):
        measure_heads(model, image_batches(20, 2), layers=[])
    with pytest.raises(TypeError, match="heads must be a Mapping or NoneType; got the list"):
        prune_heads(model, image_batches(20, 2), heads=["attention.0"])
    with pytest.raises(TypeError, match="calibration must be what measure_heads returned"):
        lesion_heads(model, image_batches(8, 2), 3)
    with pytest.raises(ValueError, match="images that calibration has not seen"):
        lesion_heads(model, image_batches(80, 1), table)
    with pytest.raises(ValueError, match="at least groups = 10 images; it gave 8"):
        measure_heads(model, image_batches(8, 2))
    with pytest.raises(ValueError, match="an attention of two heads or more"):
        measure_heads(nn.Sequential(nn.Flatten(), nn.Linear(144, 4)), image_batches(20, 2))
