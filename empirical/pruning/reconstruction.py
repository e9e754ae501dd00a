"""Layer-by-layer least squares: every layer of a pruned network refitted to the dense one.

From the first layer to the last, a layer's weights become those that predict, from what the
pruned network really feeds it, what the same layer of the dense network computed:

    min over W, b of Σ |z - b - W x̃|² + λ |W - W₀|²,

x̃ the input patches of the pruned network, z the dense outputs that stay. Peer compensation
regresses channel on channel, in the dense network; here a whole kernel's patches predict, and the
error that earlier layers left is among the inputs. Closed form, no labels (He et al., ICCV 2017).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from empirical.pruning.macs import CONVOLUTIONS, COUNTED
from empirical.reading.hooks import capture, evaluating

RIDGE = 1e-2
"""Default pull towards the weights as they were, as a share of the inputs' mean variance."""

POSITIONS = 16
"""Random output positions of each layer that are fitted, drawn anew for every chunk of images."""

CHUNK = 125
"""Images whose positions are drawn together."""


@dataclass(frozen=True)
class Reference:
    """What a dense layer computed: one pair per chunk of images.

    `places` holds flat output positions (P,), `outputs` the outputs there (images, P, channels).
    """

    places: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def references(
    model: nn.Module, images: Tensor, *, positions: int = POSITIONS, seed: int = 0
) -> dict[str, Reference]:
    """Outputs of every convolution and linear layer of `model` on `images`, in call order.

    A layer that one forward pass calls several times is left out: no single fit serves it.
    """
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def read(name: str, module: nn.Module, output: Tensor) -> None:
        rows = _by_position(module, output.detach())
        draw = torch.randperm(rows.shape[1], generator=generator)[:positions].sort().values
        draw = draw.to(rows.device)
        found.setdefault(name, []).append((draw, rows[:, draw].clone()))

    names = {n: m for n, m in model.named_modules() if isinstance(m, COUNTED)}
    readers = {n: (lambda output, n=n, m=m: read(n, m, output)) for n, m in names.items()}
    chunks = images.split(CHUNK)
    with evaluating(model), capture(model, readers):
        for chunk in chunks:
            model(chunk)
    return {
        name: Reference(*(tuple(part) for part in zip(*pairs, strict=True)))
        for name, pairs in found.items()
        if len(pairs) == len(chunks)
    }


def reconstruct(
    pruned: nn.Module,
    images: Tensor,
    known: Mapping[str, Reference],
    outputs: Mapping[str, NDArray[np.int64]],
    *,
    ridge: float = RIDGE,
) -> None:
    """Refit every layer of `pruned` to what its dense counterpart computed on `images`, in place.

    `known` are the dense network's `references` on the same images, `outputs` the dense outputs
    that each layer still computes (all of them where a layer is not named). The images pass the
    network once, together: each layer is refitted when they arrive there, and then computes what
    the later ones read.
    """
    with ExitStack() as stack, evaluating(pruned):
        for name, reference in known.items():

            def refit(module: nn.Module, inputs: tuple[Tensor, ...], name=name, r=reference):
                fit = _Fit(module)
                for chunk, places, dense in zip(
                    inputs[0].split(CHUNK), r.places, r.outputs, strict=True
                ):
                    fit.add(_rows(module, chunk, places), _kept(dense, outputs.get(name)))
                fit.solve(ridge)

            handle = pruned.get_submodule(name).register_forward_pre_hook(refit)
            stack.callback(handle.remove)
        pruned(images)


def _kept(dense: Tensor, wanted: NDArray[np.int64] | None) -> Tensor:
    return dense if wanted is None else dense[..., torch.as_tensor(wanted, device=dense.device)]


def _by_position(module: nn.Module, output: Tensor) -> Tensor:
    """Outputs as (images, positions, channels)."""
    if isinstance(module, CONVOLUTIONS):
        return output.flatten(2).mT
    return output.reshape(len(output), -1, output.shape[-1])


def _rows(module: nn.Module, inputs: Tensor, places: Tensor) -> Tensor:
    """What the layer multiplies its weights with at `places`: (images, P, inputs × taps)."""
    if not isinstance(module, CONVOLUTIONS):
        return _by_position(module, inputs)[:, places]
    padded = functional.pad(inputs, _padding(module), **_mode(module))
    taps = _tap_indices(module, padded.shape[2:], places)  # (P, taps)
    patches = padded.flatten(2)[:, :, taps]  # (images, inputs, P, taps)
    return patches.movedim(2, 1).flatten(2)


def _padding(module: nn.Module) -> list[int]:
    """Padding before and after, last dimension first, as `functional.pad` takes it."""
    amounts: list[int] = []
    for dim in reversed(range(len(module.kernel_size))):
        if module.padding == "same":
            total = module.dilation[dim] * (module.kernel_size[dim] - 1)
            amounts += [total // 2, total - total // 2]
        else:
            amounts += [0, 0] if module.padding == "valid" else [module.padding[dim]] * 2
    return amounts


def _mode(module: nn.Module) -> dict[str, str]:
    return {"mode": "constant" if module.padding_mode == "zeros" else module.padding_mode}


def _tap_indices(module: nn.Module, size: Sequence[int], places: Tensor) -> Tensor:
    """Flat positions in the padded input of every tap of every output place, (P, taps)."""
    reach = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
    shape = [(n - r - 1) // s + 1 for n, r, s in zip(size, reach, module.stride, strict=True)]
    corners = np.stack(np.unravel_index(places.cpu().numpy(), shape), axis=-1) * module.stride
    offsets = np.array(list(product(*map(range, module.kernel_size)))) * module.dilation
    where = corners[:, None] + offsets[None]
    flat = np.ravel_multi_index(tuple(np.moveaxis(where, -1, 0)), tuple(size))
    return torch.as_tensor(flat, device=places.device)


class _Fit:
    """Sums of one layer's regression, a block for each group of a grouped convolution."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.blocks = getattr(module, "groups", 1)
        self.n = 0
        self.pivot: tuple[Tensor, Tensor] | None = None

    def add(self, rows: Tensor, wanted: Tensor) -> None:
        """Add the samples of one chunk: rows (images, P, inputs), wanted (images, P, outputs)."""
        x, z = (
            part.flatten(0, 1).unflatten(1, (self.blocks, -1)).movedim(1, 0)
            for part in (rows, wanted)
        )  # (blocks, n, inputs), (blocks, n, outputs)
        if self.pivot is None:
            self.pivot = x.mean(1, keepdim=True), z.mean(1, keepdim=True)
            self.first = [p.double().zero_() for p in (x[:, :1], z[:, :1])]
            self.gram = x.new_zeros(len(x), x.shape[2], x.shape[2], dtype=torch.double)
            self.cross = x.new_zeros(len(x), x.shape[2], z.shape[2], dtype=torch.double)
        x, z = x - self.pivot[0], z - self.pivot[1]
        self.first[0] += x.sum(1, keepdim=True)
        self.first[1] += z.sum(1, keepdim=True)
        self.gram += x.mT @ x
        self.cross += x.mT @ z
        self.n += x.shape[1]

    @torch.no_grad()
    def solve(self, ridge: float) -> None:
        """Write the fitted weights and bias into the layer."""
        assert self.pivot is not None
        mean_x, mean_z = (first / self.n for first in self.first)
        gram = self.gram / self.n - mean_x.mT @ mean_x
        cross = self.cross / self.n - mean_x.mT @ mean_z
        module = self.module
        start = module.weight.double().reshape(self.blocks, -1, gram.shape[1]).mT
        pull = ridge * gram.diagonal(dim1=1, dim2=2).mean(1).clamp_min(torch.finfo().tiny)
        regular = gram + pull[:, None, None] * torch.eye(gram.shape[1], device=gram.device)
        weight = start + torch.linalg.solve(regular, cross - gram @ start)
        bias = (self.pivot[1] + mean_z - (self.pivot[0] + mean_x) @ weight).flatten()
        module.weight.copy_(weight.mT.reshape(module.weight.shape))
        if module.bias is None:
            module.bias = nn.Parameter(module.weight.new_empty(len(bias)))
        module.bias.copy_(bias)


def kept_outputs(
    model: nn.Module, kept: Mapping[tuple[str, str], NDArray[np.int64]]
) -> dict[str, NDArray[np.int64]]:
    """Outputs that each convolution or linear layer of `model` keeps: name -> indices."""
    return {
        name: index
        for (name, role), index in kept.items()
        if role != "in" and isinstance(dict(model.named_modules()).get(name), COUNTED)
    }
