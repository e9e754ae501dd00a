"""Lesion, peer replacement and refit of simulated networks, against their identities.

Every damage is measured by editing the network and computing its loss again, and predicted by
`theory.lesion_damage` from the moments of the intact one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sim.experiments.estimates import estimate, interval
from sim.experiments.runs import kept_run, run_on_cluster
from sim.networks import Network
from sim.records import LayerMoments, layer_moments
from sim.spectra import power_law
from sim.tasks import Population, Regression
from sim.trajectory import Trajectory
from theory import QUANTITIES, channel_axes, lesion_damage, spearman
from theory.shared.findings import Finding
from theory.shared.style import figure_legend, label, mark, sheet, styled
from theory.shared.validation import Float, count

KINDS = ("mean", "replacement", "refit")
AXES = ("input_capture", "task_information", "peer_predictability", "conditional_task_information")


@dataclass(frozen=True, eq=False)
class Lesions:
    """Damage of every single-channel lesion along training, in units of the target's variance.

    Attributes
    ----------
    run : the trajectory; its last record, `best`, has the least-squares readout instead.
    steps : (R + 1,) steps; the last entry repeats the last one, for the optimal readout.
    measured : kind -> (S, R + 1, C) rise of E(T - f)² when the edited network is evaluated.
    predicted : the same by the identities.
    axes : quantity -> (S, R + 1, C), target the label.
    error : (S, R + 1) E(T - f)² before the lesion.
    """

    run: Trajectory
    measured: dict[str, Float]
    predicted: dict[str, Float]
    axes: dict[str, Float]
    error: Float

    def deviation(self, kind: str) -> float:
        """Largest deviation of measured from predicted, relative to the largest damage."""
        measured, predicted = self.measured[kind], self.predicted[kind]
        return float(np.abs(measured - predicted).max() / np.abs(predicted).max())

    def rank_correlation(self, kind: str, quantity: str, record: int) -> Float:
        """(S,) Spearman of a damage with a quantity, across channels."""
        return spearman(self.measured[kind][:, record], self.axes[quantity][:, record])

    def findings(self) -> list[Finding]:
        """Sentences worded from the numbers."""
        worst = {kind: self.deviation(kind) for kind in KINDS}
        found = [
            Finding(
                "Over all records, seeds and channels the measured damage differs from the "
                "identities by at most {mean:.1e} (mean ablation), {replacement:.1e} (peer "
                "replacement) and {refit:.1e} (refit) of the largest damage.",
                worst,
            ),
            self._ratio_finding(),
        ]
        found += [self._rank_finding(kind) for kind in ("mean", "replacement")]
        return [*found, self._training_finding()]

    def _ratio_finding(self) -> Finding:
        ratio = self.measured["replacement"][:, -1] / self.measured["mean"][:, -1]
        off = np.abs(ratio - (1 - self.axes["peer_predictability"][:, -1])).max()
        return Finding(
            "At the least-squares readout replacement costs {share:.0%} of mean ablation in the "
            "median channel; the ratio is 1 - E_i to {off:.0e}.",
            {"share": float(np.median(ratio)), "off": float(off)},
        )

    def _rank_finding(self, kind: str) -> Finding:
        names = {"mean": "mean ablation", "replacement": "peer replacement"}
        values: dict[str, object] = {"kind": names[kind]}
        values |= {name: estimate(self.rank_correlation(kind, name, -1)) for name in AXES}
        return Finding(
            "At the least-squares readout the damage of {kind} ranks with input capture "
            "{input_capture:+.2f}, task information {task_information:+.2f}, peer predictability "
            "{peer_predictability:+.2f} and conditional task information "
            "{conditional_task_information:+.2f} (Spearman, mean over seeds with its 95 % "
            "interval).",
            values,
        )

    def _training_finding(self) -> Finding:
        below = self.measured["mean"][:, :-1] < 0
        return Finding(
            "Along training, away from that readout, {share:.1%} of mean ablations lower the "
            "error; the identities with their cross terms say which.",
            {"share": float(below.mean())},
        )

    def to_frame(self) -> pd.DataFrame:
        """One row per seed, record and channel; record -1 has the least-squares readout."""
        S, R, C = self.measured["mean"].shape
        steps = [*self.run.steps, self.run.steps[-1]]
        data = {
            "seed": np.repeat(self.run.seeds, R * C),
            "step": np.tile(np.repeat(steps, C), S),
            "readout": np.tile(np.repeat(["trained"] * (R - 1) + ["optimal"], C), S),
            "channel": np.tile(np.arange(C), S * R),
        }
        data |= {f"{kind}_measured": self.measured[kind].ravel() for kind in KINDS}
        data |= {f"{kind}_predicted": self.predicted[kind].ravel() for kind in KINDS}
        return pd.DataFrame(data | {name: self.axes[name].ravel() for name in AXES})

    @styled()
    def figure(self) -> Figure:
        """Damage against its prediction, the ratio against 1 - E, and what ranks with damage."""
        figure, axes = sheet(2, 3, width=9.9, height=2.7, heights=(1.1, 0.35))
        _draw_identity(axes[0, 0], self)
        _draw_ratio(axes[0, 1], self)
        _draw_ranks(axes[0, 2], self)
        figure_legend(axes[1], axes[0])
        return figure


def lesion(
    *,
    width: int = 16,
    dimension: int = 32,
    exponent: float = 1.0,
    alignment: float = 0.5,
    noise: float = 0.5,
    seeds: int = 16,
    steps: int = 4000,
    records: int = 8,
    threads: int | None = None,
    out: str | os.PathLike[str] | None = None,
    scheduler: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Lesions:
    """Lesion every channel of an ensemble along training, and at the least-squares readout.

    Parameters
    ----------
    width : channels, fewer than inputs, as their covariance has to be invertible.
    dimension, exponent : of the input spectrum.
    alignment, noise : of the target.
    seeds, steps, records, threads, progress : as in `simulate`.
    out : folder in which the run is kept; called again, it is loaded from there.
    scheduler : address of a Dask scheduler, a worker of which makes the run in `out`.

    >>> lesion(width=4, dimension=8, seeds=2, steps=50, records=3).deviation("refit") < 1e-9
    True
    """
    if count("width", width, least=2) > count("dimension", dimension):
        raise ValueError(
            f"width must be at most dimension, for an invertible covariance; got {width} channels "
            f"of {dimension} inputs."
        )
    task = Regression(power_law(dimension, exponent), alignment=alignment, noise=noise)
    network = Network(width=width)
    options = {"steps": steps, "seeds": seeds, "records": records, "quantities": False}
    run_on_cluster(out, [(task, network, options)], scheduler)
    run = kept_run(out, task, network, threads=threads, progress=progress, **options)
    filters = np.concatenate([run.filters, run.filters[:, -1:]], axis=1)
    best = _best_readouts(layer_moments(filters[:, -1], run.readout[:, -1], task.population))
    readout = np.concatenate([run.readout, best[:, None]], axis=1)
    layer = layer_moments(filters, readout, task.population)
    measured, predicted, axes = _evaluate(layer, readout, task.population)
    return Lesions(run, measured, predicted, axes, 2 * layer.loss)


def _best_readouts(layer: LayerMoments) -> Float:
    best: Float = np.swapaxes(np.linalg.solve(layer.channels, layer.cross["label"]), -1, -2)
    return best


def _evaluate(
    layer: LayerMoments, readout: Float, population: Population
) -> tuple[dict[str, Float], dict[str, Float], dict[str, Float]]:
    shape = layer.filters.shape[:-1]
    measured = {kind: np.empty(shape) for kind in KINDS}
    predicted = {kind: np.empty(shape) for kind in KINDS}
    axes = {name: np.empty(shape) for name in QUANTITIES}
    for member in np.ndindex(*shape[:2]):
        filters, outward = layer.filters[member], readout[member]
        for kind, values in edited_damage(filters, outward, population).items():
            measured[kind][member] = values
        damage = lesion_damage(layer.channels[member], layer.cross["label"][member], outward.T)
        for kind in KINDS:
            predicted[kind][member] = getattr(damage, kind)
        found = channel_axes(layer.moments(member, "label"), weights=filters, hull=False)
        for name, values in found.as_dict().items():
            axes[name][member] = values
    return measured, predicted, axes


def edited_damage(filters: Float, readout: Float, population: Population) -> dict[str, Float]:
    """Rise of E(T - f)² when each channel's filter is edited and the network evaluated again.

    Mean ablation sets a filter to zero; replacement sets it to its regression on the other filters
    in the metric of Cov(X); refit leaves it out and fits the readout of the others anew.
    """
    C = filters.shape[0]
    half = np.linalg.cholesky(population.sigma)
    rows = filters @ half
    edits = {kind: np.repeat(filters[None], C, axis=0) for kind in ("mean", "replacement")}
    refits = np.zeros((C, *readout.shape))
    target = population.teacher @ half
    for i in range(C):
        others = np.delete(np.arange(C), i)
        slopes = np.linalg.lstsq(rows[others].T, rows[i], rcond=None)[0]
        edits["mean"][i, i] = 0
        edits["replacement"][i, i] = slopes @ filters[others]
        refits[i][:, others] = np.linalg.lstsq(rows[others].T, target.T, rcond=None)[0].T

    def error(edited: Float, outward: Float) -> Float:
        return 2 * layer_moments(edited, outward, population).loss

    before = error(filters, readout)
    best = np.linalg.lstsq(rows.T, target.T, rcond=None)[0].T
    same = np.repeat(readout[None], C, axis=0)
    damage = {kind: error(edited, same) - before for kind, edited in edits.items()}
    whole = np.repeat(filters[None], C, axis=0)
    return damage | {"refit": error(whole, refits) - error(filters, best)}


def _draw_identity(axes: Axes, lesions: Lesions) -> None:
    for row, kind in enumerate(KINDS):
        axes.plot(
            lesions.predicted[kind].ravel(),
            lesions.measured[kind].ravel(),
            **mark(row, linestyle="none"),
            markersize=3,
            alpha=0.4,
            label={"mean": "mean ablation", "replacement": "peer replacement"}.get(kind, kind),
        )
    axes.axline((0, 0), slope=1, color="black", lw=0.8)
    label(axes, "damage by the identity", "damage of the edited network")


def _draw_ratio(axes: Axes, lesions: Lesions) -> None:
    ratio = lesions.measured["replacement"][:, -1] / lesions.measured["mean"][:, -1]
    rest = 1 - lesions.axes["peer_predictability"][:, -1]
    points = mark(0, linestyle="none", label="optimal readout")
    axes.plot(rest.ravel(), ratio.ravel(), ms=3, **points)
    ends = [rest.min(), rest.max()]
    axes.plot(ends, ends, color="black", lw=0.8)
    label(axes, "1 - E, not predictable from peers", "replacement / mean ablation")


def _draw_ranks(axes: Axes, lesions: Lesions) -> None:
    steps = np.maximum(lesions.run.steps, 0.5)
    for row, name in enumerate(AXES):
        ranks = [lesions.rank_correlation("replacement", name, r) for r in range(steps.size)]
        mean, half = interval(np.stack(ranks, axis=1))
        axes.errorbar(steps, mean, half, ms=3, label=name.replace("_", " "), **mark(row))
    axes.set_xscale("log")
    label(axes, "step (0 shown at 0.5)", "rank with replacement damage")
