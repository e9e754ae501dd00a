"""The quantities of the two axes: what each is, in which unit and range, and what it says.

The fields of `ChannelAxes` carry it as metadata, so that a quantity is declared in one place, and
tables, help, reports and documentation read its name, axis and sentence from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, Literal

import numpy as np

from theory.hull import PeerHull
from theory.shared.validation import Float

Axis = Literal["local", "target", "prediction"]


@dataclass(frozen=True)
class Quantity:
    """One number per channel.

    Attributes
    ----------
    name : the field of `ChannelAxes`, and the column of a table.
    axis : "local", what the channel has to do with its input and peers; "target", what it says
        about the target; "prediction", what the network's prediction loses without it.
    unit : "nats", "share", "channels", "power" (squared units of the activation), or a ratio.
    low, high : range of a population's value; an estimate with its bias corrected may leave it.
    direction : what a channel with a larger value is, as far as keeping it goes.
    sentence : what it is, in one sentence, with its formula; K = Cov(Y), R = corr(Y).
    """

    name: str
    axis: Axis
    unit: str
    low: float
    high: float
    direction: str
    sentence: str

    @property
    def range(self) -> str:
        """The range in words.

        >>> quantities()["peer_predictability"].range, quantities()["hull_size"].range
        ('0 to 1', '0 to 10')
        """
        if np.isinf(self.low):
            return f"{self.high:g} or less"
        return f"{self.low:g} or more" if np.isinf(self.high) else f"{self.low:g} to {self.high:g}"


def _about(
    axis: Axis, unit: str, direction: str, sentence: str, high: float = np.inf
) -> dict[str, Any]:
    """What the field of a quantity says of it; in a population none is negative."""
    return {
        "axis": axis,
        "unit": unit,
        "low": 0.0,
        "high": high,
        "direction": direction,
        "sentence": sentence,
    }


_local, _target = partial(_about, "local"), partial(_about, "target")


@dataclass(frozen=True, eq=False, kw_only=True)
class ChannelAxes:
    """One float64 array of length C per quantity: `theory.quantities()` says what each is.

    Local axis: could same-layer peers supply what the channel carries? Target axis: what does the
    channel say about the target T? Information in nats.

    Special channels are listed in `affected`, never clipped:
        "dead": no variance. Power and every information are 0; E_i and hull_score are NaN.
        "copies": |R_ij| = 1 for some j. The overlap is infinite: NaN.
        "collinear": the peers determine it. E_i = 1, conditional information 0, and
            peer_information, infinite, is NaN.
        "target_determined": it determines the target, alone or with a peer or with all peers.
            The information in question, infinite as far as double precision tells, is NaN.
        "undecided": its peers all but determine it, or all channels the target, so nearly that
            rounding is more than a thousandth of the conditional information, or one peer so
            nearly that it is of the excess, which is NaN.

    `noise_power` is σ0²; `n` the sample count, None for a population; `hull` who the peers of
    `hull_size` are, None where the hull was left out.
    """

    signal_power: Float = field(
        metadata=_local(
            "power",
            "stronger",
            "Variance of what the channel puts out, J_i = K_ii.",
        )
    )
    rayleigh_quotient: Float = field(
        metadata=_local(
            "power per squared weight",
            "stronger for the size of its filter",
            "Signal power per squared norm of the filter, J_i / ‖w_i‖², which is the variance "
            "of the input along the filter; NaN where no weights were given.",
        )
    )
    input_capture: Float = field(
        metadata=_local(
            "nats",
            "more informed about the input",
            "Information about the input that the channel passes on above the layer's reference "
            "noise σ0², I_X(i) = ½ log(1 + J_i / σ0²).",
        )
    )
    peer_overlap: Float = field(
        metadata=_local(
            "nats",
            "more replaceable",
            "Information that the channel shares with another channel of its layer on average, "
            "the mean over j ≠ i of -½ log(1 - R_ij²).",
        )
    )
    peer_predictability: Float = field(
        metadata=_local(
            "share",
            "more replaceable",
            "Share of the channel's variance that all other channels of its layer predict "
            "together, E_i = R²(Y_i ← Y_-i).",
            high=1.0,
        )
    )
    peer_information: Float = field(
        metadata=_local(
            "nats",
            "more replaceable",
            "Information that the channel shares with all other channels of its layer together, "
            "I(Y_i; Y_-i) = -½ log(1 - E_i).",
        )
    )
    hull_size: Float = field(
        metadata=_local(
            "channels",
            "replaceable by many peers only",
            "Number of peers, chosen greedily and at most 10, that reach 95 % of what all peers "
            "predict of the channel.",
            high=10.0,
        )
    )
    hull_score: Float = field(
        metadata=_local(
            "share",
            "more replaceable by few peers",
            "Predictability per peer that it takes, E_i / max(1, hull_size).",
            high=1.0,
        )
    )
    task_information: Float = field(
        metadata=_target(
            "nats",
            "more task-relevant",
            "Information that the channel alone carries about the target, I_T(i) = I(Y_i; T).",
        )
    )
    target_excess: Float = field(
        metadata=_target(
            "nats",
            "more task-relevant beside its peers",
            "Information about the target that the channel and a close peer carry beyond the "
            "better of the two, the mean of the largest S_ij = I(T; Y_i, Y_j) - max(I_T(i), "
            "I_T(j)).",
        )
    )
    conditional_task_information: Float = field(
        metadata=_target(
            "nats",
            "less replaceable for the task",
            "Information about the target that the channel adds to what all its peers carry, "
            "I(T; Y_i | Y_-i).",
        )
    )
    task_redundancy: Float = field(
        metadata=_target(
            "nats",
            "more replaceable for the task",
            "Information about the target that a close peer carries as well, the mean over "
            "close peers of the MMI redundancy min(I_T(i), I_T(j)).",
        )
    )
    task_unique: Float = field(
        metadata=_target(
            "nats",
            "less replaceable for the task",
            "Information about the target that the channel has and a close peer has not, the "
            "mean over close peers of the MMI unique part I_T(i) - min(I_T(i), I_T(j)).",
        )
    )
    affected: Mapping[str, tuple[int, ...]]
    noise_power: float
    n: int | None
    hull: PeerHull | None = None

    def as_dict(self) -> dict[str, Float]:
        """Name -> array, in the order of `QUANTITIES`."""
        return {name: getattr(self, name) for name in QUANTITIES}


def declared_quantities(kind: type[ChannelAxes]) -> dict[str, Quantity]:
    """Name -> quantity, from the metadata of the fields."""
    return {f.name: Quantity(f.name, **f.metadata) for f in fields(kind) if f.metadata}


_QUANTITIES = declared_quantities(ChannelAxes)

QUANTITIES: tuple[str, ...] = tuple(_QUANTITIES)
LOCAL_AXIS: tuple[str, ...] = tuple(n for n, q in _QUANTITIES.items() if q.axis == "local")
TARGET_AXIS: tuple[str, ...] = tuple(n for n, q in _QUANTITIES.items() if q.axis == "target")


def quantities() -> dict[str, Quantity]:
    """Name -> what the quantity is: axis, unit, range, direction and one sentence.

    >>> quantities()["task_information"].axis
    'target'
    """
    return dict(_QUANTITIES)
