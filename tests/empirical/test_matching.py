"""Counterparts in two networks, by the correlation of their outputs on the same images."""

import copy
import itertools

import numpy as np
import pytest
import torch
from torch import nn

from empirical import compare, load_pruned, match_channels, measure, prune, save_pruned
from tests.empirical.test_compare import images, network, permuted


def outputs(model, layer, batch):
    """(n, positions, C) of one layer, by hand."""
    found = []
    hook = model.get_submodule(layer).register_forward_hook(lambda _m, _i, o: found.append(o))
    with torch.no_grad():
        model(batch)
    hook.remove()
    return found[0].flatten(2).movedim(1, -1).double().numpy()


def correlation(a, b):
    """(C_a, C_b), from all samples at once."""
    c = a.shape[-1]
    both = np.concatenate([a.reshape(-1, c), b.reshape(-1, b.shape[-1])], axis=1)
    return np.corrcoef(both.T)[:c, c:]


def test_correlations_are_those_of_the_outputs_and_of_exchanged_images():
    one, other, data = network(0), network(5), images(number=40)
    found = match_channels(one, other, data, positions=100)
    for layer in ("0", "2"):
        a, b = (outputs(net, layer, data[0][0]) for net in (one, other))
        whole = correlation(a, b)
        rows, columns = found.pairs[layer]
        np.testing.assert_allclose(found.correlation[layer], whole[rows, columns], atol=1e-6)
        best = (
            max(whole[range(8), order].sum() for order in itertools.permutations(range(8)))
            if (layer == "2")
            else whole[rows, columns].sum()
        )
        assert whole[rows, columns].sum() == pytest.approx(best, abs=1e-6)
        chance = correlation(a, np.roll(b, 20, axis=0))
        assert found.chance[layer] <= np.sort(chance, axis=1)[:, -1].max()
        assert found.chance[layer] < np.median(found.correlation[layer])


def test_batches_and_random_positions_do_not_matter_to_who_is_whose_counterpart():
    model, order = network(), torch.randperm(10, generator=torch.Generator().manual_seed(3))
    (data, labels), other = images(number=60)[0], permuted(network(), order)
    split = [(data[i : i + 7], labels[i : i + 7]) for i in range(0, 60, 7)]
    for loader, positions in (([(data, labels)], 16), (split, 16), (split, 2)):
        found = match_channels(model, other, loader, positions=positions)
        np.testing.assert_array_equal(order.numpy()[found.pairs["0"][1]], found.pairs["0"][0])
        np.testing.assert_array_equal(*found.pairs["2"])


def test_channels_whose_moments_tie_are_told_apart():
    inputs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=4)))
    order = torch.tensor([2, 0, 3, 1])
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():  # every channel is one input, and the readout treats all alike
        model[0].weight.copy_(torch.eye(4))
        model[0].bias.zero_()
        model[2].weight.copy_(torch.tensor([[1.0], [-1.0]]).expand(2, 4))
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[0].weight.copy_(model[0].weight[order])
    data = [(inputs, torch.arange(16) % 2)]
    first, second = match_channels(model, other, data).pairs["0"]
    np.testing.assert_array_equal(order.numpy()[second], first)


def test_multiples_and_dead_channels_find_their_own():
    model, order = network(), torch.randperm(10, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        model[0].weight[5], model[0].bias[5] = 3 * model[0].weight[4], 3 * model[0].bias[4]
        model[0].weight[7] = 0
    found = match_channels(model, permuted(model, order), images())
    first, second = found.pairs["0"]
    np.testing.assert_array_equal(order.numpy()[second], first)
    assert np.flatnonzero(np.isnan(found.correlation["0"])).tolist() == [7]


def test_a_pruned_network_names_which_channel_is_which(tmp_path):
    model, data = network(), images()
    pruned = prune(model, data, counts={"0": 6, "2": 5}, recovery="none")
    save_pruned(tmp_path / "pruned.safetensors", pruned)
    loaded = load_pruned(tmp_path / "pruned.safetensors", network()).model
    found = match_channels(model, loaded, data)
    np.testing.assert_array_equal(found.pairs["0"][0], pruned.kept["0"])
    np.testing.assert_array_equal(found.pairs["0"][1], np.arange(6))
    assert len(found.pairs["2"][0]) == 5
    both = compare(measure(model, data), measure(pruned.model, data), match=found)
    assert both.without["0"] == (4, 0)
    assert "7 of the first and 0 of the second have none" in str(both.findings()[0])


def test_separate_trainings_are_matched_and_said_to_be_little_alike():
    one, other, data = network(0), network(9), images()
    found = compare(
        measure(one, data), measure(other, data), match=match_channels(one, other, data)
    )
    for first, second in found.matched.values():
        assert len(set(second.tolist())) == len(first)
    text = str(found)
    assert "Matched by activations" in text
    assert "counterparts correlate by" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "correlation" in found.to_frame()


def test_a_network_beside_itself_and_its_mode():
    model = network().train()
    found = match_channels(model, model, images())
    np.testing.assert_array_equal(*found.pairs["0"])
    np.testing.assert_allclose(found.correlation["0"], 1, atol=1e-9)
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_bad_arguments_are_named():
    model, data = network(), images()
    single = [(data[0][0][:1], data[0][1][:1])] * 3
    with pytest.raises(ValueError, match="loader must give batches of at least 2 images"):
        match_channels(model, model, single)
    strided = network()
    strided[0] = nn.Conv2d(3, 10, 3, padding=1)
    strided[5] = nn.Linear(8 * 36, 4)
    with pytest.raises(ValueError, match="layer '0' must run at the same positions"):
        match_channels(model, strided, data, positions=1000)
    other = nn.Sequential(
        nn.Sequential(nn.Flatten(), nn.Linear(108, 5)), nn.ReLU(), nn.Linear(5, 4)
    )
    with pytest.raises(ValueError, match="first and second must have layers of the same names"):
        match_channels(model, other, data)
    tables = measure(model, data), measure(network(2), data)
    wide = nn.Sequential(nn.Conv2d(3, 12, 3), *network()[1:2], nn.Conv2d(12, 8, 1), *network()[3:])
    with pytest.raises(ValueError, match="match must be of the networks that were measured"):
        compare(*tables, match=match_channels(wide, wide, data))
