"""A whole run: train, measure at every checkpoint, analyse, report; stages that can be resumed.

A run's folder holds, for each seed, ``seed-N/train`` (checkpoints), ``seed-N/axes`` (one measured
table per checkpoint) and ``seed-N/accuracy``; then ``tables``, ``figures``, ``report.html`` and
``run.json``. Every artifact lies beside the record of what it was made from, so that starting again
does only what is missing, damaged or has changed. The report is written anew each time, from what
the present configuration names and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from empirical.data.folders import DEFAULT_CACHE
from empirical.devices import chosen_device
from empirical.measuring.table import AxisTable
from empirical.report.page import Section, write_report
from empirical.runs import chapters as run_report
from empirical.runs.config import RunConfig, read_config
from empirical.runs.record import run_record
from empirical.runs.steps import Report, RunStages
from empirical.training import distributed
from theory.shared.files import remove_leftovers, write_json
from theory.shared.store import locked
from theory.shared.validation import called, path_of, truth


@dataclass(frozen=True)
class RunResult:
    """What a run found, and where its report lies.

    `tables` maps (seed, step) to the measurement, `couplings` has a row per seed, step, layer and
    pair of quantities, and `accuracy` a row per seed and step, on the report images.
    """

    out: Path
    report: Path
    tables: Mapping[tuple[int, int], AxisTable]
    couplings: pd.DataFrame
    accuracy: pd.DataFrame
    sections: tuple[Section, ...]


def run(
    config: RunConfig | str | os.PathLike[str] | Mapping[str, Any],
    *,
    out: str | os.PathLike[str] = "runs/run",
    overrides: Sequence[str] = (),
    download: bool = False,
    cache: str | os.PathLike[str] | None = DEFAULT_CACHE,
    progress: Report | None = None,
) -> RunResult:
    """Train, measure, analyse and report as `config` says; continue where an earlier run stopped.

    Parameters
    ----------
    config
        A TOML file, a mapping of the same form, or a `RunConfig`.
    out
        Folder of the run.
    overrides
        ``section.key=value`` settings, for instance ``"data.source=/data/cifar10"``.
    download, cache
        As for `load_data`.
    progress
        Called with what is being done, and the share of the whole that is behind.

    Raises
    ------
    FileNotFoundError, ValueError
        For a missing file or folder, an unknown key, or a folder that holds a training with other
        settings.
    """
    path_of("out", out)
    called("progress", progress)
    truth("download", download)
    settings = read_config(config, overrides)
    with distributed.process_group(chosen_device(settings.device)) as device:
        stages = RunStages(settings, Path(out), device, download, cache, progress or _silent)
        stages.all_seeds()
        return reported(stages)


def reported(stages: RunStages) -> RunResult:
    """Analyse what the stages left, write the report and the record, and return the result."""
    stages.progress("analysing", 1.0)
    tables, accuracy = run_report.read_tables(stages), run_report.read_accuracy(stages)
    couplings = run_report.run_couplings(stages, tables)
    sections = run_report.run_sections(stages, tables, couplings, accuracy)
    page, record = stages.out / "report.html", stages.out / "run.json"
    if distributed.rank() == 0:
        title, lead = run_report.title(stages), run_report.lead(stages)
        with locked(page):
            remove_leftovers(page, page.with_suffix(".json"), record)
            write_report(stages.out, title, lead, sections, formats=("png", "pdf"))
            made = run_record(stages.config, stages.split, stages.device, stages.started)
            write_json(record, made)
    return RunResult(stages.out, page, tables, couplings, accuracy, tuple(sections))


def _silent(what: str, share: float) -> None:
    """Report nothing."""
