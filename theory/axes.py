"""Every quantity of the two axes, per channel of one layer, from second moments. In nats."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._precision import Precision, precision
from theory.hull import compact_hull
from theory.moments import Moments
from theory.pairs import nearest_peers, overlap, pairwise_excess
from theory.quantity import TARGET_AXIS, ChannelAxes
from theory.sampling import gaussian_information_bias
from theory.shared.validation import Float, count, finite_array, positive
from theory.standardize import COPY_TOLERANCE, Standardized, standardize


def channel_axes(
    moments: Moments,
    *,
    noise: str | float = "median",
    ridge: float = 0.0,
    peers: int = 50,
    top: int = 10,
    bias_correction: bool = False,
    weights: ArrayLike | None = None,
    hull: bool = True,
) -> ChannelAxes:
    """Turn the moments of a layer into every quantity of the two axes.

    Parameters
    ----------
    moments : of (Y, T).
    noise : reference noise σ0² of the layer: "median" or "mean" of J over live channels,
        "quantile:p" with 0 < p < 1, or a positive number.
    ridge : r ≥ 0 on the correlation, for quantities that use all peers.
    peers : how many of the most overlapping peers `target_excess` considers.
    top : how many of the largest S_ij it averages. Fewer where the layer is small.
    bias_correction : subtract the exact plug-in bias from every information (estimates then
        scatter around the truth, and around a true 0 may be negative) and adjust E_i for its
        degrees of freedom. The selection of the largest S_ij is not corrected. Needs
        `moments.n`.
    weights : (C, ...) filters, flattened per channel, for the Rayleigh quotient.
    hull : False skips the compact hull, whose two quantities are then NaN.

    Raises
    ------
    ValueError
        fewer than two channels, fewer than three samples, a constant target,
        no variance in any channel, or an argument out of range.

    Source: arXiv:2605.07086; E_i = (1 + r) - 1 / [(R + rI)⁻¹]_ii.

    >>> import numpy as np
    >>> cov = [[1.0, 0.6, 0.5], [0.6, 1.0, 0.0], [0.5, 0.0, 1.0]]
    >>> axes = channel_axes(Moments.from_covariance(cov))
    >>> axes.peer_predictability.round(6)
    array([0.36, 0.36])
    >>> bool(np.isclose(axes.task_information[0], -0.5 * np.log(1 - 0.25)))
    True
    """
    _check(moments, ridge, peers, top, bias_correction)
    c = moments.n_channels
    layer = standardize(moments)
    if layer.live.size == 0:
        raise ValueError(
            "moments have no live channel: every variance is 0. Check that the layer is reached."
        )
    noise_power = reference_noise(layer.power[layer.live], noise)
    local, inverse = _local_axis(layer, ridge, hull)
    target = _target_axis(layer, inverse, peers, top) if moments.n_targets else {}
    if bias_correction:
        _correct(local, target, moments, layer)
    quantities = {
        "signal_power": layer.power,
        "rayleigh_quotient": layer.power / _squared_norms(weights, c),
        "input_capture": 0.5 * np.log1p(layer.power / noise_power),
    }
    for name, values in (local | target).items():
        quantities[name] = np.full(c, np.nan if name in _NAN_WHEN_DEAD else 0.0)
        quantities[name][layer.live] = values
    if not target:
        quantities |= {name: np.full(c, np.nan) for name in TARGET_AXIS}
    affected = _affected(layer, inverse, quantities, bool(target))
    return ChannelAxes(**quantities, affected=affected, noise_power=noise_power, n=moments.n)


_NAN_WHEN_DEAD = ("peer_predictability", "hull_score")


def reference_noise(power: Float, noise: str | float) -> float:
    """σ0² of a layer from the signal powers of its live channels; see `channel_axes`."""
    if not isinstance(noise, str):
        return positive("noise", noise)
    if noise in ("median", "mean"):
        return float(np.median(power) if noise == "median" else np.mean(power))
    name, _, level = noise.partition(":")
    try:
        quantile = float(level)
    except ValueError:
        quantile = np.nan
    if name != "quantile" or not 0 < quantile < 1:
        raise ValueError(
            "noise must be 'median', 'mean', 'quantile:p' with 0 < p < 1, or a positive number; "
            f"got {noise!r}."
        )
    return float(np.quantile(power, quantile))


def _check(moments: Moments, ridge: float, peers: int, top: int, bias_correction: bool) -> None:
    if moments.n_channels < 2:
        raise ValueError(
            f"moments must have at least 2 channels; got {moments.n_channels}. "
            "The local axis compares a channel with its peers."
        )
    if moments.n is not None and moments.n < 3:
        raise ValueError(
            f"moments must come from at least 3 samples; got n={moments.n}. Collect more."
        )
    if bias_correction and moments.n is None:
        raise ValueError(
            "bias_correction needs a sample count; these moments are a population (n=None), "
            "which has no sampling bias."
        )
    positive("ridge", ridge, zero=True)
    count("peers", peers)
    count("top", top)


def _squared_norms(weights: ArrayLike | None, c: int) -> Float:
    if weights is None:
        return np.full(c, np.nan)
    array = finite_array("weights", weights, ndim=range(6))
    if array.ndim < 1 or array.shape[0] != c:
        raise ValueError(f"weights must have {c} rows, one per channel; got shape {array.shape}.")
    rows = array.reshape(c, -1)
    norms: Float = (rows * rows).sum(axis=1)
    norms[norms == 0] = np.nan
    return norms


def _local_axis(
    layer: Standardized, ridge: float, hull: bool
) -> tuple[dict[str, Float], Precision]:
    peers_in_layer = layer.power.size - 1
    inverse = precision(layer.correlation, layer.loadings, ridge)
    predictability = inverse.predictability(ridge)
    with np.errstate(divide="ignore"):
        information = np.where(
            predictability < 1 - COPY_TOLERANCE, -0.5 * np.log1p(-predictability), np.nan
        )
    values = {
        "peer_overlap": overlap(layer.correlation).sum(axis=1) / peers_in_layer,
        "peer_predictability": predictability,
        "peer_information": information,
        "hull_size": np.full_like(predictability, np.nan),
        "hull_score": np.full_like(predictability, np.nan),
    }
    if hull:
        size = compact_hull(layer.correlation, predictability, ridge=ridge).size
        values["hull_size"] = size.astype(np.float64)
        values["hull_score"] = predictability / np.maximum(1, size)
    return values, inverse


def _target_axis(layer: Standardized, inverse: Precision, peers: int, top: int) -> dict[str, Float]:
    """Target axis of the live channels.

    I(T; Y_i | Y_-i) = ½ log(1 + b S⁻¹ bᵀ / P_ii), P = (R + rI)⁻¹, b the row i of PG and
    S = I - GᵀPG the share of the white targets that no channel explains: the joint covariance of
    (Y, T) is inverted through R alone.
    """
    explained = (layer.loadings**2).sum(axis=1)
    information = np.full_like(explained, np.nan)
    open_ = explained < 1 - COPY_TOLERANCE
    information[open_] = -0.5 * np.log1p(-explained[open_])

    unexplained = np.eye(layer.loadings.shape[1]) - layer.loadings.T @ inverse.coefficients
    values, vectors = np.linalg.eigh((unexplained + unexplained.T) / 2)
    if values[0] > COPY_TOLERANCE:
        scaled = inverse.coefficients @ vectors / np.sqrt(values)
        conditional = 0.5 * np.log1p((scaled**2).sum(axis=1) / inverse.diagonal)
    else:
        conditional = np.full_like(explained, np.nan)
    conditional[inverse.collinear] = 0.0

    nearest = nearest_peers(layer.correlation, peers)
    if nearest.shape[1] == 0:  # the only live channel of its layer
        zeros = np.zeros_like(explained)
        excess, redundancy = zeros, zeros
    else:
        pairs = pairwise_excess(layer.correlation, layer.loadings, explained, nearest)
        largest = min(top, pairs.shape[1])
        excess = np.partition(pairs, pairs.shape[1] - largest, axis=1)[:, -largest:].mean(axis=1)
        redundancy = np.minimum(information[:, None], information[nearest]).mean(axis=1)
    return {
        "task_information": information,
        "target_excess": excess,
        "conditional_task_information": conditional,
        "task_redundancy": redundancy,
        "task_unique": information - redundancy,
    }


def _affected(
    layer: Standardized, inverse: Precision, quantities: Mapping[str, Float], has_target: bool
) -> dict[str, tuple[int, ...]]:
    def listed(mask: NDArray[np.bool_]) -> tuple[int, ...]:
        return tuple(int(i) for i in layer.live[mask])

    dead = np.ones(layer.power.size, dtype=bool)
    dead[layer.live] = False
    found = {
        "dead": tuple(int(i) for i in np.flatnonzero(dead)),
        "copies": listed(np.isnan(quantities["peer_overlap"][layer.live])),
        "collinear": listed(inverse.collinear),
    }
    if has_target:
        names = ("task_information", "target_excess", "conditional_task_information")
        undefined = np.isnan(np.stack([quantities[name][layer.live] for name in names]))
        found["target_determined"] = listed(np.any(undefined, axis=0))
    return {kind: channels for kind, channels in found.items() if channels}


def _correct(
    local: dict[str, Float], target: dict[str, Float], moments: Moments, layer: Standardized
) -> None:
    """Subtract from each information its exact plug-in bias for jointly Gaussian variables.

    Conditioning on m variables costs m degrees of freedom: I(A; B | C) from n samples is biased
    like I(A; B) from n - m.
    """
    n, r = int(moments.n or 0), layer.loadings.shape[1]
    others = layer.live.size - 1
    if others:
        pair = gaussian_information_bias(n, 1, 1)
        local["peer_overlap"] -= pair * others / (layer.power.size - 1)
        local["peer_information"] -= gaussian_information_bias(n, 1, others)
        adjusted = 1 - (1 - local["peer_predictability"]) * (n - 1) / (n - 1 - others)
        local["hull_score"] = adjusted / np.maximum(1, local["hull_size"])
        local["peer_predictability"] = adjusted
    if target:
        alone = gaussian_information_bias(n, 1, r)
        target["task_information"] -= alone
        target["conditional_task_information"] -= gaussian_information_bias(n - others, 1, r)
        if others:
            target["task_redundancy"] -= alone
            target["target_excess"] -= gaussian_information_bias(n - 1, 1, r)
        else:  # all of it is unique
            target["task_unique"] -= alone
