"""Pruning on every network of tests/zoo: docs/results/zoo.csv, and the table in docs/pruning.md.

    python -m scripts.zoo_table [NAME ...] [--rows runs/zoo.jsonl]

Networks run one after another; a row is appended as soon as it is there, and networks that have one
are not run again. Lines of networks without a row stay in the tables as they are. Half a minute of
one core for a network, more for wide ones.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from tests.zoo.checks import Row, row
from tests.zoo.networks import ZOO
from theory.shared.files import write_table, write_text

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "docs" / "results" / "zoo.csv"
PAGE = ROOT / "docs" / "pruning.md"
START, END = "<!-- zoo: begin -->\n", "<!-- zoo: end -->\n"


def read(path: Path) -> dict[str, Row]:
    """Rows that have been computed, by network; the last of a network counts."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return {found["name"]: Row(**found) for found in map(json.loads, lines)}


def compute(names: list[str], path: Path) -> dict[str, Row]:
    """The rows of `path`, those of `names` that are missing computed and appended."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for name in names:
        if name not in read(path):
            found = row(name)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(found)) + "\n")
            print(name, flush=True)
    done = read(path)
    return {name: done[name] for name in ZOO if name in done}


def tabulate(rows: dict[str, Row]) -> pd.DataFrame:
    """One line per network, in the units of the docs."""
    return pd.DataFrame([_line(found) for found in rows.values()])


def _line(found: Row) -> dict[str, object]:
    shares = list(found.share.values())
    gaps = [abs(found.share[key] - found.independent[key]) for key in found.share]
    return {
        "network": found.name,
        "layers": found.layers,
        "measured": found.measured,
        "groups": found.groups,
        "kept whole": found.kept_whole,
        "most often because": found.commonest,
        "planted silence": f"{found.planted:.0e}",
        "removed − masked": f"{found.removed_masked:.0e}",
        "share got (asked 0.700)": _span(shares),
        "largest gap to other counter": f"{max(gaps):.4f}" if gaps else "",
        "steps refused": f"{len(found.refused)} of {len(found.refused) + len(shares)}"
        if found.refused else "",
        "refused": "; ".join(f"{step}: {why}" for step, why in found.refused.items()),
    }  # fmt: skip


def _span(values: list[float]) -> str:
    if not values:
        return ""
    low, high = f"{min(values):.3f}", f"{max(values):.3f}"
    return low if low == high else f"{low} to {high}"


def renewed(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The lines of a table, and those that `path` has of other networks, as the zoo has them."""
    if path.is_file():
        before = pd.read_csv(path, dtype=str, keep_default_na=False)
        table = pd.concat([before[~before["network"].isin(table["network"])], table.astype(str)])
    order = {name: place for place, name in enumerate(ZOO)}
    return table.sort_values("network", key=lambda names: names.map(order), ignore_index=True)


def markdown(table: pd.DataFrame) -> str:
    """The table of the docs."""
    head = ["| " + " | ".join(table.columns) + " |", "|---" * len(table.columns) + "|"]
    cells = table.astype(str).map(lambda text: text.replace("|", "\\|"))
    return "\n".join(head + ["| " + " | ".join(line) + " |" for line in cells.to_numpy()]) + "\n"


def main() -> None:
    """Compute what is missing, then write both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="networks; all by default")
    parser.add_argument("--rows", type=Path, default=Path("runs/zoo.jsonl"), help="rows, appended")
    options = parser.parse_args()
    rows = compute(options.names or list(ZOO), options.rows)
    table = renewed(tabulate(rows), TABLE)
    write_table(TABLE, table)
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(START)
    after = rest.partition(END)[2]
    text = before + START + markdown(table.drop(columns="refused")) + END + after
    write_text(PAGE, text)


if __name__ == "__main__":
    main()
