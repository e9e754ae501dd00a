"""What is read of a layer for the law of damage: what its residuals do to what is pulled back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from empirical.measuring.calibration import LayerMoments
from empirical.reading.points import Tap
from empirical.reading.positions import Sampler
from empirical.reading.recorder import Samples
from theory.moments import Moments, merge
from theory.peer_regression import regress_on_peers
from theory.shared.validation import Float

FOLDS = 5
"""At most so many regressions per layer, each used on images that it was not fitted on."""


@dataclass(frozen=True, eq=False)
class Residuals:
    """u = Σ_p g_p r_p of every channel or set, "alone" and "with_peers", (n, m, 1, L).

    Image i uses fold i modulo the number of folds.

    Parameters
    ----------
    tap : the layer's
    sets : (L, k) channels that are lost together
    means : (F, C) of each fold
    weights : (F, L k, C) that take deviations from the means to those from what peers foretell
    """

    tap: Tap
    sets: Tensor
    means: Tensor
    weights: Tensor

    @property
    def name(self) -> str:
        """Of the layer."""
        return self.tap.layer.name

    @property
    def module(self) -> str:
        """Of the submodule that is hooked."""
        return self.tap.module

    @cached_property
    def _placed(self) -> dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]]:
        """Means and weights where and as the outputs are, moved there once."""
        return {}

    @cached_property
    def _single(self) -> bool:
        c = self.tap.layer.n_channels
        return self.sets.shape == (c, 1) and bool((self.sets[:, 0] == torch.arange(c)).all())

    def take(
        self, outputs: Sequence[Tensor], gradients: Sequence[Sequence[Tensor]], sampler: Sampler
    ) -> Samples:
        """Sum over all positions of all calls: a lesion acts on every use of a shared layer."""
        found = [
            self._of_call(output, [of_draw[call] for of_draw in gradients], sampler.first_image)
            for call, output in enumerate(outputs)
        ]
        names = ("alone", "with_peers")
        return {
            name: torch.stack([call[k] for call in found]).sum(0)[sampler.order][:, :, None]
            for k, name in enumerate(names)
        }

    def _of_call(
        self, output: Tensor, gradients: Sequence[Tensor], first_image: int
    ) -> tuple[Tensor, Tensor]:
        """(n, m, L) twice."""
        x, *pulled = (self._channels_second(tensor) for tensor in (output, *gradients))
        kind = x.device, x.dtype
        if kind not in self._placed:
            self._placed[kind] = self.means.to(*kind), self.weights.to(*kind)
        means, weights = self._placed[kind]
        folds, n = len(means), len(x)
        of_image = (first_image + torch.arange(n, device=x.device)) % folds
        deviations = x - means[of_image][:, :, None]
        residuals = x.new_empty((n, weights.shape[1], x.shape[2]))
        for fold in range(folds):
            own = slice((fold - first_image) % folds, None, folds)
            residuals[own] = weights[fold] @ deviations[own]
        alone = torch.stack([(g * deviations).sum(2) for g in pulled], dim=1)
        if self._single:
            return alone, torch.stack([(g * residuals).sum(2) for g in pulled], dim=1)
        members = self.sets.to(x.device)
        peers = [(g[:, members.flatten()] * residuals).sum(2) for g in pulled]
        return (
            alone[:, :, members].sum(3),
            torch.stack(peers, dim=1).unflatten(2, tuple(members.shape)).sum(3),
        )

    def _channels_second(self, tensor: Tensor) -> Tensor:
        """(n, C, P), half precision raised to single."""
        moved = tensor.movedim(self.tap.channel_dim, 1)
        flat = moved.flatten(2) if moved.ndim > 2 else moved[:, :, None]
        return flat if flat.dtype in (torch.float32, torch.float64) else flat.float()


def residuals(
    tap: Tap, known: LayerMoments, sets: Tensor, ridge: float, *, held_out: bool
) -> Residuals:
    """Fit the regressions of a layer's channels, or sets, on the others.

    Parameters
    ----------
    tap : of the layer
    known : its moments; with `held_out`, of each group of images, image i in group i modulo their
        number
    sets : (L, k) channels
    ridge : on the diagonal of the correlation
    held_out : regress each fold of the groups on the others
    """
    known.of(tap.layer)  # refuses moments of another layer
    fits = [known.moments[tap.layer.name]]
    if held_out:
        parts = known.groups[tap.layer.name]
        n = folds_of(len(parts))
        fits = [merge([p for g, p in enumerate(parts) if g % n != fold]) for fold in range(n)]
    c = tap.layer.n_channels
    weights = np.stack([_weights(moments, sets.numpy(), ridge) for moments in fits])
    means = np.stack([moments.mean[:c] for moments in fits])
    return Residuals(tap, sets, torch.from_numpy(means), torch.from_numpy(weights))


def folds_of(groups: int) -> int:
    """The largest divisor of the number of groups up to `FOLDS`; the number itself if it has none.

    >>> folds_of(10), folds_of(4), folds_of(7), folds_of(2)
    (5, 4, 7, 2)
    """
    return max((d for d in range(2, FOLDS + 1) if groups % d == 0), default=groups)


def _weights(moments: Moments, sets: np.ndarray, ridge: float) -> Float:
    """(L k, C): deviations of the channels -> deviations of the sets from what the rest foretells.

    The rows of every channel are P_i / P_ii, P the inverse of the channels' covariance; a set's
    residuals given the rest are (P_SS)⁻¹ P_S d, in which the factors P_ii cancel.
    """
    rows = np.eye(moments.n_channels) - regress_on_peers(moments, ridge=ridge).coefficients
    solved = [np.linalg.solve(rows[np.ix_(s, s)], rows[s]) for s in sets]
    return np.concatenate(solved)
