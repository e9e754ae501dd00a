"""What carries the separation, in one network after another: features and targets crossed.

Every network starts as it is drawn, on inputs of one steep spectrum and a target that is spread
evenly over their directions; filters turn, or are held in their directions.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from sim.experiments.crossing import carriers
from sim.experiments.runs import Run, kept_run, run_on_cluster
from sim.networks import Network
from sim.spectra import power_law
from sim.tasks import Mixture, Regression, Task
from theory.shared.crossing import carrier_finding
from theory.shared.findings import Estimate, Finding
from theory.shared.style import figure_legend, label, mark, sheet, styled
from theory.shared.validation import count

EXPONENT = 2.0
CLASSES = 4
BATCH = {"batch": 16, "learning_rate": 0.02}
NORMED = {"learning_rate": 0.02}
COUPLED = 0.94

NETWORKS: dict[str, tuple[str, dict[str, Any], dict[str, Any], int]] = {
    "lazy, readout fixed": ("regression", {"train_readout": False}, {}, 4),
    "the same, coupled start": (
        "regression",
        {"train_readout": False, "coupling": COUPLED},
        {},
        4,
    ),
    "rich, readout fixed": ("regression", {"train_readout": False, "scale": 0.2}, {}, 4),
    "two layers": ("regression", {}, {}, 4),
    "two layers, rich": ("regression", {"scale": 0.2}, {}, 4),
    "norm": ("regression", {"norm": True}, NORMED, 4),
    "norm, readout fixed": ("regression", {"norm": True, "train_readout": False}, NORMED, 4),
    "ReLU": ("regression", {"nonlinearity": "relu"}, {}, 1),
    "ReLU, three layers": ("regression", {"nonlinearity": "relu", "depth": 3}, BATCH, 4),
    "classes, squared": ("squared", {}, BATCH, 4),
    "classes, cross-entropy": ("cross_entropy", {}, BATCH, 4),
    "norm, cross-entropy": ("cross_entropy", {"norm": True}, BATCH, 4),
    "ReLU, cross-entropy": (
        "cross_entropy",
        {"nonlinearity": "relu", "depth": 3},
        BATCH,
        4,
    ),
}
"""Name: task, network, training, and steps over those of the exact ReLU gradient, the slowest."""


@dataclass(frozen=True, eq=False)
class FactorialResult:
    """What `factorial` found.

    Attributes
    ----------
    table : a row per network, turning, target and what, of `carriers`: mean, low, high; loss is
        that of the last record over that of the first, a mean over networks.
    """

    table: pd.DataFrame

    def findings(self) -> list[Finding]:
        """A sentence per network and target, whichever way it falls."""
        return [
            carrier_finding(
                {
                    str(row["what"]): Estimate(row["mean"], row["low"], row["high"])
                    for _, row in own.iterrows()
                },
                f"{name}, {'filters turn' if turning else 'filters held'}, about the {target}: ",
            )
            for (name, turning, target), own in self.table.groupby(
                ["network", "turning", "target"], sort=False
            )
        ]

    def to_frame(self) -> pd.DataFrame:
        """The table."""
        return self.table

    @styled()
    def figure(self) -> Figure:
        """The part of the fall that each carries, by network, about its own output."""
        own = self.table[self.table["target"].eq("output")]
        names = list(dict.fromkeys(own["network"]))[::-1]
        figure, axes = sheet(2, 2, width=9.0, height=3.6, heights=(1.0, 0.12), sharey=True)
        for column, turning in enumerate((True, False)):
            panel = axes[0, column]
            for number, (what, said) in enumerate(
                (("fall", "fall"), ("fall carried by features", "features"),
                 ("fall carried by targets", "target"))
            ):  # fmt: skip
                rows = own[own["turning"].eq(turning) & own["what"].eq(what)].set_index("network")
                rows = rows.loc[[name for name in names if name in rows.index]]
                place = [names.index(name) + 0.22 * (1 - number) for name in rows.index]
                error = [rows["mean"] - rows["low"], rows["high"] - rows["mean"]]
                panel.errorbar(
                    rows["mean"], place, xerr=error, label=said, **mark(number, linestyle="none")
                )
            panel.axvline(0, color="0.7", lw=0.8, zorder=0)
            panel.set_yticks(range(len(names)), names)
            label(panel, "fall of the coupling", "", "filters turn" if turning else "filters held")
        figure_legend(axes[1], axes[0, :1])
        return figure


def factorial(
    *,
    width: int = 64,
    dimension: int = 32,
    seeds: int = 32,
    steps: int = 5000,
    threads: int | None = None,
    out: str | os.PathLike[str] | None = None,
    scheduler: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FactorialResult:
    """Train every network of `NETWORKS`, with filters that turn and held, and cross both ends.

    Parameters
    ----------
    width, dimension, seeds : channels, inputs and networks of each kind.
    steps : of the exact ReLU gradient; the others take four times as many.
    threads, out, scheduler : as in `separate`.
    progress : called with (networks made, networks).

    >>> found = factorial(width=16, dimension=8, seeds=3, steps=20)
    >>> len(found.findings()) == 2 * (9 + 2 * 4)
    True
    """
    count("seeds", seeds, least=2)
    runs: list[tuple[str, bool, Run]] = []
    for name, (kind, settings, training, longer) in NETWORKS.items():
        for turning in (True, False):
            options = training | {"steps": longer * steps, "seeds": seeds, "records": 2}
            options |= {"quantities": False} | ({} if turning else {"turning": False})
            network = Network(width=width, **settings)
            runs.append((name, turning, (_task(kind, dimension), network, options)))
    run_on_cluster(out, [run for *_, run in runs], scheduler)
    tables = []
    for number, (name, turning, (task, network, options)) in enumerate(runs):
        run = kept_run(out, task, network, threads=threads, **options)
        learned = float((run.loss[:, -1] / run.loss[:, 0]).mean())
        for target in ("output", "margin") if isinstance(task, Mixture) else ("output",):
            own = carriers(run, target=target)
            own.insert(0, "target", target)
            own.insert(0, "turning", turning)
            own.insert(0, "network", name)
            tables.append(own.assign(loss=learned))
        if progress is not None:
            progress(number + 1, len(runs))
    return FactorialResult(pd.concat(tables, ignore_index=True))


def _task(kind: str, dimension: int) -> Task:
    spectrum = power_law(dimension, EXPONENT)
    if kind == "regression":
        return Regression(spectrum, alignment=0.0)
    loss: Any = kind
    return Mixture(spectrum, classes=CLASSES, alignment=0.0, loss=loss)
