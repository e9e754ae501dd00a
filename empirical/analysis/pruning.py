"""What a factorial of pruning says: areas, paired differences, axis against axis, agreement.

One value enters per trained network: draws of a random criterion are averaged within it, and
intervals are Student's over networks that differ in their training seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
import pandas as pd
from scipy import stats

from empirical.analysis.missing import NoDataError
from empirical.analysis.seeds import LEAST, mean_difference
from empirical.analysis.statistics import LEVEL, holm
from empirical.pruning.criteria import REGISTRY
from theory import spearman

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

SETTING = ["network", "allocation", "recovery"]
CELL = ["network", "seed", "allocation", "recovery", "criterion"]


def areas(rows: pd.DataFrame, cell: Sequence[str] = CELL, *, share: str = "share") -> pd.DataFrame:
    """Mean accuracy over all shares, one row per network and arm.

    By the trapezoid rule over the shares that the network went through, divided by their span, so
    that an area is a mean accuracy; with one share it is the accuracy there. An arm that lacks a
    share has no row, and `missing_cells` names it: on fewer shares it would be another quantity.

    Parameters
    ----------
    rows : of the comparison: the columns of `cell`, a share, and accuracy.
    cell : the columns that tell curves apart.
    share : the column of the shares.
    """
    found = []
    for curves in _networks(_curves(rows, cell, share), cell):
        x, y = curves.columns.to_numpy(dtype=float), curves.to_numpy()
        area = y[:, 0] if len(x) == 1 else np.trapezoid(y, x, axis=1) / (x[-1] - x[0])
        found.append(pd.Series(area, index=curves.index, name="area"))
    return pd.concat(found).dropna().reset_index()


def missing_cells(
    rows: pd.DataFrame, cell: Sequence[str] = CELL, *, share: str = "share"
) -> pd.DataFrame:
    """Cells without an accuracy, a row each: the columns of `cell`, and the share.

    A network ought to have all of its shares for all of its seeds in every arm that it has at all.
    """
    arms = pd.DataFrame(_curves(rows, cell, share).unstack("seed"))
    found = []
    for wide in _networks(arms, cell):
        lost = wide.isna().stack([share, "seed"], future_stack=True)
        found.append(lost.index[lost.to_numpy(dtype=bool)].to_frame(index=False))
    return pd.concat(found, ignore_index=True)[[*cell, share]]


def _networks(table: pd.DataFrame, cell: Sequence[str]) -> Iterator[pd.DataFrame]:
    """The rows of each network, with the columns that it has any value of."""
    if "network" not in cell:
        yield table.dropna(axis=1, how="all")
        return
    for _, rows in table.groupby("network", sort=False):
        yield rows.dropna(axis=1, how="all")


def _curves(rows: pd.DataFrame, cell: Sequence[str], share: str) -> pd.DataFrame:
    """Accuracy by arm (rows) and share (columns); draws of a random criterion averaged.

    A draw that is missing makes its share missing.
    """
    pruned = rows[rows["criterion"] != "dense"]
    if pruned["accuracy"].isna().all():
        raise NoDataError(
            "rows of the comparison have no accuracy of a pruned network. Let the run finish."
        )
    names = [*cell, share]
    return pd.DataFrame(_means(pruned, names).unstack(share)).sort_index(axis=1)


def _means(rows: pd.DataFrame, names: Sequence[str], value: str = "accuracy") -> pd.Series:
    """Mean of `value` per combination of `names`, in order of appearance; of NaN it is NaN."""
    grouped = rows.groupby(list(names), sort=False)[value]
    means: pd.Series = grouped.sum() / grouped.size()
    return means.where(grouped.count() == grouped.size())


def against_reference(table: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Area of every criterion minus that of `reference`, paired by seed, with t-intervals."""
    wide = table.pivot(index="seed", columns="criterion", values="area")
    rows = []
    for criterion in dict.fromkeys(table["criterion"]):
        compared = {"criterion": criterion, "area": wide[criterion].mean(), "minus": reference}
        compared |= mean_difference(wide[criterion] - wide[reference])
        if criterion == reference:
            compared |= {"low": 0.0, "high": 0.0}  # by definition, with one seed as well
        rows.append(compared)
    return pd.DataFrame(rows)


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
    rows = [
        {"network": network, "one": str(one), "other": str(other)} | mean_difference(values)
        for network, values in difference.groupby("network")
    ]
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
    """Mean area of the local axis' criteria minus that of the target axis', per setting (C5).

    A row per architecture, allocation and recovery, with the interval over seeds, p, and Holm's p
    over all settings. A seed that lacks a criterion which others have is left out.
    """
    wide = _by_axis(table, axes)
    rows = []
    for key, group in wide.groupby(SETTING):
        means = {"local": group["local"].mean(), "target": group["target"].mean()}
        compared = mean_difference(group["local"] - group["target"])
        rows.append(dict(zip(SETTING, key, strict=True)) | means | compared)
    found = pd.DataFrame(rows)
    return found.assign(p_holm=holm(found["p"].to_numpy())) if rows else found


def axis_verdicts(table: pd.DataFrame, axes: Mapping[str, Sequence[str]] = AXES) -> pd.DataFrame:
    """Local minus target axis, one row per architecture and one over all ("all").

    A trained network counts once, by its mean over settings: settings share networks. Over all, the
    mean of the architectures with the spread of seeds within each (Welch and Satterthwaite): a
    statement about these architectures.
    """
    wide = _by_axis(table, axes)
    difference = (wide["local"] - wide["target"]).unstack(SETTING[1:])
    each = {
        name: values.dropna(axis=1, how="all").dropna().mean(axis=1)
        for name, values in difference.groupby("network")
    }
    rows = [
        {"network": network, **mean_difference(values.to_numpy())}
        for network, values in each.items()
    ]
    if len(each) > 1:
        enough = all(len(values) >= LEAST for values in each.values())
        mean = float(np.mean([values.mean() for values in each.values()]))
        parts = np.array([np.var(v, ddof=1) / len(v) if enough else np.nan for v in each.values()])
        freedom = np.array([len(values) - 1 for values in each.values()])
        df = parts.sum() ** 2 / (parts**2 / freedom).sum() if parts.sum() > 0 else freedom.sum()
        half = stats.t.ppf((1 + LEVEL) / 2, df) * np.sqrt(parts.sum()) / len(each)
        ends = {"difference": mean, "low": mean - half, "high": mean + half}
        rows.append({"network": "all", **ends, "seeds": sum(map(len, each.values()))})
    return pd.DataFrame(rows, columns=["network", "difference", "low", "high", "seeds"])


def _by_axis(table: pd.DataFrame, axes: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Mean area per setting and seed (rows) of either axis (columns); only where both are whole.

    A setting counts as whole with the criteria that any seed of it has.
    """
    named = {name: axis for axis, names in axes.items() for name in names}
    chosen = table.assign(axis=table["criterion"].map(named)).dropna(subset=["axis"])
    names = [*SETTING, "axis", "criterion"]
    by_seed = pd.DataFrame(chosen.set_index([*names, "seed"])["area"].unstack("seed"))
    every = by_seed.reset_index().melt(names, value_name="area")
    wide = pd.DataFrame(_means(every, [*SETTING, "seed", "axis"], "area").unstack("axis"))
    return wide.reindex(columns=pd.Index(["local", "target"])).dropna()


def rank_stability(table: pd.DataFrame) -> pd.DataFrame:
    """Spearman of the criteria's ranking between networks, per recovery and allocation (C7)."""
    rows = []
    for (recovery, allocation), group in table.groupby(["recovery", "allocation"], sort=False):
        wide = group.pivot_table(index="criterion", columns="network", values="area").dropna()
        for one, other in combinations(wide.columns, 2):
            rows.append(
                {
                    "recovery": recovery, "allocation": allocation, "one": one, "other": other,
                    "spearman": float(spearman(wide[one], wide[other])), "criteria": len(wide),
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
    return mean_of([pd.DataFrame(members).corr("spearman") for members in groups.values()])


def mean_of(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Entry by entry, the mean of square tables with names; over those that have the entry."""
    return pd.concat(tables).groupby(level=0, sort=False).mean()


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
        table["latency_share"] = pruned.groupby(keys)["latency_share"].mean()
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
