"""The permutation null of the target axis: targets dealt to the wrong images.

All positions of an image keep one target, so the null keeps their dependence; the channels, and
with them the local axis, stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from empirical.reading.kept import ImageSums
from theory import TARGET_AXIS, Moments, channel_axes
from theory.moments import trusted_moments
from theory.shared.validation import Float


def permutations(n_images: int, draws: int, seed: int) -> list[NDArray[np.intp]]:
    """Draw permutations of the images, the same for every layer of a measurement."""
    rng = np.random.default_rng(seed)
    return [rng.permutation(n_images) for _ in range(draws)]


def with_permuted_targets(total: Moments, sums: ImageSums, order: NDArray[np.intp]) -> Moments:
    """Moments of the layer with the targets in another order of the images: exact.

    Examples
    --------
    >>> y, t = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0]]), np.array([1.0, 2.0, 4.0])
    >>> total = Moments.from_samples(y, t)
    >>> sums = ImageSums(np.ones(3), y, t[:, None])
    >>> permuted = with_permuted_targets(total, sums, np.array([2, 0, 1]))
    >>> bool(np.allclose(permuted.cov, Moments.from_samples(y, t[[2, 0, 1]]).cov))
    True
    """
    c, n = total.n_channels, int(sums.samples.sum())
    targets = sums.targets[order]
    mean = sums.samples @ targets / n
    targets = targets - mean
    cov = total.cov.copy()
    channels = sums.channels - sums.samples[:, None] * total.mean[:c]
    cov[:c, c:] = channels.T @ targets / (n - 1)
    cov[c:, :c] = cov[:c, c:].T
    cov[c:, c:] = (targets * sums.samples[:, None]).T @ targets / (n - 1)
    return trusted_moments(np.concatenate([total.mean[:c], mean]), cov, total.n_targets, n)


def target_null(
    total: Moments, sums: ImageSums, orders: Sequence[NDArray[np.intp]], options: Mapping[str, Any]
) -> dict[str, Float]:
    """Quantity of the target axis -> (K, C) values under K permutations of the targets."""
    draws = [
        channel_axes(with_permuted_targets(total, sums, order), **{**options, "hull": False})
        for order in orders
    ]
    return {name: np.stack([getattr(axes, name) for axes in draws]) for name in TARGET_AXIS}
