"""The law of damage: what the prediction loses by each channel, alone and with its peers.

To second order, holding channel i at its mean, or replacing it by its regression on its peers,
changes the prediction by

    D_i = ½ E[u_i²] nats,   u_i = Σ_p g_ip r_ip,   g_ip = ∂ s·f / ∂x_ip,

r = x_i - μ_i alone, r = x_i - (its regression on the others) with peers, f the outputs, and s
random with E[s sᵀ] the curvature of the divergence in f: for logits diag(p) - ppᵀ. Every position p
of the map is used. Here s = √p ∘ ε - p (√p·ε) with ε of random signs. The gradient of log p(y) at a
y drawn from p has that second moment too, and varies far more where the network is confident:
nearly every draw is then the foregone one, and the rare others carry everything. Where an
activation takes the channel directly, its own change is used in place of its slope: see
`damage_readings`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from empirical.devices import full_precision, placed
from empirical.measuring.calibration import LayerMoments, calibrate
from empirical.measuring.curvature import (
    Curvature,
    LinearizedSums,
    Loss,
    OfEachLogit,
    OfLoss,
    OfPrediction,
    chances,
)
from empirical.measuring.damage_readings import residuals
from empirical.measuring.damage_table import DamageTable, LayerDamage
from empirical.reading.batches import batches
from empirical.reading.gradients import GradientRecorder
from empirical.reading.layers import find_layers
from empirical.reading.networks import Adapter, opened
from empirical.reading.points import Tap, taps
from empirical.reading.positions import Sampler
from empirical.reading.repeated import repeated
from empirical.reading.sets import Sets, channel_sets
from empirical.reading.sums import Sums
from empirical.seeding import checked_seed
from theory.shared.validation import Float, called, count, one_of, positive

FORMS = ("quadratic", "linearized")

RIDGE = 1e-4
"""On the diagonal of the correlation, as in `replace`."""

QUADRATIC: dict[str, Any] = {"form": "quadratic", "draws": 1, "joint": False, "ridge": RIDGE}
"""The settings of the law, unless told otherwise."""


def damage(
    model: nn.Module,
    loader: Iterable[object],
    *,
    calibration: Any = None,
    layers: Sequence[str] | None = None,
    channels: Mapping[str, Sets] | None = None,
    point: str = "pre_norm",
    loss: Loss | None = None,
    form: str = "quadratic",
    draws: int = 1,
    joint: bool = False,
    ridge: float = RIDGE,
    positions: int = 16,
    groups: int = 10,
    seed: int = 0,
    device: torch.device | str | None = None,
    autocast: torch.dtype | None = None,
    adapt: Adapter | None = None,
) -> DamageTable:
    """Foretell the damage of losing each channel, alone and with its peers standing in. In nats.

    Two passes over the loader: the channels' moments, then forward and backward. No labels are read
    unless `loss` does. Damage is the divergence (Kullback-Leibler) of the changed prediction from
    the intact one; `lesion` and `replace` measure it as "divergence".

    Memory: of a part of a batch the outputs of the tapped layers and their gradients; 8 C² bytes
    per layer and fold for the regressions; with `joint`, 8 G C² bytes per layer.

    Parameters
    ----------
    model : any nn.Module from images to logits (n, classes), or with `loss` to outputs (n, ...)
    loader : (images, labels), readable more than once and in the same order each time, as one that
        shuffles by torch's, NumPy's or Python's generators is made to be
    calibration : where means and regressions come from: the result of `measure`, layer name ->
        `Moments`, or a loader. None takes them from the loader's own images, each regression used
        on the groups of images that it was not fitted on
    layers : dotted names; None means all that have the point, the others listed in `skipped`
    channels : layer name -> channels, or sets of channels of equal size; a set's peers are the
        channels outside it. None means each channel of each layer
    point : "pre_norm", "post_norm" or "post_activation"
    loss : (outputs (n, ...), labels) -> (n,), convex and twice differentiable in the outputs, such
        as a squared error: its Gauss-Newton form takes the place of the prediction's divergence
    form : "quadratic", or "linearized": the divergence itself between the intact logits and those
        that the gradients foretell, without draws, by one backward pass per class. It saturates as
        the divergence does where damages are large
    draws : backward passes per image of the quadratic form
    joint : keep ½ E[u_i u_j] of every pair of channels, for `LayerDamage.of_sets`
    ridge, positions : of the regressions, and the positions of each map that they are fitted on
    groups : of images, image i in group i modulo `groups`, for standard errors
    seed, device, autocast, adapt : as in `measure`

    Raises
    ------
    TypeError, ValueError
        naming the argument, its value and the remedy

    Examples
    --------
    >>> generator = torch.manual_seed(1)
    >>> model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3))
    >>> images = torch.randn(40, 1, 2, 2, generator=generator)
    >>> frame = damage(model, [(images, torch.arange(40) % 3)]).to_frame()
    >>> frame.recovered.round(3).tolist()  # three affine functions of one pixel: each says it all
    [1.0, 1.0, 1.0]
    """
    model = opened(model, adapt)
    place = placed(model, device)
    loader = repeated(loader if adapt is None else adapt.loader(loader))
    settings: dict[str, Any] = {
        "point": point,
        "loss": "prediction" if loss is None else getattr(loss, "__qualname__", repr(loss)),
        "form": one_of("form", form, FORMS),
        "draws": count("draws", draws),
        "joint": joint,
        "ridge": positive("ridge", ridge, zero=True),
        "positions": count("positions", positions),
        "groups": count("groups", groups, least=2),
        "seed": checked_seed("seed", seed),
    }
    called("loss", loss)
    if loss is not None and form == "linearized":
        raise ValueError("form must be 'quadratic' with a loss of your own; got 'linearized'.")
    if joint and (form == "linearized" or channels is not None):
        raise ValueError(
            "joint needs every single channel in the quadratic form; got "
            + (f"form={form!r}." if channels is None else "channels=....")
        )
    first = next(batches(loader, place, classes=False))
    names = layers if channels is None else list(channels)
    found, skipped = taps(find_layers(model, first.images, names), point, strict=names is not None)
    own = calibration is None
    known = calibrate(
        model,
        loader if own else calibration,
        [tap.layer for tap in found],
        point=point,
        positions=positions,
        groups=groups,
        seed=seed,
    )
    return foretell(
        model,
        loader,
        found,
        known,
        settings,
        skipped,
        loss=loss,
        channels=channels,
        held_out=own,
        device=place,
        autocast=autocast,
    )


def foretell(
    model: nn.Module,
    loader: Iterable[object],
    found: Sequence[Tap],
    known: LayerMoments,
    settings: Mapping[str, Any],
    skipped: Mapping[str, str],
    *,
    loss: Loss | None = None,
    channels: Mapping[str, Sets] | None = None,
    held_out: bool,
    device: torch.device,
    autocast: torch.dtype | None = None,
    first_image: int = 0,
) -> DamageTable:
    """Make the second pass: forward and backward, with the moments of the first.

    Parameters
    ----------
    loader : `repeated`, where the moments are of its own images
    held_out : whether they are: their groups are then split into folds, so that a regression is
        used on images that it was not fitted on. Otherwise the moments serve as they are
    """
    groups, quadratic = settings["groups"], settings["form"] == "quadratic"
    if held_out:
        _check_images(min(len(known.groups[tap.layer.name]) for tap in found), groups)
    chosen = {tap.layer.name: channel_sets(tap.layer, channels) for tap in found}
    readings = [
        residuals(
            model,
            tap,
            known,
            chosen[tap.layer.name],
            settings["ridge"],
            held_out=held_out,
        )
        for tap in found
    ]
    products = [("alone", ""), ("with_peers", "")] if quadratic else []
    if settings["joint"]:
        products.append(("alone", "alone"))
    sums = {name: Sums(products, groups=groups, device=device, about_zero=True) for name in chosen}
    recorder = GradientRecorder(
        [(r, [sums[r.name] if quadratic else LinearizedSums(sums[r.name])]) for r in readings],
        Sampler(1, groups=groups, seed=settings["seed"], device=device),
        _curvature(loss, settings).cotangents,
        target=None if quadratic else chances,
        autocast=autocast,
    )
    with full_precision():
        recorder.read(model, batches(loader, device, first_image=first_image, classes=False))
    _check_images(recorder.n_images, groups)
    return DamageTable(
        {name: _layer_damage(total, quadratic, settings["draws"]) for name, total in sums.items()},
        {name: [tuple(row) for row in sets.tolist()] for name, sets in chosen.items()},
        {**settings, "n_images": recorder.n_images},
        dict(skipped),
    )


def _check_images(images: int, groups: int) -> None:
    if images < groups:
        raise ValueError(f"loader must yield at least groups = {groups} images; got {images}.")


def _curvature(loss: Loss | None, settings: Mapping[str, Any]) -> Curvature:
    if settings["form"] == "linearized":
        return OfEachLogit()
    if loss is None:
        return OfPrediction(settings["draws"], settings["seed"])
    return OfLoss(loss, settings["draws"], settings["seed"])


def _layer_damage(sums: Sums, quadratic: bool, draws: int) -> LayerDamage:
    parts = [sums.total(only=group) for group in range(sums.groups)]
    n = np.array([part.n for part in parts], dtype=np.float64)

    def mean(name: str) -> Float:
        if not quadratic:
            return np.stack([part.first[name][0] / part.n for part in parts])
        return np.stack([part.products[name, ""][0] / (2 * part.n) for part in parts])

    joint = None
    if ("alone", "alone") in sums.products:
        joint = np.stack([p.products["alone", "alone"][0] / (2 * p.n) for p in parts])
    draws = draws if quadratic else 1
    return LayerDamage(n / draws, mean("alone"), mean("with_peers"), joint)
