"""Who is whose counterpart in two networks: by index, by moments, or by activations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import nn

from empirical.devices import placed
from empirical.measuring.description import median
from empirical.measuring.table import AxisTable
from empirical.reading.batches import batches
from empirical.reading.joint import CrossCorrelation, cross_correlations
from empirical.reading.layers import find_layers
from empirical.reading.networks import Adapter, opened
from empirical.reading.points import Tap, taps
from empirical.reading.positions import Sampler
from empirical.seeding import checked_seed
from theory import Moments
from theory.shared.validation import Float, count, indices
from theory.standardize import standardize

MATCHES = ("index", "moments")

SLIGHT = 1e-6
"""Weight of scale beside correlation: it decides between channels that are multiples of each other,
and is more than rounding makes of a correlation of 1."""

Indices = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Matching:
    """Counterparts of channels, layer by layer.

    Attributes
    ----------
    pairs : layer -> (channels of the first network, their counterparts in the second)
    correlation : layer -> (m,) correlation of counterparts on the same images; NaN where one is
        dead
    chance : layer -> median correlation of counterparts that the same assignment finds where the
        second network sees each time another image
    skipped : layer -> why it was not matched
    """

    pairs: Mapping[str, tuple[Indices, Indices]]
    correlation: Mapping[str, Float] = field(default_factory=dict)
    chance: Mapping[str, float] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)


def match_channels(
    first: nn.Module,
    second: nn.Module,
    loader: Iterable[object],
    *,
    layers: Sequence[str] | None = None,
    point: str = "pre_norm",
    positions: int = 16,
    seed: int = 0,
    adapt: Adapter | None = None,
    device: torch.device | str | None = None,
) -> Matching:
    """Find the counterparts whose outputs on the same images are most alike.

    Both networks run once over the images; per layer the correlations of all channels of one with
    all of the other are summed up, and the assignment with the largest total is taken (the
    Hungarian method). A permuted copy gives its permutation back, and of a pruned network each
    channel finds itself in the dense one. Separate trainings give what is most alike, which may be
    little: `correlation` says how much, `chance` how much would come of nothing.

    Parameters
    ----------
    first, second : two networks with layers of the same names, of any width
    loader : as in `measure`; labels are not read
    layers : dotted names; None means all that both have
    point, positions, seed, adapt, device : as in `measure`

    Raises
    ------
    TypeError, ValueError
        naming the argument, its value and the remedy: no layer in common, batches of one image, a
        layer that runs at other positions in one of the networks

    Examples
    --------
    >>> net = torch.nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> other = torch.nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> order = [2, 0, 3, 1]
    >>> _ = other[0].load_state_dict({k: v[order] for k, v in net[0].state_dict().items()})
    >>> images = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    >>> [c.tolist() for c in match_channels(net, other, [(images, torch.zeros(50))]).pairs["0"]]
    [[0, 1, 2, 3], [1, 3, 0, 2]]
    """
    networks = opened(first, adapt), opened(second, adapt)
    place = placed(networks[0], device)
    networks[1].to(place)
    stream = batches(loader if adapt is None else adapt.loader(loader), place, classes=False)
    batch = next(stream)
    if len(batch.images) < 2:
        raise ValueError(
            "loader must give batches of at least 2 images, since chance is measured by exchanging "
            "them; the first has 1. Raise the batch size."
        )
    tapped, skipped = _tapped(networks, batch.images, layers, point)
    sampler = Sampler(count("positions", positions), seed=checked_seed("seed", seed), device=place)
    found = cross_correlations(networks, tapped, batch, stream, sampler)
    pairs, correlation, chance = {}, {}, {}
    for name, cross in found.items():
        pairs[name] = assigned(_likeness(cross, cross.same))
        correlation[name] = cross.same[pairs[name]]
        chance[name] = median(cross.other[assigned(_likeness(cross, cross.other))])
    return Matching(pairs, correlation, chance, skipped)


def _tapped(
    networks: tuple[nn.Module, nn.Module],
    example: torch.Tensor,
    layers: Sequence[str] | None,
    point: str,
) -> tuple[dict[str, tuple[Tap, Tap]], dict[str, str]]:
    """The taps of layers that both networks have, and why others are left out."""
    sides: list[dict[str, Tap]] = []
    skipped: dict[str, str] = {}
    for network in networks:
        found, without = taps(
            find_layers(network, example, layers), point, strict=layers is not None
        )
        sides.append({tap.layer.name: tap for tap in found})
        skipped |= without
    shared = [name for name in sides[0] if name in sides[1]]
    if not shared:
        raise ValueError(
            f"first and second must have layers of the same names; first has {list(sides[0])[:3]}, "
            f"second {list(sides[1])[:3]}. Build both by the same code."
        )
    skipped |= {n: "only one network has it" for n in {*sides[0], *sides[1]} if n not in shared}
    return {name: (sides[0][name], sides[1][name]) for name in shared}, skipped


def _likeness(cross: CrossCorrelation, correlation: Float) -> Float:
    """Correlation; where that ties, the pair of like scale. Dead channels are like dead ones."""
    a, b = (np.log(np.maximum(side, np.finfo(float).tiny)) for side in cross.deviation)
    alike = np.exp(-np.abs(a[:, None] - b))
    return np.asarray(np.nan_to_num(correlation) + SLIGHT * alike)


def assigned(likeness: Float) -> tuple[Indices, Indices]:
    """The pairs (rows, columns) whose likeness is largest in total, each used once.

    >>> [side.tolist() for side in assigned(np.array([[0.0, 1.0], [0.9, 1.0]]))]
    [[0, 1], [1, 0]]
    """
    rows, columns = linear_sum_assignment(likeness, maximize=True)
    return np.asarray(rows, np.intp), np.asarray(columns, np.intp)


def match_tables(
    a: AxisTable, b: AxisTable, layer: str, match: str | Mapping[str, Sequence[int]]
) -> tuple[Indices, Indices]:
    """Counterparts of one layer from the tables alone: by index, by moments, or as given.

    Raises
    ------
    ValueError
        by index, layers of other sizes; by moments, tables that hold none; as given, channels that
        are not there
    """
    sizes = [table[layer].signal_power.size for table in (a, b)]
    if not isinstance(match, str):
        if layer in match:
            kept = indices(f"match[{layer!r}]", np.asarray(match[layer]), sizes[0], distinct=True)
            if len(kept) != sizes[1]:
                raise ValueError(
                    f"match[{layer!r}] must name a channel of a for each of the {sizes[1]} "
                    f"channels of b; got {len(kept)}."
                )
            return kept, np.arange(sizes[1])
        match = "index"
    if match == "index":
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"match='index' needs layers of equal size; {layer!r} has {sizes[0]} channels in a "
                f"and {sizes[1]} in b. Pass match=match_channels(first, second, loader), or which "
                "channels were kept."
            )
        return np.arange(sizes[0]), np.arange(sizes[0])
    for name, table in (("a", a), ("b", b)):
        if layer not in table.moments:
            raise ValueError(
                f"{name} must hold moments to match by them; layer {layer!r} has none. Save "
                "tables with moments='total'."
            )
    return assigned(-_distance(_signature(a.moments[layer]), _signature(b.moments[layer])))


def _signature(moments: Moments) -> list[Float]:
    """What does not depend on the order of channels: own statistics, and sorted correlations."""
    layer = standardize(moments)
    c = moments.n_channels
    scale = np.sqrt(layer.power[layer.live].mean()) if layer.live.size else 1.0
    own = np.column_stack([np.sqrt(layer.power), moments.mean[:c]]) / scale
    toward = np.zeros(c)
    toward[layer.live] = np.sqrt((layer.loadings**2).sum(1))
    correlation = np.zeros((c, c))
    correlation[np.ix_(layer.live, layer.live)] = layer.correlation
    np.fill_diagonal(correlation, 1.0)
    levels = np.quantile(correlation, np.linspace(0, 1, min(c, 65)), axis=1).T
    return [np.column_stack([own, toward]), levels]


def _distance(a: list[Float], b: list[Float]) -> Float:
    """(C_a, C_b): mean squared differences of both parts of the signatures."""
    total = np.zeros((len(a[0]), len(b[0])))
    for x, y in zip(a, b, strict=True):
        if x.shape[1] != y.shape[1]:  # a small layer: as many levels as the smaller one has
            fewer = min(x.shape[1], y.shape[1])
            x, y = (
                np.array(
                    [np.interp(np.linspace(0, 1, fewer), np.linspace(0, 1, len(r)), r) for r in z]
                )
                for z in (x, y)
            )
        total += ((x[:, None] - y[None]) ** 2).mean(2)
    return total
