"""Measure both axes of every layer of a network, in one pass over the data."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from torch import nn

from empirical.devices import placed
from empirical.measuring.calibration import LayerMoments
from empirical.measuring.damage_law import QUADRATIC, foretell
from empirical.measuring.damage_readings import FOLDS
from empirical.measuring.estimation import OPTIONS, project_to_first_component, tabulate
from empirical.measuring.memory import check_memory, required_bytes
from empirical.measuring.null import permutations, target_null
from empirical.measuring.table import AxisTable
from empirical.measuring.targets import (
    TargetFunction,
    batch_target,
    evaluate_target,
    reads_classes,
    target_function,
)
from empirical.reading.batches import Batch, batches, length, warn_of_copies
from empirical.reading.expansion import Expansion, expansions
from empirical.reading.gradients import KEPT_BYTES
from empirical.reading.groups import grouped_moments
from empirical.reading.hooks import evaluating
from empirical.reading.kept import PerImage
from empirical.reading.layers import Measurable, find_layers, phases, weight_of
from empirical.reading.layout import suits_channels_last
from empirical.reading.networks import Adapter, fingerprint, opened
from empirical.reading.points import Tap, taps
from empirical.reading.positions import Sampler
from empirical.reading.readings import WITH_TARGET, channel_readings
from empirical.reading.recorder import Recorder
from empirical.reading.repeated import repeated
from empirical.reading.sums import Sums
from empirical.reading.unmeasured import unmeasured
from empirical.seeding import checked_seed
from theory.shared.validation import count, one_of, truth

SAMPLES_PER_CHANNEL = 10
"""Below it a layer is warned of."""

GROUPS = 10
"""Groups of images, unless told otherwise."""

PRECISIONS = {"float64": torch.float64, "float32": torch.float32}


def measure(
    model: nn.Module,
    loader: Iterable[object],
    *,
    target: str | TargetFunction = "logit_margin",
    layers: Sequence[str] | None = None,
    point: str = "pre_norm",
    positions: int = 16,
    sampling: str = "positions",
    groups: int | None = None,
    noise: str | float = "median",
    ridge: float = 0.0,
    peers: int = 50,
    top: int = 10,
    bias_correction: bool = False,
    estimate: str | None = None,
    hull: bool = True,
    standard_errors: bool = True,
    null: int = 0,
    damage: bool = False,
    seed: int = 0,
    first_image: int = 0,
    device: torch.device | str | None = None,
    autocast: torch.dtype | None = None,
    precision: str = "float64",
    exact: bool = False,
    adapt: Adapter | None = None,
    progress: bool = False,
) -> AxisTable:
    """Measure both axes of every channel of `model` on the images of `loader`. In nats.

    The model runs once over the loader, in evaluation mode, whatever its mode, which is restored.
    The outputs of every convolution and hidden linear layer, before normalization, are sampled at
    random positions; their moments with the target give every quantity. A linear layer (or 1 × 1
    convolution) three times as wide as its input is sampled there, and the moments are pushed
    forward through its weights.

    Parameters
    ----------
    model : any nn.Module from images to logits (n, classes). A compiled or parallel one is taken
        out of its wrapper
    loader : iterable of (images (n, ...), labels (n,)), such as a DataLoader
    target : "logit_margin", "true_logit", "logit_pc1", "label" (one-hot), or a function of
        (outputs, labels) that returns (n,) or (n, q): then outputs and labels may have any form
        (n, ...), as in regression. "logit_pc1" is the first principal component of all logits on
        these images; it reads no labels
    layers : dotted names; None means all that can be measured, the others listed in `skipped`
        with the reason (layers without the point, attentions whose projections run inside of one
        function, recurrent layers)
    point : "pre_norm", "post_norm" or "post_activation". Layers without that point (a norm or an
        activation that receives their output directly) are left out
    positions : how many random positions of each image's map; all where it has no more
    sampling : "positions", or "pooled" for the mean over each map
    groups : images are split into this many groups, image i into group i modulo `groups`, for
        the delete-one-group jackknife: positions of one image are not independent. None means 10,
        or 1 without standard errors
    noise, ridge, peers, top, bias_correction, estimate, hull : see `theory.channel_axes`
    standard_errors : False skips the jackknife
    null : number of permutations of the targets between images, for the null of the target axis
    damage : also foretell what the prediction loses by each channel, by a second pass, forward and
        backward: `damage_alone`, `damage_with_peers` and `recovered`, as by `empirical.damage`
    seed : of the positions and of the permutations
    first_image : index of the loader's first image in the whole data, where processes share it
    device : where to run, the model being moved there; None means where the model is
    autocast : run the model in torch.bfloat16 or torch.float16; moments are not affected
    precision : of the products within a batch, "float64", or "float32" for devices slow at
        float64; totals are float64 and deviations are taken from a first mean in either case
    exact : run the model on images as the loader lays them out. Otherwise a CPU gets them with
        their channels last, where the model's logits are then the same to float32's rounding:
        that is faster, and moves quantities by about a millionth
    adapt : an `Adapter`, where batches are not pairs or the model returns more than its logits
    progress : show the memory needed and a progress bar

    Raises
    ------
    TypeError, ValueError
        naming the argument, its value and the remedy
    MemoryError
        before starting, where the moments would not fit: they grow as groups × channels²

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 5))
    >>> generator = torch.Generator().manual_seed(0)
    >>> images = torch.randn(60, 3, 8, 8, generator=generator)
    >>> labels = torch.randint(5, (60,), generator=generator)
    >>> table = measure(model, [(images, labels)])
    >>> table.to_frame()[["layer", "channel"]].values.tolist()
    [['0', 0], ['0', 1], ['0', 2], ['0', 3]]
    """
    for name, value in (
        ("bias_correction", bias_correction),
        ("hull", hull),
        ("standard_errors", standard_errors),
        ("exact", exact),
        ("progress", progress),
    ):
        truth(name, value)
    model = opened(model, adapt)
    place = placed(model, device)
    if groups is None:
        groups = GROUPS if standard_errors or damage else 1
    settings: dict[str, Any] = {
        "target": target if isinstance(target, str) else f"function {_name(target)}",
        "point": point,
        "positions": count("positions", positions),
        "sampling": one_of("sampling", sampling, ("positions", "pooled")),
        "groups": count("groups", groups, least=2 if standard_errors or damage else 1),
        "seed": checked_seed("seed", seed),
        "first_image": count("first_image", first_image, least=0),
        "standard_errors": standard_errors,
        "noise": noise,
        "ridge": ridge,
        "peers": peers,
        "top": top,
        "bias_correction": bias_correction,
        "estimate": estimate,
        "hull": hull,
        "null": count("null", null, least=0, most=1_000_000),
        "damage": damage,
        "exact": exact,
        "network": fingerprint(model),
    }
    one_of("precision", precision, PRECISIONS)
    loader = loader if adapt is None else adapt.loader(loader)
    if damage:
        loader = repeated(loader)
        if sampling == "pooled":
            raise ValueError("sampling must be 'positions' with damage=True; got 'pooled'.")
    classes = reads_classes(target)
    stream = batches(loader, place, first_image=settings["first_image"], classes=classes)
    first = next(stream)
    found = find_layers(model, first.images, layers)
    tapped, skipped = taps(found, point, strict=layers is not None)
    if layers is None:
        skipped |= unmeasured(model, first.images, found)
    function = target_function(target)
    # what a lower precision makes of a layer is not what its inputs say
    lower = autocast is not None or torch.is_autocast_enabled(place.type)
    wide = {} if lower else expansions(tapped)
    need = _required(model, tapped, wide, first, function, settings, loader)
    sentence = check_memory(need, place)
    if progress:
        Console().print(sentence)
    sums = {
        tap.layer.name: Sums(
            WITH_TARGET, groups=groups, device=place, precision=PRECISIONS[precision]
        )
        for tap in tapped
    }
    per_image = {name: PerImage() for name in sums} if null else {}
    recorder = Recorder(
        [
            (reading, [sums[reading.name], *([per_image[reading.name]] if null else [])])
            for reading in channel_readings(tapped, wide)
        ],
        Sampler(positions, groups=groups, seed=seed, device=place, pooled=sampling == "pooled"),
        target=batch_target(function),
        autocast=autocast,
    )
    faster = not exact and not lower and suits_channels_last(model, first.images[:2])
    digests: set[bytes] = set()
    every: Iterator[Batch] = chain([first], stream)
    every = map(Batch.channels_last, every) if faster else every
    with _bar(progress, length(loader)) as watched:
        recorder.read(model, watched(every), digests)
    if not isinstance(loader, list | tuple):  # whoever lists batches sees that they repeat
        warn_of_copies(len(digests), recorder.n_images)
    settings["n_images"] = recorder.n_images
    table = _evaluate(tapped, wide, sums, per_image, settings, skipped)
    samples = {name: (axes.n or 0) / len(axes.signal_power) for name, axes in table.axes.items()}
    warn_of_few(samples, recorder.n_images)
    table = replace(table, image_digests=frozenset(digests))
    if not damage:
        return table
    foretold = foretell(
        model,
        loader,
        tapped,
        LayerMoments(table.moments, groups=table.groups),
        QUADRATIC | {name: settings[name] for name in ("point", "groups", "seed")},
        skipped,
        held_out=True,
        device=place,
        autocast=autocast,
        first_image=first_image,
    )
    return replace(table, damage=foretold.layers)


def warn_of_few(per_channel: Mapping[str, float], images: int) -> None:
    """Name the layers with few samples per channel, and how many images would do."""
    few = {name: share for name, share in per_channel.items() if share < SAMPLES_PER_CHANNEL}
    if few:
        wanted = int(np.ceil(images * SAMPLES_PER_CHANNEL / min(few.values())))
        warnings.warn(
            f"layers have fewer than {SAMPLES_PER_CHANNEL} samples per channel: "
            f"{', '.join(map(repr, few))}. What their peers explain is uncertain, and NaN where "
            f"there are hardly more samples than channels; about {wanted} images (here {images}) "
            "would do.",
            UserWarning,
            stacklevel=3,
        )


def _evaluate(
    tapped: Sequence[Tap],
    wide: Mapping[str, Expansion],
    sums: dict[str, Sums],
    per_image: Mapping[str, PerImage],
    settings: Mapping[str, Any],
    skipped: dict[str, str],
) -> AxisTable:
    """Turn what was recorded into a table; the sums are given up for it."""
    groups, weights = grouped_moments(sums, wide), None
    if settings["target"] == "logit_pc1":
        groups, weights = project_to_first_component(groups)
    squared_norms = {}
    if settings["point"] == "pre_norm":
        squared_norms = {tap.layer.name: _squared_norms(tap.layer.module) for tap in tapped}
    norms = {tap.layer.name: tap.layer.norm for tap in tapped}
    table = tabulate(groups, norms, squared_norms, settings, skipped)
    orders = permutations(settings["n_images"], settings["null"], settings["seed"])
    options = {name: settings[name] for name in OPTIONS}
    return replace(
        table,
        null={
            name: target_null(
                table.moments[name], kept.sums(wide.get(name), weights), orders, options
            )
            for name, kept in per_image.items()
        },
    )


def _required(
    model: nn.Module,
    tapped: Sequence[Tap],
    wide: Mapping[str, Expansion],
    batch: Batch,
    function: TargetFunction,
    settings: Mapping[str, Any],
    loader: Iterable[object],
) -> int:
    """Bytes that the measurement will need; one image is run to see how many targets there are."""
    with evaluating(model):
        logits = model(batch.images[:1])
    target = evaluate_target(function, logits, batch.labels[:1], batch.largest_label)
    n_batches = length(loader) or 1
    regressions = FOLDS * sum(8 * tap.layer.n_channels**2 for tap in tapped)
    second_pass = regressions + 10 * KEPT_BYTES if settings["damage"] else 0
    return second_pass + required_bytes(
        tapped,
        inputs={name: layer.weights.shape[1] for name, layer in wide.items()},
        n_targets=target.shape[1],
        groups=settings["groups"],
        batch=len(batch.images),
        positions=settings["positions"] if settings["sampling"] == "positions" else 1,
        kept_images=n_batches * len(batch.images) if settings["null"] else 0,
    )


def _name(function: TargetFunction) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__))


def _squared_norms(module: Measurable) -> np.ndarray:
    """(C,) squared norms of the filters, as they meet at a position of the output."""
    rows = weight_of(module).detach().double().flatten(1)
    return (rows.square().sum(1) / phases(module)).cpu().numpy()


@contextmanager
def _bar(
    shown: bool, batches: int | None
) -> Iterator[Callable[[Iterator[Batch]], Iterator[Batch]]]:
    """What tells, by a bar, how many batches of a stream have been read."""
    if not shown:
        yield lambda stream: stream
        return
    with Progress() as progress:
        yield lambda stream: iter(
            progress.track(stream, total=batches, description="measuring, batches")
        )
