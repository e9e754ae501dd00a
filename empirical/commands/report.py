"""`twoaxis report`: the page again, from what a folder holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    folder: Annotated[Path, typer.Argument(help="A folder that demo, run or lesion wrote.")],
) -> None:
    """Render report.html again from what a folder holds."""
    from empirical.report.page import render

    typer.echo(render(folder))
