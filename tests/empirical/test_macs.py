"""Multiply-accumulates: against arithmetic by hand, and against torch's counter on slow paths."""

from __future__ import annotations

import copy
from collections.abc import Callable
from math import prod

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import rnn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import VisionTransformer
from torchvision.ops import DeformConv2d

from empirical.pruning.macs import _formulas, count_macs, counted, positions
from tests.empirical.pruning_networks import SIZES, network

T, D = 5, 8
"""Tokens and width of the sequences below."""
ATTENTION = 2 * T * T * D  # scores and weighted values, over all heads
PROJECTIONS = 4 * T * D * D


class Apply(nn.Module):
    """A network that is one function of its images."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        return self.function(images)


class Recurrent(nn.Module):
    """A recurrent layer's outputs; images are sequences (n, T, D)."""

    def __init__(self, kind: type[nn.RNNBase], packed: bool = False, **settings: object) -> None:
        super().__init__()
        self.layer = kind(D, 6, batch_first=True, **settings)
        self.packed = packed

    def forward(self, images: Tensor) -> Tensor:
        if not self.packed:
            return self.layer(images)[0]
        return self.layer(rnn.pack_padded_sequence(images, [T - 2], batch_first=True))[0].data


class Attending(nn.Module):
    """Self-attention by nn.MultiheadAttention."""

    def __init__(self, **settings: object) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(D, 2, batch_first=True)
        self.settings = settings

    def forward(self, images: Tensor) -> Tensor:
        return self.attention(images, images, images, **self.settings)[0]


class Cell(nn.Module):
    """A recurrent cell stepped over a sequence."""

    def __init__(self, cell: nn.RNNCellBase) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, images: Tensor) -> Tensor:
        state = None
        for step in images.unbind(1):
            state = self.cell(step, state)
        return state if isinstance(state, Tensor) else state[0]


class Pairs(nn.Module):
    """A bilinear layer of a sequence with itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Bilinear(D, D, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images, images)


def gates(kind: type[nn.RNNBase]) -> int:
    return {nn.RNN: 1, nn.LSTM: 4, nn.GRU: 3}[kind]


def recurrent_macs(
    kind: type[nn.RNNBase], layers: int = 1, directions: int = 1, size: int = 6, out: int = 6
) -> int:
    """Per step and direction: gates × state × (inputs + outputs), and the projection if any."""
    inputs = [D] + [directions * out] * (layers - 1)
    each = [gates(kind) * size * (i + out) + (size * out if out != size else 0) for i in inputs]
    return directions * sum(each)


ENCODER = nn.TransformerEncoderLayer(D, 2, 16, batch_first=True)
SEQUENCES: dict[str, tuple[nn.Module, int]] = {
    "linear": (nn.Linear(D, 3, bias=False), T * D * 3),
    "functional linear": (Apply(lambda x: functional.linear(x, torch.ones(3, D))), T * D * 3),
    "attention": (Attending(), PROJECTIONS + ATTENTION),
    "attention without weights": (Attending(need_weights=False), PROJECTIONS + ATTENTION),
    "masked attention": (
        Attending(attn_mask=torch.ones(T, T).triu(1).bool(), is_causal=True),
        PROJECTIONS + ATTENTION,
    ),
    "encoder layer": (ENCODER, PROJECTIONS + ATTENTION + 2 * T * D * 16),
    "encoder": (nn.TransformerEncoder(ENCODER, 2), 2 * (PROJECTIONS + ATTENTION + 2 * T * D * 16)),
    "fused attention": (
        Apply(lambda x: functional.scaled_dot_product_attention(x, x, x)),
        ATTENTION,
    ),
    "narrow values": (
        Apply(lambda x: functional.scaled_dot_product_attention(x, x, x[..., :3])),
        T * T * (D + 3),
    ),
    "matmul": (Apply(lambda x: x @ x.mT), T * T * D),
    "broadcast matmul": (Apply(lambda x: torch.ones(3, 1, 2, D) @ x.mT), 3 * 2 * T * D),
    "matrix with vector": (Apply(lambda x: x @ torch.ones(D)), T * D),
    "addmv": (Apply(lambda x: torch.addmv(x[0, :, 0], x[0], x[0, 0])), T * D),
    "dot": (Apply(lambda x: torch.dot(x[0, 0], x[0, 1])), D),
    "bmm": (Apply(lambda x: torch.bmm(x, x.mT)), T * T * D),
    "baddbmm": (Apply(lambda x: torch.baddbmm(torch.ones(1, T, T), x, x.mT)), T * T * D),
    "addbmm": (Apply(lambda x: torch.addbmm(torch.ones(T, T), x, x.mT)), T * T * D),
    "einsum": (Apply(lambda x: torch.einsum("bij,kj->bik", x, torch.ones(3, D))), T * 3 * D),
    "elementwise": (Apply(lambda x: (x * x + x).tanh()), 0),
    "embedding": (Apply(lambda x: functional.embedding(x.long(), torch.ones(9, 4))), 0),
    "bilinear": (Pairs(), T * D * D * 3),
    "inference mode": (Apply(torch.inference_mode()(lambda x: x @ x.mT)), T * T * D),
    "RNN cell": (Cell(nn.RNNCell(D, 6)), T * recurrent_macs(nn.RNN)),
    "LSTM cell": (Cell(nn.LSTMCell(D, 6)), T * recurrent_macs(nn.LSTM)),
    "GRU cell": (Cell(nn.GRUCell(D, 6)), T * recurrent_macs(nn.GRU)),
    "projected LSTM": (
        Recurrent(nn.LSTM, num_layers=2, bidirectional=True, proj_size=3),
        T * recurrent_macs(nn.LSTM, layers=2, directions=2, out=3),
    ),
    "packed LSTM": (Recurrent(nn.LSTM, packed=True), (T - 2) * recurrent_macs(nn.LSTM)),
    "packed GRU": (Recurrent(nn.GRU, packed=True), (T - 2) * recurrent_macs(nn.GRU)),
}
for kind in (nn.RNN, nn.LSTM, nn.GRU):
    SEQUENCES[kind.__name__] = (Recurrent(kind), T * recurrent_macs(kind))
    SEQUENCES[f"two-layer bidirectional {kind.__name__}"] = (
        Recurrent(kind, num_layers=2, bidirectional=True, bias=False),
        T * recurrent_macs(kind, layers=2, directions=2),
    )


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")  # of its speed
@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("name", SEQUENCES)
def test_layers_on_sequences(name: str, trainable: bool) -> None:
    """The same with and without gradients to come, in training and evaluation mode."""
    model, expected = SEQUENCES[name]
    model = copy.deepcopy(model).requires_grad_(trainable).train(trainable)
    assert count_macs(model, torch.ones(1, T, D)) == expected
    assert all(module.training is trainable for module in model.modules())


S = 9
MAPS: dict[str, tuple[nn.Module, int]] = {
    "convolution": (nn.Conv2d(4, 6, 3), 7 * 7 * 9 * 4 * 6),
    "padded": (nn.Conv2d(4, 6, 3, padding=1), S * S * 9 * 4 * 6),
    "same": (nn.Conv2d(4, 6, 3, padding="same"), S * S * 9 * 4 * 6),
    "strided, dilated": (nn.Conv2d(4, 6, 3, stride=2, dilation=2), 3 * 3 * 9 * 4 * 6),
    "grouped": (nn.Conv2d(4, 6, 3, groups=2), 7 * 7 * 9 * 2 * 6),
    "depthwise": (nn.Conv2d(4, 4, 3, groups=4), 7 * 7 * 9 * 4),
    "transposed": (nn.ConvTranspose2d(4, 6, 3, stride=2), S * S * 9 * 4 * 6),
    "grouped, transposed": (nn.ConvTranspose2d(4, 6, 3, groups=2), S * S * 9 * 4 * 3),
    "functional": (Apply(lambda x: functional.conv2d(x, torch.ones(2, 4, 5, 1))), 5 * S * 5 * 8),
    "one-dimensional": (Apply(lambda x: functional.conv1d(x[0], torch.ones(2, S, 3))), 4 * 7 * 54),
    "patches": (nn.Sequential(nn.Unfold(3), nn.Conv1d(36, 6, 1)), 7 * 7 * 36 * 6),
    "norms and pools": (nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(3)), 0),
    "called twice": ((lambda c: nn.Sequential(c, nn.ReLU(), c))(nn.Conv2d(4, 4, 1)), 2 * 81 * 16),
    "conv_tbc": (
        Apply(lambda x: torch.conv_tbc(x[0], torch.ones(3, S, 2), torch.ones(2))),
        2 * S * 3 * S * 2,
    ),
    "deformable": (
        Apply(lambda x: DeformConv2d(4, 6, 3, groups=2)(x, torch.zeros(1, 18, 7, 7))),
        7 * 7 * 9 * 2 * 6,
    ),
}


@pytest.mark.parametrize("name", MAPS)
def test_layers_on_feature_maps(name: str) -> None:
    model, expected = MAPS[name]
    assert count_macs(model, torch.ones(1, 4, S, S)) == expected
    assert count_macs(model, torch.ones(3, 4, S, S)) == expected  # of one image


@pytest.mark.parametrize("name", SIZES)
def test_convolutional_networks_count_positions_times_weights(name: str) -> None:
    model, image = network(name), torch.zeros(1, 3, SIZES[name], SIZES[name])
    by_layer = positions(model, image).items()
    assert count_macs(model, image) == sum(
        n * counted(model, m).weight.numel() for m, n in by_layer
    )


def test_a_vision_transformer_by_hand_and_by_torch() -> None:
    """Patches of 8 on 16 pixels: four tokens and a class token, two layers of width 32."""
    model = VisionTransformer(16, 8, 2, 4, 32, 64, num_classes=4).eval().requires_grad_(False)
    image = torch.zeros(1, 3, 16, 16)
    tokens, width, hidden = 5, 32, 64
    layer = 4 * tokens * width**2 + 2 * tokens**2 * width + 2 * tokens * width * hidden
    expected = 4 * 3 * 64 * width + 2 * layer + width * 4
    assert count_macs(model, image) == expected
    with FlopCounterMode(display=False) as counter:  # gradients keep it off the fast path
        copy.deepcopy(model).requires_grad_(True)(image)
    assert counter.get_total_flops() == 2 * expected


def test_the_fast_path_is_on_again_after_a_count_that_fails() -> None:
    for enabled in (False, True):
        torch.backends.mha.set_fastpath_enabled(enabled)
        with pytest.raises(RuntimeError):
            count_macs(nn.Linear(3, 4), torch.zeros(1, 5))
        assert torch.backends.mha.get_fastpath_enabled() is enabled


def test_fused_recurrent_layers_of_other_devices_count_every_matrix_once_per_step() -> None:
    """Where cuDNN takes over, the dispatcher sees one operator: two directions, projected."""
    layer = nn.LSTM(D, 6, 2, bidirectional=True, proj_size=3)
    weights = [tuple(parameter.shape) for parameter in layer.parameters()]
    formula = _formulas()[torch.ops.aten._cudnn_rnn]
    each = 2 * recurrent_macs(nn.LSTM, layers=2, directions=2, out=3)
    assert formula((T, 4, D), weights, 5, out_shape=None) == T * 4 * each
    assert formula((17, D), weights, 5, out_shape=None) == 17 * each  # packed
    assert prod(weights[0]) == 24 * D


def test_a_convolution_of_images_without_a_first_dimension_counts_its_positions() -> None:
    class Single(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.line = nn.Conv2d(3, 8, 3, padding=1), nn.Conv1d(8, 5, 1)

        def forward(self, images: Tensor) -> Tensor:
            return torch.stack([self.line(self.conv(image).mean(1)) for image in images])

    assert positions(Single(), torch.zeros(2, 3, 6, 7)) == {"conv": 42, "line": 7}


def test_queries_that_are_parameters_are_counted_and_still_ask_for_gradients() -> None:
    class Queries(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.queries = nn.Parameter(torch.randn(1, 4, 16))
            self.attention, self.out = (
                nn.MultiheadAttention(16, 2, batch_first=True),
                nn.Linear(16, 3),
            )
            self.out.bias.requires_grad_(False)

        def forward(self, tokens: Tensor) -> Tensor:
            read, _ = self.attention(self.queries.expand(len(tokens), -1, -1), tokens, tokens)
            return self.out(read.mean(1))

    model = Queries()
    attention = (4 + 6 + 6 + 4) * 16 * 16 + 2 * 4 * 6 * 16  # projections, scores and their values
    assert count_macs(model, torch.randn(2, 6, 16)) == attention + 16 * 3
    asking = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    assert [name for name, asked in asking.items() if not asked] == ["out.bias"]
