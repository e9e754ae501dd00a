"""Cards of single channels, on networks whose channels were planted."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import twoaxis
from empirical import AxisTable, explain, measure
from empirical.analysis.standing import standing

COPY, SUM, UNIQUE, DEAD = 5, 4, 3, 6


def planted(channels=7, inputs=8):
    """A layer: 0-2 read one input each, 3 another; 4 = 2 · 0 - 3 · 1, 5 = -2 · 2, 6 is dead."""
    first = nn.Conv2d(inputs, channels, 1)
    with torch.no_grad():
        first.weight.zero_()
        for channel in range(4):
            first.weight[channel, channel] = 1.0
        first.weight[SUM] = 2 * first.weight[0] - 3 * first.weight[1]
        first.weight[COPY] = -2 * first.weight[2]
    return nn.Sequential(first, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(7, 3))


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = planted()
        images, labels = torch.randn(400, 8, 4, 4), torch.arange(400) % 3
    return model, [(images[i : i + 100], labels[i : i + 100]) for i in range(0, 400, 100)]


@pytest.fixture(scope="module")
def table(network):
    return measure(*network, damage=True)


def sentences(card):
    return " ".join(map(str, card.findings))


def test_a_copy_names_its_twin_and_the_factor(table):
    assert "it is channel 2 times -2, plus a constant" in sentences(explain(table, "0", COPY))
    assert "it is channel 5 times -0.5, plus a constant" in sentences(explain(table, "0", 2))


def test_a_sum_names_its_parts_with_their_weights(table):
    card = explain(table, "0", SUM)
    larger, smaller = card.standing.peers
    assert (larger.channel, smaller.channel) == (1, 0)
    np.testing.assert_allclose([smaller.weight, larger.weight], [2, -3], rtol=1e-4)
    np.testing.assert_allclose([larger.gain, smaller.gain], [9 / 13, 4 / 13], atol=0.03)
    text = sentences(card)
    assert "Its peers can stand in for it" in text
    assert "-3 × channel 1 (adds" in text
    assert "+2 × channel 0 (adds" in text


def test_a_unique_channel_says_that_none_can_stand_in(table):
    card = explain(table, "0", UNIQUE)
    assert card.standing.stand_in == "none"
    assert "None can stand in for it: its 6 peers together predict" in sentences(card)


def test_a_dead_channel_may_go(table):
    assert "It is dead" in sentences(explain(table, "0", DEAD))


def test_what_is_not_resolved_is_not_said_to_be(network):
    model, batches = network
    with pytest.warns(UserWarning, match="fewer than 10 samples per channel"):
        few = measure(model, [tuple(t[:6] for t in batches[0])], positions=1, groups=2)
    card = explain(few, "0", UNIQUE)
    assert card.standing.stand_in == "unresolved"
    assert "can stand in for it is not resolved: there are too few samples" in sentences(card)


def test_ranks_count_from_the_largest_and_skip_who_has_no_value(table):
    axes, found = table["0"], standing(table, "0", SUM)
    power, nothing = found.quantities["signal_power"], found.quantities["peer_information"]
    assert (power.rank, power.of) == (1, 7)  # 4 + 9 units of variance
    assert power.value.mean == axes.signal_power[SUM]
    error = table.standard_errors("0")["signal_power"][SUM]
    assert power.value.high == pytest.approx(power.value.mean + 2.262 * error, rel=1e-3)
    assert math.isnan(nothing.value.mean)
    assert nothing.rank == 0
    assert found.to_frame()["rank"].tolist()[0] == 1


def test_the_damage_is_the_tables(table):
    card, own = explain(table, "0", UNIQUE), table.damage["0"]
    expected = own.values()["damage_alone"][UNIQUE]
    assert card.standing.damage["damage_alone"].mean == expected
    assert "nats" in str(card.findings[-1])
    plain = measure(planted(), [(torch.randn(60, 8, 4, 4), torch.arange(60) % 3)])
    assert not explain(plain, "0", UNIQUE).standing.damage


def test_the_card_shows_the_images_that_drive_the_channel_most(network, table):
    model, batches = network
    card = explain(table, "0", 1, model=model, loader=batches, images=3)
    images = torch.cat([images for images, _ in batches])
    response = model[0](images).detach()[:, 1]
    best = response.flatten(1).amax(1).argsort(descending=True)[:3]
    assert card.drivers.images.tolist() == best.tolist()
    for image, value, place in zip(
        card.drivers.images, card.drivers.values, card.drivers.places, strict=True
    ):
        assert response[image][tuple(place)] == pytest.approx(value)
    np.testing.assert_array_equal(card.drivers.filter, model[0].weight[1].detach())
    assert card.drivers.pictures is None  # of eight colours there is no picture
    assert str(int(best[0])) in card._repr_html_()


def test_pictures_come_with_a_ring_where_the_output_is_largest():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
    data = [(torch.randn(40, 3, 8, 8), torch.arange(40) % 2)]
    card = explain(measure(model, data), "0", 1, model=model, loader=data, images=2)
    assert card.drivers.pictures.shape == (2, 8, 8, 3)
    html = card.to_html()
    assert html.count("<circle") == 2
    assert html.count("data:image/png;base64,") == 3  # two images and the filter
    assert "http" not in html


def test_bad_arguments_are_named(table, network):
    with pytest.raises(ValueError, match="layer must be one of '0'; got 'conv'"):
        explain(table, "conv", 0)
    with pytest.raises(ValueError, match=r"channel must be .* got 7"):
        explain(table, "0", 7)
    with pytest.raises(ValueError, match="model and loader must be given together; got model"):
        explain(table, "0", 1, model=network[0])
    with pytest.raises(TypeError, match="table must be"):
        explain(table["0"], "0", 1)


def test_hulls_are_kept_in_the_file_and_files_without_them_are_read(table, tmp_path):
    path = tmp_path / "axes.npz"
    table.save(path)
    loaded = AxisTable.load(path)
    for name, array in vars(table["0"].hull).items():
        np.testing.assert_array_equal(getattr(loaded["0"].hull, name), array)
    assert str(explain(loaded, "0", SUM)) == str(explain(table, "0", SUM))
    with np.load(path) as stored:
        arrays = dict(stored)
    older = {key: value for key, value in arrays.items() if "/hull/" not in key}
    np.savez(tmp_path / "older.npz", **older)
    assert AxisTable.load(tmp_path / "older.npz")["0"].hull is None
    assert "adds" not in str(explain(AxisTable.load(tmp_path / "older.npz"), "0", SUM))
    np.savez(tmp_path / "bad.npz", **{**arrays, "0/hull/members": arrays["0/hull/members"] + 7})
    with pytest.raises(ValueError, match="the hulls of layer '0' are not those of 7 channels"):
        AxisTable.load(tmp_path / "bad.npz")


def test_the_command_prints_the_card(table, tmp_path):
    table.save(tmp_path / "axes.npz")
    page = tmp_path / "card.html"
    words = ["explain", str(tmp_path / "axes.npz"), "0", str(COPY), "--page", str(page)]
    done = CliRunner().invoke(twoaxis.app, words)
    assert done.exit_code == 0, done.output
    assert "it is channel 2 times -2" in done.output
    assert "it is channel 2 times -2" in page.read_text()
