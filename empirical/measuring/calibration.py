"""What lesions, replacements and the law of damage know of a network: moments of its channels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from empirical.devices import device_of
from empirical.reading.batches import batches
from empirical.reading.layers import Layer
from empirical.reading.points import taps
from empirical.reading.positions import Sampler
from empirical.reading.readings import WITHOUT_TARGET, channel_readings
from empirical.reading.recorder import Recorder
from empirical.reading.sums import Sums
from theory.moments import Moments, merge
from theory.shared.validation import Float, count

GROUPS = 10
"""Of images: what a regression recovers is foretold from the groups that it was not fitted on."""

POSITIONS = 16
"""Random positions per image, as in `measure`."""


@dataclass(frozen=True)
class LayerMoments:
    """Moments of each layer at one point, and which images they come from.

    Parameters
    ----------
    moments
        Layer name -> `Moments`; targets, where it has them, are not used here.
    images
        Digests of the images, or None where they are not known.
    groups
        Layer name -> `Moments` of each group of images, where they are kept.
    settings
        How they were measured, where that is known.
    """

    moments: Mapping[str, Moments]
    images: frozenset[bytes] | None = None
    groups: Mapping[str, Sequence[Moments]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def told(self) -> str:
        """Hash of the images and the settings; "" where these are not known.

        Not of the moments: their last digits depend on the processor.
        """
        if self.images is None:
            return ""
        settings = json.dumps(dict(self.settings), sort_keys=True, default=str)
        return hashlib.sha256(settings.encode() + b"".join(sorted(self.images))).hexdigest()[:16]

    def of(self, layer: Layer) -> tuple[Float, Float]:
        """Return (C,) means and (C, C) covariance of a layer's channels.

        Raises
        ------
        ValueError
            No moments of that layer, or of another number of channels.
        """
        if layer.name not in self.moments:
            raise ValueError(
                f"calibration must hold moments of layer {layer.name!r}; it holds "
                f"{', '.join(map(repr, self.moments)) or 'none'}. Measure that layer too."
            )
        moments, c = self.moments[layer.name], layer.n_channels
        if moments.n_channels != c:
            raise ValueError(
                f"calibration has {moments.n_channels} channels for layer {layer.name!r}, which "
                f"has {c}. Measure this very model."
            )
        return moments.mean[:c], moments.cov[:c, :c]


def calibrate(
    model: nn.Module,
    source: Any,
    layers: Sequence[Layer],
    *,
    point: str = "pre_norm",
    positions: int = POSITIONS,
    groups: int = GROUPS,
    seed: int = 0,
) -> LayerMoments:
    """Return the calibration that `source` is, or make one from a loader.

    Parameters
    ----------
    source
        What `measure` returned, a mapping of layer name to `Moments`, a `LayerMoments`, or a
        loader of calibration images.
    point
        Where the channels are read.
    positions, groups, seed
        For a loader: how many random positions of each map count, in how many groups of images
        (image i in group i modulo `groups`), and the positions' seed.
    """
    if isinstance(source, LayerMoments):
        return source
    if isinstance(source, Mapping):
        return LayerMoments(source)
    if isinstance(getattr(source, "moments", None), Mapping):
        measured_at = getattr(source, "settings", {}).get("point", "pre_norm")
        if measured_at != point:
            raise ValueError(
                f"calibration must be measured at point {point!r}; got one measured at "
                f"{measured_at!r}. Call measure(..., point={point!r})."
            )
        digests = getattr(source, "image_digests", None) or None
        settings = getattr(source, "settings", {})
        return LayerMoments(source.moments, digests, getattr(source, "groups", {}), settings)
    if not is_loader(source):
        raise TypeError(
            "calibration must be the result of measure(), a mapping of layer name to Moments, or a "
            f"loader of calibration images; got {type(source).__name__}."
        )
    return _from_loader(model, source, layers, point, count("positions", positions), groups, seed)


def is_loader(source: object) -> bool:
    """Whether a calibration is a loader of images, and nothing that holds moments."""
    known = isinstance(source, LayerMoments | Mapping | str) or hasattr(source, "moments")
    return isinstance(source, Iterable) and not known


def _from_loader(
    model: nn.Module,
    loader: Iterable[object],
    layers: Sequence[Layer],
    point: str,
    positions: int,
    groups: int,
    seed: int,
) -> LayerMoments:
    """One pass in evaluation mode; every layer at random positions of each image."""
    device = device_of(model)
    found, _ = taps(layers, point, strict=True)
    sums = {tap.layer.name: Sums(WITHOUT_TARGET, groups=groups, device=device) for tap in found}
    recorder = Recorder(
        [(reading, [sums[reading.name]]) for reading in channel_readings(found, {})],
        Sampler(positions, groups=groups, seed=seed, device=device),
    )
    seen: set[bytes] = set()
    recorder.read(model, batches(loader, device, classes=False), seen)
    parts = {name: total.moments() for name, total in sums.items()}
    moments = {name: merge(own) for name, own in parts.items()}
    settings = {"point": point, "positions": positions, "groups": groups, "seed": seed}
    return LayerMoments(moments, frozenset(seen), parts, settings)
