"""Tables for the map of channels: one measured, and one as large as a ResNet-18's."""

import numpy as np
import torch
from torch import nn

from empirical import AxisTable, Calibration, measure
from empirical.measuring.damage_table import LayerDamage
from empirical.pruning.what_if import removal_plan
from theory import QUANTITIES, ChannelAxes
from theory.hull import PeerHull


def network():
    """Two convolutions; the second layer's channel 3 is dead, its 5 is twice its 4."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(12 * 4, 4),
    )  # fmt: skip
    with torch.no_grad():
        model[2].weight[3] = 0
        model[2].bias[3] = -1
        model[2].weight[5] = 2 * model[2].weight[4]
        model[2].bias[5] = 2 * model[2].bias[4]
    images, labels = torch.randn(300, 3, 6, 6), torch.arange(300) % 4
    return model, [(images[i : i + 100], labels[i : i + 100]) for i in range(0, 300, 100)]


def fresh_images():
    """Images that no table was measured on, for lesions."""
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(200, 3, 6, 6, generator=generator), torch.arange(200) % 4)]


def measured():
    """(model, batches, table with foretold damages, plan of removal)."""
    with torch.random.fork_rng():
        model, data = network()
        table = measure(model, data, damage=True)
        return model, data, table, removal_plan(Calibration(model, data))


def large(layers=19, channels=256, hull=10, groups=10):
    """A table of numbers drawn at random, with everything that a real one holds."""
    rng = np.random.default_rng(0)
    names = [f"layer{number}.conv" for number in range(layers)]

    def values(size):
        return {name: rng.random(size) for name in QUANTITIES}

    def axes():
        members = rng.integers(channels, size=(channels, hull)).astype(np.int32)
        weights, gains = rng.standard_normal((2, channels, hull)).astype(np.float32)
        found = PeerHull(members, weights, np.abs(gains))
        return ChannelAxes(**values(channels), affected={}, noise_power=1.0, n=9999, hull=found)

    def damage():
        alone = rng.lognormal(-5, 2, channels) * rng.lognormal(0, 0.2, (groups, channels))
        return LayerDamage(np.full(groups, 10.0), alone, alone * rng.random(channels))

    return AxisTable(
        axes={name: axes() for name in names},
        replicates={name: values((groups, channels)) for name in names},
        moments={},
        groups={},
        norms=dict.fromkeys(names),
        settings={"target": "logit_margin", "n_images": 5000},
        damage={name: damage() for name in names},
    )
