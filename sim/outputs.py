"""Moments of what a network says of inputs, where no closed form knows them: from drawn inputs.

What is drawn serves for one thing: the regression of an output on the inputs, whose own moments are
exact. Cov(X, f) = Σ B̂ᵀ and Cov(f) = B̂ΣB̂ᵀ + Cov of the residuals are then moments of one joint
distribution, and an output that is linear is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sim.tasks import Population
from theory.shared.validation import Float

DRAWN = 8192
"""Inputs drawn, and as many mirrored: what is odd in them averages to zero exactly."""


@dataclass(frozen=True, eq=False)
class DrawnInputs:
    """Inputs of a task.

    Attributes
    ----------
    inputs : (n, d).
    labels : (n,) classes of a mixture, equally many of each; zeros elsewhere.
    regression : (d, n) maps values (n, K) at the inputs to their slopes (d, K) on them.
    """

    inputs: Float
    labels: NDArray[np.int64]
    regression: Float

    def moments(self, values: Float, sigma: Float) -> tuple[Float, Float]:
        """Cov(X, V) (d, K) and Cov(V) (K, K) of values (n, K) of a function V at the inputs."""
        slopes = self.regression @ values
        rest = values - self.inputs @ slopes
        cross: Float = sigma @ slopes
        return cross, slopes.T @ cross + np.cov(rest, rowvar=False, bias=True).reshape(
            (values.shape[1],) * 2
        )


def drawn_inputs(population: Population) -> DrawnInputs:
    """Inputs of a task in its eigenbasis; the same at every record, so that curves are smooth."""
    return _drawn(population.spectrum.tobytes(), population.means.tobytes())


@lru_cache(maxsize=4)
def _drawn(spectrum: bytes, class_means: bytes) -> DrawnInputs:
    variances = np.frombuffer(spectrum)
    means = np.frombuffer(class_means).reshape(-1, variances.size)
    classes = max(len(means), 1)
    number = -(-DRAWN // classes) * classes
    rng = np.random.default_rng(0x5A3)
    drawn = rng.standard_normal((number, variances.size)) * np.sqrt(variances)
    inputs = np.concatenate([drawn, -drawn])
    labels = np.arange(len(inputs)) % classes
    if len(means):
        inputs += means[labels]
    regression = np.linalg.pinv(inputs.T @ inputs, hermitian=True) @ inputs.T
    return DrawnInputs(inputs, labels, regression)


def network_outputs(inputs: Float, filters: Float, inner: Float, readout: Float) -> Float:
    """(n, K) of a ReLU network with layers (C, d), (L - 2, C, C) and (K, C)."""
    hidden = np.maximum(inputs @ filters.T, 0)
    for layer in inner:
        hidden = np.maximum(hidden @ layer.T, 0)
    found: Float = hidden @ readout.T
    return found


def margins(outputs: Float, labels: NDArray[np.int64]) -> Float:
    """(n, 1) output of the own class less the largest of the others.

    >>> margins(np.array([[2.0, 5.0, 1.0]]), np.array([0]))
    array([[-3.]])
    """
    rows = np.arange(len(labels))
    rivals = outputs.copy()
    rivals[rows, labels] = -np.inf
    found: Float = (outputs[rows, labels] - rivals.max(axis=1))[:, None]
    return found


def mean_loss(outputs: Float, drawn: DrawnInputs, population: Population) -> float:
    """Of the task, at drawn inputs: -log softmax of the class, or ½ E‖T - f‖²."""
    if population.cross_entropy:
        shifted = outputs - outputs.max(axis=1, keepdims=True)
        own = shifted[np.arange(len(outputs)), drawn.labels]
        return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - own))
    if len(population.means):
        classes = population.outputs
        target = np.eye(classes)[drawn.labels] - 1 / classes
    else:
        target = drawn.inputs @ population.teacher.T
    noise = population.noise**2 * population.outputs
    return 0.5 * float(np.mean(np.sum((outputs - target) ** 2, axis=1)) + noise)
