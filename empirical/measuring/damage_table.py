"""What the law of damage foretells of every channel, kept apart by group of images. In nats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from theory.quantity import Quantity
from theory.rank_coupling import jackknife_quantile, jackknife_standard_error
from theory.shared.validation import Float, count, indices, one_of, within

if TYPE_CHECKING:
    import pandas as pd

ALONE, WITH_PEERS, RECOVERED = "damage_alone", "damage_with_peers", "recovered"
FORETOLD = (ALONE, WITH_PEERS, RECOVERED)
"""Held at its mean, replaced by its peers, and the share that these win back: 1 - their ratio."""

CLEAR = 1.96
"""Standard errors from which a difference is one, or a damage is resolved."""

DAMAGES: dict[str, Quantity] = {
    ALONE: Quantity(
        ALONE,
        "prediction",
        "nats",
        0.0,
        np.inf,
        "more missed",
        "What the prediction loses where the channel is held at its mean, foretold by the law of "
        "damage: half the mean square of what its deviation does to the prediction.",
    ),
    WITH_PEERS: Quantity(
        WITH_PEERS,
        "prediction",
        "nats",
        0.0,
        np.inf,
        "more missed, peers standing in",
        "What the prediction loses where the channel is replaced by its regression on all other "
        "channels of its layer, foretold likewise.",
    ),
    RECOVERED: Quantity(
        RECOVERED,
        "prediction",
        "share",
        -np.inf,
        1.0,
        "more replaceable",
        "Share of the damage alone that its peers win back, 1 - with peers / alone; below 0 where "
        "they do harm.",
    ),
}
"""What each of `FORETOLD` is; in units of the loss, where one was given."""


@dataclass(frozen=True, eq=False)
class LayerDamage:
    """Foretold damages of one layer.

    Attributes
    ----------
    images : (G,) images of each group
    alone : (G, L) mean over a group's images of what is lost where the channel is held at its mean
    with_peers : (G, L) the same where it is replaced by its regression on the other channels
    joint : (G, C, C) ½ E[u_i u_j], from which any set's damage alone follows; None if not kept
    """

    images: Float
    alone: Float
    with_peers: Float
    joint: Float | None = None

    def arrays(self) -> dict[str, Float]:
        """Return what `from_arrays` reads; joint damages are not among them."""
        return {name: getattr(self, name) for name in ("images", "alone", "with_peers")}

    @classmethod
    def from_arrays(cls, stored: Mapping[str, Float]) -> LayerDamage:
        """Return the damages of these arrays.

        Raises
        ------
        KeyError, ValueError
            an array that is missing, or of another shape than the others
        """
        images, alone, peers = (stored[name] for name in ("images", "alone", "with_peers"))
        shapes = images.shape, alone.shape, peers.shape
        if (
            images.ndim != 1
            or alone.ndim != 2
            or shapes[1:] != ((len(images), alone.shape[1]),) * 2
        ):
            raise ValueError(f"its foretold damages have shapes {shapes}")
        return cls(images, alone, peers)

    def values(self) -> dict[str, Float]:
        """Return each of `FORETOLD`, (L,), over all images."""
        return self._of(self.images)

    def replicates(self) -> dict[str, Float]:
        """Return each of `FORETOLD`, (G, L), without one group of images at a time."""
        g = len(self.images)
        rows = [self._of(np.where(np.arange(g) == out, 0.0, self.images)) for out in range(g)]
        return {name: np.stack([row[name] for row in rows]) for name in FORETOLD}

    def halves(self) -> dict[str, Float]:
        """Return each of `FORETOLD`, (2, L), of the even and of the odd groups of images."""
        g = np.arange(len(self.images))
        rows = [self._of(np.where(g % 2 == half, self.images, 0.0)) for half in (0, 1)]
        return {name: np.stack([row[name] for row in rows]) for name in FORETOLD}

    def standard_errors(self) -> dict[str, Float]:
        """Return the delete-one-group jackknife's standard error of each, (L,)."""
        return {name: jackknife_standard_error(v) for name, v in self.replicates().items()}

    def intervals(self) -> dict[str, tuple[Float, Float]]:
        """Return the 95 % interval of each, low (L,) and high (L,); NaN where a damage is 0.

        Student's, of as many groups of images as there are, on the scale of logarithms: of the
        damages, and of the share that is not recovered. Damages are skewed over images, so that
        the standard errors on either side of them hold the truth less often.
        """
        width, found = jackknife_quantile(len(self.images)), {}
        values = self.values()
        for name, parts in self.replicates().items():
            left = name == RECOVERED
            with np.errstate(divide="ignore", invalid="ignore"):
                own = 1 - values[name] if left else values[name]
                logarithms = np.log(1 - parts if left else parts)
                factor = np.exp(width * jackknife_standard_error(logarithms))
                low, high = own / factor, own * factor
            found[name] = (1 - high, 1 - low) if left else (low, high)
        return found

    def columns(self) -> dict[str, Float]:
        """Return each value beside its standard error `<name>_se`."""
        found, errors = self.values(), self.standard_errors()
        return {
            key: values
            for name in FORETOLD
            for key, values in ((name, found[name]), (f"{name}_se", errors[name]))
        }

    def of_sets(self, sets: Sequence[Sequence[int]]) -> tuple[Float, Float]:
        """Damage (L,) of sets of channels held at their means together, and its standard error.

        D_S = ½ E[(Σ_{i∈S} u_i)²]: the sum of all entries of `joint` within the set.

        Raises
        ------
        ValueError
            `joint` was not kept; a channel that is not there, or twice in a set
        """
        if self.joint is None:
            raise ValueError("joint damages were not kept. Call damage(..., joint=True).")
        c = self.joint.shape[1]
        checked = [indices("sets", np.asarray(members), c, distinct=True) for members in sets]
        per_group = np.stack(
            [self.joint[:, members[:, None], members].sum((1, 2)) for members in checked], axis=1
        )
        return self._averaged(per_group)

    def interaction(self) -> tuple[Float, Float]:
        """D_ij - D_i - D_j = E[u_i u_j] (C, C) of every pair, and its standard error.

        The diagonal holds 2 D_i.
        """
        if self.joint is None:
            raise ValueError("joint damages were not kept. Call damage(..., joint=True).")
        return self._averaged(2 * self.joint)

    def _averaged(self, per_group: Float) -> tuple[Float, Float]:
        weights = [
            np.where(np.arange(len(self.images)) == g, 0.0, self.images)
            for g in range(len(self.images))
        ]
        replicates = np.stack([np.average(per_group, axis=0, weights=w) for w in weights])
        whole: Float = np.average(per_group, axis=0, weights=self.images)
        return whole, jackknife_standard_error(replicates)

    def _of(self, weights: Float) -> dict[str, Float]:
        alone: Float = np.average(self.alone, axis=0, weights=weights)
        peers: Float = np.average(self.with_peers, axis=0, weights=weights)
        with np.errstate(divide="ignore", invalid="ignore"):
            recovered = np.where(alone > 0, 1 - peers / alone, np.nan)
        return {ALONE: alone, WITH_PEERS: peers, RECOVERED: recovered}

    def __add__(self, other: LayerDamage) -> LayerDamage:
        """Both of disjoint shares of the images, group by group."""
        images = self.images + other.images

        def mean(a: Float, b: Float) -> Float:
            shape = (-1, *(1,) * (a.ndim - 1))
            total = a * self.images.reshape(shape) + b * other.images.reshape(shape)
            return np.asarray(total / images.reshape(shape))

        joint = None
        if self.joint is not None and other.joint is not None:
            joint = mean(self.joint, other.joint)
        return LayerDamage(
            images, mean(self.alone, other.alone), mean(self.with_peers, other.with_peers), joint
        )


@dataclass(frozen=True, eq=False)
class DamageTable:
    """What `damage` foretells. In nats, or in units of the loss that it was given.

    Attributes
    ----------
    layers : layer name -> `LayerDamage`, in order of execution
    channels : layer name -> the L channels or sets that its rows are of
    skipped : layer name -> why nothing is foretold
    settings : the arguments, and `n_images`
    """

    layers: Mapping[str, LayerDamage]
    channels: Mapping[str, Sequence[tuple[int, ...]]]
    settings: Mapping[str, Any]
    skipped: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, layer: str) -> LayerDamage:
        return self.layers[one_of("layer", layer, self.layers)]

    def largest(self, number: int, *, name: str = ALONE) -> dict[str, list[tuple[int, ...]]]:
        """The `number` channels or sets of each layer that lose most, for `lesion(channels=...)`.

        Raises
        ------
        ValueError
            a `name` that is none of `FORETOLD`; a number below 1
        """
        one_of("name", name, FORETOLD)
        count("number", number)
        found = {}
        for layer, own in self.layers.items():
            values = np.nan_to_num(own.values()[name], nan=-np.inf)
            order = np.argsort(-values, kind="stable")[:number]
            found[layer] = [self.channels[layer][row] for row in np.sort(order)]
        return found

    def uncertain(
        self, *, name: str = ALONE, share: float = 0.25
    ) -> dict[str, list[tuple[int, ...]]]:
        """The channels or sets of each layer whose place among the others is open.

        Those that more than a `share` of the layer's others cannot be told from: the difference of
        the two damages, on the same images, is within its 95 % interval,
        which is Student's, of as many groups of images as the table has.

        Raises
        ------
        ValueError
            a `name` that is none of `FORETOLD`; a share outside of 0 to 1
        """
        one_of("name", name, FORETOLD)
        within("share", share, "[0, 1]")
        found = {}
        for layer, own in self.layers.items():
            values, parts = own.values()[name], own.replicates()[name]
            deviations = (parts - parts.mean(axis=0)) * np.sqrt((len(parts) - 1) / len(parts))
            together = deviations.T @ deviations
            variance = np.diag(together)
            error = np.sqrt(np.maximum(variance[:, None] + variance - 2 * together, 0.0))
            open_ = np.abs(values[:, None] - values) < jackknife_quantile(len(parts)) * error
            np.fill_diagonal(open_, False)
            rows = np.flatnonzero(open_.sum(axis=1) > share * (len(values) - 1)).tolist()
            found[layer] = [self.channels[layer][row] for row in rows]
        return found

    def to_frame(self) -> pd.DataFrame:
        """One row per channel or set: `layer`, `channel`, each of `FORETOLD` and `<name>_se`.

        `channel` is a number, or "3+7" for a set, as in `LesionTable.to_frame`.
        """
        import pandas as pd  # here, since importing pandas takes a second

        singles = all(len(m) == 1 for sets in self.channels.values() for m in sets)
        return pd.concat(
            [
                pd.DataFrame(
                    {
                        "layer": name,
                        "channel": [
                            m[0] if singles else "+".join(map(str, m)) for m in self.channels[name]
                        ],
                        **found.columns(),
                    }
                )
                for name, found in self.layers.items()
            ],
            ignore_index=True,
        )
