"""`simulate`: train an ensemble of networks of one setting and record both axes on the way."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import numpy as np
import psutil
from numpy.typing import NDArray

from sim._ensemble import (
    Member,
    advance_all,
    build_members,
    effective_readout,
    largest_curvature,
    layer_maps,
)
from sim.networks import Network
from sim.tasks import Mixture, Population, Regression, Task
from sim.trajectory import Trajectory, measured_trajectory
from theory import QUANTITIES
from theory.shared.tasks import available_threads
from theory.shared.validation import (
    Float,
    count,
    indices,
    instance,
    one_of,
    positive,
    truth,
    within,
)

MOST_SEEDS = 10_000_000

RELATIVE_RATE = 0.4
"""Default learning rate in units of 1 / (curvature at the start + at the end); stable below 2."""

Progress = Callable[[int, int], None]


class DivergenceWarning(RuntimeWarning):
    """Some members of an ensemble diverged; the others went on."""


class DivergenceError(ValueError):
    """All members of an ensemble diverged."""


def simulate(
    task: Task,
    network: Network,
    *,
    steps: int,
    seeds: int | Sequence[int],
    learning_rate: float | None = None,
    batch: int = 0,
    samples: int = 0,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    records: int | Sequence[int] = 24,
    layer: int = 1,
    quantities: bool = True,
    hull: bool = True,
    threads: int | None = None,
    dtype: str = "float64",
    progress: Progress | None = None,
) -> Trajectory:
    """Train one network per seed by gradient descent on ½ E‖T - f‖², and record.

    Parameters
    ----------
    task : what to learn; `Regression` or `Mixture`.
    network : which network, and the law of its initial weights.
    steps : how many.
    seeds : S, for the seeds 0..S-1, or the seeds themselves. A seed fixes the initial weights
        and the random stream of the data, whatever the number of threads.
    learning_rate : of every trained layer; descent is unstable above 2 / λ_max. By default a
        fifth of that, λ_max being the largest curvature of the loss over the seeds at the start
        plus, where all layers are trained, that of balanced layers that have learned the task.
    batch : samples per step; 0 follows the gradient of the population.
    samples : size of a finite data set, drawn anew for each seed; 0 draws fresh samples at every
        step. Needs a batch.
    momentum, weight_decay : of every trained layer, as in stochastic gradient descent with heavy
        balls; for networks with norm=True.
    records : how many steps to record, log-spaced from 0 to `steps`; or the steps themselves.
    layer : which hidden layer's channels to measure, from 1.
    quantities : whether to evaluate every quantity of `theory.channel_axes` at each record, for
        both targets. False leaves the weights, from which axes and couplings are computed.
    hull : whether these include the compact hull, the slowest of them.
    threads : how many; by default as many as there are cores.
    dtype : of training, "float64" or "float32". Records are float64.
    progress : called with (steps made, steps) at every record.

    Returns
    -------
    A `Trajectory`. Members that diverged hold NaN from there on, with a `DivergenceWarning`.

    Raises
    ------
    ValueError
        an argument out of range; a ReLU network on a mixture.
    MemoryError
        records that would not fit into the memory that is free, said before starting.
    DivergenceError
        all members diverged.

    >>> from sim import Network, Regression, power_law
    >>> run = simulate(Regression(power_law(8, 1.0)), Network(width=6), steps=200, seeds=2)
    >>> run.coupling().shape == (2, run.steps.size), bool((run.loss[:, -1] < run.loss[:, 0]).all())
    (True, True)
    """
    truth("quantities", quantities)
    truth("hull", hull)
    names = _seeds(seeds)
    _check(task, network, batch, samples, layer)
    inertia = _inertia(network, momentum, weight_decay, learning_rate)
    marks = record_steps(steps, records)
    _check_memory(task, network, len(names), marks.size, quantities)
    kind = np.dtype(one_of("dtype", dtype, ("float64", "float32"))).type
    population = task.population
    members = build_members(population, network, names, batch=batch, samples=samples, dtype=kind)
    if learning_rate is None:
        rate = RELATIVE_RATE / (_curvature(task, network, names) + _final_curvature(task, network))
    else:
        rate = positive("learning_rate", learning_rate)
    config = {
        "task": task.config(),
        "network": network.config(),
        "training": {
            "steps": int(steps),
            "seeds": names,
            "learning_rate": rate,
            "batch": int(batch),
            "samples": int(samples),
            "momentum": inertia[0],
            "weight_decay": inertia[1],
            "layer": int(layer),
            "dtype": dtype,
        },
    }
    rates = np.array([rate, rate if network.train_readout else 0.0, *inertia], dtype=kind)
    workers = available_threads() if threads is None else count("threads", threads)
    maps = _train(members, (population, network), rates, marks, (layer, workers), progress)
    _report_divergence(members, task, network, names, rate)
    diverged = np.array([member.diverged for member in members], dtype=np.int64)
    run = measured_trajectory(config, marks, maps, diverged)
    return run.with_quantities(hull=hull) if quantities else run


def _seeds(seeds: int | Sequence[int]) -> list[int]:
    """The seeds themselves, where S stands for 0..S-1."""
    if np.ndim(seeds) == 0:
        return list(range(count("seeds", cast(int, seeds), most=MOST_SEEDS)))
    names = [count("seeds", seed, least=0) for seed in cast(Sequence[int], seeds)]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"seeds must be distinct and at least one; got {seeds!r}.")
    return names


def record_steps(steps: int, records: int | Sequence[int]) -> NDArray[np.int64]:
    """The steps to record: 0, then log-spaced to the last, without repetition.

    >>> record_steps(100, 5).tolist()
    [0, 1, 5, 22, 100]
    """
    last = count("steps", steps)
    if np.ndim(records) == 0:
        number = count("records", cast(int, records), least=2)
        spaced = np.geomspace(1, last, number - 1).round().astype(np.int64)
        return np.unique(np.concatenate([[0], spaced, [last]]))
    return np.unique(indices("records", cast(Sequence[int], records), last + 1)).astype(np.int64)


def stable_rate(task: Task, network: Network, seeds: Sequence[int] = (0,)) -> float:
    """2 / λ_max at the initial weights of the seeds, above which gradient descent diverges.

    >>> from sim import Network, Regression
    >>> task = Regression(np.array([2.0, 1.0]))
    >>> limit = stable_rate(task, Network(width=8, train_readout=False))
    >>> readout = Network(width=8).draw(task.population, 0).readout
    >>> bool(np.isclose(limit, 2 / (2.0 * (readout**2).sum())))
    True
    """
    _check_kinds(task, network)
    return 2 / _curvature(task, network, _seeds(seeds))


def _curvature(task: Task, network: Network, seeds: Sequence[int]) -> float:
    return max(
        largest_curvature(task.population, network, network.draw(task.population, seed))
        for seed in seeds
    )


def _final_curvature(task: Task, network: Network) -> float:
    """λ_max of a linear network of L balanced layers at the solution: L ‖B‖^(2 - 2/L) λ_1."""
    if not network.train_readout:
        return 0.0
    population, L = task.population, network.depth
    strength = float(np.linalg.norm(population.teacher, 2))
    return float(L * strength ** (2 - 2 / L) * np.linalg.eigvalsh(population.sigma)[-1])


def _check(task: Task, network: Network, batch: int, samples: int, layer: int) -> None:
    _check_kinds(task, network)
    count("batch", batch, least=0)
    count("samples", samples, least=0)
    if samples and not batch:
        raise ValueError(
            f"samples={samples} needs a batch: with batch=0 the gradient is that of the population."
        )
    if network.nonlinearity == "relu" and isinstance(task, Mixture):
        raise ValueError(
            "network must be linear for a Mixture: the moments of a ReLU network are known in "
            "closed form for Gaussian inputs only. Use a Regression, or nonlinearity='linear'."
        )
    if network.norm and isinstance(task, Mixture) and not batch:
        raise ValueError(
            "batch must be above 0 for a Mixture behind a norm, whose population gradient is that "
            f"of one Gaussian; got {batch}. Pass batch=64."
        )
    if count("layer", layer) > network.depth - 1:
        raise ValueError(f"layer must be one of 1..{network.depth - 1}; got {layer}.")


def _inertia(
    network: Network, momentum: float, weight_decay: float, learning_rate: float | None
) -> tuple[float, float]:
    """Momentum and weight decay, where the network's training knows them."""
    found = (
        within("momentum", momentum, "[0, 1)"),
        positive("weight_decay", weight_decay, zero=True),
    )
    if any(found) and not network.norm:
        raise ValueError(
            f"momentum and weight_decay must be 0 without a norm; got {momentum!r} and "
            f"{weight_decay!r}. Pass Network(norm=True)."
        )
    if network.norm and learning_rate is None:
        raise ValueError(
            "learning_rate must be given for a network with a norm, whose curvature falls as its "
            "filters grow; got None. Pass a number."
        )
    return found


def _check_kinds(task: Task, network: Network) -> None:
    instance("task", task, (Regression, Mixture), "Build one from a spectrum.")
    instance("network", network, Network, "Build one, as Network(width=32).")


def _check_memory(task: Task, network: Network, seeds: int, records: int, quantities: bool) -> None:
    """Refuse, before starting, what would not fit."""
    population = task.population
    d, K, C = population.spectrum.size, population.outputs, network.width
    per_record = C * d + K * C + (2 * (len(QUANTITIES) + 1) * C if quantities else 0)
    state = 2 * C * d + (network.depth - 2) * C * C + 4 * network.depth * K * C
    # One record of all members is turned into covariances at a time, with temporaries.
    needed = 8 * seeds * (records * per_record + state + 6 * C * C)
    free = psutil.virtual_memory().available
    if needed > 0.8 * free:
        raise MemoryError(
            f"This run needs {needed / 1e9:.1f} GB for {seeds} seeds x {records} records x {C} "
            f"channels x {d} inputs; {free / 1e9:.1f} GB are free. Pass fewer records, or split "
            "the seeds over several runs."
        )


def _train(
    members: Sequence[Member],
    setting: tuple[Population, Network],
    rates: NDArray[np.floating],
    marks: NDArray[np.int64],
    how: tuple[int, int],
    progress: Progress | None,
) -> tuple[Float, Float]:
    """Train through all marks; return the channels (S, R, C, d) and their readout (S, R, K, C)."""
    (population, network), (layer, threads) = setting, how
    C, d = network.width, members[0].source.spectrum.size
    K = members[0].source.teacher.shape[0]
    filters = np.full((len(members), marks.size, C, d), np.nan)
    readout = np.full((len(members), marks.size, K, C), np.nan)
    stops = [0, *(int(m) for m in marks if m > 0)]
    with ThreadPoolExecutor(threads) as pool:
        for reached in advance_all(members, network, rates, stops, pool):
            record = np.flatnonzero(marks == reached)
            for s, member in enumerate(members):
                if record.size and member.diverged < 0:
                    own, out = layer_maps(member.weights, layer, network.transposed)
                    filters[s, record[0]] = own
                    readout[s, record[0]] = (
                        effective_readout(population, own, out) if network.norm else out
                    )
            if progress is not None:
                progress(reached, stops[-1])
    return filters, readout


def _report_divergence(
    members: Sequence[Member], task: Task, network: Network, seeds: Sequence[int], rate: float
) -> None:
    lost = [(seed, m.diverged) for seed, m in zip(seeds, members, strict=True) if m.diverged >= 0]
    if not lost:
        return
    seed, step = lost[0]
    limit = stable_rate(task, network, [seed])
    message = (
        f"Training diverged for {len(lost)} of {len(members)} seeds, first seed {seed} at step "
        f"{step}: learning_rate is {rate:.4g}, and descent from its initial weights is stable "
        f"below 2/λ_max = {limit:.4g}. Pass a smaller learning_rate."
    )
    if len(lost) == len(members):
        raise DivergenceError(message)
    warnings.warn(message, DivergenceWarning, stacklevel=3)
