"""Does training separate the two axes of a layer whose network starts out coupled?

Two-layer linear networks with a fixed readout, for which everything is known in closed form. The
regimes are named by theory before anything is trained: `predicted_rank_coupling` at the end.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sim.experiments.estimates import estimate
from sim.experiments.plotting import band
from sim.experiments.predictions import coupling_curves
from sim.experiments.runs import Run, kept_run, run_on_cluster
from sim.law import expected_law, predicted_rank_coupling
from sim.networks import Network
from sim.records import pearson, signal_power
from sim.simulation import stable_rate
from sim.spectra import power_law
from sim.tasks import Regression, Task
from sim.trajectory import Trajectory
from theory.shared.findings import Finding
from theory.shared.style import figure_legend, label, sheet, styled
from theory.shared.validation import Float, count

THRESHOLD = 0.2
"""Couplings below this, in absolute value, count as separated."""
EXPONENT = 2.0
COUPLING = 0.94
RELATIVE_RATE = 0.025
"""Learning rate over the stable limit: small, so that descent follows the flow of the theory."""
REGIMES = (
    ("lazy, even target", 0.0, 1.0),
    ("lazy, aligned target", 2.0, 1.0),
    ("rich, even target", 0.0, 0.2),
)
"""Name, alignment of the target with the input spectrum, initialization scale."""


@dataclass(frozen=True, eq=False)
class Regime:
    """One regime: its run, and theory beside it.

    Attributes
    ----------
    name : in words.
    predicted : (start, end) Spearman coupling of the output's two axes, from the settings alone.
    richness : power of a channel from what is learned over that of chance, at the end.
    run : the trajectory.
    law : (S, R) corr(J, b²) along training, with the layer's own motion; per seed, from the
        initial weights.
    wide : (S, R) κ(Σ, Σm(t)), its limit for many channels.
    measured : (S, R) the same correlation across the trained channels.
    """

    name: str
    predicted: tuple[float, float]
    richness: float
    run: Trajectory
    law: Float
    wide: Float
    measured: Float

    @property
    def verdict(self) -> str:
        """What theory says in advance: "separates" or "does not separate"."""
        return "separates" if abs(self.predicted[1]) < THRESHOLD else "does not separate"

    @property
    def coupling(self) -> Float:
        """(S, R) Spearman of I_X and I_T, the target being the network's own output."""
        return self.run.coupling()

    @property
    def coherence(self) -> Float:
        """(S, R) Spearman of I_X and peer overlap: within the local axis."""
        return self.run.coupling("input_capture", "peer_overlap")


@dataclass(frozen=True, eq=False)
class Separation:
    """What `separate` found: one `Regime` each."""

    regimes: tuple[Regime, ...]

    def findings(self) -> list[Finding]:
        """Sentences worded from the numbers, whether or not a claim holds."""
        return [finding for regime in self.regimes for finding in _findings(regime)]

    def to_frame(self) -> pd.DataFrame:
        """One row per regime, seed and record."""
        return pd.concat([_frame(regime) for regime in self.regimes], ignore_index=True)

    @styled()
    def figure(self) -> Figure:
        """Rank couplings over training above, simulation against the law below."""
        number = len(self.regimes)
        figure, axes = sheet(3, number, width=3.3 * number, height=2.7, heights=(1, 1, 0.3))
        for column, regime in enumerate(self.regimes):
            _draw_ranks(axes[0, column], regime, column == 0)
            _draw_law(axes[1, column], regime, column == 0)
        figure_legend(axes[2], axes[:2, 0])
        return figure


def separate(
    *,
    width: int = 256,
    dimension: int = 32,
    seeds: int = 32,
    steps: int = 120_000,
    records: int = 30,
    regimes: Sequence[tuple[str, float, float]] = REGIMES,
    threads: int | None = None,
    out: str | os.PathLike[str] | None = None,
    scheduler: str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Separation:
    """Train ensembles from a coupled start in regimes that theory has named, and compare.

    Parameters
    ----------
    width : channels C.
    dimension : inputs d, their spectrum λ_j ∝ j^-2.
    seeds : networks per regime.
    steps : of gradient descent on the population loss, readout fixed.
    records : log-spaced records.
    regimes : (name, alignment of the target, initialization scale) each.
    threads : as in `simulate`.
    out : folder in which finished runs are kept; called again, they are loaded from there.
    scheduler : address of a Dask scheduler, whose workers make the runs in `out`.
    progress : called with (regime, steps made, steps).

    >>> result = separate(width=32, dimension=8, seeds=3, steps=500, records=6)
    >>> [regime.verdict for regime in result.regimes]
    ['separates', 'does not separate', 'does not separate']
    """
    count("seeds", seeds, least=2)
    spectrum = power_law(dimension, EXPONENT)
    runs: list[Run] = []
    for _, alignment, scale in regimes:
        task: Task = Regression(spectrum, alignment=alignment)
        network = Network(width=width, scale=scale, coupling=COUPLING, train_readout=False)
        rate = RELATIVE_RATE * stable_rate(task, network, range(seeds))
        options = {"steps": steps, "seeds": seeds, "learning_rate": rate, "records": records}
        runs.append((task, network, options | {"quantities": False}))
    run_on_cluster(out, runs, scheduler)
    found = []
    for (name, *_), (task, network, options) in zip(regimes, runs, strict=True):
        population = task.population
        predicted = (
            predicted_rank_coupling(population, network, 0.0),
            predicted_rank_coupling(population, network, np.inf),
        )
        law = expected_law(population, network, np.inf, np.random.default_rng(0))
        run = kept_run(
            out,
            task,
            network,
            threads=threads,
            progress=None if progress is None else _named(progress, name),
            **options,
        )
        theory_curves = coupling_curves(run)
        found.append(
            Regime(name, predicted, law.richness, run, *theory_curves, measured_coupling(run))
        )
    return Separation(tuple(found))


def quick() -> Separation:
    """`separate` small enough for a demonstration: some seconds on two cores."""
    return separate(width=128, dimension=16, seeds=16, steps=80_000, records=16)


def measured_coupling(run: Trajectory) -> Float:
    """(S, R) corr(J, b²) across the channels of each member; b = Cov(Y, f)."""
    values = np.empty(run.loss.shape)
    for record in range(run.steps.size):
        layer = run.layer(record)
        values[:, record] = pearson(signal_power(layer), layer.cross["output"][..., 0] ** 2)
    return values


def _named(progress: Callable[[str, int, int], None], name: str) -> Callable[[int, int], None]:
    return lambda made, total: progress(name, made, total)


def _findings(regime: Regime) -> list[Finding]:
    start, end = estimate(regime.coupling[:, 0]), estimate(regime.coupling[:, -1])
    inside = (estimate(regime.coherence[:, 0]), estimate(regime.coherence[:, -1]))
    if max(abs(end.low), abs(end.high)) < THRESHOLD:
        outcome = "agrees" if regime.verdict == "separates" else "contradicts it"
    elif end.low > THRESHOLD or end.high < -THRESHOLD:
        outcome = "contradicts it" if regime.verdict == "separates" else "agrees"
    else:
        outcome = "these seeds cannot decide"
    deviation = np.abs(np.mean(regime.measured - regime.law, axis=0))
    gap = np.abs(np.mean(regime.measured - regime.wide, axis=0))
    moved = np.abs(inside[1].mean - inside[0].mean) < np.abs(end.mean - start.mean)
    return [
        Finding(
            "{name}: theory said in advance that this regime {verdict} (end {predicted:+.2f}, "
            "richness {richness:.2g}); the coupling of the output's two axes went from "
            "{start:+.2f} to {end:+.2f}, which {outcome}.",
            {
                "name": regime.name.capitalize(),
                "verdict": regime.verdict,
                "predicted": regime.predicted[1],
                "richness": regime.richness,
                "start": start,
                "end": end,
                "outcome": outcome,
            },
        ),
        Finding(
            "{name}: within the local axis, capture and overlap went from {before:+.2f} to "
            "{after:+.2f}, {compared} than between the axes.",
            {
                "name": regime.name.capitalize(),
                "before": inside[0],
                "after": inside[1],
                "compared": "less far" if moved else "not less far",
            },
        ),
        Finding(
            "{name}: the simulated correlation of J with b² stays within {law:.3f} of the law with "
            "the layer's own motion, and within {wide:.3f} of κ(Σ, Σm(t)).",
            {
                "name": regime.name.capitalize(),
                "law": float(deviation.max()),
                "wide": float(gap.max()),
            },
        ),
    ]


def _frame(regime: Regime) -> pd.DataFrame:
    run = regime.run
    seeds, records = run.loss.shape
    return pd.DataFrame(
        {
            "regime": regime.name,
            "seed": np.repeat(run.seeds, records),
            "step": np.tile(run.steps, seeds),
            "time": np.tile(run.time, seeds),
            "loss": run.loss.ravel(),
            "coupling_output": regime.coupling.ravel(),
            "coupling_label": run.coupling(target="label").ravel(),
            "coherence": regime.coherence.ravel(),
            "pearson_measured": regime.measured.ravel(),
            "pearson_law": regime.law.ravel(),
            "pearson_wide": regime.wide.ravel(),
        }
    )


def _draw_ranks(axes: Axes, regime: Regime, first: bool) -> None:
    run = regime.run
    band(axes, run.time, regime.coupling, 0, "capture with task, own output")
    band(axes, run.time, run.coupling(target="label"), 1, "capture with task, label")
    band(axes, run.time, regime.coherence, 2, "capture with overlap")
    for when, value in zip((run.time[1] / 3, run.time[-1] * 1.6), regime.predicted, strict=True):
        axes.plot(when, value, marker="*", ms=11, color="black", ls="none", clip_on=False)
    axes.axhspan(-THRESHOLD, THRESHOLD, color="0.92", zorder=0)
    axes.set_title(f"{regime.name}\ntheory: {regime.verdict}")
    axes.set_ylim(-0.4, 1.02)
    if first:
        axes.set_ylabel("rank coupling (Spearman)")
        axes.plot([], [], marker="*", ms=11, color="black", ls="none", label="theory, in advance")


def _draw_law(axes: Axes, regime: Regime, first: bool) -> None:
    run = regime.run
    band(axes, run.time, regime.measured, 0, "simulation")
    law, wide = (values.mean(axis=0)[1:] for values in (regime.law, regime.wide))
    axes.plot(run.time[1:], law, "-", color="black", lw=1, label="law of the filters")
    axes.plot(run.time[1:], wide, ":", color="black", lw=1, label="κ(Σ, Σm(t)), wide limit")
    axes.set_ylim(-0.05, 1.02)
    what = "corr(J, b²), own output" if first else ""
    label(axes, "training time (steps × learning rate)", what)
