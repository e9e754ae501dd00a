"""Every quantity of the two axes, per channel of one layer, from second moments. In nats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._conditional import conditional_information
from theory._correction import correct
from theory._precision import Precision, precision
from theory.few_samples import ENOUGH, PeerEstimates, estimate_peers
from theory.hull import Hull, among_live, compact_hull, hull_along, peer_hull
from theory.moments import Moments
from theory.pairs import nearest_peers, pairwise_excess, total_overlap
from theory.quantity import TARGET_AXIS, ChannelAxes
from theory.shared.validation import Float, count, finite_array, instance, one_of, positive, truth
from theory.standardize import COPY_TOLERANCE, Standardized, standardize

LARGEST_RIDGE = 1e6
"""Beyond it E_i, a difference of numbers near r, keeps fewer than ten digits."""


def channel_axes(
    moments: Moments,
    *,
    noise: str | float = "median",
    ridge: float = 0.0,
    peers: int = 50,
    top: int = 10,
    bias_correction: bool = False,
    weights: ArrayLike | None = None,
    hull: bool | NDArray[np.intp] = True,
    groups: Sequence[Moments] | PeerEstimates | None = None,
    samples_per_image: float = 1.0,
    estimate: str | None = None,
    details: bool = True,
) -> ChannelAxes:
    """Turn the moments of a layer into every quantity of the two axes.

    Parameters
    ----------
    moments : of (Y, T).
    noise : reference noise σ0² of the layer: "median" or "mean" of J over live channels,
        "quantile:p" with 0 < p < 1, or a positive number.
    ridge : r from 0 to 10⁶ on the correlation, in units of a channel's variance, for quantities
        that use all peers.
    peers : how many of the most overlapping peers `target_excess` considers, and all that overlap
        as much as the last of them.
    top : how many of the largest S_ij it averages. Fewer where the layer is small.
    bias_correction : subtract the exact plug-in bias from every information (estimates then
        scatter around the truth, and around a true 0 may be negative) and adjust E_i for its
        degrees of freedom. The selection of the largest S_ij is not corrected. Needs
        `moments.n`.
    weights : (C, ...) filters, flattened per channel, for the Rayleigh quotient.
    hull : False skips the compact hull, whose two quantities are then NaN. An array (C, m) gives
        the peers in their order, as `theory.hull.peer_order` does: only their number is found.
    groups : moments of groups of images, of which `moments` are the sum (or what
        `theory.estimate_peers` made of them).
    samples_per_image : positions of one image, which may be alike.
    estimate : of E_i, `peer_information`, `hull_score` and `conditional_task_information`, which
        regress on all peers: "plug_in", biased by about C/n; "corrected" for degrees of freedom as
        with `bias_correction`; "in_out", from variances inside and outside of groups, right from
        few samples also where those of an image are alike. None takes "in_out" where there are
        groups, several samples per image and no ridge, "corrected" with one sample per image or
        with `bias_correction`, and "plug_in" otherwise. Where samples are too few for any, NaN.
    details : False leaves out `affected` and the members of hulls, for replicates of which only
        the numbers are read.

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
    if not isinstance(hull, np.ndarray):
        truth("hull", hull)
    truth("bias_correction", bias_correction)
    truth("details", details)
    _check(moments, ridge, peers, top, bias_correction)
    population = moments.n is None
    how = _how(estimate, groups, samples_per_image, ridge, bias_correction, population)
    c = moments.n_channels
    layer = standardize(moments)
    if layer.live.size == 0:
        raise ValueError(
            "moments have no live channel: every variance is 0. Check that the layer is reached."
        )
    noise_power = reference_noise(layer.power[layer.live], noise)
    estimates = _estimates(groups, samples_per_image) if groups is not None else None
    in_out = estimates if how == "in_out" else None
    inverse = None
    if details or bias_correction or in_out is None:
        inverse = precision(layer.correlation, layer.loadings, ridge)
    if in_out is not None:
        predictability = in_out.predictability[layer.live]
    elif moments.n is not None and moments.n - 1 < layer.live.size and ridge == 0:
        # every channel fits every other: what peers explain cannot be seen
        predictability = np.full(layer.live.size, np.nan)
    elif inverse is not None:
        predictability = inverse.predictability(ridge)
    found = None if hull is False else _hull(layer, predictability, ridge, hull)
    local = _local_axis(layer, predictability, found)
    target, doubts = _target_axis(layer, inverse, peers, top) if moments.n_targets else ({}, {})
    if target and in_out is not None:
        target["conditional_task_information"] = in_out.conditional[layer.live]
    n = _independent(moments, estimates, samples_per_image)
    if inverse is not None and (bias_correction or how == "corrected"):
        correct(local, target, n, layer, inverse, everything=bias_correction, how=how)
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
    affected, kept = {}, None
    if details and inverse is not None:
        affected = _affected(layer, inverse, quantities, doubts, n)
    if details and found is not None:
        kept = peer_hull(found, layer.correlation, layer.power, layer.live, ridge=ridge)
    return ChannelAxes(
        **quantities, affected=affected, noise_power=noise_power, n=moments.n, hull=kept
    )


ESTIMATES = ("plug_in", "corrected", "in_out")

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
    instance("moments", moments, Moments, "Build one with Moments.from_samples.")
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
            "which has no sampling bias. Pass False, not True."
        )
    positive("ridge", ridge, zero=True, most=LARGEST_RIDGE)
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


def _hull(
    layer: Standardized, predictability: Float, ridge: float, given: bool | NDArray[np.intp]
) -> Hull:
    aim = np.clip(np.nan_to_num(predictability), 0.0, 1.0)
    if not isinstance(given, np.ndarray):
        return compact_hull(layer.correlation, aim, ridge=ridge)
    members = among_live(given, layer.live, layer.power.size)
    return hull_along(layer.correlation, aim, members, ridge=ridge)


def _local_axis(layer: Standardized, predictability: Float, hull: Hull | None) -> dict[str, Float]:
    with np.errstate(divide="ignore"):
        information = np.where(
            predictability < 1 - COPY_TOLERANCE, -0.5 * np.log1p(-predictability), np.nan
        )
    values = {
        "peer_overlap": total_overlap(layer.correlation) / (layer.power.size - 1),
        "peer_predictability": predictability,
        "peer_information": information,
        "hull_size": np.full_like(predictability, np.nan),
        "hull_score": np.full_like(predictability, np.nan),
    }
    if hull is not None:
        values["hull_size"] = hull.size.astype(np.float64)
        values["hull_score"] = predictability / np.maximum(1, hull.size)
    return values


def _target_axis(
    layer: Standardized, inverse: Precision | None, peers: int, top: int
) -> tuple[dict[str, Float], dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]]]:
    """Target axis of the live channels, with NaN for what is infinite or undecided.

    And who is: by itself or with a peer, and with all peers.
    """
    explained = (layer.loadings**2).sum(axis=1)
    information = np.full_like(explained, np.nan)
    open_ = explained < 1 - max(COPY_TOLERANCE, layer.target_rounding)
    information[open_] = -0.5 * np.log1p(-explained[open_])
    conditional = np.full_like(explained, np.nan)
    determined = undecided = np.zeros(explained.size, dtype=bool)
    if inverse is not None:
        conditional, determined, undecided = conditional_information(
            layer.loadings, inverse, layer.target_rounding
        )
    nearest, chosen = nearest_peers(layer.correlation, peers)
    if nearest.shape[1] == 0:  # the only live channel of its layer
        zeros = np.zeros_like(explained)
        excess, redundancy = zeros, zeros
    else:
        pairs = pairwise_excess(
            layer.correlation,
            layer.loadings,
            np.where(open_, explained, 1.0),
            nearest,
            layer.target_rounding,
        )
        pairs[~chosen] = -np.inf
        largest = min(top, peers, pairs.shape[1])
        excess = np.partition(pairs, pairs.shape[1] - largest, axis=1)[:, -largest:].mean(axis=1)
        alone = np.where(open_, information, np.inf)
        shared = np.minimum(alone[:, None], alone[nearest])
        redundancy = np.mean(shared, axis=1, where=chosen)
        redundancy[np.isinf(redundancy)] = np.nan
    beyond = np.isinf(excess)
    doubts = {
        "target_determined": (~open_ | beyond, determined),
        "undecided": (np.isnan(excess), undecided),
    }
    excess[beyond] = np.nan
    values = {
        "task_information": information,
        "target_excess": excess,
        "conditional_task_information": conditional,
        "task_redundancy": redundancy,
        "task_unique": information - redundancy,
    }
    return values, doubts


def _how(
    estimate: str | None,
    groups: Sequence[Moments] | PeerEstimates | None,
    samples_per_image: float,
    ridge: float,
    bias_correction: bool,
    population: bool,
) -> str:
    """Which estimate of the full-peer quantities is asked for, or the best that can be had.

    Of independent samples the degrees of freedom are known, and inside alone scatters less.
    """
    if estimate is None:
        if bias_correction:
            return "corrected"
        if groups is None or ridge > 0:
            return "plug_in"
        return "in_out" if samples_per_image > 1 else "corrected"
    one_of("estimate", estimate, ESTIMATES)
    if estimate == "corrected" and population:
        raise ValueError(
            "estimate='corrected' needs a sample count; these moments are a population (n=None), "
            "which has no sampling bias. Pass estimate='plug_in'."
        )
    if estimate == "in_out" and (groups is None or ridge > 0):
        raise ValueError(
            f"estimate='in_out' needs moments of groups of images and no ridge; got "
            f"{'no groups' if groups is None else f'ridge={ridge!r}'}. Pass groups=..., or "
            "estimate='plug_in'."
        )
    return estimate


def _estimates(
    groups: Sequence[Moments] | PeerEstimates, samples_per_image: float
) -> PeerEstimates:
    if isinstance(groups, PeerEstimates):
        return groups
    return estimate_peers(groups, samples_per_image=samples_per_image)


def _independent(
    moments: Moments, estimates: PeerEstimates | None, samples_per_image: float
) -> float | None:
    """Number of independent samples that the moments are worth, None of a population."""
    if moments.n is None or estimates is None:
        return moments.n
    return estimates.effective_samples if samples_per_image > 1 else float(moments.n)


def _affected(
    layer: Standardized,
    inverse: Precision,
    quantities: Mapping[str, Float],
    doubts: Mapping[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]],
    n: float | None,
) -> dict[str, tuple[int, ...]]:
    def listed(mask: NDArray[np.bool_]) -> tuple[int, ...]:
        return tuple(int(i) for i in layer.live[mask])

    dead = np.ones(layer.power.size, dtype=bool)
    dead[layer.live] = False
    unknown = np.isnan(quantities["peer_predictability"][layer.live])
    few = n is not None and n < ENOUGH * layer.live.size
    found = {
        "dead": tuple(int(i) for i in np.flatnonzero(dead)),
        "copies": listed(np.isnan(quantities["peer_overlap"][layer.live])),
        "collinear": listed(inverse.collinear & ~unknown),
        "few_samples": listed(unknown | few),
    }
    for kind, (few_peers, all_peers) in doubts.items():
        found[kind] = listed(few_peers | (all_peers & ~unknown))
    return {kind: channels for kind, channels in found.items() if channels}
