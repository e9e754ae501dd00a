"""What would go and what it would cost, for any number of units of each group, before pruning.

Each group's units stand in the order in which `task_replaceability` lets them go, with the nats by
which the prediction moves until then: the damage curves of `forecast`, which add up over groups to
second order, peers standing in for what went.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from empirical.pruning.allocation import floors
from empirical.pruning.calibration import Calibration
from empirical.pruning.channel_graph import ChannelGraph
from empirical.pruning.forecasting import Forecast
from theory.shared.validation import Float, instance, within

CRITERION = "task_replaceability"

FLOOR = 0.05
"""Share of its units that every group keeps, as in `prune`."""


@dataclass(frozen=True, eq=False)
class RemovalPlan:
    """Order and price of removal in every group.

    Attributes
    ----------
    graph : the groups, and what multiply-accumulates depend on
    order : group -> (units,) which unit goes first, second, ...
    loss : group -> (units,) nats by which the prediction has moved once that unit is gone
    least : group -> units that stay in any case
    law : damage, kl, kl_low, kl_high and agreement by rising damage, (rows, 5), as a forecast
        measured them; None without one
    """

    graph: ChannelGraph
    order: Mapping[str, NDArray[np.int64]]
    loss: Mapping[str, Float]
    least: Mapping[str, int]
    law: Float | None = None
    note: str = (
        "Channels go in the order in which the prediction misses them least, their peers standing "
        "in. The loss is foretold, to second order, from calibration images, in nats of the "
        "prediction; nothing was removed here. What is measured after removal and recovery is "
        "larger; a forecast measures by how much."
    )

    def outcome(self, gone: Mapping[str, int]) -> tuple[int, float]:
        """Multiply-accumulates that are left, and nats lost, with so many units of groups gone."""
        kept = [group.units - gone.get(group.name, 0) for group in self.graph.groups]
        lost = sum(float(self.loss[name][number - 1]) for name, number in gone.items() if number)
        return self.graph.macs(np.array(kept, dtype=np.int64)), lost

    def measured(self, damage: float) -> dict[str, float] | None:
        """Divergence `kl` with its interval and `agreement` that a forecast gives for a damage.

        Interpolated in the logarithm of the damage; below the smallest foretold one the divergence
        is in proportion. None without a forecast, and beyond the largest one.
        """
        if self.law is None or damage > self.law[-1, 0]:
            return None
        scale = min(1.0, damage / self.law[0, 0])
        at = max(damage, self.law[0, 0])
        row = [np.interp(np.log(at), np.log(self.law[:, 0]), own) for own in self.law.T[1:]]
        kl, low, high = (scale * float(value) for value in row[:3])
        agreement = 1 - scale * (1 - float(row[3]))
        return {"kl": kl, "kl_low": low, "kl_high": high, "agreement": agreement}

    def cheapest(self, number: int) -> dict[str, int]:
        """Units of each group among the `number` that cost least anywhere.

        Of equal ones that of the later group goes first.
        """
        names = [group.name for group in self.graph.groups]
        able = [group.units - self.least[group.name] for group in self.graph.groups]
        losses = np.concatenate([self.loss[n][:a] for n, a in zip(names, able, strict=True)])
        owners = np.repeat(np.arange(len(names)), able)
        first = owners[np.lexsort((-owners, losses))[:number]]
        found = np.bincount(first, minlength=len(names))
        return dict(zip(names, found.tolist(), strict=True))

    def at_share(self, share: float) -> dict[str, int]:
        """Units that go so that at most this share of the multiply-accumulates is left.

        As many as can, where the floors do not allow so few.
        """
        within("share", share, "[0, 1]")
        most = sum(group.units - self.least[group.name] for group in self.graph.groups)
        low, high = 0, most
        while low < high:
            middle = (low + high) // 2
            left = self.outcome(self.cheapest(middle))[0]
            low, high = (low, middle) if left <= share * self.graph.macs() else (middle + 1, high)
        return self.cheapest(low)


LAW = ("damage", "kl", "kl_low", "kl_high", "agreement")


def removal_plan(known: Calibration, *, forecast: Forecast | None = None) -> RemovalPlan:
    """Order and price of removal in every group of a calibrated network; nothing is removed.

    Parameters
    ----------
    known : network and images
    forecast : of the same network, so that damages become divergences with intervals

    Raises
    ------
    ValueError
        a model that does not trace, or of which no channel can go
    """
    instance("known", known, Calibration, "Pass Calibration(model, loader).")
    if not known.graph.groups:
        raise ValueError(
            "model has no channel that can go; kept whole: "
            f"{', '.join(known.graph.kept_whole) or 'every layer'}. Shorten skip, if it is that."
        )
    scores, curves = known.scores(CRITERION), known.damage_curves(CRITERION)
    least = floors(known.graph, FLOOR)
    return RemovalPlan(
        known.graph,
        {name: np.argsort(-own, kind="stable")[::-1] for name, own in scores.items()},
        {name: curve[::-1][1:] for name, curve in curves.items()},
        {group.name: int(number) for group, number in zip(known.graph.groups, least, strict=True)},
        None if forecast is None else _law(forecast),
    )


def _law(forecast: Forecast) -> Float | None:
    """Rows of the forecast with a damage, by rising damage; None where nothing was measured."""
    rows = forecast.table[list(LAW)].to_numpy(np.float64)
    rows = rows[np.isfinite(rows).all(1) & (rows[:, 0] > 0)]
    return np.unique(rows, axis=0) if len(rows) else None
