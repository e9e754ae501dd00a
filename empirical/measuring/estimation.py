"""From the grouped moments of each layer to a table of quantities with standard errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, reduce
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

from empirical.measuring.shares import SHARE, check_alike, check_apart
from empirical.measuring.table import AxisTable
from empirical.measuring.targets import first_component
from empirical.reading.groups import Groups
from empirical.reading.workers import workers
from theory import (
    QUANTITIES,
    ChannelAxes,
    Moments,
    PeerEstimates,
    channel_axes,
    merge,
)
from theory.hull import peer_order
from theory.shared.validation import Float, instance

OPTIONS = ("noise", "ridge", "peers", "top", "bias_correction", "hull", "estimate")
"""The settings of a measurement that `theory.channel_axes` takes."""


def tabulate(
    groups: Mapping[str, Groups],
    norms: Mapping[str, str | None],
    squared_norms: Mapping[str, Float],
    settings: Mapping[str, Any],
    skipped: Mapping[str, str],
) -> AxisTable:
    """Evaluate every quantity of every layer, and its delete-one-group replicates.

    Parameters
    ----------
    groups : layer name -> moments of each group of images, in order of execution
    norms : layer name -> name of the normalization that follows
    squared_norms : layer name -> (C,) squared norm of each channel's filter; a layer that is not
        in it gets no Rayleigh quotient
    settings : of the measurement
    skipped : layer name -> why it was not measured
    """
    if settings["standard_errors"]:
        _check_groups(groups, settings)
    evaluate = _Evaluation(settings, squared_norms)
    with workers() as pool:
        moments = dict(zip(groups, pool.map(Groups.total, groups.values()), strict=True))
        evaluate.peers.update(
            zip(groups, pool.map(evaluate.of_peers, groups, groups.values()), strict=True)
        )
        axes = dict(zip(moments, pool.map(evaluate, moments, moments.values()), strict=True))
        replicates: dict[str, dict[str, Float]] = {}
        if settings["standard_errors"]:
            orders = pool.map(evaluate.order_peers, moments.values())
            evaluate.orders.update(zip(moments, orders, strict=True))
            # all layers are submitted before any is awaited: small layers fill the gaps
            pending = {
                name: [pool.submit(evaluate.without, name, parts, g) for g in range(len(parts))]
                for name, parts in groups.items()
            }
            replicates = {
                name: _stacked([task.result() for task in tasks]) for name, tasks in pending.items()
            }
    return AxisTable(
        axes,
        replicates,
        moments,
        dict(groups),
        dict(norms),
        dict(settings),
        dict(squared_norms),
        skipped=dict(skipped),
        halves=Halves(evaluate, groups) if settings["standard_errors"] else {},
    )


def _check_groups(groups: Mapping[str, Groups], settings: Mapping[str, Any]) -> None:
    fewest = min(len(parts) for parts in groups.values())
    if fewest < settings["groups"]:
        raise ValueError(
            f"loader must yield at least groups = {settings['groups']} images for standard "
            f"errors; it gave {settings['n_images']}. Give more images, to each share as well; or "
            "pass fewer groups or standard_errors=False."
        )


class _Evaluation:
    """Evaluate `theory.channel_axes` with the settings of a measurement."""

    def __init__(self, settings: Mapping[str, Any], squared_norms: Mapping[str, Float]) -> None:
        self._options = {name: settings[name] for name in OPTIONS}
        self._images = settings["n_images"]
        self._grouped = settings["groups"] > 1 and settings["ridge"] == 0
        self._positions: dict[str, float] = {}
        self.peers: dict[str, PeerEstimates | None] = {}
        self.orders: dict[str, NDArray[np.intp] | bool] = {}
        # a one-entry filter of the same norm: channel_axes reads nothing but norms
        self._weights = {name: np.sqrt(norms)[:, None] for name, norms in squared_norms.items()}

    def of_peers(self, layer: str, groups: Groups) -> PeerEstimates | None:
        """Estimate what regresses on all peers inside and outside of groups, where there are any.

        A layer whose moments `channel_axes` refuses has none: it then says why.
        """
        total = groups.total()
        if not self._grouped or len(groups) < 2 or total.n is None or not _has_variance(total):
            return None
        self._positions.setdefault(layer, total.n / self._images)  # of all, not of a half
        return groups.peers(self._positions[layer])

    def __call__(
        self, layer: str, moments: Moments, peers: PeerEstimates | None = None, **changed: Any
    ) -> ChannelAxes:
        known = peers or self.peers.get(layer)
        try:
            return channel_axes(
                moments,
                weights=self._weights.get(layer),
                groups=known,
                samples_per_image=self._positions.get(layer, 1.0),
                **{**self._options, **changed},
            )
        except ValueError as error:
            raise ValueError(
                f"layer {layer!r}: {error} To leave it out, name the others in layers."
            ) from error

    def in_halves(self, layer: str, groups: Groups) -> dict[str, Float]:
        """(2, C) quantities of the even and of the odd groups; empty if a half has no two groups.

        The hull is left out: it takes longest, and nothing is asked of its halves.
        """
        parts = [groups[0::2], groups[1::2]]
        if len(groups) < 4 or not all(_has_variance(part.total()) for part in parts):
            return {}
        return _stacked(
            [
                self(layer, part.total(), self.of_peers(layer, part), hull=False, details=False)
                for part in parts
            ]
        )

    def order_peers(self, moments: Moments) -> NDArray[np.intp] | bool:
        """Return the order in which hulls take their peers, for replicates; False without hulls."""
        if not self._options["hull"]:
            return False
        return peer_order(moments, ridge=self._options["ridge"])

    def without(self, layer: str, groups: Groups, index: int) -> ChannelAxes:
        """Quantities of all samples that are not in one group.

        Hulls take their peers in the order of all samples; how many they need is found anew.
        """
        known = self.peers.get(layer)
        rest = known.without(index) if known else None
        return self(layer, groups.without(index), rest, hull=self.orders[layer], details=False)


class Halves(Mapping[str, Mapping[str, Float]]):
    """Quantities of both halves of the images, of the layers that have them.

    They take as long as the standard errors, which do not need them, and so are evaluated when one
    of them is read.
    """

    def __init__(self, evaluate: _Evaluation, groups: Mapping[str, Groups]) -> None:
        self._evaluate, self._groups = evaluate, groups

    @cached_property
    def _found(self) -> dict[str, dict[str, Float]]:
        with workers() as pool:
            found = pool.map(self._evaluate.in_halves, self._groups, self._groups.values())
            return {name: both for name, both in zip(self._groups, found, strict=True) if both}

    def __getitem__(self, layer: str) -> Mapping[str, Float]:
        return self._found[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


def _has_variance(moments: Moments) -> bool:
    power = np.diagonal(moments.cov)
    c = moments.n_channels
    return bool(power[:c].any() and (power[c:].any() or not moments.n_targets))


def _stacked(draws: Sequence[ChannelAxes]) -> dict[str, Float]:
    """Quantity -> (G, C)."""
    return {name: np.stack([getattr(axes, name) for axes in draws]) for name in QUANTITIES}


def project_to_first_component(
    groups: Mapping[str, Groups],
) -> tuple[dict[str, Groups], Float]:
    """Replace the targets, all logits, by their first principal component over all images.

    Returns the projected moments and the (q, 1) weights.
    """
    weights = first_component(next(iter(groups.values())).total())
    return {name: parts.project_targets(weights) for name, parts in groups.items()}, weights


def merge_tables(tables: Sequence[AxisTable]) -> AxisTable:
    """Return the table of all images together, from tables of disjoint shares of them.

    Each share is measured with `first_image`, the index of its first image in the whole, and the
    same settings otherwise; the result then equals that of one measurement of all images, up to
    rounding, however they were shared. Standard errors are as asked for in the shares. Foretold
    damages are averaged over the images: those with peers are of regressions within each share.

    Raises
    ------
    ValueError
        settings that differ; an image, or a row by `first_image`, that is in two shares; shares
        with fewer images than groups; tables loaded without the moments of groups; the target
        "logit_pc1", which depends on all images

    Examples
    --------
    `twoaxis measure --shard K/N` saves a share with ``moments="groups"``; `twoaxis merge` loads all
    and merges.
    """
    instance("tables", tables, Sequence, "Pass a list of AxisTables.")
    for table in tables:
        instance("tables", table, AxisTable, "Pass what measure returned.")
    if not tables:
        raise ValueError("tables must hold at least one AxisTable; got none.")
    first = tables[0]
    check_alike(tables, apart=("n_images", "first_image"))
    if any(table.layers != first.layers for table in tables):
        raise ValueError("tables to merge must have the same layers.")
    if first.settings["target"] == "logit_pc1" and len(tables) > 1:
        raise ValueError(
            "tables to merge must not have target 'logit_pc1': its direction depends on all "
            "images. Measure the shares with 'logit_margin' or 'true_logit'."
        )
    expected = first.settings["groups"]
    for table in tables:
        if any(len(table.groups.get(name, [])) != expected for name in first.layers):
            raise ValueError(
                f"tables to merge must keep the moments of their {expected} groups, and so have at "
                "least as many images each. Save them with moments='groups'."
            )
    check_apart(tables)
    groups = {
        name: Groups(merge(p) for p in zip(*(t.groups[name] for t in tables), strict=True))
        for name in first.layers
    }
    settings = {
        **{key: value for key, value in first.settings.items() if key != SHARE},
        "n_images": sum(table.settings["n_images"] for table in tables),
        "first_image": min(table.settings["first_image"] for table in tables),
    }
    whole = tabulate(groups, first.norms, first.squared_norms, settings, first.skipped)
    damage = {
        name: reduce(add, (t.damage[name] for t in tables))
        for name in first.layers
        if all(name in t.damage for t in tables)
    }
    digests = frozenset[bytes]().union(*(t.image_digests for t in tables))
    return replace(whole, image_digests=digests, damage=damage)
