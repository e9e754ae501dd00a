"""Theory's curves for a simulated run: from its initial weights and its task, nothing else."""

from __future__ import annotations

import numpy as np

from sim.trajectory import Trajectory
from theory import channel_coupling, fixed_readout_flow, output_coupling
from theory.dynamics import FixedReadoutFlow
from theory.shared.validation import Float


def member_flow(run: Trajectory, member: int) -> FixedReadoutFlow:
    """The closed-form gradient flow of one member with its readout fixed."""
    population = run.task.population
    return fixed_readout_flow(
        population.sigma,
        population.cross,
        run.readout[member, 0].T,
        run.filters[member, 0] @ population.basis,
        target_cov=population.target_cov,
    )


def coupling_curves(run: Trajectory) -> tuple[Float, Float]:
    """corr(J, b²) along training for the network's own output: theory, per member, (S, R) each.

    Returns
    -------
    The law with the layer's own motion (`theory.channel_coupling`, each filter scattered
    around a_i m(t)/‖a‖² with the variance of the initial weights), and κ(Σ, Σm(t)).
    """
    population, network = run.task.population, run.network
    sigma, C = population.sigma, network.width
    scale = network.scale * np.sqrt(float(network.balance) / population.spectrum.size)
    law, wide = np.empty(run.loss.shape), np.empty(run.loss.shape)
    for member in range(len(run.seeds)):
        flow = member_flow(run, member)
        readout = run.readout[member, 0, 0]
        for record, time in enumerate(run.time):
            m = flow.output(float(time))[:, 0]
            centers = np.outer(readout, m) / (readout @ readout)
            law[member, record] = channel_coupling(
                sigma, sigma @ m, centers, scale * np.sqrt(1 - 1 / C)
            )
            wide[member, record] = output_coupling(population.spectrum, m)
    return law, wide
