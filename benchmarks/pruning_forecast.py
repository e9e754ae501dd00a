r"""What `forecast` foretells against what pruning then costs; last line JSON.

    python benchmarks/pruning_forecast.py --data FOLDER --networks FOLDER \
        [--device cuda] [--workers N] [--minutes M] [--out FOLDER]

*Foretold*: divergence, agreement and accuracy at 70, 50 and 30 % of the multiply-accumulates,
against those of the networks pruned to them and refitted, on test images. *Ranked*: structures of
half of the multiply-accumulates, drawn at random, by the summed damage of `task_replaceability`
(nothing pruned, and with one measurement a layer), by `compare_structures` (divergence on every
other image after refitting on the others), and by EagleEye (arXiv:2007.02491: accuracy after
adaptive batch norms), against accuracy after refitting; the channels that stay are the same.
Networks and images are those of `pruning_subjects.py`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pruning_subjects import Cell, Place, Subject, Unit, Which, all_networks, arguments, at_work
from pruning_subjects import spread as half_interval
from scipy.stats import spearmanr

sys.path.insert(0, str(Path(__file__).parent.parent))

from empirical import compare_structures, forecast, prune
from empirical.pruning.calibration import Calibration
from empirical.pruning.choosing import Request
from empirical.pruning.damage_allocation import total_damage
from empirical.pruning.forecast_law import Answers
from theory.shared.files import write_table

SHARES = (0.7, 0.5, 0.3)
CRITERION = "task_replaceability"
CURVES = ("damage", "measured_damage")
"""What structures are ranked by: summed curves, as foretold and as measured a layer."""
OURS = (*CURVES, "divergence")
"""And by what is measured of each; lower is better."""
RANKED, TOGETHER = 16, 4
"""Structures per network, and how many one process takes at once."""

QUANTITIES = ("kl", "agreement", "drop")


def units(networks: Sequence[Which]) -> Iterator[Unit]:
    """Forecasts first."""
    for which in networks:
        yield Unit(which, ({"what": "foretold", "number": 0},))
    for turn, start in enumerate(range(0, RANKED, TOGETHER), 1):
        for which in networks:
            numbers = range(start, start + TOGETHER)
            yield Unit(which, tuple({"what": "ranked", "number": n} for n in numbers), turn)


def computed(subject: Subject, cell: Cell) -> dict[str, Any]:
    """One cell of either kind."""
    return ranked(subject, cell["number"]) if cell["what"] == "ranked" else foretold(subject)


def foretold(subject: Subject) -> dict[str, Any]:
    """Rows of foretold values, with the ends of their intervals, and what was found."""
    known = subject.known
    told = forecast(known.model, known, shares=SHARES, recovery="reconstruct")
    how = {"criterion": told.criterion, "allocation": told.allocation, "recovery": "reconstruct"}
    rows = []
    for share in SHARES:
        made = prune(known.model, known, macs=share, **how)
        found = subject.dense.against(Answers.of(made.model, subject.test))
        found["drop"] = subject.dense.accuracy - found["accuracy"]
        row = told.table.iloc[(told.table["share"] - share).abs().argmin()]
        line = {"share": share, "damage": float(row["damage"])}
        for name in QUANTITIES:
            line |= {name: float(row[name]), f"{name}_found": found[name]}
            line |= {f"{name}_{end}": float(row[f"{name}_{end}"]) for end in ("low", "high")}
        rows.append(line)
    return {"rows": rows, "dense": subject.dense.accuracy, "allocation": told.allocation}


def ranked(subject: Subject, number: int) -> dict[str, Any]:
    """What each ranking says of one structure, and its accuracy after refitting."""
    known = subject.known
    kept = drawn(known, 0.5, number)
    counts = {g.name: int(n) for g, n in zip(known.graph.groups, kept, strict=True)}
    told = {how: Request(0.5, CRITERION, how).curves(known) for how in CURVES}
    asked = {"criterion": CRITERION, "counts": counts}
    adapted = prune(known.model, known, recovery="recalibrate", **asked)
    refitted = prune(known.model, known, recovery="reconstruct", **asked)
    found = subject.dense.against(Answers.of(refitted.model, subject.test))
    compared = compare_structures(known.model, known, [counts], criterion=CRITERION)
    return {how: total_damage(curves, kept) for how, curves in told.items()} | {
        "divergence": float(compared["kl"][0]),
        "macs": refitted.report.macs_share,
        "eagleeye": Answers.of(adapted.model, known.batches()).accuracy,
        "accuracy": found["accuracy"], "kl": found["kl"],
    }  # fmt: skip


def drawn(known: Calibration, share: float, number: int) -> np.ndarray:
    """Units that each group keeps, (groups,): log-uniform shares, scaled to the budget."""
    sizes = np.array([group.units for group in known.graph.groups])
    relative = np.exp(np.random.default_rng(number).uniform(np.log(0.2), 0.0, len(sizes)))
    low, high = np.log(0.01), np.log(20.0)
    for _ in range(40):
        middle = (low + high) / 2
        kept = np.clip(np.rint(sizes * relative * np.exp(middle)), np.ceil(0.1 * sizes), sizes)
        more = known.graph.macs(kept.astype(int)) > share * known.graph.macs()
        low, high = (low, middle) if more else (middle, high)
    kept = np.clip(np.rint(sizes * relative * np.exp(low)), np.ceil(0.1 * sizes), sizes)
    return kept.astype(np.int64)


def forecasts(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """One row per network and share: foretold, found, and whether the interval holds it."""
    table = pd.DataFrame(
        [
            {k: row[k] for k in ("network", "seed", "dense", "allocation")} | line
            for row in rows
            if row["what"] == "foretold"
            for line in row["rows"]
        ]
    )
    for name in QUANTITIES if len(table) else ():
        found = table[f"{name}_found"]
        table[f"{name}_held"] = found.between(table[f"{name}_low"], table[f"{name}_high"])
    return table


def rankings(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Per network, Spearman's correlation of each score with accuracy after refitting."""
    found = pd.DataFrame([row for row in rows if row["what"] == "ranked"])
    table = []
    for (name, seed), own in found.groupby(["network", "seed"]) if len(found) else ():
        line = {"network": name, "seed": seed, "structures": len(own)}
        for score, sign in [*((how, -1) for how in OURS), ("eagleeye", 1)]:
            line[score] = spearmanr(sign * own[score], own["accuracy"]).statistic
        more = {f"{how}_more": line[how] - line["eagleeye"] for how in OURS}
        table.append(line | more)
    return pd.DataFrame(table)


def main() -> None:
    """Compute what is missing, write tables, and print one JSON object last."""
    options = arguments(__doc__ or "", "runs/pruning_forecast").parse_args()
    place = Place(options.data, options.networks, options.device)
    work = list(units(all_networks(options.only, options.seeds)))
    rows = at_work(work, computed, place, options.cells, options)
    told, order = forecasts(rows), rankings(rows)
    options.out.mkdir(parents=True, exist_ok=True)
    write_table(options.out / "forecasts.csv", told)
    write_table(options.out / "rankings.csv", order)
    keys = ("network", "seed", "number", *OURS, "macs", "eagleeye", "accuracy", "kl")
    kept = [{k: row[k] for k in keys} for row in rows if row["what"] == "ranked"]
    write_table(options.out / "structures.csv", pd.DataFrame(kept))
    print(told.round(3).to_string(index=False), order.round(2).to_string(index=False), sep="\n")
    summary: dict[str, Any] = {"networks": len(order), "forecasts": len(told)}
    for name in QUANTITIES if len(told) else ():
        summary[f"{name}_error"] = float((told[name] - told[f"{name}_found"]).abs().mean())
        summary[f"{name}_held"] = float(told[f"{name}_held"].mean())
    scores = [*OURS, "eagleeye", *(f"{how}_more" for how in OURS)]
    for name in scores if len(order) else ():
        summary[name] = float(order[name].mean())
        summary[f"{name}_half_interval"] = half_interval(order[name].to_numpy())
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
