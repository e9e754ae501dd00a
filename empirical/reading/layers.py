"""Which layers of a model can be measured, and what follows each of them.

Found by running an example and following tensors, not by reading names: a layer is named in the
order of execution, and its norm is the normalization module that receives its output, unchanged
(a permuted or reshaped view counts as unchanged; an in-place operation in between does not).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from empirical.reading.hooks import evaluating
from empirical.reading.networks import opened
from empirical.reading.outputs import answered
from theory.shared.validation import instance, named, one_of

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
MEASURABLE = (*CONVOLUTIONS, *TRANSPOSED, nn.Linear)
Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
Measurable = Convolution | Transposed | nn.Linear
NORMS = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
)
FROZEN_NORM = "FrozenBatchNorm2d"
"""torchvision's; known by its name, since importing torchvision takes seconds."""

ACTIVATIONS = frozenset(
    getattr(place, name)
    for place in (functional, torch, Tensor)
    for stem in (
        *("relu", "relu6", "hardtanh", "leaky_relu", "prelu", "rrelu", "threshold", "elu", "selu"),
        *("celu", "gelu", "silu", "mish", "hardswish", "hardsigmoid", "softplus", "softsign"),
        *("sigmoid", "logsigmoid", "tanh", "hardshrink", "softshrink", "tanhshrink"),
    )
    for name in (stem, f"{stem}_")
    if hasattr(place, name)
)
"""Elementwise nonlinearities, as functions and methods; the modules of torch.nn call these."""


def weight_of(module: Measurable) -> Tensor:
    """The weight as (outputs, inputs of a block, *taps), of a transposed convolution too.

    What is written into it is written into the module, but for transposed convolutions of several
    blocks, which get a copy.

    >>> weight_of(nn.ConvTranspose2d(4, 6, 3, groups=2)).shape
    torch.Size([6, 2, 3, 3])
    """
    if not isinstance(module, TRANSPOSED):
        return module.weight
    return turned(module.weight, module.groups)


def turned(weight: Tensor, groups: int) -> Tensor:
    """Exchange inputs and outputs of a convolution's weight, block by block."""
    blocks: Tensor = weight.unflatten(0, (groups, -1))
    return blocks.transpose(1, 2).flatten(0, 1)


def phases(module: Measurable) -> int:
    """Over how many neighbouring positions the taps of one output channel are spread.

    A convolution's meet at every position of its output; a transposed one of stride s puts every
    s-th of each dimension there.
    """
    return prod(module.stride) if isinstance(module, TRANSPOSED) else 1


@dataclass(frozen=True)
class Layer:
    """A layer whose channels can be measured.

    Parameters
    ----------
    name : dotted name in the model
    module : the convolution (transposed or not) or linear layer itself
    n_channels : number of output channels C
    norm : dotted name of the normalization that receives the output; None if there is none
    channel_dim : which dimension of the output counts channels (1, or -1 for linear layers)
    norm_channel_dim : the same for the norm's output (ConvNeXt permutes in between)
    activation : the nonlinearity that receives the output, after the norm if there is one; None
        where something else comes first, such as the sum with a shortcut
    calls : how often the module runs in one forward pass. A shared module (calls > 1) is one layer:
        its channels are measured over all its uses together, and edits act on all of them. Its
        norm is that of its uses if all agree, otherwise None
    depthwise : the layer that takes what the activation makes of the output, each channel to a
        channel of its own; None if there is none
    """

    name: str
    module: Measurable
    n_channels: int
    norm: str | None
    channel_dim: int = 1
    norm_channel_dim: int = 1
    activation: Callable[[Tensor], Tensor] | None = None
    calls: int = 1
    depthwise: Layer | None = None


def find_layers(
    model: nn.Module,
    example: Tensor,
    names: Sequence[str] | None = None,
    *,
    classifier: bool = False,
    argument: str = "layers",
) -> list[Layer]:
    """List the convolutions and hidden linear layers of `model` in the order in which they run.

    The final classifier is left out: the layer that runs last, if it has as many channels as the
    model has outputs. Layers that `model` holds but does not call through their own forward
    (the projections inside nn.MultiheadAttention) cannot be captured and are left out too, and so
    are those whose output does not keep images apart along its first dimension.

    Parameters
    ----------
    model : any nn.Module that takes images and returns logits
    example : images (n, ...), n >= 1; the first two are used
    names : only these layers, by dotted name, the classifier allowed; None means all
    classifier : list the final classifier too
    argument : what an error calls `names`

    Raises
    ------
    ValueError
        no convolution or linear layer; no names; a name that is none, with the nearest names

    Examples
    --------
    >>> import torch
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(),
    ...                       nn.Linear(8 * 36, 10))
    >>> [(layer.name, layer.n_channels, layer.norm) for layer in find_layers(
    ...     model, torch.zeros(1, 3, 8, 8))]
    [('0', 8, '1')]
    """
    names = named(argument, names)
    instance("example", example, Tensor, "Pass images (n, ...).")
    calls, outputs = _trace(opened(model), example[:2])
    found: dict[str, Layer] = {}
    for name in reversed(calls):  # what takes a layer's channels is described before it
        found[name] = _describe(name, calls[name], found)
    found = dict(reversed(found.items()))
    if names is not None:
        chosen = [one_of(argument, name, found) for name in names]
        return [layer for name, layer in found.items() if name in chosen]
    mixing = [
        name
        for name in found
        if not all(keeps_images(call.output, len(example[:2])) for call in calls[name])
    ]
    found = {name: layer for name, layer in found.items() if name not in mixing}
    if found and not classifier:
        last = next(reversed(found))
        if found[last].n_channels == outputs:
            del found[last]
    if not found:
        raise ValueError(
            f"model must have a convolution or a hidden linear layer; {type(model).__name__} runs "
            "none besides its classifier. Measurable are convolutions, also transposed, and Linear."
            + (f" Images are not kept apart in {', '.join(map(repr, mixing))}." if mixing else "")
        )
    return list(found.values())


def keeps_images(output: Tensor, images: int) -> bool:
    """Whether an output of so many images has one along its first dimension for each."""
    return output.ndim > 0 and output.shape[0] == images


@dataclass
class _Call:
    """One call of a measurable module: its output as it was, and the norm that received it."""

    module: Measurable
    output: Tensor
    version: int
    norm: str | None = None
    norm_channel_dim: int = 1
    normalized: Tensor | None = None
    normalized_version: int = 0
    activation: Callable[[Tensor], Tensor] | None = None
    activated: Tensor | None = None
    activated_version: int = 0
    depthwise: str | None = None

    @property
    def channel_dim(self) -> int:
        return self.output.ndim - 1 if isinstance(self.module, nn.Linear) else 1

    def is_received_as(self, tensor: Tensor) -> bool:
        """Whether `tensor` is the output, unchanged."""
        return _same(tensor, self.output, self.version)

    def is_activated_as(self, tensor: Tensor) -> bool:
        """Whether `tensor` is the output, unchanged, after the norm if there is one."""
        if self.norm is None:
            return self.is_received_as(tensor)
        return self.normalized is not None and _same(
            tensor, self.normalized, self.normalized_version
        )

    def is_handed_on_as(self, tensor: Tensor) -> bool:
        """Whether `tensor` is what the activation made of it, unchanged."""
        found = self.activated
        return found is not None and _same(tensor, found, self.activated_version)

    def channel_dim_in(self, view: Tensor) -> int:
        """Find the channel dimension in a view of the output by its length and stride."""
        channels: int = self.channel_dim
        length, stride = self.output.shape[channels], self.output.stride(channels)
        for dim in (channels, view.ndim - 1, *range(view.ndim)):
            if dim < view.ndim and view.shape[dim] == length and view.stride(dim) == stride:
                return int(dim)
        return channels


class _Trace(TorchFunctionMode):
    """Hooks and a function mode that note, while the example runs, where each output goes."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, list[_Call]] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        taken = []
        if func in ACTIVATIONS and args and isinstance(args[0], Tensor):
            taken = [call for call in self._all() if call.is_activated_as(args[0])]
        result = func(*args, **(kwargs or {}))
        for call in taken:
            call.activation = _Replay(func, args[1:], kwargs or {})
            call.activated, call.activated_version = result, result._version
        return result

    def layer(self, name: str) -> Callable[[nn.Module, tuple[object, ...], object], None]:
        """Return a forward hook for a measurable module."""

        def hook(module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
            if isinstance(output, Tensor) and isinstance(module, MEASURABLE):
                if one_to_one(module) and isinstance(received := inputs[0], Tensor):
                    for call in self._all():
                        if call.is_handed_on_as(received):
                            call.depthwise = name
                # keeping the tensor keeps its memory from being given to another one
                call = _Call(module, output, output._version)
                # taken out and set again, a name moves to the end: the last call counts
                self.calls[name] = [*self.calls.pop(name, []), call]

        return hook

    def norm(self, name: str) -> Callable[[nn.Module, tuple[object, ...], object], None]:
        """Return a forward hook for a normalization."""

        def hook(_module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
            received = inputs[0] if inputs else None
            if not isinstance(received, Tensor) or not isinstance(output, Tensor):
                return
            for call in self._all():
                if call.is_received_as(received):
                    call.norm, call.norm_channel_dim = name, call.channel_dim_in(received)
                    call.normalized, call.normalized_version = output, output._version

        return hook

    def _all(self) -> list[_Call]:
        return [call for records in self.calls.values() for call in records]


def _trace(model: nn.Module, example: Tensor) -> tuple[dict[str, list[_Call]], int]:
    """Run the example; return the calls of each measurable module, and the number of outputs."""
    trace = _Trace()
    with ExitStack() as stack:
        for name, module in model.named_modules():
            if isinstance(module, MEASURABLE):
                stack.enter_context(module.register_forward_hook(trace.layer(name)))
            elif isinstance(module, NORMS) or type(module).__name__ == FROZEN_NORM:
                stack.enter_context(module.register_forward_hook(trace.norm(name)))
        stack.enter_context(evaluating(model))
        stack.enter_context(trace)
        output = answered(model, example)
    return trace.calls, output.shape[-1] if isinstance(output, Tensor) and output.ndim else -1


def _same(tensor: Tensor, kept: Tensor, version: int) -> bool:
    """Whether `tensor` views all the memory of `kept`, not written to since that version."""
    return (
        tensor.untyped_storage().data_ptr() == kept.untyped_storage().data_ptr()
        and tensor.numel() == kept.numel()
        and tensor._version == version
    )


@dataclass(frozen=True)
class _Replay:
    """An activation with the arguments it was called with, on a copy: it may work in place."""

    function: Callable[..., Tensor]
    args: tuple[object, ...]
    kwargs: dict[str, object]

    def __call__(self, output: Tensor) -> Tensor:
        return self.function(output.clone(), *self.args, **self.kwargs)


def one_to_one(module: nn.Module) -> bool:
    """Whether a layer makes each of its output channels of one input channel of its own."""
    sizes = (getattr(module, name, None) for name in ("in_channels", "out_channels"))
    return {getattr(module, "groups", 1)} == set(sizes)


def _describe(name: str, calls: list[_Call], later: Mapping[str, Layer]) -> Layer:
    first = calls[0]
    norms = {call.norm for call in calls}
    return Layer(
        name=name,
        module=first.module,
        n_channels=first.output.shape[first.channel_dim],
        norm=first.norm if len(norms) == 1 else None,
        channel_dim=-1 if isinstance(first.module, nn.Linear) else 1,
        norm_channel_dim=first.norm_channel_dim,
        activation=first.activation,
        calls=len(calls),
        depthwise=later.get(first.depthwise or ""),
    )
