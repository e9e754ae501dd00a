"""The tables of docs/results.md: claim x network x data set, from the committed tables alone.

    python scripts/claims.py          # print them
    python scripts/claims.py --write  # put them into docs/results.md

The first is of the four networks that `scripts/evidence.py` trains on two data sets, a cell for
each, the second of all other networks. Nothing is computed from images here; what was not run says
so in the first, and has no row in the second.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from empirical.analysis.seeds import CORRELATION, over_networks
from empirical.data.tables import read_table
from theory.shared.files import write_text
from theory.shared.findings import VERDICTS, Estimate, verdict, weakest

DOCS = Path(__file__).resolve().parent.parent / "docs"
MARKS = "<!-- {}: begin -->", "<!-- {}: end -->"
NAMES = {"resnet18": "ResNet-18 w ¼", "vgg16": "VGG-16 w ¼", "mobilenetv2": "MobileNetV2 w ¼"}
FOUR = NAMES | {"convnext": "ConvNeXt"}
SETS = {"cifar10": "CIFAR-10", "tiny100": "100 classes", "both": "both"}
SMALL, PHOTOGRAPHS = "three convolutions", "photographs"


@dataclass(frozen=True)
class Row:
    """One line of the table; `source` is the folder or file of docs/results that it is from."""

    claim: str
    network: str
    data: str
    networks: int
    word: str
    effect: str
    source: str


def rows() -> list[Row]:
    """Every line, by claim."""
    found = [
        *_demo(),
        *_couplings(),
        *_groupings(),
        *_gradients(),
        *_lesions(),
        *_pruning(),
        *_rankings(),
    ]
    return sorted(found, key=lambda row: row.claim)


def _table(name: str) -> pd.DataFrame:
    return read_table(DOCS / "results" / name)


def _demo() -> list[Row]:
    """The chapters of `twoaxis demo`, whose findings keep verdict and numbers by name."""
    source = "demo_photographs/findings.csv"
    table = _table(source)

    def values(section: str, number: int) -> dict[str, str]:
        own = table[table["section"].str.startswith(section) & (table["finding"] == number)]
        return dict(zip(own["name"], own["value"].astype(str), strict=True))

    def estimate(of: dict[str, str], name: str) -> Estimate:
        return Estimate(*(float(of[f"{name}_{part}"]) for part in ("mean", "low", "high")))

    aligned, hull = "Are the two axes", "What does losing"
    first, strong, early = (values(aligned, number) for number in (1, 4, 5))
    better, axis = values(hull, 3), values("Half of the network", 3)
    recovered = {name: estimate(values(hull, 2), name) for name in ("all", "hull", "random")}
    start, end = estimate(first, "start"), estimate(first, "end")
    seeds = int(first["seeds"])
    few = int(axis["seeds"])

    def row(claim: str, networks: int, word: str, effect: str) -> Row:
        return Row(claim, SMALL, PHOTOGRAPHS, networks, word, effect, source)

    shares = ", ".join(f"{name} {share.mean:.0%}" for name, share in recovered.items())
    return [
        row("C1 coupled, then apart", seeds, strong["word"], f"{start:+.2f} to {end:+.2f}"),
        row(
            "C3 early", seeds, early["word"],
            f"fall in the first tenth less half of it {estimate(early, 'early'):+.2f}",
        ),
        row(
            "C4 chosen peers replace", few, better["word"],
            f"hull less random {estimate(better, 'gain'):+.0%} of the damage ({shares})",
        ),
        row(
            "C5 local before target", few, axis["word"],
            f"{estimate(axis, 'difference'):+.1%} accuracy, refitted",
        ),
    ]  # fmt: skip


def _couplings() -> list[Row]:
    """C1 as measured on ResNet-18, from means over three networks."""
    source = "resnet18_cifar10/coupling_means.csv"
    table = _table(source)
    pair = table[table["first"].eq("input_capture") & table["second"].eq("task_information")]
    pair = pair.sort_values("step")
    start, end = (
        Estimate(r["coupling"], r["low"], r["high"]) for _, r in pair.iloc[[0, -1]].iterrows()
    )
    beyond = Estimate(start.mean - 0.3, start.low - 0.3, start.high - 0.3)
    worst = max(abs(end.low), abs(end.high))
    # without the networks' own changes: ends of both intervals, which is the stricter comparison
    half = Estimate(start.mean / 2 - abs(end.mean), start.low / 2 - worst, start.high / 2)
    word = weakest(verdict(start, beyond), verdict(half))
    claim = "C1 coupled, then apart"
    effect = f"{start:+.2f} to {end:+.2f}, as measured"
    return [Row(claim, NAMES["resnet18"], "CIFAR-10", 3, word, effect, source)]


def _groupings() -> list[Row]:
    """C2 without halves of the images: what an axis reaches with itself elsewhere is not known."""
    source = "resnet18_cifar10/groupings.csv"
    by_seed = _table(source).groupby("seed")["rand_between"].mean()
    effect = f"agreement of the axes {over_networks(by_seed, CORRELATION):.2f}; no halves measured"
    network = NAMES["resnet18"]
    return [
        Row("C2 other groups", network, "CIFAR-10", len(by_seed), "not resolved", effect, source)
    ]


def _gradients() -> list[Row]:
    """C8: mean |cosine| of hidden layers in .05 to .18, against the first layer's."""
    source = "resnet18_cifar10/gradient_cosine_means.csv"
    table = _table(source)
    last = table[table["step"] == table["step"].max()].set_index("layer")
    hidden = last.drop(index="conv1")["mean_absolute_cosine"]
    inside = int(hidden.between(0.05, 0.18).sum())
    first = last.loc["conv1"]
    cosine = Estimate(first["mean_absolute_cosine"], first["low"], first["high"])
    effect = (
        f"hidden layers {hidden.mean():.2f}, {inside} of {len(hidden)} in .05 to .18; first layer "
        f"{cosine:.2f}"
    )
    word = "no interval over layers"
    return [Row("C8 gradients apart", NAMES["resnet18"], "CIFAR-10", 3, word, effect, source)]


def _lesions() -> list[Row]:
    """C4 on one ResNet-18: a partial correlation whose level is not kept says nothing."""
    source = "lesions_resnet18_cifar10/findings.csv"
    table = _table(source)
    own = table[table["finding"] == 1].set_index("name")["value"].astype(float)
    effect = (
        f"partial rank correlation of E with damage {own['partial']:+.2f}, by a test that does not "
        "keep its level"
    )
    network = NAMES["resnet18"]
    return [Row("C4 E beyond", network, "CIFAR-10", 1, "not resolved", effect, source)]


def _pruning() -> list[Row]:
    """C5: mean over six settings; one network's seeds are the same noise in all of them."""
    source = "pruning_cifar10/pruning_axes.csv"
    found = []
    for network, group in _table(source).groupby("network", sort=False):
        mean = Estimate(*(float(group[name].mean()) for name in ("difference", "low", "high")))
        effect = f"{mean:+.1%} accuracy, mean of {len(group)} settings"
        claim, name = "C5 local before target", NAMES[str(network)]
        found.append(Row(claim, name, "CIFAR-10", 3, verdict(mean), effect, source))
    return found


def _rankings() -> list[Row]:
    """C7: how far the criteria's rankings carry over between architectures, by recovery."""
    source = "pruning_cifar10/pruning_rank_stability.csv"
    table = _table(source)
    parts = [
        f"{recovery} {group['spearman'].min():+.2f} to {group['spearman'].max():+.2f}"
        for recovery, group in table.groupby("recovery", sort=False)
    ]
    leads = table[["best_of_one", "best_of_other"]].nunique().max()
    effect = f"rankings agree by {', '.join(parts)}; up to {leads} criteria lead"
    names = ", ".join(NAMES.values())
    return [Row("C7 no universal ranking", names, "CIFAR-10", 9, "no interval", effect, source)]


def markdown() -> str:
    """The table, a line a row."""
    head = "| claim | network | data | networks | verdict | effect, 95 % | table |"
    lines = [head, "|---|---|---|---|---|---|---|"]
    for row in rows():
        link = f"[{row.source.partition('/')[0]}](results/{row.source})"
        cells = (row.claim, row.network, row.data, row.networks, row.word, row.effect, link)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def evidence() -> pd.DataFrame:
    """Cells of the four networks: claim, network, data, networks, epochs, word, effect."""
    table = _table("evidence/claims.csv")
    unknown = set(table["network"]) - set(FOUR) | set(table["data"]) - set(SETS)
    if unknown:
        raise ValueError(f"evidence/claims.csv must name networks and data known here: {unknown}.")
    elsewhere = {row.network: row for row in _pruning()}
    for at, cell in table[table["networks"].eq(0)].iterrows():
        row = elsewhere.get(FOUR[cell["network"]])
        if row is not None and (row.claim, row.data) == (cell["claim"], SETS[cell["data"]]):
            told = {
                "networks": row.networks,
                "word": row.word,
                "effect": row.effect,
                "epochs": 12.0,
            }
            for name, value in told.items():
                table.loc[at, name] = value
    return table


def evidence_markdown() -> str:
    """A line per claim and data set, a cell per network: verdict, effect, networks."""
    table = evidence()
    lines = [f"| claim | data | {' | '.join(FOUR.values())} |", "|---|---|" + "---|" * len(FOUR)]
    for claim in sorted(dict.fromkeys(table["claim"])):
        for data in SETS:
            own = table[table["claim"].eq(claim) & table["data"].eq(data)].set_index("network")
            if own.empty:
                continue
            cells = [_cell(own.loc[name]) if name in own.index else NOT_RUN for name in FOUR]
            lines.append(f"| {claim} | {SETS[data]} | {' | '.join(cells)} |")
    return "\n".join(lines)


FIGURES = {
    "effects": "Effect of every claim with its 95 % interval, a panel a claim",
    "course": "Coupling over training: of the paper's axes, and of what an intervention defines",
}
NOT_RUN = "not run"
EPOCHS = 3.0
"""For which the networks were trained of which a cell says nothing else."""


def _cell(row: pd.Series) -> str:
    if row["effect"] == NOT_RUN:
        return NOT_RUN
    short = str(row["effect"]).replace(" [no interval]", "")
    number = f"; {row['networks']} of 3" if 0 < row["networks"] < 3 else ""
    other = row["networks"] and row["epochs"] != EPOCHS
    longer = f"; {row['epochs']:g} epochs" if other else ""
    return f"**{row['word']}**: {short}{number}{longer}"


def accuracies() -> str:
    """A line per data set and length of training: accuracy on report images at its end."""
    table = _table("evidence/accuracy.csv")
    keys = ["data", "epochs", "network"]
    last = table.sort_values("step").groupby(keys).tail(1).set_index(keys)
    lines = [f"| data | epochs | {' | '.join(FOUR.values())} |", "|---|---|" + "---|" * len(FOUR)]
    for data, epochs in sorted(set(last.index.droplevel("network"))):
        cells = [
            f"{Estimate(*last.loc[data, epochs, name][['accuracy', 'low', 'high']]):.0%}"
            if (data, epochs, name) in last.index
            else "not trained"
            for name in FOUR
        ]
        lines.append(f"| {SETS[data]} | {epochs:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def counted() -> str:
    """A line per claim: in how many cells it holds, and the range of its effect."""
    table = evidence()
    lines = []
    for claim in sorted(dict.fromkeys(table["claim"])):
        own = table[table["claim"] == claim]
        words = own["word"].where(own["effect"] != NOT_RUN, NOT_RUN).value_counts()
        known_words = (*reversed(VERDICTS), NOT_RUN)
        said = ", ".join(f"{word} in {words[word]}" for word in known_words if word in words)
        known = own.dropna(subset=["mean"])
        reach = ""
        if len(known) > 1:
            low, high = (known.loc[known["mean"].agg(of)] for of in ("idxmin", "idxmax"))
            ends = [
                f"{end['mean']:+.2f} ({FOUR[end['network']]}, {SETS[end['data']]})"
                for end in (low, high)
            ]
            reach = f"; its effect goes from {ends[0]} to {ends[1]}"
        lines.append(f"- **{claim}**: {said} of {len(own)} cells{reach}.")
    drawn = [
        f"\n![{words}](results/evidence/{name}.png)"
        for name, words in FIGURES.items()
        if (DOCS / "results" / "evidence" / f"{name}.png").exists()
    ]
    return "\n".join([*lines, *drawn])


def page(text: str) -> str:
    """`text` with each table between its two marks renewed."""
    parts = {
        "claims": markdown,
        "evidence": evidence_markdown,
        "counts": counted,
        "accuracy": accuracies,
    }
    for name, make in parts.items():
        begin, end = (mark.format(name) for mark in MARKS)
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{make()}\n{end}{rest.split(end)[1]}"
    return text


def renew() -> None:
    """Renew the tables in docs/results.md."""
    file = DOCS / "results.md"
    write_text(file, page(file.read_text(encoding="utf-8")))


def main() -> None:
    """Print the tables, or renew them in docs/results.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="into docs/results.md")
    if parser.parse_args().write:
        renew()
    print(evidence_markdown(), markdown(), sep="\n\n")


if __name__ == "__main__":
    main()
