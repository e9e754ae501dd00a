"""What is read of a layer for the law of damage: what its residuals do to what is pulled back.

Where an activation takes the channel directly, through a batch norm or none, what it makes of the
channel's value and of its stand-in is known, and is used in place of the gradient there: a channel
whose mean lies where a ReLU is silent loses a(x) - a(μ), less than the slope at x says. So it is
where a depthwise layer, with its own norm and activation, takes each channel from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from empirical.measuring.calibration import LayerMoments
from empirical.reading.gradients import Call
from empirical.reading.hooks import altered
from empirical.reading.layers import FROZEN_NORM, Layer
from empirical.reading.points import Tap
from empirical.reading.positions import Sampler
from empirical.reading.recorder import Samples
from theory.moments import Moments, merge
from theory.peer_regression import regress_on_peers
from theory.shared.validation import Float

FOLDS = 5
"""At most so many regressions per layer, each used on images that it was not fitted on."""


@dataclass(frozen=True)
class Activation:
    """The activation that takes a layer's channels, one by one, the last one where several do.

    Attributes
    ----------
    module : whose output it receives
    replay : output of the tapped layer -> output of the activation
    """

    module: str
    replay: Callable[[Tensor], Tensor]


def activation_after(model: nn.Module, tap: Tap) -> Activation | None:
    """Return the activation of the tapped layer's channels; None where what follows mixes them.

    A layer that runs more than once has none, since each use may be followed by another.
    """
    layer = tap.layer
    if tap.change is not None:
        return None
    found = _activation(model, layer, normalized=tap.module == layer.norm)
    while found is not None and layer.depthwise is not None:
        layer = layer.depthwise
        if altered(layer.module):
            break
        own = _activation(model, layer)
        if own is None:
            break
        found = Activation(own.module, _through(layer, found.replay, own.replay))
    return found


def _through(
    layer: Layer, before: Callable[[Tensor], Tensor], after: Callable[[Tensor], Tensor]
) -> Callable[[Tensor], Tensor]:
    """The road through a depthwise layer, without its hooks."""
    return lambda output: after(layer.module.forward(before(output).to(layer.module.weight.dtype)))


def _activation(model: nn.Module, layer: Layer, *, normalized: bool = False) -> Activation | None:
    act = layer.activation
    if act is None or layer.calls > 1:
        return None
    if layer.norm is None or normalized:
        return Activation(layer.norm or layer.name, act)
    norm = model.get_submodule(layer.norm)
    fixed = type(norm).__name__ == FROZEN_NORM or (
        isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.running_mean is not None
    )
    if not fixed or altered(norm) or layer.channel_dim != layer.norm_channel_dim:
        return None
    # without the hooks of the norm, which are there for the network's own pass
    return Activation(layer.norm, lambda output: act(norm.forward(output)))


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
    activation : that takes the channels, if one does
    """

    tap: Tap
    sets: Tensor
    means: Tensor
    weights: Tensor
    activation: Activation | None = None

    @property
    def name(self) -> str:
        """Of the layer."""
        return self.tap.layer.name

    @property
    def module(self) -> str:
        """Of the submodule that is hooked."""
        return self.tap.module

    @property
    def activated(self) -> str | None:
        """Submodule whose output goes into the activation."""
        return None if self.activation is None else self.activation.module

    @cached_property
    def _placed(self) -> dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]]:
        """Means and weights where and as the outputs are, moved there once."""
        return {}

    @cached_property
    def _single(self) -> bool:
        c = self.tap.layer.n_channels
        return self.sets.shape == (c, 1) and bool((self.sets[:, 0] == torch.arange(c)).all())

    def take(self, calls: Sequence[Call], sampler: Sampler) -> Samples:
        """Sum over all positions of all calls: a lesion acts on every use of a shared layer."""
        found = [self._of_call(call, sampler.first_image) for call in calls]
        names = ("alone", "with_peers")
        return {
            name: torch.stack([call[k] for call in found]).sum(0)[sampler.order][:, :, None]
            for k, name in enumerate(names)
        }

    def _of_call(self, call: Call, first_image: int) -> tuple[Tensor, Tensor]:
        """(n, m, L) twice."""
        x = self._channels_second(call.output)
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
        pulled = self._pulled(call)
        alone = torch.stack(pulled(deviations, None), dim=1)
        if self._single:
            return alone, torch.stack(pulled(residuals, None), dim=1)
        members = self.sets.to(x.device)
        parts = residuals.unflatten(1, tuple(members.shape))
        peers = [
            torch.stack(pulled(parts[:, row], own), dim=1).sum(2) for row, own in enumerate(members)
        ]
        return alone[:, :, members].sum(3), torch.stack(peers, dim=2)

    def _pulled(self, call: Call) -> Callable[[Tensor, Tensor | None], list[Tensor]]:
        """Return (residuals (n, k, P), their channels or None for all) -> Σ_p g r (n, k), m times.

        With an activation y = a(x) the gradient g at x counts less its path through y, and that
        path as it is: (g - (∂y/∂x)ᵀ g_y) r + g_y (a(x) - a(x - r)).
        """
        gradients = [self._channels_second(g) for g in call.gradients]
        act = self.activation
        if act is None or call.activated is None:
            return lambda r, own: [(_of(g, own) * r).sum(2) for g in gradients]
        after = [self._channels_second(g) for g in call.activated_gradients]
        y = self._channels_second(call.activated)
        with torch.enable_grad():
            at = call.output.detach().requires_grad_(True)
            replayed = act.replay(at)
            through = [
                torch.autograd.grad(replayed, at, h.to(replayed), retain_graph=True)[0]
                for h in call.activated_gradients
            ]
        besides = [g - self._channels_second(h) for g, h in zip(gradients, through, strict=True)]

        def pull(r: Tensor, own: Tensor | None) -> list[Tensor]:
            moved = call.output.movedim(self.tap.channel_dim, 1).clone()
            lost = r.reshape(len(moved), -1, *moved.shape[2:]).to(moved)
            if own is None:
                moved -= lost
            else:
                moved[:, own] -= lost
            stand_in = act.replay(moved.movedim(1, self.tap.channel_dim))
            change = _of(y, own) - _of(self._channels_second(stand_in), own)
            return [
                (_of(g, own) * r).sum(2) + (_of(h, own) * change).sum(2)
                for g, h in zip(besides, after, strict=True)
            ]

        return pull

    def _channels_second(self, tensor: Tensor) -> Tensor:
        """(n, C, P), half precision raised to single."""
        moved = tensor.movedim(self.tap.channel_dim, 1)
        flat = moved.flatten(2) if moved.ndim > 2 else moved[:, :, None]
        return flat if flat.dtype in (torch.float32, torch.float64) else flat.float()


def _of(tensor: Tensor, channels: Tensor | None) -> Tensor:
    return tensor if channels is None else tensor[:, channels]


def residuals(
    model: nn.Module,
    tap: Tap,
    known: LayerMoments,
    sets: Tensor,
    ridge: float,
    *,
    held_out: bool,
) -> Residuals:
    """Fit the regressions of a layer's channels, or sets, on the others.

    Parameters
    ----------
    model, tap : the network, and where the layer is tapped
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
    return Residuals(
        tap,
        sets,
        torch.from_numpy(means),
        torch.from_numpy(weights),
        activation_after(model, tap),
    )


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
