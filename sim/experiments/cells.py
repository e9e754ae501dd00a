"""One setting of a phase diagram: what a sweep runs, here or on a cluster's workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sim.experiments.estimates import interval
from sim.law import predicted_couplings
from sim.networks import Network
from sim.simulation import simulate, stable_rate
from sim.spectra import power_law
from sim.tasks import Regression
from theory import initial_coupling_normalized, settling_time

if TYPE_CHECKING:  # how cells are kept is no part of what they are
    from sim.sweep import Result, Setting

THRESHOLD = 0.2
"""A coupling below this, in absolute value, counts as separated; a change of less has no time."""
RELATIVE_RATE = 0.25
"""Learning rate over the stable limit."""
FORETOLD = 128
"""Layers drawn from the law for a prediction."""
RECORDS = 20
"""Log-spaced records of a setting."""


def phase_cell(setting: Setting) -> Result:
    """One setting of a phase diagram: a pure function, to be run anywhere."""
    task = Regression(
        power_law(int(setting["dimension"]), setting["exponent"]),
        outputs=int(setting["outputs"]),
        alignment=setting["alignment"],
        noise=setting["noise"],
    )
    network = Network(width=int(setting["width"]), scale=setting["scale"], train_readout=False)
    target, first = setting["target"], int(setting["first_seed"])
    seeds = range(first, first + int(setting["seeds"]))
    rate = RELATIVE_RATE * stable_rate(task, network, seeds)
    run = simulate(
        task,
        network,
        steps=int(setting["steps"]),
        seeds=seeds,
        learning_rate=rate,
        records=RECORDS,
        quantities=False,
    )
    mean, half = interval(run.coupling(target=target))
    foretold, foretold_half = interval(
        predicted_couplings(
            task.population,
            network,
            run.time,
            target=target,
            networks=FORETOLD,
            rate=rate,
            seed=first,
        )
    )
    excess = run.loss - task.population.floor
    cross = task.population.cross
    static = (
        initial_coupling_normalized(task.population.spectrum, cross[:, 0])
        if cross.shape[1] == 1
        else float("nan")
    )
    return {
        "start": float(mean[0]),
        "end": float(mean[-1]),
        "end_half": float(half[-1]),
        "predicted_start": float(foretold[0]),
        "predicted_end": float(foretold[-1]),
        "predicted_half": float(foretold_half[-1]),
        "static": static,
        "time": settling_time(run.time, mean, apart=THRESHOLD),
        "predicted_time": settling_time(run.time, foretold, apart=THRESHOLD),
        "loss": float(np.mean(excess[:, -1] / excess[:, 0])),
    }
