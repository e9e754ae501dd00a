"""Compiled training of ReLU networks: the exact gradient of two layers, minibatches at any depth.

Filters are (C, d) here, one channel in each row; layers above them (L - 2, C, C) and (K, C).
"""

from __future__ import annotations

import math

from sim._compile import compiled, inlined
from sim._products import hold_rows, subtract
from sim._sources import Array, Scratch, Source, draw_sample, sample_error


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


@inlined
def rectify(weights: Array, inputs: Array, activity: Array) -> None:
    """Write relu(weights inputs) to `activity`; `inputs` may be longer than a row."""
    for i in range(weights.shape[0]):
        value = weights.dtype.type(0)
        for j in range(weights.shape[1]):
            value += weights[i, j] * inputs[j]
        activity[i] = max(value, weights.dtype.type(0))


@compiled
def relu_batch_gradient(
    filters: Array, inner: Array, readout: Array, source: Source, step: int, scratch: Scratch
) -> float:
    """Write the gradients over the batch of `step` to `scratch`; return the batch's mean loss."""
    above = inner.shape[0]
    gradient, deep, outer = scratch.filters, scratch.inner, scratch.suffix[0]
    hidden, back = scratch.hidden, scratch.back
    gradient[:] = 0
    deep[:] = 0
    outer[:] = 0
    loss = 0.0
    for b in range(source.batch):
        label = draw_sample(source, step * source.batch + b, scratch)
        rectify(filters, scratch.sample, hidden[0])
        for layer in range(above):
            rectify(inner[layer], hidden[layer], hidden[layer + 1])
        scratch.error[:] = 0
        back[above, :] = 0
        for k in range(readout.shape[0]):
            for i in range(readout.shape[1]):
                scratch.error[k] += readout[k, i] * hidden[above, i]
        loss += sample_error(source, scratch.error, label, scratch)
        for k in range(readout.shape[0]):
            weight = scratch.error[k] / source.batch
            for i in range(readout.shape[1]):
                outer[k, i] += weight * hidden[above, i]
                back[above, i] += weight * readout[k, i] if hidden[above, i] > 0 else 0.0
        for layer in range(above - 1, -1, -1):
            back[layer, :] = 0
            for i in range(inner.shape[1]):
                slope = back[layer + 1, i]
                for j in range(inner.shape[2]):
                    deep[layer, i, j] += slope * hidden[layer, j]
                    back[layer, j] += slope * inner[layer, i, j] if hidden[layer, j] > 0 else 0.0
        for i in range(filters.shape[0]):
            for j in range(filters.shape[1]):
                gradient[i, j] += back[0, i] * scratch.sample[j]
    return loss / source.batch


@compiled
def train_relu(
    filters: Array,
    inner: Array,
    readout: Array,
    source: Source,
    rates: Array,
    steps: tuple[int, int],
    limit: float,
    scratch: Scratch,
) -> int:
    """Train f = A relu(... relu(W x)), filters (C, d); otherwise as `train_linear`.

    The gradient of the population is that of two layers and Gaussian inputs.
    """
    for step in range(steps[0], steps[1]):
        if source.batch > 0:
            loss = relu_batch_gradient(filters, inner, readout, source, step, scratch)
        else:
            loss = relu_population_gradient(filters, readout, source, scratch)
        if not loss < limit:
            return step
        subtract(rates[0], scratch.filters, filters)
        if scratch.directions.shape[0] > 0:
            hold_rows(filters, scratch.directions)
        for layer in range(inner.shape[0]):
            subtract(rates[0], scratch.inner[layer], inner[layer])
        if rates[1] != 0:
            subtract(rates[1], scratch.suffix[0], readout)
    return steps[1]
