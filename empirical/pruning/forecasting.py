"""What pruning will cost, known before it is done: loss, agreement and accuracy by share kept.

Per share, the allocation says how many units of each layer go, and their damage curves by how many
nats that moves the prediction, D = Σ_g F_g(k_g): second order, peers standing in, layers, taps and
positions taken one by one. What it leaves out (errors that add up through layers and positions,
regressions that fit other images less well) makes the divergence that is measured afterwards larger
by a factor that hardly depends on the share. It is measured at two shares on held-out images, with
the recovery in use, and interpolated in log D. Divergence becomes agreement and accuracy by the
images' margins (`margins`); the noise is widened by what the agreement at the measured shares asks
for beyond it, and the drop of accuracy scaled where the measured drops differ clearly from those so
foretold.

The interval of a divergence takes the factor as unknown by as much as it changes from the nearest
measured share on, and adds sampling error.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import nn

from empirical.devices import undisturbed
from empirical.pruning.allocation import amount
from empirical.pruning.best_practice import best_allocation, best_criterion
from empirical.pruning.calibration import Calibration, calibrated
from empirical.pruning.choosing import Request, counts_of, verified
from empirical.pruning.criterion import Score, criterion_of
from empirical.pruning.damage_allocation import total_damage
from empirical.pruning.forecast_law import Answers, Law
from empirical.pruning.onnx_times import OnnxTimes
from empirical.pruning.recovering import apply, best_recovery, check_recovery
from empirical.pruning.recovery import AUTO, RECOVERIES
from empirical.reading.networks import Adapter
from theory.shared.validation import instance, one_of, positive

Float = NDArray[np.float64]

SHARES = (0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)
"""Of the resource, that are foretold."""

MEASURED = (0.8, 0.4)
"""Shares at which the factor is measured."""


@dataclass(frozen=True, eq=False)
class Forecast:
    """What pruning to each share of a resource will cost, with 95 % intervals.

    Attributes
    ----------
    criterion, allocation, recovery, resource : as asked
    images : held-out calibration images that it is foretold for
    dense_accuracy : of the network as it is, on them; NaN where labels are no class numbers
    table : one row per share: `share` of the resource, `damage` (nats, second order), `kl` (nats),
        `agreement` with the dense network's predictions, `accuracy`, `drop` of accuracy, and the
        ends of their intervals `<name>_low`, `<name>_high` (NaN where nothing was measured)
    layers : one row per layer and number of channels `kept`: `damage` (nats), nothing else pruned
    measured : one row per share that was measured: `share`, `damage`, `kl`, `kl_se`, `agreement`,
        `accuracy`
    """

    criterion: str
    allocation: str
    recovery: str
    resource: str
    images: int
    dense_accuracy: float
    table: pd.DataFrame
    layers: pd.DataFrame
    measured: pd.DataFrame

    def least_share(self, drop: float) -> float:
        """Least share whose foretold drop of accuracy is at most `drop`, interpolated; 1 if none.

        >>> rows = pd.DataFrame({"share": [1.0, 0.5, 0.25], "drop": [0.0, 0.01, 0.05]})
        >>> table = Forecast("", "", "", "", 0, 1.0, rows, rows, rows)
        >>> table.least_share(0.03)
        0.375
        """
        rows = self.table.sort_values("share", ascending=False)
        drops = np.maximum.accumulate(rows["drop"].to_numpy(float))
        if drops[-1] <= drop:
            return float(rows["share"].iloc[-1])
        first = int(np.argmax(drops > drop))
        if first == 0:
            return 1.0
        (a, b), (x, y) = drops[first - 1 : first + 1], rows["share"].iloc[first - 1 : first + 1]
        return float(x + (y - x) * (drop - a) / (b - a))

    def drop_at(self, share: float) -> float:
        """Foretold drop of accuracy at a share, interpolated."""
        rows = self.table.sort_values("share")
        return float(np.interp(share, rows["share"], rows["drop"]))

    def __str__(self) -> str:
        lines = [
            f"criterion {self.criterion}, allocation {self.allocation}, recovery {self.recovery}; "
            f"foretold for {self.images} held-out calibration images, dense "
            f"{self.dense_accuracy:.1%}",
            f"{'share of ' + self.resource:>19}  {'KL (nats)':>24}  {'agreement':>21}  accuracy",
        ]
        for row in self.table.itertuples():
            lines.append(
                f"{row.share:19.2f}  {row.kl:7.4f} [{row.kl_low:6.4f}, {row.kl_high:6.4f}]  "
                f"{row.agreement:5.1%} [{row.agreement_low:5.1%}, {row.agreement_high:5.1%}]  "
                f"{row.accuracy:5.1%} [{row.accuracy_low:5.1%}, {row.accuracy_high:5.1%}]"
            )
        return "\n".join(lines)


@undisturbed()
def forecast(
    model: nn.Module,
    loader: Iterable[object] | Calibration,
    *,
    shares: Sequence[float] = SHARES,
    measured: Sequence[float] = MEASURED,
    resource: str = "macs",
    criterion: str | Score = AUTO,
    allocation: str = AUTO,
    recovery: str = AUTO,
    floor: float = 0.05,
    round_to: int = 1,
    seed: int = 0,
    skip: Sequence[str] = (),
    adapt: Adapter | None = None,
) -> Forecast:
    """Foretell what pruning `model` to each of `shares` will cost; the model is left as it is.

    Parameters
    ----------
    model, loader, criterion, allocation, recovery, floor, round_to, seed, skip, adapt : as of
        `prune`. Every fifth calibration image is held out and the forecast is for these; what is
        "auto" is chosen without them, so that `prune`, which sees all images, may choose otherwise:
        pass it what the forecast names. Where the network was trained on them, its accuracy there,
        and what it loses, are those of training images.
    shares : of the resource; those below what the floors allow are left out.
    measured : shares that are pruned, recovered and measured on the held-out images, seconds each;
        the least possible share in place of those below it, and 1 is left out. Without any, or
        where all cost nothing, `kl` is `damage` as it is, and there are no intervals.
    resource : "macs", "parameters" or "latency".

    Raises
    ------
    ValueError
        unknown names, floors that let nothing go, fewer than five images
    """
    one_of("recovery", recovery, (AUTO, *RECOVERIES))
    for name, given in (("shares", shares), ("measured", measured)):
        instance(name, given, (list, tuple), "Pass shares, as (0.8, 0.4).")
        for share in given:
            if not 0 < positive(name, share, zero=True) <= 1:
                raise ValueError(f"{name} must lie above 0 and at most at 1; got {share!r}.")
    known = calibrated(model, loader, skip=skip, adapt=adapt)
    if resource == "latency" and isinstance(known.times, OnnxTimes):
        raise ValueError(
            "resource='latency' cannot be foretold by OnnxTimes, which only times whole networks. "
            "Foretell 'macs', or set known.times to MeasuredTimes."
        )
    criterion = best_criterion(known, criterion)
    fitted, held = known.held_out()
    if recovery != AUTO:
        check_recovery(fitted, recovery)
    if allocation == AUTO:
        allocation = best_allocation(fitted, criterion, recovery, seed=seed)
    request = Request(
        1.0, criterion, allocation, resource=resource, floor=floor, round_to=round_to, seed=seed
    )
    return foretold(fitted, held, request, recovery, shares, measured)


def foretold(
    known: Calibration,
    held: Iterable[object],
    request: Request,
    recovery: str,
    shares: Sequence[float] = SHARES,
    measured: Sequence[float] = MEASURED,
) -> Forecast:
    """The forecast for images `held` of what is fitted on those of `known`; as of `forecast`."""
    dense = Answers.of_dense(known.model, held)
    if not dense.classes:
        raise ValueError(
            "model must return logits (n, classes) of at least 2 classes to be foretold; it "
            f"returned shape {tuple(dense.logits.shape)}. Pass a share of macs to prune instead."
        )

    def pruned_to(share: float) -> tuple[dict[str, float], str]:
        asked = replace(request, share=share)
        fitted, kept = verified(known, asked.kept)
        taken = best_recovery(fitted, kept) if recovery == AUTO else recovery
        found = Answers.of(apply(fitted, kept, taken), held)
        damage = total_damage(asked.curves(fitted), counts_of(fitted, kept))
        return {"share": share, "damage": damage} | dense.against(found), taken

    budget, curves = known.budget(request.resource), request.curves(known)
    lowest = amount(budget, request.least(known)) / amount(budget)
    reachable = {max(s, lowest) if lowest < 1 else s for s in measured if s < 1}
    found = [pruned_to(share) for share in sorted(reachable, reverse=True)]
    possible = sorted((s for s in shares if lowest <= s < 1), reverse=True)
    damage = [
        total_damage(curves, replace(request, share=share).counted(known)) for share in possible
    ]
    columns = ["share", "damage", "kl", "kl_se", "agreement", "accuracy"]
    rows = pd.DataFrame([row for row, _ in found], columns=columns)
    law = Law.of(rows, dense)
    return Forecast(
        criterion_of(request.criterion).name,
        request.allocation,
        " or ".join(sorted({name for _, name in found} or {recovery})),
        request.resource,
        len(dense.logits),
        dense.accuracy,
        law.table([1.0, *possible], [0.0, *damage]),
        _by_layer([group.name for group in known.graph.groups], curves),
        rows,
    )


def _by_layer(names: Sequence[str], curves: Sequence[Float]) -> pd.DataFrame:
    parts = [
        pd.DataFrame({"layer": name, "kept": np.arange(len(curve)), "damage": curve})
        for name, curve in zip(names, curves, strict=True)
    ]
    return pd.concat(parts, ignore_index=True)
