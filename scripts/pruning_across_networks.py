"""One report on the pruning of several runs: axis against axis, and whether rankings carry over.

    python scripts/pruning_across_networks.py RUN [RUN ...] --out FOLDER

Each RUN is the folder of a `twoaxis run` with pruning.enabled=true. With runs of several networks
the report also says how stable the criteria's ranking is between them (claim C7).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from empirical.report.factorial import factorial_section
from empirical.report.page import write_report
from empirical.runs.pruning_stage import read_pruning


def pruned_folders(run: Path) -> list[Path]:
    """Return a folder per seed of the run's last configuration, if that one prunes."""
    record = run / "run.json"
    if not record.is_file():
        return []
    config = json.loads(record.read_text(encoding="utf-8"))["config"]
    seeds = config["seeds"] if config["pruning"]["enabled"] else []
    return [run / f"seed-{seed}" / "pruning" for seed in seeds]


def main() -> None:
    """Read the runs' cells and write report.html, figures and tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs with pruning")
    parser.add_argument("--out", type=Path, default=Path("runs/pruning"), help="folder to write to")
    options = parser.parse_args()
    folders = []
    for run in options.runs:
        found = pruned_folders(run)
        folders += found
        if not found:
            parser.error(
                f"{run} holds no pruned networks. Start its run again with "
                "--set pruning.enabled=true."
            )
    result = read_pruning(folders)
    networks = result.rows.groupby("network")["seed"].nunique()
    section = factorial_section(result.rows, result.scores)
    page = write_report(
        options.out,
        "Which channels can go?",
        ", ".join(f"{name} ({seeds} seeds)" for name, seeds in networks.items())
        + ": every criterion through the same trace, allocator and removal.",
        [section],
        formats=("png", "pdf"),
    )
    for finding in section.findings:
        print(finding)
    print(f"Report: {page.resolve()}")


if __name__ == "__main__":
    main()
