"""How a lesion of k channels passes through an operation without becoming a lesion of all.

Until the first operation that mixes channels, a lesioned network differs from the intact one in k
channels only. Operations that act channel by channel (norms in evaluation mode, activations,
pooling, depthwise convolutions, sums with untouched values) are run on these alone; the first
convolution or linear layer that mixes them adds the effect of k input channels to its known output.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from empirical.lesions.graph import Program
from empirical.reading.hooks import altered

ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU,
    nn.Mish, nn.Sigmoid, nn.Tanh, nn.Hardswish, nn.Hardsigmoid, nn.Softplus, nn.LogSigmoid,
)  # fmt: skip
PASSING = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
POOLS = (
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
)  # fmt: skip
CHANNELWISE_FUNCTIONS = {
    functional.relu, functional.relu6, functional.leaky_relu, functional.elu, functional.gelu,
    functional.silu, functional.mish, functional.hardswish, functional.hardsigmoid,
    functional.hardtanh, functional.softplus, functional.dropout, functional.max_pool2d,
    functional.avg_pool2d, functional.adaptive_avg_pool2d, torch.relu, torch.sigmoid, torch.tanh,
}  # fmt: skip
CHANNELWISE_METHODS = {"relu", "sigmoid", "tanh", "contiguous", "clone"}
SATURATING = {functional.relu, torch.relu, functional.relu6, functional.hardtanh, "relu"}
SATURATING_MODULES = (nn.ReLU, nn.ReLU6, nn.Hardtanh)

MOST_FLATTENED = 64
"""A flattened map of more values than this is run as a whole: the gain is gone."""


@dataclass(frozen=True)
class Changed:
    """The changed channels of a value, for M pairs of a lesion and an image.

    Parameters
    ----------
    values : (M, k, *S)
    channels : int64 (M, k)
    """

    values: Tensor
    channels: Tensor


@dataclass(frozen=True)
class Setting:
    """What rules read: the intact network's values, each pair's image, and what has changed.

    Parameters
    ----------
    program : of the model
    dense : value of every node on the images of the batch
    image : int64 (M,)
    state : what the lesions have changed so far: k channels, or whole values (M, ...)
    """

    program: Program
    dense: dict[fx.Node, Any]
    image: Tensor
    state: dict[fx.Node, Changed | Tensor]

    def intact(self, node: fx.Node, channels: Tensor) -> Tensor:
        """Return (M, k, *S): the intact values of the channels of each pair."""
        values: Tensor = self.dense[node][self.image[:, None], channels]
        return values


Rule = Callable[[Setting, fx.Node, Changed], "Changed | Tensor | None"]
"""(setting, node, first changed value that it reads) -> the k changed channels of the result, the
whole result (M, ...), or None: the operation has to be run whole."""


def rule_for(program: Program, node: fx.Node) -> Rule | None:
    """Return the rule of a node, None where it has to be run whole."""
    module = program.module_of(node)
    if module is not None and (len(node.args) != 1 or node.kwargs or altered(module)):
        return None
    if isinstance(module, ACTIVATIONS + POOLS):
        return None if getattr(module, "return_indices", False) else _channelwise
    if isinstance(module, PASSING):
        return _unchanged
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return _batch_norm if module.running_mean is not None else None
    if type(module) is nn.Conv2d and module.padding_mode == "zeros":
        if module.groups == 1:
            return _convolution if not isinstance(module.padding, str) else None
        depthwise = module.groups == module.in_channels == module.out_channels
        return _depthwise if depthwise else None
    if type(module) is nn.Linear:
        return _linear
    if isinstance(module, nn.Flatten):
        return _flatten if (module.start_dim, module.end_dim) == (1, -1) else None
    return _rule_for_function(node)


def _rule_for_function(node: fx.Node) -> Rule | None:
    others = [argument for argument in node.all_input_nodes if argument is not node.args[0]]
    if node.target in (operator.add, torch.add) or (
        node.op == "call_method" and node.target == "add"
    ):
        return _add if len(node.args) == 2 and not node.kwargs else None
    if others or not node.args or not isinstance(node.args[0], fx.Node):
        return None
    if node.op == "call_function" and node.target in CHANNELWISE_FUNCTIONS:
        return _channelwise
    if node.op == "call_method" and node.target in CHANNELWISE_METHODS:
        return _channelwise
    if node.target in (torch.flatten, "flatten") and node.args[1:] == (1,) and not node.kwargs:
        return _flatten
    return None


def saturates(program: Program, node: fx.Node) -> bool:
    """Say whether different inputs of a node often give the same output, as ReLU does."""
    return isinstance(program.module_of(node), SATURATING_MODULES) or node.target in SATURATING


def is_activation(program: Program, node: fx.Node) -> bool:
    """Say whether a node is an elementwise nonlinearity."""
    names = CHANNELWISE_FUNCTIONS - {
        functional.dropout,
        functional.max_pool2d,
        functional.avg_pool2d,
        functional.adaptive_avg_pool2d,
    }
    return isinstance(program.module_of(node), ACTIVATIONS) or (
        node.target in names or node.target in ("relu", "sigmoid", "tanh")
    )


def _channelwise(setting: Setting, node: fx.Node, changed: Changed) -> Changed:
    first = node.args[0]
    result = setting.program.call(node, lambda read: changed.values if read is first else None)
    return Changed(result, changed.channels)


def _unchanged(_setting: Setting, _node: fx.Node, changed: Changed) -> Changed:
    return changed


def _batch_norm(setting: Setting, node: fx.Node, changed: Changed) -> Changed:
    norm: Any = setting.program.module_of(node)
    scale = torch.rsqrt(norm.running_var + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight

    def per_pair(vector: Tensor) -> Tensor:
        return vector[changed.channels].reshape(
            *changed.channels.shape, *(1,) * (changed.values.ndim - 2)
        )

    values = (changed.values - per_pair(norm.running_mean)) * per_pair(scale)
    if norm.bias is not None:
        values = values + per_pair(norm.bias)
    return Changed(values, changed.channels)


def _convolution(setting: Setting, node: fx.Node, changed: Changed) -> Tensor:
    module: Any = setting.program.module_of(node)
    return mixed(setting, node, node, module, module.weight, changed)


def mixed(
    setting: Setting, read: fx.Node, written: fx.Node, module: Any, weight: Tensor, changed: Changed
) -> Tensor:
    """Return (M, Cout, H, W): the intact value of `written` plus what k input channels change.

    Laid out channels last: the sum over k * kh * kw inputs is one matrix product for each pair.
    """
    assert isinstance(read.args[0], fx.Node)
    difference = changed.values - setting.intact(read.args[0], changed.channels)
    if module.kernel_size == (1, 1) and module.padding == (0, 0):
        inputs = difference[:, :, :: module.stride[0], :: module.stride[1]].flatten(2)
    else:
        inputs = functional.unfold(
            difference, module.kernel_size, module.dilation, module.padding, module.stride
        )
    filters = weight.permute(1, 2, 3, 0).flatten(1, 2)[changed.channels].flatten(1, 2)
    intact: Tensor = setting.dense[written].permute(0, 2, 3, 1)
    _, height, width, _ = intact.shape
    result = intact.index_select(0, setting.image).flatten(1, 2)
    result.baddbmm_(inputs.transpose(1, 2), filters)
    return result.reshape(len(result), height, width, -1).permute(0, 3, 1, 2)


def _depthwise(setting: Setting, node: fx.Node, changed: Changed) -> Changed:
    module: Any = setting.program.module_of(node)
    pairs, k = changed.channels.shape
    chosen = changed.channels.flatten()
    values = functional.conv2d(
        changed.values.reshape(1, pairs * k, *changed.values.shape[2:]),
        module.weight[chosen],
        None if module.bias is None else module.bias[chosen],
        module.stride,
        module.padding,
        module.dilation,
        groups=pairs * k,
    )
    return Changed(values.reshape(pairs, k, *values.shape[2:]), changed.channels)


def _linear(setting: Setting, node: fx.Node, changed: Changed) -> Tensor | None:
    if changed.values.ndim != 2:
        return None
    module: Any = setting.program.module_of(node)
    assert isinstance(node.args[0], fx.Node)
    difference = changed.values - setting.intact(node.args[0], changed.channels)
    columns = module.weight.t()[changed.channels]
    return torch.baddbmm(
        setting.dense[node].index_select(0, setting.image)[:, None], difference[:, None], columns
    )[:, 0]


def _add(setting: Setting, node: fx.Node, changed: Changed) -> Changed | None:
    """The sum of numbers, untouched values and changed ones, where channels and shapes agree."""
    total: Any = 0
    for term in node.args:
        if not isinstance(term, fx.Node):
            total = total + term
        elif term in setting.state:
            found = setting.state[term]
            if not isinstance(found, Changed) or found.channels is not changed.channels:
                return None
            total = total + found.values
        elif _same_shape(setting.dense[term], setting.dense[node]):
            total = total + setting.intact(term, changed.channels)
        else:
            return None
    return Changed(total, changed.channels)


def _same_shape(first: Any, second: Any) -> bool:
    return isinstance(first, Tensor) and first.shape == second.shape


def _flatten(_setting: Setting, _node: fx.Node, changed: Changed) -> Changed | None:
    maps = changed.values.flatten(2) if changed.values.ndim > 2 else changed.values[:, :, None]
    pairs, k, size = maps.shape
    if k * size > MOST_FLATTENED:
        return None
    offsets = torch.arange(size, device=maps.device)
    channels = changed.channels[:, :, None] * size + offsets
    return Changed(maps.flatten(1), channels.reshape(pairs, k * size))
