"""Options and output that the commands on networks have in common."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from empirical.report.page import Section

Data = Annotated[
    str | None,
    typer.Option(
        help="digits, cifar10, cifar100, or a folder with train/<class>/* and test/<class>/*."
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        help="A name, package.module:callable or file.py:callable; not needed with a checkpoint "
        "of twoaxis."
    ),
]
Checkpoint = Annotated[
    Path | None,
    typer.Option(help="Weights: .safetensors, or a .pt/.pth file that holds a state dict."),
]
ImageSize = Annotated[int | None, typer.Option(help="Resize and crop images to this.")]
Width = Annotated[float, typer.Option(help="Width multiplier of a network by name.")]
Target = Annotated[str, typer.Option(help="logit_margin, true_logit, logit_pc1 or label.")]
Mean = Annotated[str | None, typer.Option(help="Normalization per channel, as 0.485,0.456,0.406.")]
Std = Annotated[str | None, typer.Option(help="Likewise, as 0.229,0.224,0.225.")]
BatchSize = Annotated[int, typer.Option(min=1)]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1, or auto (a GPU if there is one).")
]
Root = Annotated[Path, typer.Option(help="Where torchvision's data sets lie.")]
Cache = Annotated[
    Path | None, typer.Option(help="Where decoded images are kept (default: ~/.cache/twoaxis).")
]
Download = Annotated[bool, typer.Option(help="Let torchvision download CIFAR into the data root.")]


def numbers(name: str, text: str | None) -> tuple[float, ...] | None:
    """Read numbers separated by commas.

    >>> numbers("mean", "0.5,0.25")
    (0.5, 0.25)
    """
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(
            f"--{name} must be numbers separated by commas, one per channel; got {text!r}."
        ) from None


def import_from_here() -> None:
    """Let package.module:callable find the user's own modules in the current folder."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())


def print_findings(sections: Sequence[Section], report: Path) -> None:
    """Print every chapter's findings, and where the report lies."""
    from rich.console import Console
    from rich.table import Table

    found = Table(title="What was found", show_lines=True)
    found.add_column("chapter", style="bold", max_width=24)
    found.add_column("finding")
    for section in sections:
        for finding in section.findings:
            found.add_row(section.title, str(finding))
    console = Console()
    console.print(found)
    console.print(f"Report: {report.resolve()}", soft_wrap=True)


@contextmanager
def progress_bar() -> Iterator[Callable[[str, float], None]]:
    """Show a bar; yields a function of what is being done and the share of the whole behind."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<60}"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("starting", total=1.0)
        yield lambda what, share: bar.update(task, description=what, completed=share)
