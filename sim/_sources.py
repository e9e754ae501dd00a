"""What a linear or ReLU network learns from at one step: population moments, or a drawn batch.

Inputs are written in the eigenbasis of their within-class covariance, where multiplying by it is a
scaling. M (K, d) is a network's end-to-end map and B the best linear map.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim._compile import compiled, inlined
from sim._random import draw_index, draw_normals

Array = NDArray[Any]


class Source(NamedTuple):
    """What one member learns from, in the eigenbasis of the within-class input covariance."""

    spectrum: Array  # (d,) eigenvalues of the within-class covariance
    scale: Array  # (d,) their square roots
    means: Array  # (P, d) class means, averaging to zero; (0, d) for one Gaussian
    teacher: Array  # (K, d) best linear map B
    noise: float  # standard deviation of the label noise on each output
    batch: int  # samples per step; 0 for the population gradient
    samples: int  # size of the finite data set; 0 for fresh samples at every step
    key: np.uint64  # random stream
    cross_entropy: bool = False  # whether classes are learned by their log probability


class Scratch(NamedTuple):
    """Memory that training one member needs beside its weights."""

    product: Array  # (K, d) M
    signal: Array  # (K, d) G
    suffix: Array  # (L - 1, K, C) maps to the outputs; in a ReLU network, the readout's gradient
    prefix: Array  # (L - 1, K, C) G carried forward through the layers
    filters: Array  # (C, d) gradient of the filters, ReLU networks only
    inner: Array  # (L - 2, C, C) gradient of the layers above, ReLU networks only
    hidden: Array  # (L - 1, C) rectified activities of one sample
    back: Array  # (L - 1, C) slope of its loss in what is rectified
    directions: Array  # unit filters that training may not turn, laid out as they; or (0, 0)
    norms: Array  # (C,) standard deviations of a ReLU network's channels; lengths of filters
    sample: Array  # (d + K,) one input, then its label noise
    error: Array  # (K,)
    words: NDArray[np.uint64]  # (4,) random words


@inlined
def population_signal(source: Source, product: Array, signal: Array) -> float:
    """Write G = (M - B) Cov(X) to `signal`; return the excess loss ½ tr (M - B) Cov(X) (M - B)ᵀ."""
    K, d = product.shape
    excess = 0.0
    for k in range(K):
        for j in range(d):
            error = product[k, j] - source.teacher[k, j]
            signal[k, j] = error * source.spectrum[j]
            excess += error * signal[k, j]
        for p in range(source.means.shape[0]):
            shift = 0.0
            for j in range(d):
                shift += (product[k, j] - source.teacher[k, j]) * source.means[p, j]
            shift /= source.means.shape[0]
            excess += shift * shift * source.means.shape[0]
            for j in range(d):
                signal[k, j] += shift * source.means[p, j]
    return 0.5 * excess


@compiled
def draw_sample(source: Source, position: int, scratch: Scratch) -> int:
    """Write input and label noise of the sample at `position` of the run; return its class."""
    number = np.uint64(position)
    d = source.spectrum.shape[0]
    sample = scratch.sample
    if source.samples > 0:  # a data set is never stored: its n-th sample is drawn again
        index = draw_index(source.key, number, source.samples, scratch.words)
        number = np.uint64(index) | np.uint64(0x8000000000000000)
    draw_normals(source.key, number, scratch.words, sample)
    label = 0
    for j in range(d):
        sample[j] *= source.scale[j]
    if source.means.shape[0] > 0:
        label = draw_index(source.key, number, source.means.shape[0], scratch.words)
        for j in range(d):
            sample[j] += source.means[label, j]
    return label


@compiled
def softmax_error(output: Array, label: int, error: Array) -> float:
    """Write softmax(output) - onehot to `error`, which may be `output`; return the loss in nats."""
    largest, total = output[0], 0.0
    for k in range(output.shape[0]):
        largest = max(largest, output[k])
    own = output[label] - largest
    for k in range(output.shape[0]):
        error[k] = math.exp(output[k] - largest)
        total += error[k]
    for k in range(output.shape[0]):
        error[k] /= total
    error[label] -= 1.0
    return float(math.log(total) - own)


@compiled
def sample_error(source: Source, output: Array, label: int, scratch: Scratch) -> float:
    """Write output - target to `scratch.error`; return half its squared norm.

    For a cross-entropy: the class probabilities less the one-hot label, and -log of the label's.
    """
    K, d = source.teacher.shape
    if source.cross_entropy:
        return float(softmax_error(output, label, scratch.error))
    loss = 0.0
    for k in range(K):
        if source.means.shape[0] > 0:  # one-hot, centered
            target = (1.0 if k == label else 0.0) - 1.0 / K
        else:
            target = source.noise * scratch.sample[d + k]
            for j in range(d):
                target += source.teacher[k, j] * scratch.sample[j]
        scratch.error[k] = output[k] - target
        loss += 0.5 * scratch.error[k] ** 2
    return loss


@compiled
def batch_signal(source: Source, step: int, scratch: Scratch) -> float:
    """Write the mean of (M x - t) xᵀ over the batch of `step`; return the batch's mean loss."""
    product, signal, error = scratch.product, scratch.signal, scratch.error
    K, d = product.shape
    signal[:] = 0
    loss = 0.0
    for b in range(source.batch):
        label = draw_sample(source, step * source.batch + b, scratch)
        for k in range(K):
            output = 0.0
            for j in range(d):
                output += product[k, j] * scratch.sample[j]
            error[k] = output
        loss += sample_error(source, error, label, scratch)
        for k in range(K):
            weight = error[k] / source.batch
            for j in range(d):
                signal[k, j] += weight * scratch.sample[j]
    return loss / source.batch
