"""What a simulation will need of memory, foretold; refused where it is not there."""

from __future__ import annotations

import psutil

from sim.networks import Network
from sim.outputs import DRAWN
from sim.records import targets_of
from sim.tasks import Population
from theory import QUANTITIES


def foretold_bytes(
    population: Population,
    network: Network,
    seeds: int,
    records: int,
    *,
    quantities: bool,
    batch: int = 0,
) -> int:
    """Most bytes of arrays at any one time of `simulate`; within a factor of 1.5.

    Weights at every record are held twice, in the basis of the task and turned back from it; of one
    record all members' covariances; and what is drawn where moments have no closed form.
    """
    d, (K, C) = population.spectrum.size, (population.outputs, network.width)
    relu, targets = network.nonlinearity == "relu", len(targets_of(population))
    inner = (network.depth - 2) * C * C
    kept = 2 * C * d + K * C + targets * C * (1 + len(QUANTITIES) * quantities)
    kept += inner if relu else 0
    state = 2 * C * d + inner * (1 + relu) + 4 * network.depth * K * C
    state += (2 * C * d + batch * (d + C + K)) if network.norm else 0
    drift = network.depth == 2 and network.train_readout and not network.norm and not relu
    covariances = 5 * C * (C if drift and d < C else d) + C * C
    drawn = 2 * DRAWN * (2 * d + 4 * K + (3 * C if relu else 0))
    needed = seeds * (records * kept + state + covariances)
    has_drawn = targets > 2 or (relu and network.depth > 2)
    return 8 * int(needed + (drawn if has_drawn else 0))


def check_memory(
    population: Population,
    network: Network,
    seeds: int,
    records: int,
    *,
    quantities: bool,
    batch: int,
) -> None:
    """Refuse what would not fit.

    Raises
    ------
    MemoryError
        It names what is needed, and what is free.
    """
    needed = foretold_bytes(population, network, seeds, records, quantities=quantities, batch=batch)
    free = psutil.virtual_memory().available
    if needed > 0.8 * free:
        raise MemoryError(
            f"This run needs {needed / 1e9:.1f} GB for {seeds} seeds x {records} records x "
            f"{network.width} channels x {population.spectrum.size} inputs; {free / 1e9:.1f} GB "
            "are free. Pass fewer records, or split the seeds over several runs."
        )
