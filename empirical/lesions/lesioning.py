"""Lesions: one channel at a time, or given sets, silenced; damage against the intact network."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor, nn

from empirical.lesions.by_layer import lesion_by_layer
from empirical.lesions.choosing import Choice, chosen_channels
from empirical.lesions.execution import Progress, execute
from empirical.lesions.interventions import FromOtherImage, Intervention, Job, ToConstant
from empirical.lesions.kept import Kept
from empirical.lesions.plan import METHODS, Plan, plan_runs
from empirical.lesions.scores import Loss, cross_entropy
from empirical.lesions.table import LesionTable
from empirical.measuring.calibration import LayerMoments, calibrate, is_loader
from empirical.reading.batches import batches, leading
from empirical.reading.layers import Layer, find_layers
from empirical.reading.networks import Adapter, fingerprint, opened
from empirical.reading.repeated import repeated
from empirical.reading.sets import Sets, channel_sets
from empirical.seeding import checked_seed
from theory.shared.validation import called, instance, one_of, path_of, positive

KINDS = ("mean", "zero", "resample")
EXAMPLES = 4
"""Images on which layers are found and the fast way is compared with the naive one."""


def lesion(
    model: nn.Module,
    loader: Iterable[object],
    *,
    layers: Sequence[str] | None = None,
    channels: Choice = None,
    kinds: Sequence[str] = ("mean", "zero"),
    calibration: Any = None,
    loss: Loss = cross_entropy,
    method: str = "fast",
    memory: int | None = None,
    per_image: bool | str | os.PathLike[str] = True,
    seed: int = 0,
    progress: Progress | None = None,
    adapt: Adapter | None = None,
) -> LesionTable:
    """Silence every channel, one at a time, and measure what each image loses by it.

    Kind "mean" sets the layer's own output (before the norm) to the channel's mean over the
    calibration images; "zero" sets the norm's output to 0 (the layer's own output where no norm
    follows); "resample" gives each image the channel, before the norm, of another image.

    Parameters
    ----------
    model : any module from images to logits. It is left as it was, bit for bit.
    loader : (images, labels) to evaluate on, in any order; its first batch is read twice
    layers : dotted names; None means every convolution and hidden linear layer, those of one
        channel without "mean", since `measure` leaves them out
    channels : layer name -> channels, or sets of channels of equal size to lesion together, such as
        {"conv2": [(0, 3), (1, 4)]}. None means each channel of each layer. By the law of damage,
        with a `calibration` that foretells it (`measure(..., damage=True)`) or a loader: a number,
        so many channels of each layer, those that lose most; "uncertain", those whose place in
        their layer the law leaves open
    kinds : of "mean", "zero", "resample"
    calibration : for "mean": the result of `measure`, layer name -> `Moments`, or a loader of
        calibration images, which then may not be among the evaluation images
    loss : (outputs (N, ...) in float64, labels (N, ...)) -> loss of each image (N,). With a loss of
        your own, labels and outputs may have any form; accuracy and margin are NaN where labels
        are not the classes of at least 2 logits. The cross-entropy of one output is constant and
        is refused
    method : "fast" runs again only what a lesion changes; "naive" makes a forward pass per lesion.
        Equal up to rounding.
    memory : bytes that "fast" may use for activations; None for 2 GiB, or half of what is free on
        the CUDA device that the model is on
    per_image : whether the table holds the damage of every image, 16 bytes per lesion and image, or
        its sums alone, from which means and standard errors follow. A folder keeps the images'
        damages there, in a file per layer that `LesionTable.load` maps instead of reading it: the
        table returned holds sums, and layers that are in the folder already are not run again
    seed : of the donors of "resample"
    progress : called with (passes done, passes in all)
    adapt : an `Adapter`, where batches are not pairs or the model returns more than its outputs

    Raises
    ------
    ValueError
        An unknown layer, channel or kind; "mean" without calibration; images shared with
        calibration; a model that is not deterministic; `memory` too small for one lesion.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
    >>> images = torch.randn(6, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    >>> table = lesion(model, [(images, torch.arange(6) % 3)], kinds=["zero"])
    >>> table.to_frame()[["layer", "channel", "kind"]].values.tolist()
    [['0', 0, 'zero'], ['0', 1, 'zero']]
    """
    wanted = _kinds(kinds)
    one_of("method", method, METHODS)
    if memory is not None:
        positive("memory", memory)
    checked_seed("seed", seed)
    model, loader, calibration = adapted(model, loader, calibration, adapt)
    example = example_images(model, loader)
    sets_of = chosen_channels(model, channels, calibration, layers)
    said = "layers" if sets_of is None else "channels"
    names = names_of(layers if sets_of is channels else None, sets_of)
    found = find_layers(model, example, names, argument=said)
    known = LayerMoments({})
    alone = {layer.name for layer in found if names is None and layer.n_channels == 1}
    if "mean" in wanted:
        if calibration is None:
            raise ValueError(
                "calibration must be given for kind 'mean'; got None. Pass the result of "
                "measure(), or a loader of calibration images."
            )
        known = calibrate(model, calibration, [one for one in found if one.name not in alone])
    sets = {layer.name: channel_sets(layer, sets_of) for layer in found}
    jobs = [
        Job(layer, kind, point, _change(kind, layer, known, seed), sets[layer.name])
        for layer in found
        for kind in wanted
        if kind != "mean" or layer.name not in alone
        for point in ["post_norm" if kind == "zero" and layer.norm is not None else "pre_norm"]
    ]

    def run(own: Sequence[Job], kept: bool | IO[bytes]) -> LesionTable:
        plan = plan_runs(model, example, own, method, memory)
        return run_jobs(model, loader, own, plan, loss, known.images, progress, kept)

    if isinstance(per_image, bool):
        table = run(jobs, per_image)
    else:
        folder = path_of("per_image", per_image)
        table = lesion_by_layer(folder, run, model, loader, jobs, loss)
    drawn = {"seed": seed} if "resample" in wanted else {}
    return replace(table, settings={"calibration": known.told, **drawn})


def run_jobs(
    model: nn.Module,
    loader: Iterable[object],
    jobs: Sequence[Job],
    plan: Plan,
    loss: Loss,
    calibration_images: frozenset[bytes] | None,
    progress: Progress | None,
    per_image: bool | IO[bytes] = True,
) -> LesionTable:
    """Run all jobs as planned, and lay their lesions out as rows; `per_image` is `Kept`'s."""
    called("loss", loss, optional=False)
    called("progress", progress)
    blocks = execute(
        model,
        loader,
        jobs,
        plan.runners,
        loss=loss,
        images_at_once=plan.images_at_once,
        calibration_images=calibration_images,
        progress=progress,
    )
    sizes = [len(job.channels) for job in jobs]
    kept = Kept(sum(sizes), per_image)
    for block in blocks:
        kept.add(block)
    return LesionTable(
        layer=np.repeat([job.layer.name for job in jobs], sizes),
        kind=np.repeat([job.kind for job in jobs], sizes),
        point=np.repeat([job.point for job in jobs], sizes),
        channels=tuple(tuple(row) for job in jobs for row in job.channels.tolist()),
        damage=kept.damage(),
        dense=kept.dense(),
        fallback=plan.fallback,
        sums=kept.sums(),
        image_digests=frozenset(kept.digests),
        network=fingerprint(model),
    )


def adapted(
    model: nn.Module, loader: Iterable[object], calibration: Any, adapt: Adapter | None
) -> tuple[nn.Module, Iterable[object], Any]:
    """Return the network opened, with its loader and, where that is a loader, the calibration's.

    Raises
    ------
    TypeError
        an iterator, which can be read only once
    """
    model = opened(model, adapt)
    if adapt is not None:
        loader = adapt.loader(loader)
        calibration = adapt.loader(calibration) if is_loader(calibration) else calibration
    return model, repeated(loader), calibration


def example_images(model: nn.Module, loader: Iterable[object]) -> Tensor:
    """Return the first images of a `repeated` loader on the model's device.

    Raises
    ------
    ValueError
        A model without parameters.
    """
    if next(model.parameters(), None) is None:
        raise ValueError("model must have parameters; it has none, so it has no channels.")
    images = next(
        leading(batches(loader, next(model.parameters()).device, classes=False), EXAMPLES)
    ).images
    return images


def names_of(
    layers: Sequence[str] | None, channels: Mapping[str, Sets] | None
) -> Sequence[str] | None:
    """Return the layers asked for, by name or as keys of `channels`; None means all."""
    if channels is not None:
        instance("channels", channels, Mapping, "Pass {layer: channels}, as {'conv1': [0, 2]}.")
    if channels is None:
        return layers
    if layers is not None and set(layers) != set(channels):
        raise ValueError(
            f"layers must name the keys of channels, {sorted(channels)}; got {sorted(layers)}. "
            "Pass one of the two."
        )
    return list(channels)


def _kinds(kinds: Sequence[str]) -> list[str]:
    listed = [kinds] if isinstance(kinds, str) else list(kinds)
    if not listed:
        raise ValueError(
            f"kinds must name at least one of {', '.join(map(repr, KINDS))}; got none."
        )
    return list(dict.fromkeys(one_of("kinds", kind, KINDS) for kind in listed))


def _change(kind: str, layer: Layer, calibration: LayerMoments, seed: int) -> Intervention:
    if kind == "resample":
        return FromOtherImage(seed)
    if kind == "zero":
        return ToConstant(torch.zeros(layer.n_channels))
    mean, _ = calibration.of(layer)
    return ToConstant(torch.from_numpy(np.array(mean)))
