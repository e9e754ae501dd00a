"""What one ensemble went through: weights and both axes at the recorded steps, in one file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.networks import Network, network_from_config
from sim.records import (
    LayerMoments,
    gradient_cosine,
    layer_axes,
    layer_moments,
    pearson,
    targets_of,
)
from sim.tasks import Task, task_from_config
from theory import QUANTITIES, channel_axes, spearman
from theory.shared.files import atomic
from theory.shared.foreign import parse_json, read_arrays
from theory.shared.validation import Float, one_of

FORMAT = "twoaxis-trajectory-1"
AXES = {
    "input_capture": "input capture",
    "peer_overlap": "peer overlap",
    "task_information": "task information",
}


@dataclass(frozen=True, eq=False)
class Trajectory:
    """An ensemble of S networks of one setting at R recorded steps. Build it with `simulate`.

    Attributes
    ----------
    config : task, network and training, as JSON types; enough to run the same again.
    steps : (R,) recorded steps, from 0.
    filters : (S, R, C, d) channels of the measured layer as maps of the input.
    readout : (S, R, K, C) maps from that layer to the outputs; behind a norm divided by the
        channels' deviations.
    loss : (S, R) population loss: ½ E‖T - f‖², or the cross-entropy in nats.
    quantities : "label/<name>" and "output/<name>" -> (S, R, C), every quantity of
        `theory.channel_axes` for the label and for the network's own output as target; for a
        mixture also "margin/<name>", for the own class's output less the largest other.
    cosines : target -> (S, R, C) Euclidean cosine of the two gradient directions.
    drift : (S, R) change of the conserved WWᵀ - AᵀA, relative to the size of its terms; NaN
        where nothing is conserved (fixed readout or filters that may not turn, more than two
        layers, a norm).
    inner : (S, R, L - 2, C, C) layers between the two maps, in a ReLU network.
    diverged : (S,) step at which a member stopped, -1 where none did. Its later records are NaN.
    """

    config: Mapping[str, Any]
    steps: NDArray[np.int64]
    filters: Float
    readout: Float
    loss: Float
    drift: Float
    diverged: NDArray[np.int64]
    inner: Float = field(default_factory=lambda: np.empty((0, 0, 0, 0, 0)))
    quantities: Mapping[str, Float] = field(default_factory=dict)
    cosines: Mapping[str, Float] = field(default_factory=dict)

    @cached_property
    def task(self) -> Task:
        """The task, built again from the configuration."""
        return task_from_config(self.config["task"])

    @cached_property
    def network(self) -> Network:
        """The network, built again from the configuration."""
        return network_from_config(self.config["network"])

    @property
    def seeds(self) -> tuple[int, ...]:
        """The S seeds."""
        return tuple(self.config["training"]["seeds"])

    @property
    def time(self) -> Float:
        """(R,) training time, steps × learning rate: that of the gradient flow."""
        return np.asarray(self.steps * self.config["training"]["learning_rate"], dtype=np.float64)

    def layer(self, record: int) -> LayerMoments:
        """Exact second moments of all members at one record."""
        population = self.task.population
        return layer_moments(
            self.filters[:, record] @ population.basis,
            self.readout[:, record],
            population,
            self.network.nonlinearity,
            self.inner[:, record] if self.inner.size else None,
        )

    @cached_property
    def _axes(self) -> dict[str, Float]:
        records = [layer_axes(self.layer(r)) for r in range(self.steps.size)]
        return {name: np.stack([r[name] for r in records], axis=1) for name in records[0]}

    def axis(self, name: str, target: str = "output") -> Float:
        """Return one axis per channel, (S, R, C), in nats.

        It is "input_capture", "peer_overlap" or "task_information", the last for the "label",
        the network's own "output" or, in a mixture, the "margin".
        """
        one_of("name", name, AXES)
        one_of("target", target, targets_of(self.task.population))
        return self._axes[f"{target}/{name}" if name == "task_information" else name]

    def coupling(
        self,
        first: str = "input_capture",
        second: str = "task_information",
        *,
        target: str = "output",
        method: str = "spearman",
    ) -> Float:
        """(S, R) correlation of two axes across the channels of each member.

        Parameters
        ----------
        first, second : as in `axis`.
        target : of the task information, as in `axis`.
        method : "spearman", or "pearson" of the axes themselves.
        """
        one_of("method", method, ("spearman", "pearson"))
        a, b = self.axis(first, target), self.axis(second, target)
        if method == "pearson":
            return pearson(a, b)
        shape = a.shape[:2]
        flat = [v.reshape(-1, v.shape[-1]) for v in (a, b)]
        return spearman(*flat).reshape(shape)

    def with_quantities(self, *, hull: bool = True) -> Trajectory:
        """The same run with every quantity of `theory.channel_axes` evaluated at each record."""
        return replace(self, quantities=record_quantities(self, hull))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one compressed file, atomically."""
        arrays: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("steps", "filters", "inner", "readout", "loss", "drift", "diverged")
        }
        arrays |= {f"quantity/{k}": v for k, v in self.quantities.items()}
        arrays |= {f"cosine/{k}": v for k, v in self.cosines.items()}
        header = np.array(json.dumps({"format": FORMAT, "config": self.config}, allow_nan=False))
        with atomic(path) as stream:
            np.savez_compressed(stream, header=header, **arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Trajectory:
        """Read what `save` wrote; runs no code from the file.

        Raises
        ------
        FileNotFoundError
            no such file.
        ValueError
            a file that is not a trajectory.
        """
        try:
            arrays = read_arrays(path)
            header = parse_json(str(arrays.pop("header")), "its header")
        except (ValueError, KeyError) as error:
            raise ValueError(
                f"path must be a saved trajectory; {path} is not ({error})."
            ) from error
        if header.get("format") != FORMAT:
            raise ValueError(
                f"path must be a trajectory of format {FORMAT}; {path} says "
                f"{header.get('format')!r}. Run the simulation again with this version."
            )
        try:
            return cls(
                config=header["config"],
                quantities=_section(arrays, "quantity/"),
                cosines=_section(arrays, "cosine/"),
                **{name: value for name, value in arrays.items() if "/" not in name},
            )
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"path must be a saved trajectory; {path} lacks a part ({error})."
            ) from error

    def __eq__(self, other: object) -> bool:
        """Bitwise equality of everything recorded."""
        if not isinstance(other, Trajectory):
            return NotImplemented
        for item in fields(self):
            mine, theirs = getattr(self, item.name), getattr(other, item.name)
            if isinstance(mine, np.ndarray):
                mine, theirs = {"": mine}, {"": theirs}
            elif item.name == "config":
                if mine != theirs:
                    return False
                continue
            if mine.keys() != theirs.keys():
                return False
            if not all(np.array_equal(mine[k], theirs[k], equal_nan=True) for k in mine):
                return False
        return True

    __hash__ = None  # type: ignore[assignment]


def _section(arrays: Mapping[str, Float], prefix: str) -> dict[str, Float]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def measured_trajectory(
    config: Mapping[str, Any],
    steps: NDArray[np.int64],
    maps: tuple[Float, Float, Float],
    diverged: NDArray[np.int64],
) -> Trajectory:
    """A trajectory from recorded maps (filters, readout, inner), in the eigenbasis of the task."""
    task, network = task_from_config(config["task"]), network_from_config(config["network"])
    filters, readout, inner = maps
    loss = np.empty(filters.shape[:2])
    cosines = {target: np.empty(filters.shape[:3]) for target in targets_of(task.population)}
    for record in range(steps.size):  # one at a time: covariances are larger than all else
        layer = layer_moments(
            filters[:, record],
            readout[:, record],
            task.population,
            network.nonlinearity,
            inner[:, record],
        )
        loss[:, record] = layer.loss
        for target in cosines:
            cosines[target][:, record] = gradient_cosine(layer, target)
    return Trajectory(
        config=config,
        steps=steps,
        filters=filters @ task.population.basis.T,
        readout=readout,
        inner=inner,
        loss=loss,
        drift=balance_drift(filters, readout, network)
        if config["training"].get("turning", True)
        else np.full(loss.shape, np.nan),
        diverged=diverged,
        cosines=cosines,
    )


def balance_drift(filters: Float, readout: Float, network: Network) -> Float:
    """Change of WWᵀ - AᵀA since the start over ‖WWᵀ‖ + ‖AᵀA‖, per member and record.

    In a ReLU network only the diagonal, ‖w_i‖² - ‖a_i‖², is conserved by the flow.
    """
    drift = np.full(filters.shape[:2], np.nan)
    if network.depth != 2 or not network.train_readout or network.norm:
        return drift
    first = None
    for record in range(filters.shape[1]):
        w, a = filters[:, record], readout[:, record]
        if network.nonlinearity == "relu":
            hidden, outer = np.sum(w**2, axis=-1), np.sum(a**2, axis=-2)
        else:
            hidden, outer = w @ np.swapaxes(w, -1, -2), np.swapaxes(a, -1, -2) @ a
        size = _norm(hidden) + _norm(outer)
        hidden -= outer
        first = hidden if first is None else first
        drift[:, record] = _norm(hidden - first) / size
    return drift


def _norm(members: Float) -> Float:
    return np.asarray(np.linalg.norm(members.reshape(len(members), -1), axis=1))


def record_quantities(run: Trajectory, hull: bool) -> dict[str, Float]:
    """Every quantity of both axes for both targets, (S, R, C) each; NaN for diverged members."""
    shape = run.filters.shape[:3]
    targets = targets_of(run.task.population)
    found = {f"{t}/{q}": np.full(shape, np.nan) for t in targets for q in QUANTITIES}
    for record in range(shape[1]):
        layer = run.layer(record)
        for member in np.flatnonzero(np.isfinite(run.loss[:, record])):
            for target in targets:
                axes = channel_axes(
                    layer.moments((int(member),), target),
                    weights=run.filters[member, record],
                    hull=hull,
                )
                for name, values in axes.as_dict().items():
                    found[f"{target}/{name}"][member, record] = values
    return found
