"""`twoaxis run`: a whole run from a configuration, or the configuration itself."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from empirical.commands.options import CACHE, DATA, DEVICE, DOWNLOAD
from empirical.commands.source import import_from_here
from empirical.commands.terminal import print_findings, progress_bar


def run(
    config: Annotated[
        Path | None, typer.Argument(help="A TOML file; ready ones are in scripts/.")
    ] = None,
    data: Annotated[str | None, DATA] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run (default: runs/<name of CONFIG>).")
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key, as training.epochs=3."),
    ] = None,
    device: Annotated[str | None, DEVICE] = None,
    download: Annotated[bool, DOWNLOAD] = False,
    cache: Annotated[Path | None, CACHE] = None,
    show: Annotated[
        bool,
        typer.Option("--show", help="Print every setting with what it means, and run nothing."),
    ] = False,
) -> None:
    """Train, measure at every checkpoint, analyse and report.

    What an earlier start finished is not done again.
    """
    from empirical.data.folders import DEFAULT_CACHE
    from empirical.runs import pipeline
    from empirical.runs.config import read_config
    from empirical.runs.config_text import to_toml

    named = {"data.source": data, "device": device}
    overrides = [f"{key}={json.dumps(text)}" for key, text in named.items() if text is not None]
    import_from_here()
    settings = read_config({} if config is None else config, [*(override or []), *overrides])
    if show:
        typer.echo(to_toml(settings), nl=False)
        return
    if config is None:
        raise ValueError(
            "CONFIG must be a TOML file; none is named. Ready ones are in scripts/, and "
            "`twoaxis run --show` prints one with every default."
        )
    folder = out if out is not None else Path("runs") / config.stem
    with _resumable(folder), progress_bar() as progress:
        result = pipeline.run(
            settings,
            out=folder,
            download=download,
            cache=cache or DEFAULT_CACHE,
            progress=progress,
        )
    if int(os.environ.get("RANK", "0")) == 0:
        print_findings(result.sections, result.report)


@contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """Say, on Ctrl-C, how to continue."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(
            f"\nInterrupted. What was finished is in {folder}; the same command continues there.",
            err=True,
        )
        raise
