"""`twoaxis run`: a whole run from a configuration, or the configuration itself."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from empirical.commands.options import CACHE, DATA, DEVICE, DOWNLOAD
from empirical.commands.source import import_from_here
from empirical.commands.terminal import print_findings, progress_bar


def run(
    config: Annotated[
        list[Path] | None, typer.Argument(help="TOML files; ready ones are in scripts/.")
    ] = None,
    data: Annotated[str | None, DATA] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the run (default: runs/<name of CONFIG>); of several runs, the folder "
            "above theirs."
        ),
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key, as training.epochs=3."),
    ] = None,
    device: Annotated[str | None, DEVICE] = None,
    download: Annotated[bool, DOWNLOAD] = False,
    cache: Annotated[Path | None, CACHE] = None,
    workers: Annotated[
        int, typer.Option(min=0, help="Local processes of one thread each; 0: none.")
    ] = 0,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler to run on, tcp://host:8786.")
    ] = None,
    show: Annotated[
        bool,
        typer.Option("--show", help="Print every setting with what it means, and run nothing."),
    ] = False,
) -> None:
    """Train, measure at every checkpoint, analyse and report.

    What an earlier start finished is not done again. Several configurations, --workers or
    --scheduler make a campaign: every stage of every network is a task of its own.
    """
    from empirical.data.folders import DEFAULT_CACHE
    from empirical.runs import pipeline
    from empirical.runs.campaign import campaign
    from empirical.runs.config import read_config
    from empirical.runs.config_text import to_toml
    from theory.shared.files import check_writable

    named = {"data.source": data, "device": device}
    overrides = [f"{key}={json.dumps(text)}" for key, text in named.items() if text is not None]
    import_from_here()
    overrides = [*(override or []), *overrides]
    found = {path: read_config(path, overrides) for path in config or []}
    if show:
        for settings in found.values() or [read_config({}, overrides)]:
            typer.echo(to_toml(settings), nl=False)
        return
    if not found:
        raise ValueError(
            "CONFIG must be a TOML file; none is named. Ready ones are in scripts/, and "
            "`twoaxis run --show` prints one with every default."
        )
    if len({path.stem for path in found}) < len(found):
        raise ValueError(
            f"CONFIG must be files of different names, their runs' folders; got {list(found)}."
        )
    folders = {_folder(out, path, alone=len(found) == 1): one for path, one in found.items()}
    for folder in folders:
        check_writable(folder)
    with _resumable(folders), progress_bar() as progress:
        if len(folders) > 1 or workers or scheduler is not None:
            results = campaign(
                folders,
                workers=workers,
                scheduler=scheduler,
                download=download,
                cache=cache or DEFAULT_CACHE,
                progress=progress,
            )
        else:
            ((folder, settings),) = folders.items()
            results = [
                pipeline.run(
                    settings,
                    out=folder,
                    download=download,
                    cache=cache or DEFAULT_CACHE,
                    progress=progress,
                )
            ]
    if int(os.environ.get("RANK", "0")) == 0:
        for result in results:
            print_findings(result.sections, result.report)


def _folder(out: Path | None, config: Path, *, alone: bool) -> Path:
    if out is None:
        return Path("runs") / config.stem
    return out if alone else out / config.stem


@contextmanager
def _resumable(folders: Iterable[Path]) -> Iterator[None]:
    """Say, on Ctrl-C, how to continue."""
    try:
        yield
    except KeyboardInterrupt:
        kept = [str(folder) for folder in folders if folder.exists()]
        if kept:
            typer.echo(
                f"\nWhat was finished is in {', '.join(kept)}; the same command continues there.",
                err=True,
            )
        raise
