"""The angle between the two axes' gradients with respect to each channel's weights.

For a channel Y = wᵀX with D = Var(Y), b = Cov(Y, T) and c = Cov(X, T),

    ∇_w I_X ∝ Σw,    ∇_w I_T ∝ b (c - (b/D) Σw),

so their cosine needs Σw and c only. And Σw = Cov(X, Y): the covariance of the input patches with
the channels, by linearity, which costs d × C numbers per layer where Σ itself would cost d × d.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from empirical.measuring.targets import TargetFunction, evaluate_target, target_function
from empirical.reading.batches import batches
from empirical.reading.hooks import evaluating
from empirical.reading.layers import Layer, find_layers
from empirical.reading.positions import Sampler
from theory.rank_coupling import jackknife_standard_error
from theory.shared.validation import count


@dataclass(frozen=True, eq=False)
class GradientGeometry:
    """Cosines of the capture and the task gradient.

    Attributes
    ----------
    cosines : layer name -> (C,) Euclidean cosines; NaN for a channel without variance
    replicates : layer name -> (G, C) the same without one group of images at a time
    dimensions : layer name -> d, the number of weights of one channel. Random directions in d
        dimensions have a mean absolute cosine of about √(2/(πd))
    """

    cosines: dict[str, np.ndarray]
    replicates: dict[str, np.ndarray]
    dimensions: dict[str, int]

    def to_frame(self) -> pd.DataFrame:
        """One row per channel: `layer`, `channel`, `cosine`, `cosine_se`."""
        return pd.concat(
            [
                pd.DataFrame(
                    {
                        "layer": name,
                        "channel": np.arange(len(values)),
                        "cosine": values,
                        "cosine_se": jackknife_standard_error(self.replicates[name]),
                    }
                )
                for name, values in self.cosines.items()
            ],
            ignore_index=True,
        )

    def by_layer(self) -> pd.DataFrame:
        """One row per layer: mean absolute cosine, its standard error, d, and that of chance."""
        rows = []
        for name, values in self.cosines.items():
            replicates = np.nanmean(np.abs(self.replicates[name]), axis=1)
            rows.append(
                {
                    "layer": name,
                    "mean_absolute_cosine": np.nanmean(np.abs(values)),
                    "mean_absolute_cosine_se": float(jackknife_standard_error(replicates)),
                    "dimension": self.dimensions[name],
                    "random_directions": np.sqrt(2 / (np.pi * self.dimensions[name])),
                }
            )
        return pd.DataFrame(rows)


def gradient_cosines(
    model: nn.Module,
    loader: Iterable[object],
    *,
    target: str | TargetFunction = "logit_margin",
    layers: Sequence[str] | None = None,
    positions: int = 16,
    groups: int = 10,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> GradientGeometry:
    """Cosine of ∇_w I_X and ∇_w I_T for every channel, from one pass over `loader`.

    Memory: 8 bytes per group and weight of the measured layers.

    Parameters
    ----------
    model, loader, target, positions, groups, seed, device : as in `empirical.measure`; the target
        must be scalar
    layers : dotted names of Conv2d and Linear layers; None means all of them

    Raises
    ------
    TypeError, ValueError
        naming the argument, its value and the remedy

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> images = torch.randn(40, 3, 8, 8, generator=generator)
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 5))
    >>> found = gradient_cosines(model, [(images, torch.arange(40) % 5)])
    >>> found.by_layer()[["layer", "dimension"]].values.tolist()
    [['0', 27]]
    """
    if device is not None:
        model.to(device)
    place = next(chain(model.parameters(), [torch.empty(0)])).device
    function = target_function(target)
    sampler = Sampler(
        "positions",
        count("positions", positions),
        count("groups", groups, least=2),
        count("seed", seed, least=0),
        place,
    )
    stream = batches(loader, place)
    first = next(stream)
    chosen = _supported(find_layers(model, first[0], layers), strict=layers is not None)
    sums = {layer.name: _Sums(groups) for layer in chosen}
    n_images = 0
    with evaluating(model), ExitStack() as stack:
        for layer in chosen:
            hook = _reader(layer.module, sums[layer.name], sampler)
            stack.enter_context(layer.module.register_forward_hook(hook))
        for images, labels in chain([first], stream):
            sampler.begin(n_images, len(images))
            t = evaluate_target(function, model(images), labels)[sampler.order]
            if t.shape[1] != 1:
                raise ValueError(
                    f"target must be scalar for a gradient direction; got {t.shape[1]} columns."
                )
            for layer in chosen:
                sums[layer.name].add(t[:, 0], sampler.images_per_group)
            n_images += len(images)
    if n_images < groups:
        raise ValueError(f"loader must yield at least groups = {groups} images; got {n_images}.")
    return GradientGeometry(
        {name: total.cosines(None) for name, total in sums.items()},
        {
            name: np.stack([total.cosines(group) for group in range(groups)])
            for name, total in sums.items()
        },
        {layer.name: layer.module.weight[0].numel() for layer in chosen},
    )


def input_patches(module: nn.Conv2d | nn.Linear, inputs: Tensor, places: Tensor) -> Tensor:
    """Return what channels see at some positions of their map: (n, P, groups, d), d as in weights.

    Parameters
    ----------
    module : Conv2d, grouped or not, or Linear
    inputs : its input, images first
    places : (n, P) positions on the flattened map of the output
    """
    n = len(inputs)
    rows = torch.arange(n, device=inputs.device)[:, None]
    if isinstance(module, nn.Linear):
        return inputs.reshape(n, -1, inputs.shape[-1])[rows, places][:, :, None]
    # the padding of any mode, also of "same", as the convolution itself applies it
    padding = module._reversed_padding_repeated_twice
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    padded = functional.pad(inputs, padding, mode=mode)
    size, stride, step = module.kernel_size, module.stride, module.dilation
    width = (padded.shape[3] - step[1] * (size[1] - 1) - 1) // stride[1] + 1
    y = (places // width * stride[0])[..., None, None] + step[0] * torch.arange(
        size[0], device=inputs.device
    ).reshape(-1, 1)
    x = (places % width * stride[1])[..., None, None] + step[1] * torch.arange(
        size[1], device=inputs.device
    )
    found = padded.permute(0, 2, 3, 1)[rows[..., None, None], y, x]  # (n, P, k, k, channels)
    found = found.permute(0, 1, 4, 2, 3)
    return found.reshape(n, places.shape[1], module.groups, -1)


def _supported(layers: list[Layer], *, strict: bool) -> list[Layer]:
    kept = [layer for layer in layers if isinstance(layer.module, (nn.Conv2d, nn.Linear))]
    if (strict and len(kept) < len(layers)) or not kept:
        other = next(layer for layer in layers if layer not in kept)
        raise ValueError(
            f"layers must be Conv2d or Linear; {other.name!r} is {type(other.module).__name__}."
        )
    return kept


def _reader(module: nn.Module, sums: _Sums, sampler: Sampler) -> Callable[..., None]:
    def hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        dim = -1 if isinstance(module, nn.Linear) else 1
        size = output.numel() // (len(output) * output.shape[dim])
        places = sampler.chosen(size)
        patches = input_patches(module, inputs[0][sampler.order], places)
        sums.pending.append((patches.double(), sampler.take(output, dim).double()))

    return hook


@dataclass
class _Sums:
    """Sums over samples of products of X, Y and T, deviations from the first batch's mean.

    Blocks of a grouped convolution are kept apart: x (G, blocks, d), y (G, blocks, C / blocks).
    """

    groups: int
    pending: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    shifts: tuple[Tensor, Tensor, Tensor] | None = None
    totals: dict[str, Tensor] = field(default_factory=dict)

    def add(self, targets: Tensor, images_per_group: Sequence[int]) -> None:
        """Add the pending samples, whose targets (n,) are known by now."""
        patches = torch.cat([x for x, _ in self.pending], dim=1)
        outputs = torch.cat([y for _, y in self.pending], dim=1)
        self.pending.clear()
        outputs = outputs.unflatten(2, (patches.shape[2], -1))
        if self.shifts is None:
            self.shifts = patches.mean((0, 1)), outputs.mean((0, 1)), targets.mean()
        x, y, t = patches - self.shifts[0], outputs - self.shifts[1], targets - self.shifts[2]
        start = 0
        for group, n in enumerate(images_per_group):
            part = slice(start, start + n)
            start += n
            if n:
                self._add(group, x[part].flatten(0, 1), y[part].flatten(0, 1), t[part])

    def _add(self, group: int, x: Tensor, y: Tensor, t: Tensor) -> None:
        t = t.repeat_interleave(len(x) // len(t))
        flat = x.flatten(1)
        products = {
            "n": torch.tensor(float(len(x)), dtype=torch.float64),
            "x": x.sum(0),
            "y": y.sum(0),
            "t": t.sum(),
            "xy": torch.bmm(x.permute(1, 2, 0), y.permute(1, 0, 2)),
            "xt": (flat.T @ t).reshape(x.shape[1:]),
            "yy": y.square().sum(0),
            "yt": (y.flatten(1).T @ t).reshape(y.shape[1:]),
        }
        for name, value in products.items():
            if name not in self.totals:
                self.totals[name] = value.new_zeros(self.groups, *value.shape)
            self.totals[name][group] += value

    def cosines(self, left_out: int | None) -> np.ndarray:
        """(C,) cosines from all groups, or all but one."""
        s = {
            name: (value.sum(0) if left_out is None else value.sum(0) - value[left_out])
            for name, value in self.totals.items()
        }
        n = s["n"]
        capture = s["xy"] - s["x"][:, :, None] * s["y"][:, None] / n  # Σw, (blocks, d, C / blocks)
        cross = s["xt"] - s["x"] * s["t"] / n  # c, (blocks, d)
        power = s["yy"] - s["y"] ** 2 / n
        with_target = s["yt"] - s["y"] * s["t"] / n
        slope = with_target / power
        residual = cross[:, :, None] - slope[:, None] * capture
        inner = (capture * residual).sum(1)
        lengths = capture.square().sum(1) * residual.square().sum(1)
        cosine = torch.sign(with_target) * inner / lengths.sqrt()
        return torch.where(power > 0, cosine, torch.nan).flatten().cpu().numpy()
