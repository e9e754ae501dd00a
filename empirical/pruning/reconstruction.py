"""Layer-by-layer least squares: every layer of a pruned network refitted to the dense one.

From the first layer to the last, a layer's weights become those that predict, from what the
pruned network really feeds it, what the same layer of the dense network computed:

    min over W, b of Σ |z - b - W x̃|² + λ |W - W₀|²,

x̃ the input patches of the pruned network, z the dense outputs that stay. Peer compensation
regresses channel on channel, in the dense network; here a whole kernel's patches predict, and the
error that earlier layers left is among the inputs. Closed form, no labels (He et al., ICCV 2017).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from empirical.devices import device_of
from empirical.pruning.macs import COUNTED, in_parts
from empirical.pruning.removal import Side
from empirical.reading.batches import Batch
from empirical.reading.hooks import before_call, capture_calls, evaluating
from empirical.reading.kept import Kept
from empirical.reading.layers import Layer, find_layers
from empirical.reading.patches import PATCHED, Patched, map_size, patches
from empirical.reading.points import Tap
from empirical.reading.positions import Sampler
from empirical.reading.readings import Outputs
from empirical.reading.recorder import Recorder
from empirical.reading.sums import Sums, Totals
from theory.shared.validation import Float

RIDGE = 1e-2
"""Default pull towards the weights as they were, as a share of the inputs' mean variance."""

POSITIONS = 16
"""Random output positions of each image that a layer is fitted on."""

CHUNK = 125
"""Images whose patches are held at once."""

ALL = slice(None)

TINY = float(np.finfo(np.float32).tiny)
"""Least pull, of a layer whose inputs do not vary."""


@dataclass(frozen=True, eq=False)
class References:
    """What dense layers computed, (images, P, channels) by name in call order, at which positions.

    The positions of an image are those of `seed`, the image's place in the data, and the layer.
    """

    outputs: Mapping[str, Tensor]
    positions: int
    seed: int


def references(
    model: nn.Module, batches: Iterable[Batch], *, positions: int = POSITIONS, seed: int = 0
) -> References:
    """Outputs of every convolution and linear layer of `model`, from the first image of all on.

    Left out, and so not refitted, are layers that one forward pass calls several times (no single
    fit serves them), and those whose outputs are not a weight of their own times the patches of
    their inputs: transposed convolutions, tied or computed weights, padding inside of a forward.
    """
    stream = iter(batches)
    first = next(stream)
    layers = [x for x in find_layers(model, first.images, classifier=True) if x.calls == 1]
    plain = _plain(model, layers, first.images[:1])
    layers = [x for x in layers if x.name in plain]
    kept = {layer.name: Kept() for layer in layers}
    recorder = Recorder(
        [(Outputs(Tap(x, x.name, x.channel_dim)), [kept[x.name]]) for x in layers],
        Sampler(positions, seed=seed, device=device_of(model)),
    )
    recorder.read(model, chain([first], stream))
    return References({n: sink.all("y")[:, :, 0] for n, sink in kept.items()}, positions, seed)


def _plain(model: nn.Module, layers: Sequence[Layer], image: Tensor) -> set[str]:
    """Layers that compute W x + b of their patches x on an image, with a W that is theirs alone."""
    owners = Counter(id(p) for m in model.modules() for p in m._parameters.values())
    found = set()

    def reader(layer: Layer) -> Callable[[Tensor, Tensor], None]:
        def note(inputs: Tensor, output: Tensor) -> None:
            module = layer.module
            if not isinstance(module, PATCHED):
                return
            rows = output.movedim(layer.channel_dim, -1).reshape(1, -1, layer.n_channels)
            if owners[id(module._parameters.get("weight"))] != 1:
                return
            if (map_size(module, inputs), len(module.weight)) != rows.shape[1:]:
                return  # what the layer returns is no output map of its weight
            places = torch.arange(rows.shape[1], device=rows.device)[None]
            seen = patches(module, inputs, places)
            weight = module.weight.reshape(seen.shape[2], -1, seen.shape[3])
            expected = torch.einsum("npbd,bcd->npbc", seen, weight).flatten(2)
            expected = expected if module.bias is None else expected + module.bias
            if float((expected - rows).abs().max()) <= 1e-3 * float(rows.abs().max()):
                found.add(layer.name)

        return note

    with evaluating(model), capture_calls(model, {x.name: reader(x) for x in layers}):
        model(image)
    return found


def reconstruct(
    pruned: nn.Module,
    images: Tensor,
    known: References,
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
    sampler = Sampler(known.positions, seed=known.seed, device=images.device)
    sampler.begin(0, len(images))

    def refit(name: str, dense: Tensor) -> Callable[[Tensor], None]:
        module = pruned.get_submodule(name)
        assert isinstance(module, PATCHED)
        wanted = outputs.get(name)

        def fit(inputs: Tensor) -> None:
            places = sampler.places(name, map_size(module, inputs))
            few = places.numel() < module.weight[0].numel()
            sums = Sums([("x", "x"), ("x", "y")], device=inputs.device)
            kept: list[tuple[Tensor, Tensor]] = []
            for x, at, y in zip(*(v.split(CHUNK) for v in (inputs, places, dense)), strict=True):
                rows = patches(module, x, at)
                asked = y if wanted is None else y[..., torch.as_tensor(wanted, device=y.device)]
                blocks = asked.reshape(*asked.shape[:2], rows.shape[2], -1)
                if few:
                    kept.append((rows, blocks))
                else:
                    sums.add({"x": rows, "y": blocks}, [len(rows)])
            if not few:
                _write(module, *fit_many(sums.total(), _by_block(module), ridge))
                return
            x, y = (torch.cat(parts).flatten(0, 1) for parts in zip(*kept, strict=True))
            inputs_of_all, outputs_of_all = _array(x), _array(y)
            blocks = _blocks(module, module.weight)
            for part in in_parts(0, blocks.shape[1], blocks[0, 0].numel()):
                fitted = fit_few(
                    inputs_of_all, outputs_of_all[..., part], _by_block(module, part), ridge
                )
                _write(module, *fitted, part)

        return fit

    actions = {name: refit(name, dense) for name, dense in known.outputs.items()}
    with evaluating(pruned), before_call(pruned, actions):
        pruned(images)


def _array(samples: Tensor) -> Float:
    return np.asarray(samples.double().cpu().numpy())


def _blocks(module: Patched, tensor: Tensor) -> Tensor:
    """(B, outputs of a block, ...) of a weight or bias, as a view."""
    blocks: Tensor = tensor.unflatten(0, (getattr(module, "groups", 1), -1))
    return blocks


def _by_block(module: Patched, part: slice = ALL) -> Float:
    """The weight as (B, d, outputs of a block), of some of these outputs."""
    rows = _blocks(module, module.weight)[:, part].detach().flatten(2)
    return _array(rows).swapaxes(1, 2)


def fit_many(total: Totals, start: Float, ridge: float) -> tuple[Float, Float]:
    """Weights (B, d, o) and bias (B, o) of the ridge regression that is pulled to `start`.

    W = S + (G + λI)⁻¹(C − GS) from the covariances G of the inputs and C with the outputs, where λ
    is `ridge` times the mean variance of an input.
    """
    gram, cross = total.covariance("x", "x"), total.covariance("x", "y")
    d = gram.shape[-1]
    pull = ridge * np.maximum(np.trace(gram, axis1=1, axis2=2) / d, TINY)
    weight = start + np.linalg.solve(gram + pull[:, None, None] * np.eye(d), cross - gram @ start)
    return weight, total.mean("y") - np.einsum("bd,bdo->bo", total.mean("x"), weight)


def fit_few(x: Float, y: Float, start: Float, ridge: float) -> tuple[Float, Float]:
    """The same from fewer samples than inputs, x (n, B, d) and y (n, B, o), by n × n systems.

    (G + λI)⁻¹Xᵀ = Xᵀ(XXᵀ/(n − 1) + λI)⁻¹: nothing of size d × d is made.
    """
    n, _, d = x.shape
    inner, outer = x.mean(axis=0), y.mean(axis=0)
    rows, wanted = (x - inner).swapaxes(0, 1), (y - outer).swapaxes(0, 1)
    gram = rows @ rows.swapaxes(1, 2) / max(n - 1, 1)
    pull = ridge * np.maximum(np.trace(gram, axis1=1, axis2=2) / d, TINY)
    inverted = np.linalg.solve(gram + pull[:, None, None] * np.eye(n), wanted - rows @ start)
    weight = start + rows.swapaxes(1, 2) @ inverted / max(n - 1, 1)
    return weight, outer - np.einsum("bd,bdo->bo", inner, weight)


@torch.no_grad()
def _write(module: Patched, weight: Float, bias: Float, part: slice = ALL) -> None:
    """Write fitted weights and biases of some outputs of each block into the layer."""
    if module.bias is None:
        bias_of = module.weight.new_empty(len(module.weight))
        module.bias = nn.Parameter(bias_of, requires_grad=module.weight.requires_grad)
    rows = torch.from_numpy(weight.swapaxes(1, 2))
    for held, fitted in ((module.weight, rows), (module.bias, torch.from_numpy(bias))):
        into = _blocks(module, held)[:, part]
        into.copy_(fitted.reshape(into.shape))


def kept_outputs(
    model: nn.Module, kept: Mapping[Side, NDArray[np.int64]]
) -> dict[str, NDArray[np.int64]]:
    """Outputs that each convolution or linear layer of `model` keeps: name -> indices."""
    return {
        name: index
        for (name, role, _), index in kept.items()
        if role != "in" and isinstance(dict(model.named_modules()).get(name), COUNTED)
    }
