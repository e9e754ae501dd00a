"""Population second moments of a layer of channels, and what the two axes make of them.

All arrays carry leading axes for the members of an ensemble. Information in nats.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sim.outputs import drawn_inputs, margins, mean_loss, network_outputs
from sim.tasks import Population
from theory import Moments
from theory.shared.validation import Float
from theory.standardize import COPY_TOLERANCE

TARGETS = ("label", "output")


def targets_of(population: Population) -> tuple[str, ...]:
    """What task information of a task's networks can be about: of classes also their margin."""
    return (*TARGETS, "margin") if len(population.means) else TARGETS


@dataclass(frozen=True, eq=False)
class LayerMoments:
    """Second moments of channels Y = W x, of the label T and of the network's own output f.

    Of a mixture also of the margin: the own class's output less the largest of the others. Exact
    but for the margin and the output of a ReLU network that is deep or on a mixture, which are
    regressed on drawn inputs (`sim.outputs`).

    Attributes
    ----------
    filters : (..., C, d) W.
    power_map : (..., C, d) W Cov(X).
    channels : (..., C, C) Cov(Y).
    cross : target -> (..., C, K) Cov(Y, target).
    input_cross : target -> (..., d, K) Cov(X, target).
    target_cov : target -> (..., K, K).
    loss : (...,) ½ E‖T - f‖², or the cross-entropy in nats.
    """

    filters: Float
    power_map: Float
    channels: Float
    cross: dict[str, Float]
    input_cross: dict[str, Float]
    target_cov: dict[str, Float]
    loss: Float

    def moments(self, member: tuple[int, ...], target: str) -> Moments:
        """`theory.Moments` of one member, channels first."""
        cross = self.cross[target][member]
        cov = np.block([[self.channels[member], cross], [cross.T, self.target_cov[target][member]]])
        return Moments.from_covariance((cov + cov.T) / 2, n_targets=cross.shape[1])


def layer_moments(
    filters: Float,
    readout: Float,
    population: Population,
    nonlinearity: str = "linear",
    inner: Float | None = None,
) -> LayerMoments:
    """Moments of channels `filters` (..., C, d) that are read out by `readout` (..., K, C).

    Between them lie the layers `inner` (..., L - 2, C, C) of a deep ReLU network.
    """
    sigma = population.sigma
    power_map = filters @ sigma
    channels = power_map @ np.swapaxes(filters, -1, -2)
    label = np.broadcast_to(population.cross, (*filters.shape[:-2], *population.cross.shape))
    label_cov = np.broadcast_to(
        population.target_cov, (*filters.shape[:-2], *population.target_cov.shape)
    )
    input_cross, target_cov = {"label": label}, {"label": label_cov}
    deep = inner is not None and inner.shape[-3] > 0
    if nonlinearity == "linear" or not (deep or len(population.means)):
        found = _closed_output(power_map, channels, readout, population, nonlinearity)
        input_cross["output"], target_cov["output"], loss = found
    else:
        loss = np.empty(filters.shape[:-2])
    if len(input_cross) < 2 or len(population.means):
        _add_drawn(
            (filters, inner, readout), population, nonlinearity, (input_cross, target_cov, loss)
        )
    cross = {target: filters @ values for target, values in input_cross.items()}
    return LayerMoments(filters, power_map, channels, cross, input_cross, target_cov, loss)


def _closed_output(
    power_map: Float, channels: Float, readout: Float, population: Population, nonlinearity: str
) -> tuple[Float, Float, Float]:
    """Cov(X, f), Cov(f) and the squared loss of a linear network, or of two layers with ReLU.

    The latter's output has E[relu(u) relu(v)] by the arc-cosine kernel and, for Gaussian inputs,
    Cov(X, relu(wᵀx)) = ½ Σw; its mean is not zero, and counts in the loss.
    """
    transposed = np.swapaxes(readout, -1, -2)
    output = np.swapaxes(power_map, -1, -2) @ transposed
    if nonlinearity == "relu":
        output = output / 2
        second = rectified_moment(channels)
        mean = readout @ np.sqrt(np.diagonal(channels, axis1=-2, axis2=-1) / (2 * np.pi))[..., None]
        raw = readout @ second @ transposed
        output_cov = raw - mean @ np.swapaxes(mean, -1, -2)
        along = np.sum(
            readout * np.swapaxes(0.5 * power_map @ population.teacher.T, -1, -2), (-2, -1)
        )
    else:
        raw = output_cov = readout @ channels @ transposed
        along = np.sum(readout * np.swapaxes(power_map @ population.teacher.T, -1, -2), (-2, -1))
    loss = 0.5 * (np.trace(population.target_cov) - 2 * along + np.trace(raw, axis1=-2, axis2=-1))
    return output, output_cov, loss


def _add_drawn(
    layers: tuple[Float, Float | None, Float],
    population: Population,
    nonlinearity: str,
    moments: tuple[dict[str, Float], dict[str, Float], Float],
) -> None:
    """Add what drawn inputs say, member by member: margin, and output and loss where not known."""
    (filters, inner, readout), (input_cross, target_cov, loss) = layers, moments
    lead, (K, d) = filters.shape[:-2], population.teacher.shape
    drawn, sigma = drawn_inputs(population), population.sigma
    wanted = {"margin": 1} if len(population.means) else {}
    if "output" not in input_cross:
        wanted["output"] = K
    for target, size in wanted.items():
        input_cross[target] = np.full((*lead, d, size), np.nan)
        target_cov[target] = np.full((*lead, size, size), np.nan)
    for member in np.ndindex(*lead):
        if nonlinearity == "linear":
            outputs = drawn.inputs @ (readout[member] @ filters[member]).T
        else:
            above = np.empty((0, 0, 0)) if inner is None else inner[member]
            outputs = network_outputs(drawn.inputs, filters[member], above, readout[member])
        for target in wanted:
            values = margins(outputs, drawn.labels) if target == "margin" else outputs
            found = drawn.moments(values, sigma)
            input_cross[target][member], target_cov[target][member] = found
        if "output" in wanted or population.cross_entropy:
            loss[member] = mean_loss(outputs, drawn, population)


def rectified_moment(cov: Float) -> Float:
    """E[relu(u_i) relu(u_j)] for zero-mean Gaussians of covariance `cov` (..., C, C).

    |u||v| (sin θ + (π - θ) cos θ) / 2π, θ the angle with cos θ = corr(u, v) (Cho and Saul 2009).
    """
    deviation = np.sqrt(np.diagonal(cov, axis1=-2, axis2=-1))
    scale = deviation[..., :, None] * deviation[..., None, :]
    cosine = np.divide(cov, scale, out=np.zeros_like(cov), where=scale > 0)
    cosine = np.clip(cosine, -1, 1)  # rounding
    angle = np.arccos(cosine)
    sine = np.sqrt((1 - cosine) * (1 + cosine))
    moment: Float = scale * (sine + (np.pi - angle) * cosine) / (2 * np.pi)
    return moment


def layer_axes(layer: LayerMoments) -> dict[str, Float]:
    """The axes that couplings are taken of, for all members at once; as `theory.channel_axes`.

    Returns
    -------
    "input_capture", "peer_overlap", and a target each, as "output/task_information", all
    (..., C). Members that hold NaN, having diverged, stay NaN.
    """
    power = signal_power(layer)
    axes = {
        "input_capture": 0.5 * np.log1p(power / np.median(power, axis=-1, keepdims=True)),
        "peer_overlap": peer_overlap(layer),
    }
    for target in layer.cross:
        share = explained_share(layer, target)
        axes[f"{target}/task_information"] = information(share)
    return axes


def information(share: Float) -> Float:
    """-½ log(1 - share) in nats; NaN where the share is 1, and the information infinite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        values: Float = np.where(share < 1 - COPY_TOLERANCE, -0.5 * np.log1p(-share), np.nan)
    return values


def signal_power(layer: LayerMoments) -> Float:
    """(..., C) J_i = Var(Y_i); its ranks are those of the input capture."""
    power: Float = np.diagonal(layer.channels, axis1=-2, axis2=-1).copy()
    return power


def explained_share(layer: LayerMoments, target: str) -> Float:
    """(..., C) squared multiple correlation of each channel with a target: 1 - exp(-2 I_T)."""
    cross = layer.cross[target]
    explained = np.sum((cross @ _inverse(layer.target_cov[target])) * cross, axis=-1)
    power = signal_power(layer)
    share: Float = np.divide(explained, power, out=power * 0, where=power > 0)
    return share


def peer_overlap(layer: LayerMoments) -> Float:
    """(..., C) mean over the peers of -½ log(1 - R_ij²); infinite, hence NaN, for exact copies."""
    power = signal_power(layer)
    product = power[..., :, None] * power[..., None, :]
    squared = np.divide(layer.channels**2, product, out=product * 0, where=product > 0)
    C = power.shape[-1]
    squared[..., np.arange(C), np.arange(C)] = 0
    overlap: Float = information(squared).sum(axis=-1) / max(C - 1, 1)
    return overlap


def gradient_cosine(layer: LayerMoments, target: str) -> Float:
    """(..., C) Euclidean cosine of the gradients of I_X and I_T with respect to a filter.

    ∇I_X ∝ Σw and ∇I_T ∝ Qw - (wᵀQw / wᵀΣw) Σw, with Q = C Cov(T)⁻¹ Cᵀ and C = Cov(X, T); for a
    scalar target the latter is the residualized direction.
    """
    inverse = _inverse(layer.target_cov[target])
    pulled = (layer.cross[target] @ inverse) @ np.swapaxes(layer.input_cross[target], -1, -2)
    share = explained_share(layer, target)[..., None]
    residualized = pulled - share * layer.power_map
    inner = np.sum(residualized * layer.power_map, axis=-1)
    norms = np.linalg.norm(residualized, axis=-1) * np.linalg.norm(layer.power_map, axis=-1)
    cosine: Float = np.divide(inner, norms, out=np.full_like(inner, np.nan), where=norms > 0)
    return cosine


def pearson(a: Float, b: Float) -> Float:
    """Pearson correlation along the last axis."""
    x = a - a.mean(axis=-1, keepdims=True)
    y = b - b.mean(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        scale = np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1))
        result: Float = (x * y).sum(axis=-1) / scale
    return result


def _inverse(cov: Float) -> Float:
    """Pseudo-inverse of target covariances (..., K, K); NaN for members that hold NaN."""
    finite = np.isfinite(cov).all(axis=(-2, -1))
    inverse = np.full_like(cov, np.nan)
    inverse[finite] = np.linalg.pinv(cov[finite], hermitian=True)
    return inverse
