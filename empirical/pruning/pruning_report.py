"""What pruning took out, what is left, and what that was foretold to cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd
from torch import nn

from empirical.pruning.calibration import Calibration
from empirical.pruning.choosing import Request
from empirical.pruning.explanation import layer_errors, removed_units
from empirical.pruning.forecast_law import Answers
from empirical.pruning.removal import Kept
from theory.shared.validation import count


@dataclass(frozen=True)
class Verified:
    """What a network loses on held-out images: drop of accuracy, foretold and found.

    `drop_se` is the standard error of the paired difference over `images`; shares, not points.
    """

    images: int
    foretold: float
    drop: float
    drop_se: float
    agreement: float

    @classmethod
    def of(cls, dense: Answers, pruned: Answers, foretold: float) -> Verified:
        """Compare the answers of two networks on the same images."""
        assert dense.labels is not None
        before, after = (a.logits.argmax(1) for a in (dense, pruned))
        lost = (before == dense.labels).double() - (after == dense.labels).double()
        return cls(
            len(lost),
            foretold,
            float(lost.mean()),
            float(lost.std() / len(lost) ** 0.5),
            float((before == after).double().mean()),
        )


@dataclass(frozen=True)
class PruningReport:
    """What was asked, what went, and what is left.

    `recovered_outside`: group -> share of the removed units' variance, over all of them, that the
    kept ones will supply on images other than the calibration's; empty unless the recovery merges.
    `requested` is a share of `resource` ("macs", "parameters" or "latency"), `reached` the share
    of it that is kept: by the chosen counts, of time as measured in turns with the dense network,
    which is `measured_time` then. `verified` says what is lost on held-out images, where
    `accuracy_drop` was asked for.
    """

    criterion: str
    allocation: str
    recovery: str
    path: str
    requested: float | None
    macs_before: int
    macs_after: int
    parameters_before: int
    parameters_after: int
    channels: Mapping[str, tuple[int, int]]
    kept_whole: Mapping[str, str]
    seconds: float
    recovered_outside: Mapping[str, float]
    resource: str
    reached: float
    verified: Verified | None = None
    measured_time: float | None = None

    @property
    def macs_share(self) -> float:
        """Share of the multiply-accumulates that is left."""
        return self.macs_after / self.macs_before

    @property
    def deviation(self) -> float:
        """(share reached - share requested) / share requested; 0 where counts were given."""
        return 0.0 if self.requested is None else self.reached / self.requested - 1.0

    def to_frame(self) -> pd.DataFrame:
        """One row per channel group: layer, channels before and after, recovered outside."""
        rows = [
            (name, before, after, self.recovered_outside.get(name, math.nan))
            for name, (before, after) in self.channels.items()
        ]
        return pd.DataFrame(rows, columns=["layer", "before", "after", "recovered_outside"])

    def __str__(self) -> str:
        asked = ""
        if self.requested is not None and self.measured_time is None:
            asked = (
                f"{self.resource}: {self.reached:.2%} of {self.requested:.2%} requested "
                f"(off by {self.deviation:+.2%})"
            )
        lines = [
            f"criterion {self.criterion}, allocation {self.allocation}, recovery {self.recovery}",
            *([asked] if asked else []),
            f"multiply-accumulates {self.macs_before:,} -> {self.macs_after:,} "
            f"({self.macs_share:.2%})",
            f"parameters {self.parameters_before:,} -> {self.parameters_after:,}",
        ]
        if self.measured_time is not None:
            asked = "" if self.requested is None else f" ({self.requested:.1%} requested)"
            lines.append(
                f"time, measured in turns with the dense network: {self.measured_time:.1%}{asked}"
            )
        if self.verified is not None:
            found = self.verified
            lines.append(
                f"on {found.images} held-out images {100 * found.drop:.1f} ± "
                f"{100 * found.drop_se:.1f} points below dense ({100 * found.foretold:.1f} "
                f"foretold), {found.agreement:.1%} of the predictions the same"
            )
        for name, (before, after) in self.channels.items():
            share = self.recovered_outside.get(name)
            foretold = "" if share is None else f", {share:.1%} of what went recovered elsewhere"
            lines.append(f"  {name}: {before} -> {after}{foretold}")
        lines += [f"  {name}: kept whole, {why}" for name, why in self.kept_whole.items()]
        return "\n".join(lines)


@dataclass(frozen=True)
class PrunedModel:
    """A pruned network, the report, and the units that stayed (group name -> indices).

    `known` and `request` are what it was made from, for `removed` and `layers`.
    """

    model: nn.Module
    report: PruningReport
    kept: Kept
    known: Calibration = field(repr=False)
    request: Request = field(repr=False)

    def removed(self, *, stand_ins: int = 3) -> pd.DataFrame:
        """What went and why: one row per removed unit; see `removed_units`."""
        return removed_units(
            self.known,
            self.kept,
            self.request.criterion,
            seed=self.request.seed,
            stand_ins=count("stand_ins", stand_ins),
        )

    def layers(self) -> pd.DataFrame:
        """Every group's predicted and realized error, in nats; see `layer_errors`."""
        request = self.request
        return layer_errors(self.known, self.kept, self.model, request.criterion, seed=request.seed)
