"""Networks that the project does not know are measured as they are."""

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from empirical import find_layers, measure


@pytest.mark.parametrize(
    ("name", "n_layers"),
    [
        ("shufflenet_v2_x0_5", 56),
        ("squeezenet1_1", 25),
        ("mnasnet0_5", 52),
        pytest.param("densenet121", 120, marks=pytest.mark.slow),
        pytest.param("efficientnet_b0", 81, marks=pytest.mark.slow),
        pytest.param("swin_t", 28, marks=pytest.mark.slow),
        pytest.param("convnext_tiny", 58, marks=pytest.mark.slow),
    ],
)
def test_torchvision_model(name, n_layers):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(torchvision.models, name)(num_classes=5)
        images, labels = torch.randn(24, 3, 64, 64), torch.randint(5, (24,))
    assert len(find_layers(model, images)) == n_layers
    table = measure(model, [(images, labels)], standard_errors=False, hull=False)
    frame = table.to_frame()
    assert len(table.layers) == n_layers
    assert np.isfinite(frame[["signal_power", "input_capture", "task_information"]]).all(axis=None)
    assert model.training


class Attention(nn.Module):
    """A user's own: tokens, attention, a loop, a dictionary inside, names that say nothing."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 16, 4, stride=4)
        self.b = nn.MultiheadAttention(16, 4, batch_first=True)
        self.c = nn.ModuleList(nn.Linear(16, 16) for _ in range(2))
        self.d = nn.ModuleDict({"n": nn.LayerNorm(16), "out": nn.Linear(16, 5)})

    def forward(self, x):
        tokens = self.a(x).flatten(2).transpose(1, 2)
        tokens = tokens + self.b(tokens, tokens, tokens, need_weights=False)[0]
        for layer in self.c:
            tokens = tokens + torch.relu(layer(tokens))
        return self.d["out"](self.d["n"](tokens).mean(1))


def test_user_written_model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, images, labels = Attention(), torch.randn(40, 3, 16, 16), torch.arange(40) % 5
    table = measure(model, [(images, labels)])
    assert table.layers == ["a", "c.0", "c.1"]
    assert table["c.0"].n == 40 * 16
    frame = table.to_frame()
    assert np.isfinite(frame[["input_capture", "task_information_se"]]).all(axis=None)
