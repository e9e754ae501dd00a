"""Two measurements side by side: counterparts, changes with their errors, and who moved."""

import copy
import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn
from typer.testing import CliRunner

import twoaxis
from empirical import compare, create_model, measure, prune
from empirical.analysis.comparing import _moved
from empirical.analysis.coupling_change import CouplingChange, coupling_change
from theory.shared.findings import Estimate


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 10, 3), nn.ReLU(), nn.Conv2d(10, 8, 1), nn.ReLU(), nn.Flatten(),
        nn.Linear(8 * 16, 4),
    )  # fmt: skip


def images(seed=1, number=300):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randn(number, 3, 6, 6, generator=generator), torch.arange(number) % 4)]


def permuted(model, order):
    """The same network with the first layer's channels in another order."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[0].weight.copy_(model[0].weight[order])
        other[0].bias.copy_(model[0].bias[order])
        other[2].weight.copy_(model[2].weight[:, order])
    return other


@pytest.fixture(scope="module")
def tables():
    with torch.random.fork_rng():
        model, order = network(), torch.randperm(10)
        return measure(model, images()), measure(permuted(model, order), images()), order.numpy()


def test_a_permuted_copy_is_found_and_nothing_has_moved(tables):
    one, other, order = tables
    found = compare(one, other, match="moments")
    first, second = found.matched["0"]
    np.testing.assert_array_equal(order[second], first)
    np.testing.assert_array_equal(*found.matched["2"])
    for layer in ("0", "2"):
        for name, change in found.change[layer].items():
            np.testing.assert_allclose(change, 0, atol=1e-6, err_msg=name)
    assert "8 of them under the same index" not in str(found.findings()[0])


@pytest.mark.parametrize(
    ("key", "other"),
    [("noise", 0.1), ("point", "post_activation"), ("target", "true_logit"), ("peers", 3),
     ("estimate", "plug_in"), ("sampling", "pooled")],
)  # fmt: skip
def test_tables_that_were_measured_otherwise_are_refused(tables, key, other):
    changed = dataclasses.replace(tables[0], settings={**tables[0].settings, key: other})
    with pytest.raises(ValueError, match=rf"measured alike; {key} is .* and {other!r} in the oth"):
        compare(tables[0], changed)


def test_by_index_a_permuted_copy_has_moved(tables):
    one, other, order = tables
    found = compare(one, other)
    powers = one["0"].signal_power
    np.testing.assert_allclose(
        found.change["0"]["signal_power"], powers[order] - powers, rtol=1e-5, atol=1e-7
    )
    assert found.moved["0"]["signal_power"].sum() >= 8
    assert not found.moved["2"]["signal_power"].any()


def test_of_the_same_images_the_errors_are_those_of_paired_differences(tables):
    one = tables[0]
    other = measure(network(3), images())
    found = compare(one, other)
    difference = other.replicates["0"]["signal_power"] - one.replicates["0"]["signal_power"]
    g = len(difference)
    expected = np.sqrt((g - 1) / g * ((difference - difference.mean(0)) ** 2).sum(0))
    np.testing.assert_allclose(found.errors["0"]["signal_power"], expected)
    apart = compare(one, measure(network(3), images(seed=5)))
    se = [t.standard_errors("0")["signal_power"] for t in (one, measure(network(3), images(5)))]
    np.testing.assert_allclose(apart.errors["0"]["signal_power"], np.hypot(*se))


def test_the_coupling_is_the_mean_of_fishers_z_over_layers(tables):
    one, other, _ = tables
    found = compare(one, other, match="moments").separation()
    own = [t.axes for t in (one, other)]
    for side, told in zip(own, (found.before, found.after), strict=True):
        z = [
            np.arctanh(spearmanr(axes.input_capture, axes.task_information).statistic)
            for axes in side.values()
        ]
        assert told.mean == pytest.approx(np.tanh(np.mean(z)), rel=1e-6)
        error = np.sqrt(1.06 / 7 + 1.06 / 5) / 2
        assert told.high == pytest.approx(np.tanh(np.mean(z) + 1.96 * error), rel=1e-6)
    assert found.change.mean == pytest.approx(0, abs=1e-6)
    assert found.word == "a difference that is not resolved"


def test_intervals_of_a_coupling_and_of_its_change_hold_the_truth():
    rng, held, changed = np.random.default_rng(0), 0, 0
    for _ in range(400):
        layers = [
            {"input_capture": rng.normal(size=30), "task_information": rng.normal(size=30)}
            for _ in range(4)
        ]
        found = coupling_change(layers[:2], layers[2:], "input_capture")
        held += found.before.low <= 0 <= found.before.high
        changed += found.change.low <= 0 <= found.change.high
    assert 0.92 <= held / 400 <= 0.98
    assert 0.92 <= changed / 400 <= 0.98


@pytest.mark.parametrize(
    ("before", "after", "word"),
    [
        (0.9, 0.1, "further apart"),
        (0.1, -0.9, "closer together"),
        (-0.9, -0.1, "further apart"),
        (0.6, -0.5, "turned to the other side of zero"),
        (-0.5, 0.6, "turned to the other side of zero"),
        (0.5, 0.5, "not resolved"),
    ],
)
def test_the_word_says_where_the_coupling_went(before, after, word):
    width = 0.2
    one, other = (Estimate(mean, mean - width, mean + width) for mean in (before, after))
    change = after - before
    told = CouplingChange(one, other, Estimate(change, change - width, change + width))
    assert word in told.word


def test_other_images_alone_move_no_channel():
    model, found = network(), []
    for seed in range(4):
        pair = compare(measure(model, images(10 + seed)), measure(model, images(20 + seed)))
        found += [moved for layer in pair.moved.values() for moved in layer.values()]
    moved = np.concatenate(found)
    assert moved.mean() < 0.05


def test_a_channel_that_was_silenced_for_the_task_and_copied_turns_replaceable():
    torch.manual_seed(0)
    before, data = network(), images(number=600)
    after = copy.deepcopy(before)
    with torch.no_grad():  # channel 0 becomes nearly a copy of 1, and nobody reads either
        noise = 0.05 * torch.randn_like(after[0].weight[1])
        after[0].weight[0] = after[0].weight[1] + noise
        after[2].weight[:, :2] = 0
    found = compare(measure(before, data), measure(after, data))
    rose = found.moved["0"]["peer_predictability"] & (found.change["0"]["peer_predictability"] > 0)
    assert rose[:2].all()
    fell = found.moved["0"]["task_information"] & (found.change["0"]["task_information"] < 0)
    assert set(found.turned("0")) == set(np.flatnonzero(rose & fell))


def test_a_pruned_network_is_set_beside_the_dense_one(tables):
    model, data = network(), images()
    pruned = prune(model, data, counts={"0": 6, "2": 5}, recovery="none")
    found = compare(measure(model, data), measure(pruned.model, data), match=pruned.kept)
    for layer, kept in pruned.kept.items():
        np.testing.assert_array_equal(found.matched[layer][0], kept)
    np.testing.assert_allclose(found.change["0"]["signal_power"], 0, atol=1e-6)
    with pytest.raises(ValueError, match="match='index' needs layers of equal size; '0' has 10"):
        compare(measure(model, data), measure(pruned.model, data))


def test_bad_arguments_are_named(tables, tmp_path):
    one, other, _ = tables
    with pytest.raises(ValueError, match="match must be one of"):
        compare(one, other, match="names")
    with pytest.raises(TypeError, match="b must be"):
        compare(one, 3)
    one.save(tmp_path / "bare.npz", moments="none")
    with pytest.raises(ValueError, match="a must hold moments to match by them"):
        compare(type(one).load(tmp_path / "bare.npz"), other, match="moments")
    with pytest.raises(ValueError, match="must name a channel of a for each of the 10"):
        compare(one, other, match={"0": [1, 2]})


def test_the_command_measures_checkpoints_and_matches_them_by_activations(tmp_path):
    model = create_model("small_convnet", classes=10, image_size=8, channels=1, seed=0).eval()
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.conv1.weight.copy_(other.conv1.weight[order])
        other.conv2.weight.copy_(other.conv2.weight[:, order])
    for name, network_ in (("a", model), ("b", other)):
        torch.save(network_.state_dict(), tmp_path / f"{name}.pt")
    files = [str(tmp_path / name) for name in ("changes.csv", "both.html")]
    words = ["compare", str(tmp_path / "a.pt"), str(tmp_path / "b.pt"), "--model", "small_convnet"]
    words += ["--data", "digits", "--images", "120", "--out", files[0], "--page", files[1]]
    done = CliRunner().invoke(twoaxis.app, words)
    assert done.exit_code == 0, done.output
    assert "Matched by activations" in done.output
    assert "corr: median correlation" in " ".join(done.output.split())
    frame = pd.read_csv(files[0]).query("layer == 'conv1'")
    np.testing.assert_array_equal(order.numpy()[frame["counterpart"]], frame["channel"])
    np.testing.assert_allclose(frame["correlation"], 1)
    assert not frame["peer_predictability_moved"].any()
    assert "draw the way there" in (tmp_path / "both.html").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("a.npz", "networks must be two or more"),
        ("a.npz b.npz --match activations", "tables hold no activations"),
        ("a.npz b.pt", "networks must be all tables or all checkpoints"),
        ("a.npz b.npz --match names", "--match must be one of"),
        ("a.npz b.npz --checkpoint c.pt", "--checkpoint must be left out"),
        ("a.npz b.npz a.npz --match moments", "must be of the same training"),
    ],
)
def test_the_command_names_what_it_cannot_compare(tables, tmp_path, words, message, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, table in zip(("a.npz", "b.npz"), tables[:2], strict=True):
        table.save(name)
    done = CliRunner().invoke(twoaxis.app, ["compare", *words.split()])
    assert message in str(done.exception), done.output


def test_the_command_prints_and_writes_the_changes(tables, tmp_path):
    one, other, _ = tables
    one.save(tmp_path / "a.npz")
    other.save(tmp_path / "b.npz")
    words = ["compare", *(str(tmp_path / f"{n}.npz") for n in "ab"), "--match", "moments"]
    done = CliRunner().invoke(twoaxis.app, [*words, "--out", str(tmp_path / "changes.csv")])
    assert done.exit_code == 0, done.output
    assert "18 channels of 2 layers have a counterpart" in done.output
    assert "corr:" not in done.output
    frame = pd.read_csv(tmp_path / "changes.csv")
    np.testing.assert_array_equal(
        frame["counterpart"], compare(one, other, match="moments").to_frame()["counterpart"]
    )


def test_few_groups_know_their_errors_less_well():
    change, error = np.full(20, 3.0), np.ones(20)  # p .003 of a normal's, .015 and .10 of Student's
    assert _moved(0 * change, change, error, 1000).all()
    assert _moved(0 * change, change, error, 10).all()
    assert not _moved(0 * change, change, error, 3).any()
    rng = np.random.default_rng(0)
    found = []
    for _ in range(300):  # 40 channels that did not move, errors of ten groups
        draws = rng.standard_normal((10, 40))
        error = draws.std(axis=0, ddof=1) / np.sqrt(10)
        found.append(_moved(np.zeros(40), draws.mean(axis=0), error, 10).any())
    assert np.mean(found) < 0.08
