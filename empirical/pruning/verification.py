"""Is a smaller network the one that was meant? Traced again, and run beside its masked form.

Masked and removed are two roads to one network: one silences the channels where they are *read*
and gives norms the statistics of those that stay, the other cuts tensors. Masking is exact for
every group that the trace lets through, since whatever else mixes channels (norms in a forward that
are no module, a softmax over channels, functional layers, parametrized weights) keeps them whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from empirical.pruning.channel_graph import Group
from empirical.pruning.label_rules import label_channels
from empirical.pruning.labels import Atoms, Indices
from empirical.pruning.removal import DOES_NOT_RUN, Kept, cut, kept_channels, mask
from empirical.reading.apart import image_by_image
from empirical.reading.hooks import evaluating, module_at
from empirical.reading.networks import copied
from empirical.reading.outputs import apart, moved_by_images

ASLEEP = 1e-3
"""Layer scales start at 1e-6 to 1e-4, gates and the last norms of residual branches at 0."""

FIXED = "a forward arranges its channels by fixed numbers"


def misread(
    model: nn.Module, example: Tensor, groups: Sequence[Group], kept: Kept | None = None
) -> dict[str, str]:
    """Producers whose channels cannot be cut as `groups` say, with the reason.

    All but `kept` are cut from a copy (by default three times, about half of the units of every
    group, no two neighbouring groups alike: at random twice, then the first ones, which halves and
    other parts that a forward takes by share cannot balance). It must run, tie the channels that
    stay as the whole network does, and compute what the masked network computes. Where it does
    not, halves of the groups are tried, down to the single ones that fail.
    """
    if kept is None:
        model = _awake(model)
        draws = (
            {g.name: _about_half(i + n, g.units, last=n == 2) for i, g in enumerate(groups)}
            for n in range(3)
        )
        return next(
            (found for draw in draws if (found := misread(model, example, groups, draw))), {}
        )
    smaller = copied(model)
    for side, indices in kept_channels(smaller, groups, kept).items():
        cut(smaller, side, indices)
    try:
        labels = label_channels(smaller, example, whole=model)
        moved = _rearranged(model, groups, kept, labels)
        if not moved:
            check_same(smaller, mask(model, groups, kept), example)
    except DOES_NOT_RUN as error:
        reason = f"the network fails without some of them ({_short(error)})"
        if len(groups) == 1:
            return _producers(groups, reason)
        middle = len(groups) // 2
        found = misread(model, example, groups[:middle], kept)
        found |= misread(model, example, groups[middle:], kept)
        return found or _producers(groups, reason)
    return _producers(moved, FIXED)


def not_apart(model: nn.Module, images: Tensor, groups: Sequence[Group]) -> dict[str, str]:
    """Producers whose channels some layer reads without regard to the image, with the reason.

    No image could then be told from another in what that layer reads, which merging and every
    score of inputs need: a network over positions that makes the bias of an attention, say.
    """
    readers = [(group, member.module) for group in groups for member in group.consumers]
    images = images if len(images) > 1 else torch.cat([images, images.flip(-1)])
    apart = image_by_image(model, images, dict.fromkeys(name for _, name in readers))
    return {
        m.module: f"{name!r}, which reads its channels, does not keep images apart"
        for group, name in readers
        if not apart.get(name, True)
        for m in group.producers
    }


def check_same(removed: nn.Module, masked: nn.Module, images: Tensor) -> None:
    """Raise ValueError where two networks differ on `images` by more than rounding.

    What the masked network makes no number is not compared: zero times an infinite weight says
    nothing of channels.
    """
    with evaluating(removed), evaluating(masked):
        one, other = removed(images), masked(images)
        moved = moved_by_images(masked, images, other)
    if difference := apart(one, other, moved):
        raise ValueError(
            f"removed and masked outputs differ by {difference:.1e} where images move them by "
            f"{moved:.1e}"
        )


def _producers(groups: Sequence[Group], reason: str) -> dict[str, str]:
    return {m.module: reason for group in groups for m in group.producers}


@torch.no_grad()
def _awake(model: nn.Module) -> nn.Module:
    """A copy in which no scale is still next to zero throughout: behind it nothing would show."""
    model = copied(model)
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.named_parameters():
        silent = tensor.numel() and float(tensor.min()) == float(tensor.max())
        if silent and abs(float(tensor.max())) < ASLEEP and name.rpartition(".")[2] != "bias":
            inputs = tensor[0].numel() if tensor.ndim else 1
            tensor.copy_((torch.rand(tensor.shape, generator=generator) + 0.5) / inputs)
    return model


def _about_half(place: int, units: int, *, last: bool) -> Indices:
    """Between a third and two thirds of the units, at least one, fewer than all."""
    share = 1 / 3 + (place * 0.618) % 1 / 3
    count = min(max(1, round(share * units)), units - 1)
    if last:
        return np.arange(units - count, units)
    return np.sort(np.random.default_rng(place).permutation(units)[:count])


def _rearranged(model: nn.Module, groups: Sequence[Group], kept: Kept, atoms: Atoms) -> list[Group]:
    """Groups of which a unit that stays is no longer one component, or no longer by itself."""
    parts, _ = atoms.components()
    sides = kept_channels(model, groups, kept)
    owners: dict[int, tuple[str, int]] = {}
    wrong: dict[str, Group] = {}
    for group in groups:
        component: dict[int, int] = {}
        for member in group.members:
            if module_at(model, member.module) is None:
                continue  # a bare parameter that is cut wrongly does not fit
            if (member.module, member.role) not in parts:
                raise ValueError(f"{member.module} turns into a depthwise layer")
            found = parts[member.module, member.role]
            place = np.searchsorted(sides[member.module, member.role, member.dim], member.index)
            for unit in kept[group.name].tolist():
                for c in found[place[unit]].tolist():
                    first = component.setdefault(unit, c)
                    if first != c or owners.setdefault(c, (group.name, unit)) != (group.name, unit):
                        wrong[group.name] = group
    return list(wrong.values())


def _short(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
