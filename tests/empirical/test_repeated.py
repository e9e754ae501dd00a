"""What reads a loader more than once sees the same images each time, or refuses the loader."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from empirical import (
    Adapter,
    damage,
    damage_heads,
    forecast,
    lesion,
    measure,
    prune,
    prune_heads,
    replace,
)
from empirical.reading.repeated import repeated

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randn(80, 3, 8, 8, generator=GENERATOR)
LABELS = torch.arange(80) % 4
DATA = TensorDataset(IMAGES, LABELS)
HELD_OUT = [(torch.randn(40, 3, 8, 8, generator=GENERATOR), torch.arange(40) % 4)]


class Augmented(Dataset):
    """Images with noise from one of the global generators."""

    def __init__(self, draw):
        self.draw = draw

    def __len__(self):
        return len(IMAGES)

    def __getitem__(self, i):
        return IMAGES[i] + self.draw(), int(LABELS[i])


class Consumed:
    """A loader that can be read once, though it is no iterator."""

    def __init__(self):
        self.left = iter([(IMAGES[i : i + 20], LABELS[i : i + 20]) for i in range(0, 80, 20)])

    def __iter__(self):
        yield from self.left


class Drawing:
    """A loader that shuffles by a generator of its own, which no one else sees."""

    def __init__(self):
        self.random = np.random.default_rng(0)

    def __iter__(self):
        order = torch.from_numpy(self.random.permutation(len(IMAGES)))
        yield from zip(IMAGES[order].split(20), LABELS[order].split(20), strict=True)


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4),
        ).eval()  # fmt: skip


RANDOM = {
    "shuffled": lambda: DataLoader(DATA, 20, shuffle=True),
    "own generator": lambda: DataLoader(
        DATA, 20, shuffle=True, generator=torch.Generator().manual_seed(7)
    ),
    "sampler's generator": lambda: DataLoader(
        DATA, 20, sampler=SubsetRandomSampler(range(80), torch.Generator().manual_seed(7))
    ),
    "weighted": lambda: DataLoader(DATA, 20, sampler=WeightedRandomSampler(torch.ones(80), 80)),
    "torch": lambda: DataLoader(Augmented(lambda: torch.randn(3, 8, 8)), 20, shuffle=True),
    "numpy": lambda: DataLoader(Augmented(lambda: np.float32(np.random.randn())), 20),  # noqa: NPY002
    "python": lambda: DataLoader(Augmented(random.random), 20),
}


def states():
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002


@pytest.mark.parametrize("kind", RANDOM)
def test_a_loader_that_draws_gives_each_pass_what_it_gave_the_first(kind):
    before = states()
    loader = repeated(RANDOM[kind]())
    first, second = list(loader), list(loader)
    assert states() == before
    assert len(loader) == len(first) == 4
    together = [next(pair) for pair in (iter(loader), iter(loader))]
    for one, other in [*zip(first, second, strict=True), together]:
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])
    if kind != "weighted" and "generator" not in kind:
        given = list(RANDOM[kind]())  # the state that the pass was to begin in
        assert all(torch.equal(a[0], b[0]) for a, b in zip(first, given, strict=True))


def logits(model):
    return model(HELD_OUT[0][0]).detach().double()


TWICE = {
    "damage": lambda loader: damage(network(), loader).to_frame()[["damage_alone", "recovered"]],
    "measure": lambda loader: measure(network(), loader, damage=True).to_frame()[["recovered"]],
    "reconstruct": lambda loader: logits(prune(network(), loader, recovery="reconstruct").model),
    "prune": lambda loader: logits(prune(network(), loader).model),
    "forecast": lambda loader: forecast(network(), loader).table[["kl", "accuracy"]],
    "lesion": lambda loader: lesion(network(), loader, kinds="zero").damage["loss_increase"],
    "chosen": lambda loader: lesion(
        network(), HELD_OUT, kinds="mean", calibration=loader, channels=2
    ).damage["loss_increase"],
    "replace": lambda loader: replace(network(), loader, HELD_OUT, peers="all").damage[
        "margin_drop"
    ],
}


@pytest.mark.parametrize("call", TWICE)
def test_what_takes_two_passes_is_that_of_the_images_in_the_order_of_the_first(call):
    shuffled = DataLoader(DATA, 20, shuffle=True)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        given = list(shuffled)
        torch.manual_seed(3)
        found = TWICE[call](shuffled)
    np.testing.assert_array_equal(found, TWICE[call](given))
    assert np.isfinite(np.asarray(found)).any()


@pytest.mark.parametrize(
    "call", ["damage", "measure", "reconstruct", "forecast", "lesion", "replace"]
)
def test_a_loader_that_changes_is_refused(call):
    with pytest.raises(ValueError, match=r"same images in the same order.*list\(loader\)"):
        TWICE[call](Drawing())
    with pytest.raises(ValueError, match=r"same images in the same order.*batch 0 has changed|now"):
        TWICE[call](Consumed())
    with pytest.raises(TypeError, match="readable more than once; got the iterator"):
        TWICE[call](iter(Drawing()))
    with pytest.raises(TypeError, match="loader must be an iterable"):
        TWICE[call](3)


def test_a_loader_that_grows_is_refused_and_one_read_in_part_is_not():
    batches = [*HELD_OUT]

    class Growing:
        def __iter__(self):
            return iter(list(batches))

    loader = repeated(Growing())
    next(iter(loader))
    batches.append(HELD_OUT[0])
    assert len(list(loader)) == 2
    batches.append(HELD_OUT[0])
    with pytest.raises(ValueError, match="now it goes on after 2 batches"):
        list(loader)
    del batches[1:]
    with pytest.raises(ValueError, match="now it ends after 1 of 2 batches"):
        list(loader)


def test_adapted_batches_are_looked_at_too():
    class Dicts:
        def __iter__(self):
            return ({"x": x, "y": y} for x, y in drawing)

    drawing = Drawing()
    adapt = Adapter(batch=lambda b: (b["x"], b["y"]))
    with pytest.raises(ValueError, match="same images in the same order"):
        damage(network(), Dicts(), adapt=adapt)


def test_heads_are_verified_on_images_that_were_measured():
    layer = nn.TransformerEncoderLayer(12, 3, 24, batch_first=True)
    model = nn.Sequential(nn.Linear(6, 12), layer, nn.Flatten(), nn.Linear(60, 4)).eval()
    batch = torch.randn(80, 5, 6), LABELS
    for call in (prune_heads, damage_heads):
        with pytest.raises(TypeError, match="readable more than once"):
            call(model, iter([batch]))
    assert prune_heads(model, DataLoader(TensorDataset(*batch), 40, shuffle=True)).kept
