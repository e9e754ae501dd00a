"""What of a model holds weights and is not among its layers, and why."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from empirical.reading.attention_modules import WINDOWED
from empirical.reading.hooks import capture_calls, evaluating
from empirical.reading.layers import MEASURABLE, NORMS, Layer, keeps_images

IN_ONE_FUNCTION = "an attention that runs inside of one function; measure_heads reads its heads"
REASONS: tuple[tuple[type[nn.Module], str], ...] = (
    (nn.RNNBase, "a recurrent layer"),
    (nn.RNNCellBase, "a recurrent layer"),
)
NOT_CALLED = "it does not run through its own forward"
FOLDED = "its output does not keep images apart along the first dimension"


def unmeasured(model: nn.Module, example: Tensor, layers: Iterable[Layer]) -> dict[str, str]:
    """Return dotted name -> reason, of modules with matrices of weights that are no layers.

    Neither norms nor the final classifier, a layer that runs and is left out on purpose.

    Parameters
    ----------
    model : from `opened`
    example : images (n, ...), n >= 1; the first two are used
    layers : what `find_layers` found of all the model

    Examples
    --------
    >>> import torch
    >>> model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Flatten(2), nn.MultiheadAttention(4, 2))
    >>> model.forward = lambda x: model[2](*[model[1](model[0](x))] * 3)[0]
    >>> from empirical.reading.layers import find_layers
    >>> images = torch.zeros(1, 1, 2, 2)
    >>> list(unmeasured(model, images, find_layers(model, images)))
    ['2']
    """
    known = {layer.name for layer in layers}
    found: dict[str, str] = {}
    idle: list[str] = []
    for name, module in model.named_modules():
        if name in known or any(inside(name, other) for other in found):
            continue
        if isinstance(module, MEASURABLE):
            idle.append(name)
            found[name] = NOT_CALLED
        elif (reason := _reason(module)) is not None:
            found[name] = reason
    images = example[:2]

    def seen(name: str, output: Tensor) -> None:
        if keeps_images(output, len(images)):
            found.pop(name, None)
        else:
            found[name] = FOLDED

    readers = {name: lambda _, output, name=name: seen(name, output) for name in idle}
    with evaluating(model), capture_calls(model, readers):
        model(images)
    return found


def inside(name: str, other: str) -> bool:
    """Whether a module is part of another one, by their names."""
    return name.startswith(f"{other}.") or (other == "" and name != "")


def _reason(module: nn.Module) -> str | None:
    if isinstance(module, nn.MultiheadAttention):
        return IN_ONE_FUNCTION
    if type(module).__module__ == WINDOWED and hasattr(module, "qkv"):
        return IN_ONE_FUNCTION
    for kind, reason in REASONS:
        if isinstance(module, kind):
            return reason
    if isinstance(module, NORMS) or any(True for _ in module.children()):
        return None
    if any(weight.ndim > 1 for weight in module.parameters(recurse=False)):
        return f"neither a convolution nor a linear layer but a {type(module).__name__}"
    return None
