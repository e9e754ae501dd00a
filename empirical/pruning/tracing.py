"""From the labels of one forward pass to the groups of channels that can be removed.

What a trace cannot see, such as channel numbers written into a forward, is found by trying: half
of every group is cut from a copy, and the copy is traced again (`verification.py`). Groups that
then do not run, or tie other channels together than before, are kept whole.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np
import torch
from torch import Tensor, nn

from empirical.devices import undisturbed
from empirical.pruning.channel_graph import ChannelGraph, Group, Member, with_costs
from empirical.pruning.label_rules import label_channels
from empirical.pruning.labels import Atoms, Indices, Key
from empirical.pruning.macs import COUNTED, positions
from empirical.pruning.removal import DOES_NOT_RUN
from empirical.pruning.verification import misread, not_apart
from empirical.reading.hooks import evaluating, module_at
from empirical.reading.outputs import answered, one_tensor
from theory.shared.validation import one_of

IDLE = "no image that was traced runs it, so it may read channels that are gone"


@undisturbed()
def trace_channels(
    model: nn.Module,
    images: Tensor,
    *,
    skip: Sequence[str] = (),
    coupled: bool = True,
    refused: Mapping[str, str] | None = None,
) -> ChannelGraph:
    """Trace `model` on `images` (n, ...) and return its removable channel groups.

    The fewest images are traced that run every layer that any of them runs: a forward may send
    images different ways. Multiply-accumulates are those of the first one.
    Groups that a layer of `skip` computes or, depthwise, hands on stay whole, and without `coupled`
    those that a residual sum joins from several producers. `skip` names layers, stages ("layer1" is
    all of "layer1.…") or patterns ("layer?.*.conv2"); `refused` names layers with other reasons.
    The model itself is left as it is.

    Raises ValueError where the model does not run on the example, where no group can be removed,
    and for a name in `skip` that fits no layer; TypeError where it returns no tensor.

    >>> import torch
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    >>> graph = trace_channels(net, torch.zeros(1, 1, 4, 4))
    >>> [(group.name, group.units, group.consumers[0].index.shape) for group in graph.groups]
    [('0', 4, (4, 4))]
    """
    try:
        example = covering(model, images)
        layers = list(positions(model, example))
        atoms = label_channels(model, example)
    except DOES_NOT_RUN as error:
        with evaluating(model):
            answered(model, images)  # which names shape and type where they are what it refuses
        raise ValueError(
            f"model ({type(model).__name__}) could not be traced: {error}. Its forward must run on "
            "one image and return tensors."
        ) from error
    with evaluating(model):
        one_tensor(model(example))
    several = example if len(example) > 1 else images[:2]
    skipped = dict.fromkeys(matching(skip, layers), "named in skip") | dict(refused or {})
    while True:
        groups, kept_whole = _groups(model, atoms, layers, skipped, coupled)
        if not groups:
            raise ValueError(
                "model has no channels that can be removed"
                + "".join(f"; {name}: {reason}" for name, reason in kept_whole.items())
                + ". It needs a hidden convolution or linear layer that another one reads."
            )
        wrong = misread(model, example, groups) or not_apart(model, several, groups)
        if not wrong:
            return with_costs(groups, kept_whole | _idle(model, atoms, layers), model, example)
        skipped |= wrong


def _idle(model: nn.Module, atoms: Atoms, layers: Sequence[str]) -> dict[str, str]:
    """Layers that no image ran and whose weight nothing else read, such as training's heads."""
    busy = {*layers, *(name.rpartition(".")[0] for name in atoms.read)}
    counted = (n for n, m in model.named_modules() if isinstance(m, COUNTED) and n not in busy)
    return dict.fromkeys(counted, IDLE)


def covering(model: nn.Module, images: Tensor) -> Tensor:
    """The first of the images, and those that run layers which none before them runs."""
    every, chosen = set(positions(model, images)), images[:1]
    for image in images[1:].split(1):
        found = set(positions(model, chosen))
        if found == every:
            break
        if set(positions(model, image)) - found:
            chosen = torch.cat([chosen, image])
    return chosen


def matching(skip: Iterable[str], layers: Sequence[str]) -> list[str]:
    """Layers that the names, stages and patterns of `skip` mean."""
    if isinstance(skip, str):
        raise TypeError(
            f"skip must be a sequence of names; got the text {skip!r}. Pass [{skip!r}]."
        )
    found: list[str] = []
    stages = {layer.rsplit(".", n)[0] for layer in layers for n in range(layer.count(".") + 1)}
    for name in skip:
        meant = [
            layer
            for layer in layers
            if layer == name or layer.startswith(f"{name}.") or fnmatchcase(layer, name)
        ]
        if not meant:
            one_of("skip", name, sorted({*layers, *stages}))
        found += meant
    return found


Signature = tuple[tuple[Key, int], ...]
"""Which sides a component has channels on, and how many: units of one group have the same."""


class _Components:
    """What is tied together, and which components are alike."""

    def __init__(self, atoms: Atoms) -> None:
        self.of_side, self.frozen = atoms.components()
        self.held: dict[int, dict[Key, list[int]]] = defaultdict(lambda: defaultdict(list))
        for key, components in self.of_side.items():
            for i, component in enumerate(components.tolist()):
                self.held[component][key].append(i)
        self.signature: dict[int, Signature] = {
            component: tuple((key, len(indices)) for key, indices in sides.items())
            for component, sides in self.held.items()
        }
        self.alike: dict[Signature, list[int]] = defaultdict(list)
        for component, signature in self.signature.items():
            self.alike[signature].append(component)

    def why_not(self, layer: str, bad: Mapping[int, str], coupled: bool) -> str | None:
        """Why the outputs of a layer cannot be removed; None if they can."""
        components = self.of_side[layer, "out"].tolist()
        for component in components:
            if component in bad:
                return bad[component]
        signature = self.signature[components[0]]
        if not any(role == "in" for (_, role), _ in signature):
            return "no layer reads its channels"
        if any(self.signature[c] != signature for c in components):
            return "its channels are not alike: only some of them meet those of another layer"
        if len(self.alike[signature]) < 2:
            return "its channel groups leave a single unit"
        if not coupled and sum(role == "out" for (_, role), _ in signature) > 1:
            return "coupled by a residual sum, and coupled=False"
        return None


def _groups(
    model: nn.Module, atoms: Atoms, layers: list[str], skipped: Mapping[str, str], coupled: bool
) -> tuple[tuple[Group, ...], dict[str, str]]:
    """Classes of components that are alike, and the producers that are kept whole."""
    components = _Components(atoms)
    producers = [name for name in layers if (name, "out") in components.of_side]
    kept_whole = _kept_whole(components, producers, skipped, coupled)
    groups = []
    for signature, alike in components.alike.items():
        names = [name for (name, role), _ in signature if role == "out"]
        if not names or any(name in kept_whole for name in names):
            continue
        members = [
            _member(model, key, np.array([components.held[c][key] for c in alike]))
            for key, _ in signature
        ]
        whole = tuple(member for member in members if member is not None)
        if len(whole) < len(members):
            kept_whole |= dict.fromkeys(names, "its channels are a part of a parameter's")
        else:
            groups.append(_in_call_order(whole, len(alike), layers))
    groups.sort(key=lambda group: layers.index(group.name))
    return tuple(groups), {name: kept_whole[name] for name in layers if name in kept_whole}


def _kept_whole(
    components: _Components, producers: list[str], skipped: Mapping[str, str], coupled: bool
) -> dict[str, str]:
    """Producers that stay, with the reason; what is tied to one that stays, stays too."""
    found: dict[str, str] = {}
    bad = dict(components.frozen)
    for (name, role), indices in components.of_side.items():
        if name in skipped and role != "in":
            hands_on = f"{name!r} hands its channels on: " if role == "through" else ""
            bad |= dict.fromkeys(indices.tolist(), hands_on + skipped[name])
    while True:
        before = len(bad)
        for name in producers:
            reason = components.why_not(name, bad, coupled)
            if reason is not None:
                found.setdefault(name, reason)
                for c in components.of_side[name, "out"].tolist():
                    bad.setdefault(c, reason)
        if len(bad) == before:
            return found


def _member(model: nn.Module, key: Key, index: Indices) -> Member | None:
    """A member by name; None where units are not whole slices of a bare parameter."""
    name, role = key
    if module_at(model, name) is not None:
        return Member(name, role, index)
    owner, _, attribute = name.rpartition(".")
    shape = getattr(model.get_submodule(owner), attribute).shape
    for dim, coordinates in enumerate(np.unravel_index(index, shape)):
        slices = [np.unique(row) for row in coordinates]
        whole = index.shape[1] * shape[dim] // int(np.prod(shape))
        if shape[dim] > 1 and all(len(s) == whole for s in slices):
            return Member(name, role, np.stack(slices), dim)
    return None


def _in_call_order(members: tuple[Member, ...], units: int, calls: list[str]) -> Group:
    """Name the group by its first producer, producers and consumers as the forward meets them."""

    def place(member: Member) -> int:
        return calls.index(member.module) if member.module in calls else len(calls)

    ordered = tuple(sorted(members, key=place))
    first = next(m for m in ordered if m.role == "out")
    order = np.argsort(first.index[:, 0])
    return Group(
        first.module,
        units,
        tuple(Member(m.module, m.role, m.index[order], m.dim) for m in ordered),
    )
