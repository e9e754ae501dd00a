"""The result of a measurement: every quantity of every channel of every layer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from empirical.measuring.damage_table import DamageTable, LayerDamage
from empirical.measuring.description import describe, in_words
from theory import QUANTITIES, TARGET_AXIS, ChannelAxes, Moments, jackknife_standard_error
from theory.hull import PeerHull
from theory.shared import files
from theory.shared.foreign import parse_json, read_arrays
from theory.shared.validation import Float, one_of, path_of

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "twoaxis.AxisTable/2"
"""One array per layer and quantity, by name; in format 1 they were one array, by position."""


@dataclass(frozen=True, eq=False, repr=False)
class AxisTable:
    """Both axes of every measured layer. Information in nats.

    Attributes
    ----------
    axes : layer name -> ChannelAxes, layers in order of execution
    replicates : layer name -> quantity -> (G, C) delete-one-group values, for standard errors of
        anything computed from them; empty without standard errors
    moments : layer name -> Moments of all samples, of (Y, T)
    groups : layer name -> Moments per group of images (image index modulo G); empty if not kept
    null : layer name -> quantity of the target axis -> (K, C) values with targets permuted between
        images; empty if not asked for
    norms : layer name -> name of the normalization that follows, or None
    skipped : layer name -> why it was not measured
    settings : the arguments of the measurement, and `n_images`
    squared_norms : layer name -> (C,) squared norm of each channel's filter; empty where the
        activation point is not the layer's own output
    damage : layer name -> foretold damages of its channels; empty if not asked for
    image_digests : 16 bytes per image that was measured, so that lesions can refuse to evaluate on
        an image that they were calibrated on
    halves : layer name -> quantity -> (2, C) values from the even and from the odd groups of
        images, whose errors are independent; empty without standard errors
    """

    axes: Mapping[str, ChannelAxes]
    replicates: Mapping[str, Mapping[str, Float]]
    moments: Mapping[str, Moments]
    groups: Mapping[str, Sequence[Moments]]
    norms: Mapping[str, str | None]
    settings: Mapping[str, Any]
    squared_norms: Mapping[str, Float] = field(default_factory=dict)
    null: Mapping[str, Mapping[str, Float]] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    image_digests: frozenset[bytes] = frozenset()
    damage: Mapping[str, LayerDamage] = field(default_factory=dict)
    halves: Mapping[str, Mapping[str, Float]] = field(default_factory=dict)

    @property
    def layers(self) -> list[str]:
        """Names of the measured layers in order of execution."""
        return list(self.axes)

    @property
    def affected(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """Layer -> kind ("dead", "copies", "collinear", ...) -> channels, where there are any."""
        return {name: dict(axes.affected) for name, axes in self.axes.items() if axes.affected}

    @property
    def foretold(self) -> DamageTable:
        """The foretold damages as `empirical.damage` returns them.

        Raises
        ------
        ValueError
            there are none
        """
        if not self.damage:
            raise ValueError("table must hold foretold damages. Call measure(..., damage=True).")
        channels = {
            name: [(c,) for c in range(found.alone.shape[1])] for name, found in self.damage.items()
        }
        return DamageTable(self.damage, channels, self.settings, self.skipped)

    def __getitem__(self, layer: str) -> ChannelAxes:
        return self.axes[one_of("layer", layer, self.axes)]

    def values(self, layer: str) -> dict[str, Float]:
        """Quantity -> (C,), those of both axes and, where they are, of the foretold damages."""
        return self[layer].as_dict() | self._foretold(layer, LayerDamage.values)

    def without_groups(self, layer: str) -> dict[str, Float]:
        """Quantity -> (G, C) delete-one-group values, foretold damages among them."""
        own = self.replicates.get(one_of("layer", layer, self.axes), {})
        return dict(own) | self._foretold(layer, LayerDamage.replicates)

    def in_halves(self, layer: str) -> dict[str, Float]:
        """Quantity -> (2, C) from the even and from the odd groups, foretold damages among them.

        Empty where the quantities of the axes have no halves.
        """
        own = self.halves.get(one_of("layer", layer, self.axes), {})
        return dict(own) | self._foretold(layer, LayerDamage.halves) if own else {}

    def _foretold(
        self, layer: str, what: Callable[[LayerDamage], dict[str, Float]]
    ) -> dict[str, Float]:
        return what(self.damage[layer]) if layer in self.damage else {}

    def standard_errors(self, layer: str) -> dict[str, Float]:
        """Quantity -> (C,) delete-one-group jackknife standard errors; empty if not computed."""
        return {
            name: jackknife_standard_error(values)
            for name, values in self.without_groups(layer).items()
        }

    def describe(self) -> pd.DataFrame:
        """One row per layer: channels, medians of the main quantities, and who is special.

        With foretold damages, the medians of those. `affected` lists kinds and how many.
        """
        return describe(self.axes, self.damage)

    def __str__(self) -> str:
        return in_words(self.axes, self.damage, self.settings, self.skipped)

    def __repr__(self) -> str:
        channels = sum(axes.signal_power.size for axes in self.axes.values())
        return f"<AxisTable of {channels} channels of {len(self.axes)} layers>"

    def _repr_html_(self) -> str:
        return str(self.describe().to_html(index=False, na_rep="–", float_format="{:.3g}".format))

    def to_frame(self) -> pd.DataFrame:
        """One row per channel: `layer`, `channel`, the quantities, and `<quantity>_se`.

        With foretold damages, those too, each beside its `<name>_se`.

        With a permutation null, also `<quantity>_null`, its mean, and `<quantity>_p`, the share of
        permutations, the observed one among them, with at least the observed value; NaN where one
        of the values is.
        """
        import pandas as pd  # here, since importing pandas takes a second

        return pd.concat([self._layer_frame(name) for name in self.axes], ignore_index=True)

    def _layer_frame(self, name: str) -> pd.DataFrame:
        import pandas as pd

        observed = self.values(name)
        errors = {f"{quantity}_se": e for quantity, e in self.standard_errors(name).items()}
        columns: dict[str, Any] = {**observed, **errors}
        for quantity, draws in self.null.get(name, {}).items():
            columns[f"{quantity}_null"] = draws.mean(0)
            share = (1 + (draws >= observed[quantity]).sum(0)) / (1 + len(draws))
            unknown = np.isnan(observed[quantity]) | np.isnan(draws).any(0)
            columns[f"{quantity}_p"] = np.where(unknown, np.nan, share)
        n_channels = self.axes[name].signal_power.size
        return pd.DataFrame({"layer": name, "channel": np.arange(n_channels), **columns})

    def save(self, path: str | PathLike[str], *, moments: str = "total") -> None:
        """Write to one .npz file, atomically, without pickles.

        Parameters
        ----------
        path : the file
        moments : "total" keeps the moments of all samples, "groups" also those of each group (G
            times as large, needed to add up tables), "none" neither
        """
        one_of("moments", moments, ("none", "total", "groups"))
        arrays: dict[str, NDArray[Any]] = {}
        header: dict[str, Any] = {
            "format": FORMAT,
            "settings": dict(self.settings),
            "skipped": dict(self.skipped),
            "layers": [],
        }
        for index, name in enumerate(self.axes):
            header["layers"].append(self._pack(name, f"{index}", arrays, moments))
        digests = b"".join(sorted(self.image_digests))
        arrays["image_digests"] = np.frombuffer(digests, dtype=np.uint8).reshape(-1, 16)
        files.write_archive(path, header, arrays)

    def _pack(
        self, name: str, folder: str, arrays: dict[str, NDArray[Any]], moments: str
    ) -> dict[str, Any]:
        axes = self.axes[name]
        named = {
            "axes": axes.as_dict(),
            "replicates": self.replicates.get(name, {}),
            "null": self.null.get(name, {}),
            "damage": self.damage[name].arrays() if name in self.damage else {},
            "halves": self.halves.get(name, {}),
            "hull": vars(axes.hull) if axes.hull is not None else {},
        }
        for kind, values in named.items():
            arrays |= {f"{folder}/{kind}/{quantity}": array for quantity, array in values.items()}
        if name in self.squared_norms:
            arrays[f"{folder}/squared_norms"] = self.squared_norms[name]
        kept = {"total": self.moments.get(name)} if moments != "none" else {}
        if moments == "groups":
            kept |= {f"group{g}": part for g, part in enumerate(self.groups.get(name, []))}
        parts = {}
        for key, part in kept.items():
            if part is not None:
                arrays[f"{folder}/{key}/mean"], arrays[f"{folder}/{key}/cov"] = part.mean, part.cov
                parts[key] = {"n": part.n, "n_targets": part.n_targets}
        return {
            "name": name,
            "norm": self.norms.get(name),
            "n": axes.n,
            "noise_power": axes.noise_power,
            "affected": {kind: list(channels) for kind, channels in axes.affected.items()},
            "moments": parts,
        }

    @classmethod
    def load(cls, path: str | PathLike[str]) -> AxisTable:
        """Read what `save` wrote. Nothing in the file is executed.

        A file of another version may hold other quantities. They are read by their names: what is
        not known here is left out, and what the file lacks is NaN.

        Raises
        ------
        ValueError
            a file that is no saved AxisTable, or of format 1, whose quantities have no names
        """
        if not path_of("path", path).is_file():
            raise FileNotFoundError(
                f"path must be a saved AxisTable; {str(path)!r} does not exist. Give what "
                "AxisTable.save wrote."
            )
        try:
            arrays = read_arrays(path)
            header = parse_json(arrays.pop("header").tobytes(), "its header")
            if header["format"] != FORMAT:
                raise ValueError(
                    f"it has format {header['format']}. Measure again with this version, which "
                    f"reads {FORMAT}."
                )
            return _unpack(header, arrays)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = f"it lacks {error}" if isinstance(error, KeyError) else error
            raise ValueError(f"path must be a saved AxisTable; {path} is not: {what}") from error


def _unpack(header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> AxisTable:
    folders: dict[str, dict[str, NDArray[Any]]] = defaultdict(dict)
    for key, array in arrays.items():
        folder, _, name = key.rpartition("/")
        folders[folder][name] = array
    entries = {entry["name"]: entry for entry in header["layers"]}
    folder_of = {name: str(index) for index, name in enumerate(entries)}

    def named(kind: str, names: Sequence[str]) -> dict[str, dict[str, Float]]:
        found = {layer: folders[f"{folder}/{kind}"] for layer, folder in folder_of.items()}
        return {
            layer: _alike(layer, _by_name(stored, names), 1 if kind == "axes" else 2)
            for layer, stored in found.items()
            if stored
        }

    axes = {
        layer: ChannelAxes(
            **values,
            affected={kind: tuple(c) for kind, c in entries[layer]["affected"].items()},
            noise_power=float(entries[layer]["noise_power"]),
            n=entries[layer]["n"],
            hull=_hull(layer, folders[f"{folder_of[layer]}/hull"], values["signal_power"].size),
        )
        for layer, values in named("axes", QUANTITIES).items()
    }
    parts = {
        layer: {
            key: _moments(folders[f"{folder_of[layer]}/{key}"], counts)
            for key, counts in entry["moments"].items()
        }
        for layer, entry in entries.items()
    }
    squared = {layer: folders[folder].get("squared_norms") for layer, folder in folder_of.items()}
    return AxisTable(
        axes,
        named("replicates", QUANTITIES),
        {layer: own.pop("total") for layer, own in parts.items() if "total" in own},
        {layer: list(own.values()) for layer, own in parts.items() if own},
        {layer: entry["norm"] for layer, entry in entries.items()},
        header["settings"],
        {layer: norms for layer, norms in squared.items() if norms is not None},
        named("null", TARGET_AXIS),
        header["skipped"],
        frozenset(row.tobytes() for row in folders[""].get("image_digests", ())),
        {
            layer: LayerDamage.from_arrays(folders[f"{folder}/damage"])
            for layer, folder in folder_of.items()
            if f"{folder}/damage" in folders
        },
        named("halves", QUANTITIES),
    )


def _moments(stored: Mapping[str, Float], counts: Mapping[str, int]) -> Moments:
    return Moments(stored["mean"], stored["cov"], counts["n_targets"], counts["n"])


def _hull(layer: str, stored: Mapping[str, NDArray[Any]], channels: int) -> PeerHull | None:
    """Return a layer's hulls; None where the file has none, as those of earlier versions."""
    if not stored:
        return None
    hull = PeerHull(*(stored[name] for name in ("members", "weights", "gains")))
    shape, kinds = hull.members.shape, [array.dtype.kind for array in vars(hull).values()]
    if (
        kinds != ["i", "f", "f"]
        or {array.shape for array in vars(hull).values()} != {shape}
        or len(shape) != 2
        or shape[0] != channels
        or not np.isin(hull.members, np.arange(-1, channels)).all()
    ):
        raise ValueError(f"the hulls of layer {layer!r} are not those of {channels} channels")
    return hull


def _alike(layer: str, values: dict[str, Float], ndim: int) -> dict[str, Float]:
    shapes = {(array.dtype.kind, array.shape) for array in values.values()}
    if len(shapes) > 1 or any(kind != "f" or len(shape) != ndim for kind, shape in shapes):
        raise ValueError(f"the quantities of layer {layer!r} have shapes {sorted(shapes)}")
    return values


def _by_name(stored: Mapping[str, NDArray[Any]], names: Sequence[str]) -> dict[str, Float]:
    shape = next(iter(stored.values())).shape
    return {name: stored[name] if name in stored else np.full(shape, np.nan) for name in names}
