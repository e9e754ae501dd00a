"""One setting of a phase diagram: what a sweep runs, here or on a cluster's workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sim.experiments.estimates import interval
from sim.law import predicted_rank_coupling
from sim.networks import Network
from sim.simulation import simulate, stable_rate
from sim.spectra import power_law
from sim.tasks import Regression
from theory.shared.validation import Float

if TYPE_CHECKING:  # how cells are kept is no part of what they are
    from sim.sweep import Result, Setting

THRESHOLD = 0.2
"""A coupling below this, in absolute value, counts as separated."""
RELATIVE_RATE = 0.25
"""Learning rate over the stable limit."""


def phase_cell(setting: Setting) -> Result:
    """One setting of a phase diagram: a pure function, to be run anywhere."""
    task = Regression(
        power_law(int(setting["dimension"]), setting["exponent"]),
        outputs=int(setting["outputs"]),
        alignment=setting["alignment"],
        noise=setting["noise"],
    )
    network = Network(width=int(setting["width"]), scale=setting["scale"], train_readout=False)
    seeds, target = int(setting["seeds"]), setting["target"]
    run = simulate(
        task,
        network,
        steps=int(setting["steps"]),
        seeds=seeds,
        learning_rate=RELATIVE_RATE * stable_rate(task, network, range(seeds)),
        records=14,
        quantities=False,
    )
    couplings = run.coupling(target=target)
    mean, half = interval(couplings)
    predicted = np.array(
        [
            predicted_rank_coupling(
                task.population, network, float(time), target=target, starts=4, draws=2000
            )
            for time in run.time
        ]
    )
    excess = run.loss - task.population.floor
    return {
        "start": float(mean[0]),
        "end": float(mean[-1]),
        "end_half": float(half[-1]),
        "predicted_start": float(predicted[0]),
        "predicted_end": float(predicted[-1]),
        "time": settling_time(run.time, mean),
        "predicted_time": settling_time(run.time, predicted),
        "loss": float(np.mean(excess[:, -1] / excess[:, 0])),
    }


def settling_time(time: Float, coupling: Float) -> float:
    """Time from which |coupling| stays below the threshold; NaN if it does not.

    Between two records it is interpolated in log time, after the first, at time 0.

    >>> round(settling_time(np.array([0.0, 1.0, 4.0, 16.0]), np.array([0.5, 0.1, 0.3, 0.1])), 6)
    8.0
    """
    size = np.abs(coupling)
    outside = np.flatnonzero(~(size < THRESHOLD))
    if outside.size == 0:
        return float(time[0])
    last = int(outside[-1])
    if last + 1 == time.size or not np.isfinite(size[last]):
        return float("nan")
    if time[last] == 0:
        return float(time[last + 1])
    share = (size[last] - THRESHOLD) / (size[last] - size[last + 1])
    return float(time[last] * (time[last + 1] / time[last]) ** share)
