"""The layout of the images changes rounding and nothing else, or is not changed."""

import numpy as np
import pytest
import torch
from torch import nn

from empirical import measure

CLASSES = 4


def data(n=120):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(n, 3, 12, 12, generator=generator)
    return [(images, torch.randint(CLASSES, (n,), generator=generator))]


class Convolutions(nn.Module):
    """Notes how its images lie in memory, and passes their map on in a way of its choice."""

    def __init__(self, flatten):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.second = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 10, 3, stride=2)
            self.head = nn.Linear(250, CLASSES)
        self.flatten = flatten
        self.channels_last = []

    def forward(self, x):
        self.channels_last.append(x.is_contiguous(memory_format=torch.channels_last))
        return self.head(self.flatten(self.second(torch.relu(self.first(x)))))


def test_by_default_channels_lie_last_and_quantities_move_by_rounding():
    model = Convolutions(lambda x: x.flatten(1))
    table = measure(model, data())
    assert model.channels_last[-1]
    exact = measure(model, data(), exact=True)
    assert not model.channels_last[-1]
    for layer in exact.layers:
        errors = exact.standard_errors(layer)
        for name, values in exact[layer].as_dict().items():
            np.testing.assert_allclose(
                getattr(table[layer], name), values, rtol=1e-4, atol=1e-6, err_msg=name
            )
            far = np.abs(getattr(table[layer], name) - values) > 1e-3 * errors[name]
            assert not far[errors[name] > 0].any()


@pytest.mark.parametrize(
    "flatten",
    [
        pytest.param(lambda x: x.view(len(x), -1), id="a view that strides refuse"),
        pytest.param(
            lambda x: torch.as_strided(x, (len(x), 250), (250, 1)), id="reads its own memory"
        ),
        pytest.param(lambda x: x.flatten(1) + x.stride(1), id="depends on strides"),
        pytest.param(lambda x: x.flatten(1) * torch.inf ** x.stride(1), id="not finite"),
    ],
)
def test_a_model_that_depends_on_the_layout_keeps_its_own(flatten):
    model = Convolutions(flatten)
    if flatten(torch.ones(1, 10, 5, 5)).isinf().any():
        with pytest.raises(ValueError, match=r"hold NaN or infinity|must be finite"):
            measure(model, data())
    else:
        table, exact = measure(model, data()), measure(model, data(), exact=True)
        assert table.to_frame().equals(exact.to_frame())
    assert not model.channels_last[-1]
