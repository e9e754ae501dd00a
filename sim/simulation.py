"""`simulate`: train an ensemble of networks of one setting and record both axes on the way."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import numpy as np
from numpy.typing import NDArray

from sim._ensemble import (
    Member,
    advance_all,
    build_members,
    effective_readout,
    largest_curvature,
    layer_maps,
)
from sim._memory import check_memory
from sim.networks import Network
from sim.tasks import Mixture, Population, Regression, Task
from sim.trajectory import Trajectory, measured_trajectory
from theory.shared.tasks import available_threads
from theory.shared.validation import (
    Float,
    called,
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
    turning: bool = True,
    records: int | Sequence[int] = 24,
    layer: int = 1,
    quantities: bool = True,
    hull: bool = True,
    threads: int | None = None,
    dtype: str = "float64",
    progress: Progress | None = None,
) -> Trajectory:
    """Train one network per seed by gradient descent on the task's loss, and record.

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
        Must be given where that is not known: behind a norm, for a cross-entropy, and for ReLU
        networks that are deep or on a mixture.
    batch : samples per step; 0 follows the gradient of the population, where that is known.
    samples : size of a finite data set, drawn anew for each seed; 0 draws fresh samples at every
        step. Needs a batch.
    momentum, weight_decay : of every trained layer, as in stochastic gradient descent with heavy
        balls; for networks with norm=True.
    turning : whether filters may turn; if not, only the part of each step along the filter itself
        is taken: of a layer's gradient everything is left out that is at right angles to it, the
        residualized direction. Layers above learn as ever.
    records : how many steps to record, log-spaced from 0 to `steps`; or the steps themselves.
    layer : which hidden layer's channels to measure, from 1; the first in a ReLU network.
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
        an argument out of range; a population gradient that is not known.
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
    truth("turning", turning)
    called("progress", progress)
    names = _seeds(seeds)
    _check(task, network, batch, samples, layer)
    inertia = _inertia(task, network, momentum, weight_decay, learning_rate)
    marks = record_steps(steps, records)
    check_memory(
        task.population, network, len(names), marks.size, quantities=quantities, batch=batch
    )
    kind = np.dtype(one_of("dtype", dtype, ("float64", "float32"))).type
    population = task.population
    members = build_members(
        population, network, names, batch=batch, samples=samples, dtype=kind, turning=turning
    )
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
            "turning": turning,
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
    if not _gradient_known(task, network):
        raise ValueError(
            "task and network must have a population gradient in closed form; got "
            f"{type(task).__name__} and {network}. Use a Regression, or a linear network and "
            "loss='squared'."
        )
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
    if not batch and not _gradient_known(task, network):
        raise ValueError(
            "batch must be above 0 where the population's gradient has no closed form: for a "
            "cross-entropy, a Mixture behind a norm or with ReLU, and ReLU networks of three "
            f"layers or more; got {batch}. Pass batch=64."
        )
    top = 1 if network.nonlinearity == "relu" else network.depth - 1
    if count("layer", layer) > top:
        raise ValueError(
            f"layer must be one of 1..{top}, those whose channels are linear in the inputs; got "
            f"{layer}."
        )


def _gradient_known(task: Task, network: Network) -> bool:
    """Whether the gradient of the population's loss is a closed form."""
    if task.population.cross_entropy:
        return False
    if network.nonlinearity == "relu" or network.norm:
        return isinstance(task, Regression) and network.depth == 2
    return True


def _inertia(
    task: Task, network: Network, momentum: float, weight_decay: float, learning_rate: float | None
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
    if learning_rate is None and (network.norm or not _gradient_known(task, network)):
        raise ValueError(
            "learning_rate must be given behind a norm, where the curvature falls as filters "
            "grow, and where the population's gradient has no closed form; got None. Pass a number."
        )
    return found


def _check_kinds(task: Task, network: Network) -> None:
    instance("task", task, (Regression, Mixture), "Build one from a spectrum.")
    instance("network", network, Network, "Build one, as Network(width=32).")


def _train(
    members: Sequence[Member],
    setting: tuple[Population, Network],
    rates: NDArray[np.floating],
    marks: NDArray[np.int64],
    how: tuple[int, int],
    progress: Progress | None,
) -> tuple[Float, Float, Float]:
    """Train through all marks; return the maps of `layer_maps` by member and record."""
    (population, network), (layer, threads) = setting, how
    C, d = network.width, members[0].source.spectrum.size
    K = members[0].source.teacher.shape[0]
    filters = np.full((len(members), marks.size, C, d), np.nan)
    readout = np.full((len(members), marks.size, K, C), np.nan)
    above = network.depth - 2 if network.nonlinearity == "relu" else 0
    inner = np.full((len(members), marks.size, above, C, C), np.nan)
    stops = [0, *(int(m) for m in marks if m > 0)]
    with ThreadPoolExecutor(threads) as pool:
        for reached in advance_all(members, network, rates, stops, pool):
            record = np.flatnonzero(marks == reached)
            for s, member in enumerate(members):
                if record.size and member.diverged < 0:
                    own, out, inner[s, record[0]] = layer_maps(member.weights, layer, network)
                    filters[s, record[0]] = own
                    readout[s, record[0]] = (
                        effective_readout(population, own, out) if network.norm else out
                    )
            if progress is not None:
                progress(reached, stops[-1])
    return filters, readout, inner


def _report_divergence(
    members: Sequence[Member], task: Task, network: Network, seeds: Sequence[int], rate: float
) -> None:
    lost = [(seed, m.diverged) for seed, m in zip(seeds, members, strict=True) if m.diverged >= 0]
    if not lost:
        return
    seed, step = lost[0]
    stable = ""
    if _gradient_known(task, network):
        limit = stable_rate(task, network, [seed])
        stable = f", and descent from its initial weights is stable below 2/λ_max = {limit:.4g}"
    message = (
        f"Training diverged for {len(lost)} of {len(members)} seeds, first seed {seed} at step "
        f"{step}: learning_rate is {rate:.4g}{stable}. Pass a smaller learning_rate."
    )
    if len(lost) == len(members):
        raise DivergenceError(message)
    warnings.warn(message, DivergenceWarning, stacklevel=3)
