"""What carries a separation: the features that moved, or the target that they are asked about.

The coupling at the end differs from that at the start in two things: the layer's filters, and the
network's own output, which task information is about. Crossing both, filters of one step with the
output of another, says how much of the fall each carries by itself.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from sim.experiments.estimates import estimate
from sim.records import explained_share, signal_power, targets_of
from sim.trajectory import Trajectory
from theory import spearman
from theory.shared.crossing import carrier_finding, crossed_parts
from theory.shared.findings import Finding
from theory.shared.validation import Float, instance, one_of


def crossed_couplings(run: Trajectory, *, target: str = "output") -> Float:
    """(S, 2, 2) Spearman of I_X and I_T: filters first or last, about the first or last target.

    Parameters
    ----------
    run : a trajectory; its first and last records are crossed.
    target : "output", or in a mixture "margin": what of the network task information is about.

    >>> from sim import Network, Regression, power_law, simulate
    >>> task = Regression(power_law(8, 2.0), alignment=0.0)
    >>> run = simulate(task, Network(width=16), steps=200, seeds=3, quantities=False)
    >>> crossed = crossed_couplings(run)
    >>> bool(np.allclose(crossed[:, 1, 1], run.coupling()[:, -1]))
    True
    """
    instance("run", run, Trajectory, "Take one from simulate.")
    of_network = [name for name in targets_of(run.task.population) if name != "label"]
    one_of("target", target, of_network)
    ends = run.layer(0), run.layer(run.steps.size - 1)
    found = np.empty((len(run.filters), 2, 2))
    for feature, own in enumerate(ends):
        for number, other in enumerate(ends):
            about = replace(
                own,
                cross={target: own.filters @ other.input_cross[target]},
                target_cov={target: other.target_cov[target]},
            )
            found[:, feature, number] = spearman(signal_power(own), explained_share(about, target))
    return found


def carriers(run: Trajectory, *, target: str = "output") -> pd.DataFrame:
    """Mean couplings over networks with 95 % intervals, and what of the fall each part carries.

    Columns what, mean, low, high; see `theory.shared.crossing.crossed_parts`.
    """
    parts = crossed_parts(crossed_couplings(run, target=target))
    rows = [{"what": name, **vars(estimate(values))} for name, values in parts.items()]
    return pd.DataFrame(rows)


def carrier_sentence(run: Trajectory, *, target: str = "output") -> Finding:
    """The same in a sentence."""
    crossed = crossed_parts(crossed_couplings(run, target=target))
    return carrier_finding({name: estimate(values) for name, values in crossed.items()})
