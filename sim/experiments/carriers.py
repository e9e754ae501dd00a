"""What carries a separation: the features that moved, or the target that they are asked about.

The coupling at the end differs from that at the start in two things: the layer's filters, and the
network's own output, which task information is about. Crossing both, filters of one step with the
output of another, says how much of the fall each carries by itself.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from sim.experiments.estimates import estimate
from sim.law import rank_axes
from sim.trajectory import Trajectory
from theory import spearman
from theory.shared.crossing import carrier_finding, crossed_parts
from theory.shared.findings import Finding
from theory.shared.validation import Float, instance


def crossed_couplings(run: Trajectory) -> Float:
    """(S, 2, 2) Spearman of I_X and I_T: filters first or last, about the first or last output.

    Parameters
    ----------
    run : a trajectory of a linear network; its first and last records are crossed.

    Raises
    ------
    ValueError
        a ReLU network, whose output is no linear map of its inputs.

    >>> from sim import Network, Regression, power_law, simulate
    >>> task = Regression(power_law(8, 2.0), alignment=0.0)
    >>> run = simulate(task, Network(width=16), steps=200, seeds=3, quantities=False)
    >>> crossed = crossed_couplings(run)
    >>> bool(np.allclose(crossed[:, 1, 1], run.coupling()[:, -1]))
    True
    """
    instance("run", run, Trajectory, "Take one from simulate.")
    if run.network.nonlinearity != "linear":
        raise ValueError(
            f"run must be of a linear network; got {run.network.nonlinearity!r}. Use "
            "nonlinearity='linear'."
        )
    population = run.task.population
    filters = (run.filters @ population.basis)[:, [0, -1]]
    outputs = run.readout[:, [0, -1]] @ filters
    found = np.empty((len(filters), 2, 2))
    for feature in range(2):
        for target in range(2):
            axes = rank_axes(filters[:, feature], outputs[:, target], population, "output")
            found[:, feature, target] = spearman(*axes)
    return found


def carriers(run: Trajectory) -> pd.DataFrame:
    """Mean couplings over networks with 95 % intervals, and what of the fall each part carries.

    Columns what, mean, low, high; see `theory.shared.crossing.crossed_parts`.
    """
    parts = crossed_parts(crossed_couplings(run))
    rows = [{"what": name, **vars(estimate(values))} for name, values in parts.items()]
    return pd.DataFrame(rows)


def carrier_sentence(run: Trajectory) -> Finding:
    """The same in a sentence."""
    crossed = crossed_parts(crossed_couplings(run))
    return carrier_finding({name: estimate(values) for name, values in crossed.items()})
