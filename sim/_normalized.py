"""Compiled training behind a batch norm without scale and shift: f = A h, h_i of variance 1.

Inputs are written in the eigenbasis of Σ. Over the population channel i is divided by √D_i,
D_i = w_iᵀΣw_i; in a batch mean and deviation are the batch's own, and gradients pass through them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sim._compile import compiled
from sim._products import hold_rows
from sim._sources import Array, Scratch, Source, draw_sample, sample_error, softmax_error


class Memory(NamedTuple):
    """What training a normalized member keeps beside its weights."""

    filters: Array  # (C, d) gradient of the filters
    readout: Array  # (K, C) gradient of the readout
    pace: Array  # (C, d) momentum of the filters
    readout_pace: Array  # (K, C) and of the readout
    deviation: Array  # (C,)
    inputs: Array  # (n, d) of a batch
    hidden: Array  # (n, C) normalized channels, then their gradient
    errors: Array  # (n, K) output - target
    labels: Array  # (n,) classes of a mixture


def memory(shape: tuple[int, int, int], batch: int, dtype: type[np.floating]) -> Memory:
    """Memory of a member with (K, C, d), all at zero."""
    K, C, d = shape
    sizes = ((C, d), (K, C), (C, d), (K, C), (C,), (batch, d), (batch, C), (batch, K))
    return Memory(*[*(np.zeros(size, dtype) for size in sizes), np.zeros(batch, np.int64)])


@compiled
def population_gradient(
    filters: Array, readout: Array, source: Source, kept: Memory, scratch: Scratch
) -> float:
    """Write the gradients of the population's loss; return the excess loss.

    ∂L/∂w_i = (1/√D_i)(g - (w_iᵀg/D_i) Σw_i), g = (M - B)ᵀΣ a_i: residualized on the channel.
    """
    C, d = filters.shape
    K = readout.shape[0]
    spectrum, signal = source.spectrum, scratch.signal
    signal[:] = 0
    for i in range(C):
        power = 0.0
        for j in range(d):
            power += spectrum[j] * filters[i, j] ** 2
        kept.deviation[i] = math.sqrt(power)
        for k in range(K):
            for j in range(d):
                signal[k, j] += readout[k, i] * filters[i, j] / kept.deviation[i]
    excess = 0.0
    for k in range(K):
        for j in range(d):
            error = signal[k, j] - source.teacher[k, j]
            signal[k, j] = error * spectrum[j]
            excess += 0.5 * error * signal[k, j]
    for i in range(C):
        along, scale = 0.0, kept.deviation[i]
        for j in range(d):
            pulled = 0.0
            for k in range(K):
                pulled += readout[k, i] * signal[k, j]
            kept.filters[i, j] = pulled / scale
            along += filters[i, j] * pulled
        for j in range(d):
            kept.filters[i, j] -= along / scale**3 * spectrum[j] * filters[i, j]
        for k in range(K):
            total = 0.0
            for j in range(d):
                total += signal[k, j] * filters[i, j]
            kept.readout[k, i] = total / scale
    return excess


@compiled
def batch_gradient(
    filters: Array, readout: Array, source: Source, step: int, kept: Memory, scratch: Scratch
) -> float:
    """Write the gradients over the batch of `step`, through its mean and deviation."""
    C, d = filters.shape
    K, n = readout.shape[0], source.batch
    for b in range(n):
        label = draw_sample(source, step * n + b, scratch)
        kept.inputs[b, :] = scratch.sample[:d]
        kept.labels[b] = label
        kept.errors[b, :] = 0
        if not source.cross_entropy:  # less the target; outputs are added below
            sample_error(source, kept.errors[b], label, scratch)
            kept.errors[b, :] = scratch.error
    for i in range(C):
        mean, square = 0.0, 0.0
        for b in range(n):
            value = 0.0
            for j in range(d):
                value += filters[i, j] * kept.inputs[b, j]
            kept.hidden[b, i] = value
            mean += value / n
        for b in range(n):
            kept.hidden[b, i] -= mean
            square += kept.hidden[b, i] ** 2 / n
        kept.deviation[i] = math.sqrt(square)
        for b in range(n):
            kept.hidden[b, i] /= kept.deviation[i]
            for k in range(K):
                kept.errors[b, k] += readout[k, i] * kept.hidden[b, i]
    loss = 0.0
    for b in range(n):
        if source.cross_entropy:
            loss += softmax_error(kept.errors[b], kept.labels[b], kept.errors[b]) / n
        else:
            for k in range(K):
                loss += 0.5 * kept.errors[b, k] ** 2 / n
    for i in range(C):
        mean, along = 0.0, 0.0
        kept.readout[:, i] = 0
        for b in range(n):
            for k in range(K):
                kept.readout[k, i] += kept.errors[b, k] * kept.hidden[b, i] / n
                mean += readout[k, i] * kept.errors[b, k] / n
                along += readout[k, i] * kept.errors[b, k] * kept.hidden[b, i] / n
        kept.filters[i, :] = 0
        for b in range(n):
            back = -mean - kept.hidden[b, i] * along
            for k in range(K):
                back += readout[k, i] * kept.errors[b, k]
            for j in range(d):
                kept.filters[i, j] += back / (n * kept.deviation[i]) * kept.inputs[b, j]
    return loss


@compiled
def descend(rate: float, inertia: Array, gradient: Array, pace: Array, weights: Array) -> None:
    """Momentum and weight decay: pace = β pace + gradient + μ weights, then a step along it."""
    for i in range(weights.shape[0]):
        for j in range(weights.shape[1]):
            pace[i, j] = inertia[0] * pace[i, j] + gradient[i, j] + inertia[1] * weights[i, j]
            weights[i, j] -= rate * pace[i, j]


@compiled
def train_normalized(
    filters: Array,
    readout: Array,
    source: Source,
    rates: Array,
    steps: tuple[int, int],
    limit: float,
    kept: Memory,
    scratch: Scratch,
) -> int:
    """Train filters (C, d) and readout (K, C); rates holds both rates, momentum and decay.

    Otherwise as `train_linear`.
    """
    for step in range(steps[0], steps[1]):
        if source.batch > 0:
            loss = batch_gradient(filters, readout, source, step, kept, scratch)
        else:
            loss = population_gradient(filters, readout, source, kept, scratch)
        if not loss < limit:
            return step
        descend(rates[0], rates[2:], kept.filters, kept.pace, filters)
        if scratch.directions.shape[0] > 0:
            hold_rows(filters, scratch.directions)
        if rates[1] != 0:
            descend(rates[1], rates[2:], kept.readout, kept.readout_pace, readout)
    return steps[1]
