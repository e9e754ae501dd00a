"""What a factorial of pruning says: areas, paired differences, axis against axis, agreement.

One value enters per trained network: draws of a random criterion are averaged within it, and
intervals are Student's over networks that differ in their training seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
import pandas as pd
from scipy import stats

from empirical.analysis.couplings import t_interval
from empirical.pruning.criteria import REGISTRY
from theory.shared.findings import Finding

AXES: Mapping[str, tuple[str, ...]] = {
    "local": ("-peer_predictability", "-peer_overlap", "input_capture", "conditional_power"),
    "target": ("task_information", "target_excess", "conditional_task_information"),
}
"""The criteria that stand for each axis, in the direction its claim names, fixed beforehand."""

OURS = ("replaceability", "task_replaceability")
FAMILY = (*OURS, "replaceability_at_once", "outgoing_power")
"""The selectors of our own, and with the variants that show what their parts are worth."""
COMPENSATED = ("compensate", "reconstruct")
"""The recoveries in which peers stand in for what went."""

CELL = ["network", "seed", "allocation", "recovery", "criterion"]


def areas(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy over the common support of shares, one row per network and arm.

    By the trapezoid rule over the shares that all arms have in common, divided by their span, so
    that an area is a mean accuracy; with one common share it is the accuracy there.
    """
    pruned = rows[rows["criterion"] != "dense"].dropna(subset=["accuracy"])
    means = pruned.groupby([*CELL, "share"], as_index=False, sort=False)["accuracy"].mean()
    common = set.intersection(*(set(g) for _, g in means.groupby(CELL)["share"]))
    if not common:
        raise ValueError(
            "rows of the comparison have no share in common. Let the run finish, or select arms "
            "that went through the same shares."
        )
    means = means[means["share"].isin(common)]
    found = [
        {**dict(zip(CELL, key, strict=True)), "area": _area(group)}
        for key, group in means.groupby(CELL, sort=False)
    ]
    return pd.DataFrame(found)


def _area(group: pd.DataFrame) -> float:
    points = group.sort_values("share")
    x, y = points["share"].to_numpy(), points["accuracy"].to_numpy()
    return float(y[0]) if len(x) == 1 else float(np.trapezoid(y, x) / (x[-1] - x[0]))


@dataclass(frozen=True)
class Arm:
    """One way of pruning: any of the three may be None, and is then averaged over."""

    criterion: str
    recovery: str | None = None
    allocation: str | None = None

    def of(self, table: pd.DataFrame, value: str) -> pd.Series:
        """Mean of `value` per (network, seed) over the rows of this arm."""
        chosen = table[table["criterion"] == self.criterion]
        for name in ("recovery", "allocation"):
            wanted = getattr(self, name)
            chosen = chosen if wanted is None else chosen[chosen[name] == wanted]
        return chosen.groupby(["network", "seed"])[value].mean()

    def __str__(self) -> str:
        return ", ".join(filter(None, (self.criterion, self.recovery, self.allocation)))


def paired(table: pd.DataFrame, one: Arm, other: Arm, value: str = "area") -> pd.DataFrame:
    """`one` minus `other`, paired by trained network: a row per architecture, with interval."""
    difference = (one.of(table, value) - other.of(table, value)).dropna()
    rows = []
    for network, values in difference.groupby("network", sort=False):
        low, high = t_interval(values.to_numpy())
        rows.append(
            {
                "network": network, "one": str(one), "other": str(other),
                "difference": values.mean(), "low": low, "high": high, "seeds": len(values),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def best_arm(
    table: pd.DataFrame, criteria: Sequence[str], recovery: str, value: str = "area"
) -> Arm:
    """The criterion of `criteria` with the highest mean under `recovery`, over all networks.

    Chosen on the same accuracies that it is then compared on: the comparison favours it.
    """
    chosen = table[(table["recovery"] == recovery) & table["criterion"].isin(criteria)]
    return Arm(str(chosen.groupby("criterion")[value].mean().idxmax()), recovery)


def axis_against_axis(
    table: pd.DataFrame, axes: Mapping[str, Sequence[str]] = AXES
) -> pd.DataFrame:
    """Mean area of the local axis' criteria minus that of the target axis', per setting.

    A row per architecture, allocation and recovery, with the interval over seeds (claim C5).
    """
    named = {name: axis for axis, names in axes.items() for name in names}
    chosen = table.assign(axis=table["criterion"].map(named)).dropna(subset=["axis"])
    keys = ["network", "allocation", "recovery", "seed"]
    wide = chosen.groupby([*keys, "axis"], sort=False)["area"].mean().unstack("axis")
    rows = []
    for key, group in wide.groupby(keys[:3], sort=False):
        difference = (group["local"] - group["target"]).to_numpy()
        low, high = t_interval(difference)
        rows.append(
            {
                **dict(zip(keys[:3], key, strict=True)),
                "local": group["local"].mean(), "target": group["target"].mean(),
                "difference": difference.mean(), "low": low, "high": high,
                "seeds": len(difference),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def rank_stability(table: pd.DataFrame) -> pd.DataFrame:
    """Spearman of the criteria's ranking between networks, per recovery and allocation (C7)."""
    rows = []
    for (recovery, allocation), group in table.groupby(["recovery", "allocation"], sort=False):
        wide = group.pivot_table(index="criterion", columns="network", values="area").dropna()
        for one, other in combinations(wide.columns, 2):
            rho = stats.spearmanr(wide[one], wide[other]).statistic if len(wide) > 2 else np.nan
            rows.append(
                {
                    "recovery": recovery, "allocation": allocation, "one": one, "other": other,
                    "spearman": float(rho), "criteria": len(wide),
                    "best_of_one": wide[one].idxmax(), "best_of_other": wide[other].idxmax(),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def agreement(scores: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Spearman between criteria's scores within a group, averaged over groups; a square table.

    `scores` is what `run_factorial` saved: "criterion|group" -> (units,).
    """
    groups: dict[str, dict[str, np.ndarray]] = {}
    for key, value in scores.items():
        criterion, _, group = key.partition("|")
        groups.setdefault(group, {})[criterion] = value
    names = list(dict.fromkeys(key.partition("|")[0] for key in scores))
    tables = []
    for members in groups.values():
        ranks = pd.DataFrame({name: members[name] for name in names if name in members}).rank()
        tables.append(ranks.corr().reindex(index=names, columns=names).to_numpy())
    counted = np.sum([~np.isnan(t) for t in tables], axis=0)
    total = np.nansum(tables, axis=0)
    mean = np.divide(total, counted, out=np.full_like(total, np.nan), where=counted > 0)
    return pd.DataFrame(mean, index=names, columns=names)


def mean_accuracy(rows: pd.DataFrame) -> pd.DataFrame:
    """Accuracy per network, setting and share: mean and standard deviation over seeds.

    With the mean share of the dense network's latency, where it was measured.
    """
    pruned = rows.dropna(subset=["accuracy"])
    keys = ["network", "allocation", "recovery", "criterion", "share"]
    by_seed = pruned.groupby([*keys, "seed"], sort=False)["accuracy"].mean()
    grouped = by_seed.groupby(keys, sort=False)
    table = grouped.agg(accuracy="mean", sd="std", seeds="size")
    if "latency_share" in pruned:
        table["latency_share"] = pruned.groupby(keys, sort=False)["latency_share"].mean()
    return table.reset_index()


def headline(
    rows: pd.DataFrame, *, share: float = 0.5, compensated: Sequence[str] = COMPENSATED
) -> pd.DataFrame:
    """Our selectors with compensation against the best of the others, at one share.

    For every allocation and compensating recovery: against the best criterion of the libraries
    (weights and gradients) with batch norms recalibrated, and against the best selector outside
    `FAMILY` with the same compensation. The best is found per network, on the reported accuracies.
    """
    here = rows[np.isclose(rows["share"], share)].dropna(subset=["accuracy"])
    others = [n for n in dict.fromkeys(here["criterion"]) if n in REGISTRY and n not in FAMILY]
    library = [name for name in others if REGISTRY[name].axis in ("weights", "gradients")]
    found = []
    for (network, allocation), cell in here.groupby(["network", "allocation"], sort=False):
        for ours, recovery in product(OURS, compensated):
            one = Arm(ours, recovery)
            for against, names, theirs in (
                ("library criterion", library, "recalibrate"),
                ("other selector", others, recovery),
            ):
                there = cell[(cell["recovery"] == theirs) & cell["criterion"].isin(names)]
                if there.empty or one.of(cell, "accuracy").empty:
                    continue
                best = best_arm(cell, names, theirs, "accuracy")
                row = paired(cell, one, best, "accuracy").iloc[0].to_dict()
                accuracy = float(one.of(cell, "accuracy").mean())
                row |= {"network": network, "allocation": allocation, "against": against}
                found.append({**row, "share": share, "accuracy": accuracy})
    return pd.DataFrame(found)


def headline_findings(table: pd.DataFrame) -> list[Finding]:
    """Sentences on what `headline` found, in points of accuracy."""
    return [
        Finding(
            "{network} at {share:.0%} of the multiply-accumulates, {allocation} allocation: "
            "{one} reaches {accuracy:.1%}; minus the best {against}, {other}: "
            f"{{points:+.1f}} points {_interval(row)}over {{seeds}} seeds.",
            {
                **row.to_dict(),
                "points": 100 * row["difference"],
                "low": 100 * row["low"],
                "high": 100 * row["high"],
            },
        )
        for _, row in table.iterrows()
    ]


def _interval(row: pd.Series) -> str:
    return "" if np.isnan(row["low"]) else "[{low:+.1f}, {high:+.1f}] "


def findings(table: pd.DataFrame) -> list[Finding]:
    """Sentences on C5 and C7, worded from the intervals, whichever way they point."""
    found = [_axis_finding(row) for _, row in axis_against_axis(table).iterrows()]
    stability = rank_stability(table)
    for _, row in stability.iterrows():
        found.append(
            Finding(
                "With recovery {recovery} and {allocation} allocation, {one} and {other} rank "
                "{criteria} criteria with Spearman {spearman:+.2f}; the best is {best_of_one} on "
                "the first and {best_of_other} on the second.",
                row.to_dict(),
            )
        )
    return found


def _axis_finding(row: pd.Series) -> Finding:
    if np.isnan(row["low"]):
        verdict = "one seed gives no interval, so this decides nothing"
    elif row["low"] > 0:
        verdict = "the local axis says better what can go, as the claim has it"
    elif row["high"] < 0:
        verdict = "the target axis says better what can go, against the claim"
    else:
        verdict = "the interval holds zero, so neither axis is shown to be better"
    return Finding(
        "{network}, {allocation} allocation, recovery {recovery}: mean accuracy {local:.3f} by the "
        "local axis and {target:.3f} by the target axis, difference {difference:+.3f} "
        f"[{{low:+.3f}}, {{high:+.3f}}] over {{seeds}} seeds; {verdict}.",
        row.to_dict(),
    )
