"""Peer replacement: each channel becomes its regression on its peers, and the rest runs on.

At a least-squares readout the loss of a replacement is (1 - E_i) times that of the channel's mean
lesion, so the recovered fraction 1 - damage(replacement) / damage(mean lesion) is E_i (T5). A
trained network is not there, and only approximately linear: `ReplacementTable` holds both sides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from empirical.lesions.choosing import Choice, chosen_channels
from empirical.lesions.execution import Progress
from empirical.lesions.interventions import FromPeers, Job, ToConstant
from empirical.lesions.lesioning import (
    adapted,
    example_images,
    names_of,
    run_jobs,
)
from empirical.lesions.plan import METHODS, plan_runs
from empirical.lesions.replacement_table import ReplacementTable
from empirical.lesions.scores import Loss, cross_entropy
from empirical.measuring.calibration import calibrate
from empirical.measuring.damage_table import WITH_PEERS
from empirical.reading.layers import Layer, find_layers
from empirical.reading.networks import Adapter
from empirical.reading.sets import channel_sets
from empirical.seeding import checked_seed
from theory.peer_regression import PEERS, recovered_outside, regress_on_peers
from theory.shared.validation import Float, count, one_of, positive


def replace(
    model: nn.Module,
    loader: Iterable[object],
    calibration: Any,
    *,
    peers: str | Sequence[str] = ("all", "hull", "random"),
    layers: Sequence[str] | None = None,
    channels: Choice = None,
    size: int | None = None,
    draws: int = 1,
    ridge: float = 1e-4,
    point: str = "pre_norm",
    loss: Loss = cross_entropy,
    method: str = "fast",
    memory: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    adapt: Adapter | None = None,
) -> ReplacementTable:
    """Replace every channel, one at a time, by its ridge regression on its same-layer peers.

    The regression is fitted on calibration moments only, acts on the layer's own output (before
    the norm) or after its activation, and is compared on each image with the intact network and
    with the mean lesion at the same point.

    Parameters
    ----------
    model, loader, layers, loss, method, memory, progress, adapt : as for `lesion`
    calibration : the result of `measure`, layer name -> `Moments`, or a loader of calibration
        images
    peers : one or more of "all", "hull" (compact hull), "overlap" (the most overlapping) and
        "random"
    channels : layer name -> channels to replace, one at a time; or a number or "uncertain", as for
        `lesion`, by the damage that is foretold beside the peers
    size : of the sets "overlap" and "random"; None gives each channel the size of its hull
    draws : of "random": each channel is replaced by this many random sets
    ridge : on the diagonal of the correlation
    point : "pre_norm": the layer's own output. "post_activation": the output of the activation that
        directly follows it or its norm, with calibration and mean lesion at that point too; layers
        without one (those summed into a residual first) are left out.
    seed : of the random sets

    Raises
    ------
    ValueError
        As `lesion`; a layer with a single channel, which has no peers.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3))
    >>> generator = torch.Generator().manual_seed(0)
    >>> def images(n):
    ...     return [(torch.randn(n, 1, 2, 2, generator=generator), torch.arange(n) % 3)]
    >>> table = replace(model, images(9), images(50), peers="all")
    >>> frame = table.to_frame().query("kind == 'all'")
    >>> frame.predicted.round(3).tolist()  # three affine functions of one pixel: each says it all
    [1.0, 1.0, 1.0]
    """
    one_of("method", method, METHODS)
    if memory is not None:
        positive("memory", memory)
    checked_seed("seed", seed)
    named = [peers] if isinstance(peers, str) else list(peers)
    wanted = list(dict.fromkeys(one_of("peers", kind, PEERS) for kind in named))
    if not wanted:
        raise ValueError(
            f"peers must name at least one of {', '.join(map(repr, PEERS))}; got none. To lesion "
            "without replacing, call lesion."
        )
    positive("ridge", ridge, zero=True)
    repeats = count("draws", draws)
    if size is not None:
        count("size", size)
    model, loader, calibration = adapted(model, loader, calibration, adapt)
    example = example_images(model, loader)
    one_of("point", point, ("pre_norm", "post_activation"))
    sets_of = chosen_channels(model, channels, calibration, layers, point=point, name=WITH_PEERS)
    said = "layers" if sets_of is None else "channels"
    names = names_of(layers if sets_of is channels else None, sets_of)
    found = find_layers(model, example, names, argument=said)
    if point == "post_activation":
        found = _with_activation(found, names)
    _refuse_lonely(found)
    known = calibrate(model, calibration, found, point=point)
    jobs: list[Job] = []
    notes: list[tuple[Float, NDArray[np.intp], int]] = []
    rng = np.random.default_rng(seed)
    for layer in found:
        chosen = channel_sets(layer, sets_of)
        if chosen.shape[1] != 1:
            raise ValueError(
                f"channels[{layer.name!r}] must be single channels; got sets of "
                f"{chosen.shape[1]}. Replacing a set needs peers outside it: use lesion for sets."
            )
        mean, _ = known.of(layer)
        jobs.append(Job(layer, "mean", point, ToConstant(torch.from_numpy(mean.copy())), chosen))
        nothing = np.zeros(layer.n_channels)
        notes.append((nothing, nothing.astype(np.intp), 0))
        for kind in wanted:
            for draw in range(repeats if kind == "random" else 1):
                options: dict[str, Any] = {"peers": kind, "size": size, "ridge": ridge}
                sets = int(rng.integers(2**32))
                fit = regress_on_peers(
                    known.moments[layer.name], rng=np.random.default_rng(sets), **options
                )
                parts = known.groups.get(layer.name, ())
                foretold = fit.recovered
                if len(parts) > 1:
                    foretold = recovered_outside(parts, seed=sets, **options)
                change = FromPeers(
                    torch.from_numpy(fit.coefficients), torch.from_numpy(fit.intercepts)
                )
                jobs.append(Job(layer, kind, point, change, chosen))
                notes.append((foretold, fit.n_peers, draw))
    plan = plan_runs(model, example, jobs, method, memory)
    table = run_jobs(model, loader, jobs, plan, loss, known.images, progress)
    rows = [job.channels[:, 0].numpy() for job in jobs]
    settings = {"calibration": known.told, "seed": seed, "ridge": ridge, "size": size}
    return ReplacementTable(
        **(vars(table) | {"settings": settings}),
        predicted=np.concatenate([n[0][r] for n, r in zip(notes, rows, strict=True)]),
        n_peers=np.concatenate([n[1][r] for n, r in zip(notes, rows, strict=True)]),
        draw=np.repeat([n[2] for n in notes], [len(r) for r in rows]),
    )


def _refuse_lonely(layers: Sequence[Layer]) -> None:
    for layer in layers:
        if layer.n_channels < 2:
            raise ValueError(
                f"layers must have at least 2 channels; {layer.name!r} has 1, so no peer could "
                "replace it. Leave it out of layers."
            )


def _with_activation(layers: list[Layer], named: Sequence[str] | None) -> list[Layer]:
    kept = [layer for layer in layers if layer.activation is not None]
    missing = [layer.name for layer in layers if layer.activation is None]
    if missing and (named is not None or not kept):
        raise ValueError(
            "layers must be followed by an activation for point 'post_activation'; "
            f"{missing[0]!r} is not. Leave it out of layers, or use point='pre_norm'."
        )
    return kept
