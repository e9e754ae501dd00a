"""The result of a measurement: every quantity of every channel of every layer."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from theory.axes import QUANTITIES, ChannelAxes
from theory.moments import Moments
from theory.rank_coupling import jackknife_standard_error
from theory.shared import files
from theory.shared.validation import one_of

FORMAT = "twoaxis.AxisTable/1"


@dataclass(frozen=True, eq=False)
class AxisTable:
    """Both axes of every measured layer. Information in nats.

    Attributes
    ----------
    axes : layer name -> ChannelAxes, layers in order of execution
    replicates : layer name -> (G, Q, C) delete-one-group values of the Q quantities, for standard
        errors of anything computed from them; empty without standard errors
    moments : layer name -> Moments of all samples, of (Y, T)
    groups : layer name -> Moments per group of images (image index modulo G); empty if not kept
    null : layer name -> quantity of the target axis -> (K, C) values with targets permuted between
        images; empty if not asked for
    norms : layer name -> name of the normalization that follows, or None
    skipped : layer name -> why it was not measured
    settings : the arguments of the measurement, and `n_images`
    squared_norms : layer name -> (C,) squared norm of each channel's filter; empty where the
        activation point is not the layer's own output
    image_digests : 16 bytes per image that was measured, so that lesions can refuse to evaluate on
        an image that they were calibrated on
    """

    axes: Mapping[str, ChannelAxes]
    replicates: Mapping[str, np.ndarray]
    moments: Mapping[str, Moments]
    groups: Mapping[str, Sequence[Moments]]
    norms: Mapping[str, str | None]
    settings: Mapping[str, Any]
    squared_norms: Mapping[str, np.ndarray] = field(default_factory=dict)
    null: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    image_digests: frozenset[bytes] = frozenset()

    @property
    def layers(self) -> list[str]:
        """Names of the measured layers in order of execution."""
        return list(self.axes)

    @property
    def affected(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """Layer -> kind ("dead", "copies", "collinear", ...) -> channels, where there are any."""
        return {name: dict(axes.affected) for name, axes in self.axes.items() if axes.affected}

    def __getitem__(self, layer: str) -> ChannelAxes:
        return self.axes[one_of("layer", layer, self.axes)]

    def standard_errors(self, layer: str) -> dict[str, np.ndarray]:
        """Quantity -> (C,) delete-one-group jackknife standard errors; empty if not computed."""
        name = one_of("layer", layer, self.axes)
        if name not in self.replicates:
            return {}
        errors = jackknife_standard_error(self.replicates[name])
        return dict(zip(QUANTITIES, errors, strict=True))

    def to_frame(self) -> pd.DataFrame:
        """One row per channel: `layer`, `channel`, the quantities, and `<quantity>_se`.

        With a permutation null, also `<quantity>_null`, its mean, and `<quantity>_p`, the share of
        permutations, the observed one among them, with at least the observed value.
        """
        return pd.concat([self._layer_frame(name) for name in self.axes], ignore_index=True)

    def _layer_frame(self, name: str) -> pd.DataFrame:
        columns: dict[str, Any] = dict(self.axes[name].as_dict())
        observed = dict(columns)
        n_channels = len(columns[QUANTITIES[0]])
        for quantity, error in self.standard_errors(name).items():
            columns[f"{quantity}_se"] = error
        for quantity, draws in self.null.get(name, {}).items():
            columns[f"{quantity}_null"] = draws.mean(0)
            extreme = (draws >= observed[quantity]).sum(0)
            columns[f"{quantity}_p"] = (1 + extreme) / (1 + len(draws))
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
        arrays: dict[str, np.ndarray] = {}
        header: dict[str, Any] = {
            "format": FORMAT,
            "settings": dict(self.settings),
            "skipped": dict(self.skipped),
            "layers": [],
        }
        for index, name in enumerate(self.axes):
            header["layers"].append(self._pack(name, f"{index}/", arrays, moments))
        digests = b"".join(sorted(self.image_digests))
        arrays["image_digests"] = np.frombuffer(digests, dtype=np.uint8).reshape(-1, 16)
        arrays["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        files.write_bytes(path, buffer.getvalue())

    def _pack(
        self, name: str, prefix: str, arrays: dict[str, np.ndarray], moments: str
    ) -> dict[str, Any]:
        axes = self.axes[name]
        arrays[f"{prefix}axes"] = np.stack(list(axes.as_dict().values()))
        if name in self.replicates:
            arrays[f"{prefix}replicates"] = self.replicates[name]
        if name in self.squared_norms:
            arrays[f"{prefix}squared_norms"] = self.squared_norms[name]
        for quantity, draws in self.null.get(name, {}).items():
            arrays[f"{prefix}null/{quantity}"] = draws
        kept = {"total": self.moments.get(name)} if moments != "none" else {}
        if moments == "groups":
            kept |= {f"group{g}": part for g, part in enumerate(self.groups.get(name, []))}
        parts = {}
        for key, part in kept.items():
            if part is not None:
                arrays[f"{prefix}{key}/mean"], arrays[f"{prefix}{key}/cov"] = part.mean, part.cov
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

        Raises
        ------
        ValueError
            a file that is no saved AxisTable
        """
        try:
            # opened here, so that a file that is no archive is closed too
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
                arrays = dict(stored)
            header = json.loads(bytes(arrays.pop("header")))
            known = header["format"] == FORMAT
        except (KeyError, TypeError, ValueError, EOFError, BadZipFile) as error:
            raise ValueError(f"path must be a saved AxisTable; {path} is not: {error}") from error
        if not known:
            raise ValueError(
                f"path must be a saved AxisTable of format {FORMAT}; {path} has "
                f"{header['format']}. Measure again with this version."
            )
        return _unpack(header, arrays)


def _unpack(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> AxisTable:
    axes, replicates, moments, groups, norms, squared, null = {}, {}, {}, {}, {}, {}, {}
    for index, entry in enumerate(header["layers"]):
        name, prefix = entry["name"], f"{index}/"
        norms[name] = entry["norm"]
        affected = {kind: tuple(channels) for kind, channels in entry["affected"].items()}
        axes[name] = ChannelAxes(
            **dict(zip(QUANTITIES, arrays[f"{prefix}axes"], strict=True)),
            affected=affected,
            noise_power=entry["noise_power"],
            n=entry["n"],
        )
        if f"{prefix}replicates" in arrays:
            replicates[name] = arrays[f"{prefix}replicates"]
        if f"{prefix}squared_norms" in arrays:
            squared[name] = arrays[f"{prefix}squared_norms"]
        permuted = {
            key.removeprefix(f"{prefix}null/"): value
            for key, value in arrays.items()
            if key.startswith(f"{prefix}null/")
        }
        if permuted:
            null[name] = permuted
        parts = {
            key: Moments(
                arrays[f"{prefix}{key}/mean"],
                arrays[f"{prefix}{key}/cov"],
                part["n_targets"],
                part["n"],
            )
            for key, part in entry["moments"].items()
        }
        if "total" in parts:
            moments[name] = parts.pop("total")
        if parts:
            groups[name] = list(parts.values())
    return AxisTable(
        axes,
        replicates,
        moments,
        groups,
        norms,
        header["settings"],
        squared,
        null,
        header["skipped"],
        frozenset(row.tobytes() for row in arrays.get("image_digests", ())),
    )
