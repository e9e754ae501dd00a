"""What a user hands over, opened once at the public edge: a network whose layers can be read.

A network in a wrapper that computes the same is taken out of it; of a form whose layers cannot be
read one by one, or cut, the name and the remedy are said.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeGuard, TypeVar

import torch
from torch import Tensor, fx, nn
from torch.optim.swa_utils import AveragedModel

Part = TypeVar("Part", bound=nn.Module)

PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)
"""Wrappers that compute what their `module` computes."""

QUANTIZED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.nn.quantized")


@dataclass(frozen=True)
class Adapter:
    """How batches and outputs of another form are read: the argument `adapt` of every entry point.

    Parameters
    ----------
    batch : what a loader yields -> (images (n, ...), labels (n, ...)); None where it is that pair
    output : what the model returns -> one tensor (n, ...); None where it is that tensor

    Examples
    --------
    >>> adapt = Adapter(batch=lambda b: (b["image"], b["label"]), output=lambda o: o["logits"])
    >>> loader = adapt.loader([{"image": torch.zeros(2, 3), "label": torch.tensor([0, 1])}])
    >>> [images.shape for images, labels in loader]
    [torch.Size([2, 3])]
    """

    batch: Callable[[Any], tuple[Tensor, Tensor]] | None = None
    output: Callable[[Any], Tensor] | None = None

    def __post_init__(self) -> None:
        for name in ("batch", "output"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise TypeError(
                    f"{name} must be a function or None; got {type(value).__name__}. Pass, for "
                    "example, lambda given: given['logits']."
                )

    def loader(self, loader: Iterable[object]) -> Iterable[object]:
        """Return the loader with its batches as pairs; read as often as the loader itself."""
        if self.batch is None or not isinstance(loader, Iterable) or isinstance(loader, Iterator):
            return loader if self.batch is None else map(self.batch, loader)
        return AdaptedLoader(loader, self.batch)

    def network(self, model: nn.Module) -> nn.Module:
        """Return a view of `model`, on the same weights, that returns one tensor."""
        return model if self.output is None else _view(model, self.output)


@dataclass(frozen=True)
class AdaptedLoader:
    """A loader whose batches go through a function."""

    loader: Iterable[object]
    function: Callable[[Any], object]

    def __iter__(self) -> Iterator[object]:
        return map(self.function, self.loader)

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]


def opened(model: nn.Module, adapt: Adapter | None = None) -> nn.Module:
    """Return the network whose layers are read: `model`, or what it wraps, with `adapt` applied.

    Raises
    ------
    TypeError
        no nn.Module; a scripted, exported, quantized or partly compiled one; `adapt` no `Adapter`

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(2, 2))
    >>> opened(nn.DataParallel(model)) is model
    True
    """
    if adapt is not None and not isinstance(adapt, Adapter):
        raise TypeError(
            f"adapt must be an Adapter; got {type(adapt).__name__}. Pass "
            "Adapter(batch=..., output=...)."
        )
    while isinstance(model, PARALLEL) or _is_compiled(model):
        model = model.module if isinstance(model, PARALLEL) else model._orig_mod
    if type(model).__module__.startswith("torch.export"):
        raise TypeError(_refusal("an exported program (torch.export)"))
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module; got {type(model).__name__}.")
    for name, module in model.named_modules():
        form = _unreadable(module, root=module is model)
        if form is not None:
            raise TypeError(_refusal(form, name))
    if vars(model).get("_compiled_call_impl") is not None:  # by model.compile(), in place
        model = _view(model)
    return model if adapt is None else adapt.network(model)


def _refusal(form: str, name: str = "") -> str:
    where = f" in its submodule {name!r}" if name else ""
    return (
        f"model must have layers that can be read one by one; it holds {form}{where}. Pass the "
        "nn.Module that this was made from."
    )


def _unreadable(module: nn.Module, *, root: bool) -> str | None:
    """Name the form of a module whose layers cannot be read; None where they can."""
    if isinstance(module, torch.jit.ScriptModule):
        holds = next(module.parameters(), None) is not None
        return "a scripted network (torch.jit.script or trace)" if root or holds else None
    if isinstance(module, fx.GraphModule) and any(
        isinstance(node.target, torch._ops.OpOverload) for node in module.graph.nodes
    ):
        return "an exported program (torch.export)"
    weight = getattr(module, "weight", None)
    layer = isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d))
    if type(module).__module__.startswith(QUANTIZED) or (
        layer and isinstance(weight, Tensor) and not weight.is_floating_point()
    ):
        return f"a quantized layer ({type(module).__name__})"
    if not root and (_is_compiled(module) or vars(module).get("_compiled_call_impl") is not None):
        return "a compiled part (torch.compile)"
    if not root and isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return f"a parallel part ({type(module).__name__})"
    return None


def _is_compiled(module: object) -> TypeGuard[Any]:
    # known by its name, since importing the compiler takes seconds
    return type(module).__name__ == "OptimizedModule" and hasattr(module, "_orig_mod")


def _view(model: nn.Module, output: Callable[[Any], Tensor] | None = None) -> nn.Module:
    """Return a module on the same submodules and weights, of a class that adapts the output.

    Names of layers stay what they are, and what traces a module by its class traces `output` too.
    """
    kind = type(model)
    state = {k: v for k, v in vars(model).items() if k not in ("forward", "_compiled_call_impl")}
    own: Callable[..., Any] | None = vars(model).get("forward")  # set on the instance

    @wraps(own or kind.forward)  # its arguments are what a tracer looks at
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        found = kind.forward(self, *args, **kwargs) if own is None else own(*args, **kwargs)
        return found if output is None else output(found)

    view: nn.Module = object.__new__(
        type(kind.__name__, (kind,), {"forward": forward, "viewed": kind})
    )
    vars(view).update(state)
    return view


def closed(model: nn.Module) -> nn.Module:
    """Give a copy of a view the class of the network that it views."""
    kind = getattr(type(model), "viewed", None)
    if kind is not None:
        model.__class__ = kind
    return model


def copied(module: Part) -> Part:
    """A deep copy, also of a module whose weight a hook computes from others at every pass.

    Behind a pass with gradients such a weight (weight norm's, a pruning mask's) is no leaf, which
    torch does not copy; its value is.
    """
    held = (value for part in module.modules() for value in vars(part).values())
    computed = (v for v in held if isinstance(v, Tensor) and not v.is_leaf)
    return copy.deepcopy(module, {id(v): v.detach().clone() for v in computed})


LOOKED_AT = 1024
"""Values of each parameter and buffer that tell networks apart."""


def fingerprint(model: nn.Module) -> str:
    """16 hexadecimal digits of what the network's parameters and buffers are: of some of each.

    >>> one, other = nn.Linear(2, 3), nn.Linear(2, 3)
    >>> fingerprint(one) == fingerprint(copied(one)), fingerprint(one) == fingerprint(other)
    (True, False)
    """
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in model.state_dict().items():
        if isinstance(tensor, Tensor) and tensor.layout is torch.strided:
            flat = tensor.detach().reshape(-1)
            some = flat[:: max(1, len(flat) // LOOKED_AT)].cpu().contiguous()
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(some.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
