"""Both axes of attention heads: each head a block of channels, the other heads its peers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from empirical.devices import placed
from empirical.measuring.estimation import project_to_first_component
from empirical.measuring.measurement import GROUPS, warn_of_few
from empirical.measuring.targets import (
    TargetFunction,
    batch_target,
    reads_classes,
    target_function,
)
from empirical.reading.attention import Heads, with_readable_heads
from empirical.reading.batches import batches, warn_of_copies
from empirical.reading.groups import grouped_moments
from empirical.reading.networks import Adapter, opened
from empirical.reading.positions import Sampler
from empirical.reading.readings import WITH_TARGET, HeadOutputs
from empirical.reading.recorder import Recorder
from empirical.reading.sums import Sums
from empirical.seeding import checked_seed
from theory import BlockAxes, Moments, block_axes_of_groups, jackknife_standard_error
from theory.shared.validation import Float, count

if TYPE_CHECKING:
    import pandas as pd

QUANTITIES = tuple(each.name for each in fields(BlockAxes))


@dataclass(frozen=True, eq=False)
class HeadTable:
    """What `measure_heads` measured, by attention. Information in nats.

    Attributes
    ----------
    heads : attention -> its heads: how many, how wide, and which projection reads them
    axes : attention -> `BlockAxes`, a value for each head
    replicates : attention -> quantity -> (G, H) values without one group of images at a time
    moments : attention -> `Moments` of (Y, T), Y the channels of all heads
    groups : attention -> `Moments` per group of images
    readouts : attention -> (m, C) weights of its output projection
    skipped : attention -> why its heads were not measured
    settings : the arguments, and `n_images`
    image_digests : 16 bytes per image, so that lesions can refuse to evaluate on one of them
    """

    heads: Mapping[str, Heads]
    axes: Mapping[str, BlockAxes]
    replicates: Mapping[str, Mapping[str, Float]]
    moments: Mapping[str, Moments]
    groups: Mapping[str, Sequence[Moments]]
    readouts: Mapping[str, Float]
    skipped: Mapping[str, str]
    settings: Mapping[str, Any]
    image_digests: frozenset[bytes]

    def of(self, heads: Heads) -> Moments:
        """Return the moments of these very heads; raise ValueError where it holds others."""
        known = self.heads.get(heads.name)
        if known != heads:
            raise ValueError(
                f"calibration must hold the {heads.n_heads} heads of {heads.name!r}; it holds "
                f"{known.n_heads if known else 'no heads'} of it. Measure this very model."
            )
        return self.moments[heads.name]

    def to_frame(self) -> pd.DataFrame:
        """One row per head: `layer`, `head`, the quantities of `BlockAxes`, `<quantity>_se`."""
        import pandas as pd  # here, since importing pandas takes a second

        parts = []
        for name, axes in self.axes.items():
            columns: dict[str, Any] = {q: getattr(axes, q) for q in QUANTITIES}
            for quantity, values in self.replicates[name].items():
                columns[f"{quantity}_se"] = jackknife_standard_error(values)
            rows = np.arange(self.heads[name].n_heads)
            parts.append(pd.DataFrame({"layer": name, "head": rows, **columns}))
        return pd.concat(parts, ignore_index=True)


def measure_heads(
    model: nn.Module,
    loader: Iterable[object],
    *,
    target: str | TargetFunction = "logit_margin",
    layers: Sequence[str] | None = None,
    positions: int = 16,
    groups: int = GROUPS,
    noise: str | float = "median",
    seed: int = 0,
    device: torch.device | str | None = None,
    adapt: Adapter | None = None,
) -> HeadTable:
    """Measure both axes of every attention head of `model` on the images of `loader`. In nats.

    A head is the block of channels that it hands to the output projection; tokens are positions,
    and its peers are the other heads of its attention. Attentions that torch and torchvision
    compute inside of one function (`nn.MultiheadAttention`, Swin's windows) are read in a copy of
    the model that is checked to compute the same.

    Parameters
    ----------
    model, loader, target, noise, seed, device, adapt : as for `measure`
    layers : attentions, by dotted name; None means all whose heads can be read, the others listed
        in `skipped`
    positions : how many random tokens of each image; all where it has no more
    groups : of images, at least 2: for the jackknife, and since what regressions leave is judged
        inside and outside of groups (see `theory.block_axes_of_groups`)

    Raises
    ------
    ValueError
        no attention whose heads can be read; and as `measure`

    Examples
    --------
    >>> layer = nn.TransformerEncoderLayer(12, 3, 24, batch_first=True)
    >>> model = nn.Sequential(nn.Linear(6, 12), layer, nn.Flatten(), nn.Linear(60, 4)).eval()
    >>> generator = torch.Generator().manual_seed(0)
    >>> images = torch.randn(80, 5, 6, generator=generator)
    >>> labels = torch.randint(4, (80,), generator=generator)
    >>> measure_heads(model, [(images, labels)]).to_frame()[["layer", "head"]].values.tolist()
    [['1.self_attn', 0], ['1.self_attn', 1], ['1.self_attn', 2]]
    """
    model = opened(model, adapt)
    place = placed(model, device)
    settings: dict[str, Any] = {
        "target": target if isinstance(target, str) else "function",
        "positions": count("positions", positions),
        "groups": count("groups", groups, least=2),
        "noise": noise,
        "seed": checked_seed("seed", seed),
    }
    loader = loader if adapt is None else adapt.loader(loader)
    stream = batches(loader, place, classes=reads_classes(target))
    first = next(stream)
    twin, found, skipped = with_readable_heads(model, first.images[:2], layers)
    sums = {heads.name: Sums(WITH_TARGET, groups=groups, device=place) for heads in found}
    recorder = Recorder(
        [(HeadOutputs(heads), [sums[heads.name]]) for heads in found],
        Sampler(positions, groups=groups, seed=seed, device=place),
        target=batch_target(target_function(target)),
    )
    digests: set[bytes] = set()
    recorder.read(twin, chain([first], stream), digests)
    if not isinstance(loader, list | tuple):  # whoever lists batches sees that they repeat
        warn_of_copies(len(digests), recorder.n_images)
    settings["n_images"] = recorder.n_images
    if recorder.n_images < groups:
        raise ValueError(
            f"loader must yield at least groups = {groups} images; it gave {recorder.n_images}. "
            "Pass fewer groups."
        )
    parts = grouped_moments(sums, {})
    if target == "logit_pc1":
        parts, _ = project_to_first_component(parts)
    readouts = {heads.name: heads.readout(twin) for heads in found}
    axes: dict[str, BlockAxes] = {}
    replicates: dict[str, dict[str, Float]] = {}
    for heads in found:
        name, blocks = heads.name, list(heads.blocks)
        try:
            axes[name], draws = block_axes_of_groups(
                list(parts[name]), blocks, readout=readouts[name], noise=noise
            )
        except ValueError as error:
            raise ValueError(f"attention {name!r}: {error}") from error
        replicates[name] = {q: np.stack([getattr(draw, q) for draw in draws]) for q in QUANTITIES}
    moments = {name: part.total() for name, part in parts.items()}
    samples = {name: (part.n or 0) / part.n_channels for name, part in moments.items()}
    warn_of_few(samples, recorder.n_images)
    return HeadTable(
        {heads.name: heads for heads in found},
        axes,
        replicates,
        moments,
        parts,
        readouts,
        skipped,
        settings,
        frozenset(digests),
    )
