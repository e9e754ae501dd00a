"""One ensemble in memory: its weights, and the compiled training of each member in plain threads.

Every member has its own weights, scratch memory and random stream, and a kernel touches only its
member's; so results cannot depend on how members are spread over threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim._kernels import train_linear
from sim._normalized import Memory, memory, train_normalized
from sim._rectified import train_relu
from sim._sources import Scratch, Source
from sim.networks import Network, Weights
from sim.tasks import Population
from theory.shared.validation import Float

POWER_ITERATIONS = 40


@dataclass
class Member:
    """One network in training; `weights` change in place."""

    weights: Weights
    source: Source
    scratch: Scratch
    limit: float
    diverged: int = -1
    memory: Memory | None = None


def build_members(
    population: Population,
    network: Network,
    seeds: Sequence[int],
    *,
    batch: int,
    samples: int,
    dtype: type[np.floating],
    turning: bool = True,
) -> list[Member]:
    """Draw the initial weights of each seed and give it its source, scratch memory and stream."""
    members = []
    for seed in seeds:
        weights = network.draw(population, seed)
        key = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
        member = build_member(population, network, weights, (batch, samples, key), dtype)
        if not turning:
            filters, axis = member.weights.filters, 0 if network.transposed else 1
            directions = filters / np.linalg.norm(filters, axis=axis, keepdims=True)
            member.scratch = member.scratch._replace(directions=directions)
        members.append(member)
    return members


def build_member(
    population: Population,
    network: Network,
    weights: Weights,
    stream: tuple[int, int, np.uint64],
    dtype: type[np.floating],
) -> Member:
    """A member that starts from `weights`; `stream` is (batch, samples, key)."""

    def array(values: Float) -> NDArray[Any]:
        return np.array(values, dtype=dtype, order="C")

    filters = weights.filters.T if network.transposed else weights.filters
    state = Weights(array(filters), array(weights.inner), array(weights.readout))
    batch, samples, key = stream
    source = Source(
        spectrum=array(population.spectrum),
        scale=array(np.sqrt(population.spectrum)),
        means=array(population.means),
        teacher=array(population.teacher),
        noise=population.noise,
        batch=batch,
        samples=samples,
        key=key,
        cross_entropy=population.cross_entropy,
    )
    scratch = _scratch(population, network, dtype)
    # A stable descent never lets the loss grow; a million times its scale is divergence.
    scale = float(np.trace(population.target_cov)) + _output_power(population, weights)
    shape = (population.outputs, *weights.filters.shape)
    kept = memory(shape, batch, dtype) if network.norm else None
    return Member(state, source, scratch, 1e6 * max(scale, 1e-20), memory=kept)


def effective_readout(population: Population, filters: Float, readout: Float) -> Float:
    """A/√D: what reads the channels as they are, where a norm divides them by their deviation."""
    power = np.sum((filters @ population.sigma) * filters, axis=1)
    scaled: Float = readout / np.sqrt(power)
    return scaled


def _output_power(population: Population, weights: Weights) -> float:
    product = weights.readout
    for layer in weights.inner[::-1]:
        product = product @ layer
    product = product @ weights.filters
    return float(np.sum((product @ population.sigma) * product))


def _scratch(population: Population, network: Network, dtype: type[np.floating]) -> Scratch:
    K, d = population.teacher.shape
    C, hidden = network.width, network.depth - 1
    relu = network.nonlinearity == "relu"
    return Scratch(
        product=np.zeros((K, d), dtype),
        signal=np.zeros((K, d), dtype),
        suffix=np.zeros((hidden, K, C), dtype),
        prefix=np.zeros((hidden, K, C), dtype),
        filters=np.zeros((C, d) if relu else (0, d), dtype),
        inner=np.zeros((hidden - 1, C, C) if relu else (0, C, C), dtype),
        hidden=np.zeros((hidden, C) if relu else (0, C), dtype),
        back=np.zeros((hidden, C) if relu else (0, C), dtype),
        directions=np.zeros((0, 0), dtype),
        norms=np.zeros(C, dtype),
        sample=np.zeros(d + K, dtype),
        error=np.zeros(K, dtype),
        words=np.zeros(4, np.uint64),
    )


def advance(
    member: Member, network: Network, rates: NDArray[np.floating], span: tuple[int, int]
) -> None:
    """Train one member through the steps of `span`, or note the step at which it diverged."""
    if member.diverged >= 0:
        return
    state, source, scratch = member.weights, member.source, member.scratch
    if member.memory is not None:
        reached = train_normalized(
            state.filters,
            state.readout,
            source,
            rates,
            span,
            member.limit,
            member.memory,
            scratch,
        )
    elif network.nonlinearity == "relu":
        reached = train_relu(
            state.filters, state.inner, state.readout, source, rates, span, member.limit, scratch
        )
    else:
        reached = train_linear(
            state.filters, state.inner, state.readout, source, rates, span, member.limit, scratch
        )
    if reached < span[1]:
        member.diverged = int(reached)


def advance_all(
    members: Sequence[Member],
    network: Network,
    rates: NDArray[np.floating],
    marks: Sequence[int],
    pool: Executor,
) -> Iterator[int]:
    """Train all members from each mark to the next; yield a mark when all have reached it."""
    yield marks[0]
    for first, last in pairwise(marks):
        # Collecting the results raises here what was raised in a thread.
        list(pool.map(partial(advance, network=network, rates=rates, span=(first, last)), members))
        yield last


def layer_maps(weights: Weights, layer: int, network: Network) -> tuple[Float, Float, Float]:
    """Maps from the input to hidden layer `layer` (C, d), and from it to the outputs (K, C).

    Between the two, in a ReLU network, whose first layer it is, lie those above it (L - 2, C, C);
    none (0, C, C) in a linear one, of which they are part of the maps.
    """
    filters = weights.filters.T if network.transposed else weights.filters
    channels = np.asarray(filters, dtype=np.float64)
    readout = np.asarray(weights.readout, dtype=np.float64)
    if network.nonlinearity == "relu":
        return channels, readout, np.asarray(weights.inner, dtype=np.float64)
    for matrix in weights.inner[: layer - 1]:
        channels = matrix @ channels
    for matrix in weights.inner[layer - 1 :][::-1]:
        readout = readout @ matrix
    return channels, readout, np.empty((0, *weights.inner.shape[1:]))


def largest_curvature(population: Population, network: Network, weights: Weights) -> float:
    """λ_max of the population loss at `weights`: power iteration on differences of the gradient.

    Gradient descent with a step above 2 / λ_max diverges from there.
    """
    parts = (weights.filters, weights.inner, weights.readout)
    sizes = np.cumsum([0, *(p.size for p in parts)])
    rates = np.array([1.0, 1.0 if network.train_readout else 0.0, 0.0, 0.0])

    def gradient(vector: Float) -> Float:
        start = Weights(
            *(
                vector[a:b].reshape(p.shape)
                for a, b, p in zip(sizes, sizes[1:], parts, strict=False)
            )
        )
        member = build_member(population, network, start, (0, 0, np.uint64(0)), np.float64)
        member.limit = np.inf
        advance(member, network, rates, (0, 1))
        filters = member.weights.filters
        filters = filters.T if network.transposed else filters
        end = (filters, member.weights.inner, member.weights.readout)
        moved: Float = vector - np.concatenate([e.ravel() for e in end])
        return moved

    point = np.concatenate([p.ravel() for p in parts])
    # An eigenvector with weight in every mode, and no generator to seed.
    direction = np.cos(np.arange(point.size) * 0.7) + 0.1
    direction[sizes[2] :] *= float(network.train_readout)
    distance = 1e-5 * max(float(np.linalg.norm(point)), 1e-3)
    curvature = 0.0
    for _ in range(POWER_ITERATIONS):
        direction /= np.linalg.norm(direction)
        ahead, behind = (
            gradient(point + distance * direction),
            gradient(point - distance * direction),
        )
        image = (ahead - behind) / (2 * distance)
        curvature = float(np.linalg.norm(image))
        if curvature == 0:
            break
        direction = image
    return curvature
