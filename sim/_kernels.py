"""Compiled training: one member of an ensemble, its weights updated in place.

Inputs are written in the eigenbasis of their within-class covariance (see `sim._sources`). In a
linear network, with M (K, d) the end-to-end map and B the best linear map, every layer is driven by

    G = (M - B) Cov(X)   (population)   or   the mean of (M x - t) xᵀ over a batch,

so that every product, at any depth, has only K rows on one side.
"""

from __future__ import annotations

import math

from sim._compile import compiled, inlined
from sim._products import backward, descend, forward
from sim._sources import (
    Array,
    Scratch,
    Source,
    batch_signal,
    draw_sample,
    population_signal,
    sample_error,
)


@inlined
def subtract(rate: float, gradient: Array, weights: Array) -> None:
    """Subtract rate · gradient from `weights`, both of one two-dimensional shape."""
    for i in range(weights.shape[0]):
        for j in range(weights.shape[1]):
            weights[i, j] -= rate * gradient[i, j]


@inlined
def end_to_end(filters: Array, inner: Array, readout: Array, scratch: Scratch) -> None:
    """Write the maps from each hidden layer to the outputs, then M, to `scratch`.

    `suffix[l]` (K, C) maps hidden layer l + 1 to the outputs; the last one is the readout.
    """
    hidden = inner.shape[0]
    top = scratch.suffix[hidden]
    for k in range(readout.shape[0]):
        for c in range(readout.shape[1]):
            top[k, c] = readout[k, c]
    for layer in range(hidden - 1, -1, -1):
        forward(scratch.suffix[layer + 1], inner[layer], scratch.suffix[layer])
    backward(scratch.suffix[0], filters, scratch.product)


@compiled
def train_linear(
    filters: Array,
    inner: Array,
    readout: Array,
    source: Source,
    rates: Array,
    steps: tuple[int, int],
    limit: float,
    scratch: Scratch,
) -> int:
    """Train a linear network through steps[0]..steps[1]; return the last step made.

    filters (d, C) holds one channel in each column, so that the vectorized loops run over channels;
    inner (L - 2, C, C) and readout (K, C) map to the layer above. `rates` holds the learning rates
    of the hidden layers and of the readout; a readout with rate 0 is fixed. Training stops early,
    before the weights change, at a step whose loss is not below `limit`.
    """
    hidden = inner.shape[0]
    signal = scratch.signal
    end_to_end(filters, inner, readout, scratch)
    for step in range(steps[0], steps[1]):
        if source.batch > 0:
            loss = batch_signal(source, step, scratch)
        else:
            loss = population_signal(source, scratch.product, signal)
        if not loss < limit:
            return step
        if hidden > 0 or rates[1] != 0:
            forward(signal, filters, scratch.prefix[0])
        for layer in range(hidden):
            backward(scratch.prefix[layer], inner[layer], scratch.prefix[layer + 1])
        descend(signal, scratch.suffix[0], rates[0], filters)
        for layer in range(hidden):
            descend(scratch.suffix[layer + 1], scratch.prefix[layer], rates[0], inner[layer])
        if rates[1] != 0:
            subtract(rates[1], scratch.prefix[hidden], readout)
        end_to_end(filters, inner, readout, scratch)
    return steps[1]


@compiled
def relu_population_gradient(
    filters: Array, readout: Array, source: Source, scratch: Scratch
) -> float:
    """Write the exact gradients of ½ E‖A relu(W x) - T‖² for Gaussian x; return the excess loss.

    E[relu(u) relu(v)] = |u||v| (sin θ + (π - θ) cos θ) / 2π (Cho and Saul 2009), E[relu(u) x] =
    ½ Σw. filters (C, d) here; a channel without variance has no gradient.
    """
    C, d = filters.shape
    K = readout.shape[0]
    spectrum, teacher = source.spectrum, source.teacher
    gradient, outer, norms = scratch.filters, scratch.suffix[0], scratch.norms
    loss = 0.0
    for i in range(C):
        power = 0.0
        for j in range(d):
            power += spectrum[j] * filters[i, j] ** 2
            gradient[i, j] = 0.0
            for k in range(K):
                gradient[i, j] -= 0.5 * readout[k, i] * teacher[k, j]
        norms[i] = math.sqrt(power)
        for k in range(K):
            covariance = 0.0
            for j in range(d):
                covariance += spectrum[j] * filters[i, j] * teacher[k, j]
            outer[k, i] = -0.5 * covariance
            loss -= 0.5 * readout[k, i] * covariance
    for i in range(C):
        for peer in range(i + 1):
            loss += relu_pair(filters, readout, spectrum, i, peer, scratch)
    for i in range(C):
        for j in range(d):
            gradient[i, j] *= spectrum[j]
    for k in range(K):
        for j in range(d):
            loss += 0.5 * spectrum[j] * teacher[k, j] ** 2
    return loss


@compiled
def relu_pair(
    filters: Array, readout: Array, spectrum: Array, i: int, peer: int, scratch: Scratch
) -> float:
    """Add what channels i >= peer contribute together to the gradients; return their loss."""
    d, K = filters.shape[1], readout.shape[0]
    gradient, outer, norms = scratch.filters, scratch.suffix[0], scratch.norms
    scale = norms[i] * norms[peer]
    if scale == 0:
        return 0.0
    inner, weight = 0.0, 0.0
    for j in range(d):
        inner += spectrum[j] * filters[i, j] * filters[peer, j]
    for k in range(K):
        weight += readout[k, i] * readout[k, peer]
    # Rounding alone can carry a cosine past 1.
    cosine = 1.0 if i == peer else max(-1.0, min(1.0, inner / scale))
    angle = math.acos(cosine)
    sine = math.sqrt((1.0 - cosine) * (1.0 + cosine))
    moment = scale * (sine + (math.pi - angle) * cosine) / (2 * math.pi)
    cross = weight * (math.pi - angle) / (2 * math.pi)
    own = weight * sine / (2 * math.pi)
    for k in range(K):
        outer[k, i] += moment * readout[k, peer]
    for j in range(d):
        gradient[i, j] += cross * filters[peer, j] + own * norms[peer] / norms[i] * filters[i, j]
    if i == peer:
        return float(0.5 * weight * moment)
    for k in range(K):
        outer[k, peer] += moment * readout[k, i]
    for j in range(d):
        gradient[peer, j] += cross * filters[i, j] + own * norms[i] / norms[peer] * filters[peer, j]
    return float(weight * moment)


@compiled
def relu_batch_gradient(
    filters: Array, readout: Array, source: Source, step: int, scratch: Scratch
) -> float:
    """Write the gradients over the batch of `step` to `scratch`; return the batch's mean loss."""
    C, d = filters.shape
    K = readout.shape[0]
    gradient, outer, hidden = scratch.filters, scratch.suffix[0], scratch.norms
    gradient[:] = 0
    outer[:] = 0
    loss = 0.0
    for b in range(source.batch):
        label = draw_sample(source, step * source.batch + b, scratch)
        scratch.error[:] = 0
        for i in range(C):
            value = 0.0
            for j in range(d):
                value += filters[i, j] * scratch.sample[j]
            hidden[i] = max(value, 0.0)
            for k in range(K):
                scratch.error[k] += readout[k, i] * hidden[i]
        loss += sample_error(source, scratch.error, label, scratch)
        for i in range(C):
            if hidden[i] > 0:
                back = 0.0
                for k in range(K):
                    outer[k, i] += scratch.error[k] * hidden[i] / source.batch
                    back += readout[k, i] * scratch.error[k] / source.batch
                for j in range(d):
                    gradient[i, j] += back * scratch.sample[j]
    return loss / source.batch


@compiled
def train_relu(
    filters: Array,
    readout: Array,
    source: Source,
    rates: Array,
    steps: tuple[int, int],
    limit: float,
    scratch: Scratch,
) -> int:
    """Train f = A relu(W x), filters (C, d) and readout (K, C); otherwise as `train_linear`."""
    for step in range(steps[0], steps[1]):
        if source.batch > 0:
            loss = relu_batch_gradient(filters, readout, source, step, scratch)
        else:
            loss = relu_population_gradient(filters, readout, source, scratch)
        if not loss < limit:
            return step
        subtract(rates[0], scratch.filters, filters)
        if rates[1] != 0:
            subtract(rates[1], scratch.suffix[0], readout)
    return steps[1]
