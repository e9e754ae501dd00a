"""Peer replacement: each channel becomes its regression on its peers, and the rest runs on.

At a least-squares readout the loss of a replacement is (1 - E_i) times that of the channel's mean
lesion, so the recovered fraction 1 - damage(replacement) / damage(mean lesion) is E_i (T5). A
trained network is not there, and only approximately linear: `ReplacementTable` holds both sides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from empirical.interventions import FromPeers, Job, ToConstant
from empirical.layers import Layer, find_layers
from empirical.lesion_calibration import calibrate
from empirical.lesion_execution import Progress, execute
from empirical.lesion_plan import METHODS, plan_runs
from empirical.lesion_scores import Loss, cross_entropy
from empirical.lesion_table import Float, LesionTable
from empirical.lesions import (
    MEMORY,
    Sets,
    channel_sets,
    first_images,
    names_of,
    tabulate,
)
from empirical.peers import PEERS, regress_on_peers
from theory._validation import count, one_of, positive

CLEAR = 2.0
"""A mean lesion whose damage is below this many standard errors has no fraction to recover."""


@dataclass(frozen=True, eq=False)
class ReplacementTable(LesionTable):
    """What `replace` measured: rows of kind "mean", and one kind for each peer set.

    Parameters
    ----------
    predicted
        (R,) share of the channel's variance that the peers supply, on calibration data: T5's
        prediction of the recovered fraction. E_i for all peers without ridge. 0 for "mean".
    n_peers
        (R,)
    draw
        (R,) number of the random draw; 0 elsewhere.
    """

    predicted: Float
    n_peers: NDArray[np.intp]
    draw: NDArray[np.intp]

    def to_frame(self) -> pd.DataFrame:
        """One row per layer, channel and kind, as `LesionTable.to_frame`, and what was recovered.

        `recovered` is 1 - loss_increase / loss_increase of the channel's mean lesion, and
        `recovered_se` its standard error over images (delta method). Both are NaN where the mean
        lesion does not clearly hurt (its damage is within two standard errors of 0).
        """
        frame = super().to_frame()
        frame["n_peers"], frame["draw"], frame["predicted"] = (
            self.n_peers,
            self.draw,
            self.predicted,
        )
        frame["recovered"], frame["recovered_se"] = self.recovered()
        return frame

    def recovered(self, name: str = "loss_increase") -> tuple[Float, Float]:
        """Return (R,) recovered fraction of the mean lesion's damage and its standard error."""
        average, error = self.mean_and_error(name)
        fraction, spread = np.full(len(average), np.nan), np.full(len(average), np.nan)
        control = self._mean_rows()
        for row, mean_row in enumerate(control):
            if average[mean_row] > CLEAR * error[mean_row]:
                fraction[row], spread[row] = _recovered(
                    self.damage[name][row], self.damage[name][mean_row]
                )
        return fraction, spread

    def pooled(self, kind: str, name: str = "loss_increase") -> tuple[float, float]:
        """Return the recovered fraction of the summed damage of all channels, and its error.

        Layers weigh by the damage of their channels; nothing is divided by a small number.
        """
        return _recovered(*self._summed(kind, name))

    def pooled_difference(
        self, kind: str, other: str, name: str = "loss_increase"
    ) -> tuple[float, float]:
        """Return how much more of the summed damage `kind` recovers than `other`, and its error.

        Paired, image by image: both replace the same channels on the same images.
        """
        replaced, lesioned = self._summed(kind, name)
        fraction, error = _recovered(lesioned + replaced - self._summed(other, name)[0], lesioned)
        return fraction, error

    def by_layer(self, name: str = "loss_increase") -> pd.DataFrame:
        """One row per layer and peer set: recovered fraction of the layer's summed damage.

        `predicted` is the share of variance that the peers supply, channels weighted by the damage
        of their mean lesion, as they are in `recovered`.
        """
        rows = []
        average, _ = self.mean_and_error(name)
        for layer in dict.fromkeys(self.layer):
            part = self.select(self.layer == layer)
            weight = average[self.layer == layer][part._mean_rows()]
            for kind in dict.fromkeys(part.kind[part.kind != "mean"]):
                chosen = part.kind == kind
                known = chosen & ~np.isnan(part.predicted)
                recovered, error = part.pooled(kind, name)
                rows.append(
                    {
                        "layer": layer,
                        "peers": kind,
                        "mean_lesion": float(weight[chosen].mean()),
                        "recovered": recovered,
                        "recovered_se": error,
                        "predicted": float(
                            (part.predicted * weight)[known].sum() / weight[known].sum()
                        ),
                    }
                )
        return pd.DataFrame(rows)

    def _summed(self, kind: str, name: str) -> tuple[Float, Float]:
        """(N,) damage of the replacements and of their mean lesions, summed over channels."""
        rows = np.flatnonzero(self.kind == one_of("kind", kind, sorted(set(self.kind))))
        draws = int(self.draw[rows].max()) + 1
        damage = self.damage[name].astype(np.float64)
        lesioned = damage[self._mean_rows()[rows]].sum(axis=0)
        return damage[rows].sum(axis=0) / draws, lesioned / draws

    def _mean_rows(self) -> NDArray[np.intp]:
        """(R,) the row of each row's own mean lesion."""
        keys = list(zip(self.layer, self.channels, strict=True))
        where = {key: i for i, key in enumerate(keys) if self.kind[i] == "mean"}
        return np.array([where[key] for key in keys])


def _recovered(replaced: NDArray[Any], lesioned: NDArray[Any]) -> tuple[float, float]:
    """1 - mean(replaced) / mean(lesioned), paired by image, with its delta-method error."""
    a, b = replaced.astype(np.float64), lesioned.astype(np.float64)
    if b.mean() == 0:
        return np.nan, np.nan
    ratio = a.mean() / b.mean()
    spread = (a - ratio * b).std(ddof=1) / np.sqrt(len(a)) / abs(b.mean()) if len(a) > 1 else np.nan
    return float(1 - ratio), float(spread)


def replace(
    model: nn.Module,
    loader: Iterable[object],
    calibration: Any,
    *,
    peers: str | Sequence[str] = ("all", "hull", "random"),
    layers: Sequence[str] | None = None,
    channels: Mapping[str, Sets] | None = None,
    size: int | None = None,
    draws: int = 1,
    ridge: float = 1e-4,
    point: str = "pre_norm",
    loss: Loss = cross_entropy,
    method: str = "fast",
    memory: int = MEMORY,
    seed: int = 0,
    progress: Progress | None = None,
) -> ReplacementTable:
    """Replace every channel, one at a time, by its ridge regression on its same-layer peers.

    The regression is fitted on calibration moments only, acts on the layer's own output (before
    the norm) or after its activation, and is compared on each image with the intact network and
    with the mean lesion at the same point.

    Parameters
    ----------
    model, loader, layers, loss, method, memory, progress
        As for `lesion`.
    calibration
        The result of `measure`, layer name -> `Moments`, or a loader of calibration images.
    peers
        One or more of "all", "hull" (compact hull), "overlap" (the most overlapping) and "random".
    channels
        Layer name -> channels to replace, one at a time.
    size
        Of the sets "overlap" and "random"; None gives each channel the size of its hull.
    draws
        Of "random": each channel is replaced by this many random sets.
    ridge
        On the diagonal of the correlation.
    point
        "pre_norm": the layer's own output. "post_activation": the output of the activation that
        directly follows it or its norm, with calibration and mean lesion at that point too; layers
        without one (those summed into a residual first) are left out.
    seed
        Of the random sets.

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
    named = [peers] if isinstance(peers, str) else list(peers)
    wanted = list(dict.fromkeys(one_of("peers", kind, PEERS) for kind in named))
    positive("ridge", ridge, zero=True)
    repeats = count("draws", draws)
    if size is not None:
        count("size", size)
    source, example = first_images(model, loader)
    found = find_layers(model, example, names_of(layers, channels))
    if one_of("point", point, ("pre_norm", "post_activation")) == "post_activation":
        found = _with_activation(found, layers if channels is None else list(channels))
    _refuse_lonely(found)
    known = calibrate(model, calibration, found, point=point)
    jobs: list[Job] = []
    notes: list[tuple[Float, NDArray[np.intp], int]] = []
    rng = np.random.default_rng(seed)
    for layer in found:
        chosen = channel_sets(layer, channels)
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
                fit = regress_on_peers(
                    known.moments[layer.name], peers=kind, size=size, ridge=ridge, rng=rng
                )
                change = FromPeers(
                    torch.from_numpy(fit.coefficients), torch.from_numpy(fit.intercepts)
                )
                jobs.append(Job(layer, kind, point, change, chosen))
                notes.append((fit.recovered, fit.n_peers, draw))
    plan = plan_runs(model, example, jobs, method, memory)
    outcome = execute(
        model,
        source,
        jobs,
        plan.runners,
        loss=loss,
        images_at_once=plan.images_at_once,
        calibration_images=known.images,
        progress=progress,
    )
    rows = [job.channels[:, 0].numpy() for job in jobs]
    return ReplacementTable(
        **vars(tabulate(jobs, outcome, plan.fallback)),
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
