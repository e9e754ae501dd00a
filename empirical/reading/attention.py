"""Which attention heads of a model can be read: the inputs of the output projections, by head.

Head h of d channels is channels h d .. (h+1) d of what an attention's output projection reads.
Projections that torch and torchvision apply inside of one function are called in a copy of the
model that computes the same (`empirical.reading.attention_modules`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from empirical.reading.apart import image_by_image
from empirical.reading.attention_modules import headed
from empirical.reading.hooks import evaluating
from empirical.reading.layers import Layer
from empirical.reading.networks import copied
from empirical.reading.outputs import apart, moved_by_images
from theory.shared.validation import named, one_of

FUSED = ("qkv", "in_proj", "c_attn")
SEPARATE = (
    ("query", "key", "value"),
    ("q_proj", "k_proj", "v_proj"),
    ("to_q", "to_k", "to_v"),
    ("q", "k", "v"),
    ("q_lin", "k_lin", "v_lin"),
    ("q", "kv"),
    ("to_q", "to_kv"),
)
OUTPUTS = ("out_proj", "proj", "to_out", "o_proj", "out", "out_lin", "o", "c_proj")
COUNTS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "heads", "nhead")
"""What attentions call their linear layers and the number of their heads."""


@dataclass(frozen=True)
class Heads:
    """The heads of one attention.

    Parameters
    ----------
    name : dotted name of the attention
    projection : of the linear layer that reads the heads
    readers : of the linear layers that make queries, keys and values, or of the one for all
    count : attribute of the attention that holds the number of heads
    n_heads, width : number of heads, and of channels of each
    """

    name: str
    projection: str
    readers: tuple[str, ...]
    count: str
    n_heads: int
    width: int

    @property
    def blocks(self) -> NDArray[np.intp]:
        """(H, d) the channels of each head."""
        return np.arange(self.n_heads * self.width, dtype=np.intp).reshape(self.n_heads, -1)

    def layer(self, model: nn.Module) -> Layer:
        """Return the projection as a layer whose *inputs* are the channels."""
        module = model.get_submodule(self.projection)
        assert isinstance(module, nn.Linear)
        return Layer(self.name, module, module.in_features, None, channel_dim=-1)

    def readout(self, model: nn.Module) -> NDArray[np.float64]:
        """(m, H d) weights of the projection."""
        weight = self.layer(model).module.weight.detach()
        return np.asarray(weight.double().cpu().numpy())


def with_readable_heads(
    model: nn.Module, example: Tensor, names: Sequence[str] | None = None
) -> tuple[nn.Module, list[Heads], dict[str, str]]:
    """Return a copy of `model` that computes the same, its heads, and which could not be read.

    Parameters
    ----------
    model : from `opened`; it is left alone
    example : at least two images, on which the copy is compared with the model
    names : only these attentions, by dotted name; None means all

    Raises
    ------
    ValueError
        no attention whose heads can be read; a name that is none; a copy that computes other
        outputs than the model
    """
    twin, names = copied(model), named("layers", names)
    skipped: dict[str, str] = {}
    for name, module in list(twin.named_modules()):
        reason = _unsupported(module)
        if reason is not None:
            skipped[name] = reason
        elif (readable := headed(module)) is not module:
            _exchange(twin, name, readable)
    _compare(model, twin, example)
    found = find_heads(twin)
    skipped |= _unreadable(twin, found, example)
    found = [heads for heads in found if heads.name not in skipped]
    if names is not None:
        for name in names:
            one_of("layers", name, [*(heads.name for heads in found), *skipped])
            if name in skipped:
                raise ValueError(
                    f"layers must be attentions whose heads can be read; {name!r}: {skipped[name]}."
                )
        return twin, [heads for heads in found if heads.name in names], skipped
    if not found:
        reasons = "".join(f" {name!r}: {reason}." for name, reason in skipped.items())
        raise ValueError(
            "model must have an attention of two heads or more, with linear layers for queries, "
            f"keys and values and an output projection; none was found.{reasons}"
        )
    return twin, found, skipped


def find_heads(model: nn.Module) -> list[Heads]:
    """Return the attentions of a model whose projections are called, in the order of its modules.

    Examples
    --------
    >>> class Attention(nn.Module):
    ...     num_heads = 2
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.qkv, self.proj = nn.Linear(6, 18), nn.Linear(6, 6)
    >>> [heads] = find_heads(nn.Sequential(Attention()))
    >>> heads.projection, heads.n_heads, heads.blocks.tolist()
    ('0.proj', 2, [[0, 1, 2], [3, 4, 5]])
    """
    found = [_heads(name, module) for name, module in model.named_modules()]
    return [heads for heads in found if heads is not None]


def _heads(name: str, module: nn.Module) -> Heads | None:
    children = dict(module.named_children())
    output = next((child for child in OUTPUTS if child in children), None)
    readers = _readers(children)
    count = next((a for a in COUNTS if isinstance(getattr(module, a, None), int)), None)
    if output is None or not readers or count is None:
        return None
    projection, where = children[output], output
    if isinstance(projection, nn.Sequential) and len(projection):
        projection, where = projection[0], f"{output}.0"  # before a dropout
    n_heads = getattr(module, count)
    if not isinstance(projection, nn.Linear) or projection.in_features % n_heads or n_heads < 2:
        return None
    prefix = f"{name}." if name else ""
    return Heads(
        name,
        prefix + where,
        tuple(prefix + reader for reader in readers),
        count,
        n_heads,
        projection.in_features // n_heads,
    )


def _readers(children: dict[str, nn.Module]) -> tuple[str, ...]:
    def linear(names: tuple[str, ...]) -> bool:
        return all(isinstance(children.get(name), nn.Linear) for name in names)

    fused = next((name for name in FUSED if linear((name,))), None)
    if fused is not None:
        return (fused,)
    return next((names for names in SEPARATE if linear(names)), ())


def _unsupported(module: nn.Module) -> str | None:
    """Why torch's attention cannot be written with linear layers; None where it can."""
    if not isinstance(module, nn.MultiheadAttention):
        return None
    if type(module) is not nn.MultiheadAttention:
        return f"{type(module).__name__} may compute something else than nn.MultiheadAttention"
    if module.bias_k is not None or module.add_zero_attn:
        return "tokens that add_bias_kv or add_zero_attn add"
    if module.num_heads < 2:
        return "one head, and so no peers"
    return None


def _exchange(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    if not name:
        raise ValueError(
            "model must hold its attention as a submodule; it is one. Wrap it in a network from "
            "images to logits."
        )
    setattr(model.get_submodule(parent), child, module)


def _compare(model: nn.Module, twin: nn.Module, example: Tensor) -> None:
    """Refuse a copy that computes something else."""
    with evaluating(model), evaluating(twin):
        expected, found = model(example), twin(example)
        if not isinstance(expected, Tensor):
            return  # whoever reads the outputs says so
        moved = moved_by_images(model, example, expected)
    if difference := apart(found, expected, moved):
        raise ValueError(
            "model's attentions, written with linear layers, give outputs that differ by "
            f"{difference:.3g}, where images move them by {moved:.3g}. Its parents must call them, "
            "not read their weights."
        )


def _unreadable(model: nn.Module, found: list[Heads], example: Tensor) -> dict[str, str]:
    """Which projections do not run, or do not see tokens image by image: name -> reason."""
    apart = image_by_image(model, example[:2], [heads.projection for heads in found])
    reasons = {}
    for heads in found:
        if heads.projection not in apart:
            reasons[heads.name] = "its output projection does not run through its own forward"
        elif not apart[heads.projection]:
            reasons[heads.name] = "its output projection does not read tokens image by image"
    return reasons
