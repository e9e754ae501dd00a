"""The small tables of docs/results/evidence from the folders that `scripts/evidence.py` left.

    python scripts/evidence_tables.py runs/evidence --write

claims.csv has one row per claim, network and data set, with the verdict, the effect and its
interval over trained networks; the other tables hold what is behind it, averaged over them; and
there are the figures. It takes half a minute, and no images are read. Of several folders, each
claim is judged on that which has the most networks for it. With --write the tables go to
docs/results, and the page docs/results.md is renewed from them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # scripts.evidence_claims

from empirical.analysis.couplings import mean_couplings, of_pair
from empirical.analysis.pruning import mean_accuracy
from empirical.analysis.reliability import RELIABLE
from empirical.analysis.seeds import SHARE, over_seeds
from empirical.report.intervention import AXES
from scripts.claims import DOCS, FOUR, SETS, renew
from scripts.evidence_claims import BETWEEN, all_claims
from scripts.evidence_networks import Networks, NotRunError
from theory.shared.files import write_table
from theory.shared.style import label, mark, sheet, styled


def main() -> None:
    """Write claims.csv, what is behind it, and the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="--out of scripts/evidence.py")
    parser.add_argument("--out", type=Path, default=Path("runs/evidence_tables"))
    parser.add_argument("--write", action="store_true", help="into docs/results and its page")
    options = parser.parse_args()
    out = DOCS / "results" / "evidence" if options.write else options.out
    every = [
        Networks(data.name, network.name, network)
        for runs in options.runs
        for data in sorted(runs.iterdir())
        for network in sorted(data.iterdir())
        if any(network.glob("seed-*"))
    ]
    claims = pd.DataFrame([vars(claim) for claim in all_claims(every)])
    write_table(out / "claims.csv", claims)
    for name, make in BEHIND.items():
        frame = gathered(every, make)
        if not frame.empty:
            write_table(out / f"{name}.csv", frame)
    for name, draw in (("course", over_training), ("effects", effects)):
        frame = claims if name == "effects" else gathered(every, course_of)
        if not frame.empty:
            draw(frame).savefig(out / f"{name}.png", dpi=100)
    if options.write:
        renew()
    print(claims.to_string(index=False, max_colwidth=90, float_format="{:.2f}".format))


def gathered(every: Sequence[Networks], make: Callable[[Networks], pd.DataFrame]) -> pd.DataFrame:
    """What `make` finds of each kind of network that has it, with network and data."""
    frames = []
    for one in every:
        try:
            frame = make(one).assign(network=one.network, data=one.data, epochs=one.epochs)
            frames.append(frame)
        except NotRunError:
            continue
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def accuracy_of(one: Networks) -> pd.DataFrame:
    """Accuracy on report images at each checkpoint."""
    frames = [
        pd.DataFrame([pd.read_json(file, typ="series") for file in sorted(folder.glob("*.json"))])
        for folder in one.seeds("accuracy").values()
    ]
    if not frames:
        raise NotRunError("no accuracy")
    rows = pd.concat([frame[~frame.index.duplicated()] for frame in frames])
    return over_seeds(rows[["seed", "step", "accuracy"]], ["step"], "accuracy", SHARE)


def course_of(one: Networks) -> pd.DataFrame:
    """Mean couplings over training, of the axes and of what an intervention defines."""
    means = mean_couplings(one.couplings)
    return pd.concat([of_pair(means, pair) for pair in (BETWEEN, AXES)])


def reliability_of(one: Networks) -> pd.DataFrame:
    """Split-half reliability of the axes of trained networks: median, and share that suffices."""
    of = "measured channels"
    try:
        rows = of_pair(one.couplings, BETWEEN)
        rows = rows[rows["step"] == rows["step"].max()]
        named = dict(zip(BETWEEN.names, ("first_reliability", "second_reliability"), strict=True))
        found = pd.DataFrame({name: rows[column] for name, column in named.items()})
    except NotRunError:
        of, found = "lesioned channels", one.lesioned_reliability
    medians = {name: [float(found[name].median())] for name in BETWEEN.names}
    least = {f"{n}_reliable": [float((found[n] >= RELIABLE).mean())] for n in BETWEEN.names}
    return pd.DataFrame(medians | least).assign(of=of)


def pruning_of(one: Networks) -> pd.DataFrame:
    """Accuracy of every arm of pruning, mean over seeds."""
    return mean_accuracy(one.pruned).drop(columns="network")


def damage_of(one: Networks) -> pd.DataFrame:
    """Rank correlations with measured damage, a row per seed."""
    return one.damage_ranks.rename_axis("seed").reset_index()


def flow_of(one: Networks) -> pd.DataFrame:
    """Flow beyond exchanged scores, a row per pair of axes and seed."""
    return one.flow.stack().rename("flow").reset_index()


BEHIND: dict[str, Callable[[Networks], pd.DataFrame]] = {
    "accuracy": accuracy_of,
    "course": course_of,
    "reliability": reliability_of,
    "pruning": pruning_of,
    "damage": damage_of,
    "flow": flow_of,
}


@styled()
def over_training(course: pd.DataFrame) -> Figure:
    """Coupling against the step: a column per network, a row per data set."""
    networks = [name for name in FOUR if name in set(course["network"])]
    sets = [name for name in SETS if name in set(course["data"])]
    figure, axes = sheet(len(sets), len(networks), width=2.6 * len(networks), height=2.6)
    for row, data in zip(axes, sets, strict=True):
        for panel, network in zip(row, networks, strict=True):
            own = course[course["data"].eq(data) & course["network"].eq(network)]
            if own.empty:
                panel.set_visible(False)
                continue
            for index, pair in enumerate((BETWEEN, AXES)):
                line = of_pair(own, pair).sort_values("step")
                drawn = panel.plot(line["step"], line["coupling"], label=pair.label,
                                   **mark(index, markersize=3))[0]  # fmt: skip
                panel.fill_between(line["step"], line["low"], line["high"], alpha=0.2,
                                   color=drawn.get_color())  # fmt: skip
            panel.axhline(0, color="0.4", linewidth=0.8, linestyle="-")
            panel.set_xscale("symlog", linthresh=1)
            panel.set_xlim(left=-0.2)
            panel.set_ylim(-0.6, 1)
            label(panel, "step", "rank correlation", f"{FOUR[network]}, {SETS[data]}")
    axes[0, 0].legend(fontsize=6)
    return figure


@styled()
def effects(claims: pd.DataFrame) -> Figure:
    """Effect of every claim with its interval: a panel a claim, a line per network and data set.

    Claims without an effect are left out.
    """
    known = claims[claims["data"] != "both"].dropna(subset=["mean"])
    names = list(dict.fromkeys(known["claim"]))
    figure, axes = sheet(-(-len(names) // 4), 4, width=11.0, height=2.3)
    networks = list(FOUR)
    for panel, name in zip(axes.flat, names, strict=False):
        for index, data in enumerate(dict.fromkeys(known["data"])):
            rows = known[known["claim"].eq(name) & known["data"].eq(data)]
            place = np.array([networks.index(n) for n in rows["network"]]) + 0.2 * index - 0.1
            reach = np.array([rows["mean"] - rows["low"], rows["high"] - rows["mean"]])
            look = {"fmt": "o", "markersize": 3, "color": f"C{index}", "label": SETS[data]}
            panel.errorbar(rows["mean"], place, xerr=np.nan_to_num(reach).clip(min=0), **look)
        panel.axvline(0, color="0.5", linewidth=0.8, linestyle=":")
        panel.set_yticks(range(len(networks)), FOUR.values(), fontsize=7)
        panel.set_ylim(len(networks) - 0.5, -0.5)
        panel.tick_params(axis="x", labelsize=7)
        unit = " (points)" if name.startswith("C5") else ""
        panel.set_title(f"{name}{unit}", fontsize=8)
    for panel in axes.flat[len(names) :]:
        panel.remove()
    if names:
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


if __name__ == "__main__":
    main()
