"""What the commands show in the terminal: progress, and what was found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from empirical.report.page import Section

Progress = Callable[[str, float], None]
"""Called with what is being done, and the share of the whole that is behind."""


def print_findings(sections: Sequence[Section], report: Path) -> None:
    """Print every chapter's findings, and where the report lies."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    found = Table(title="What was found", show_lines=True)
    found.add_column("chapter", style="bold", max_width=24)
    found.add_column("finding")
    for section in sections:
        for finding in section.findings:
            found.add_row(section.title, Text(str(finding)))  # brackets are no markup
    console = Console()
    console.print(found)
    console.print(f"Report: {report.resolve()}", soft_wrap=True)


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Show a bar; yields a function of what is being done and the share of the whole behind."""
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description:<60}"),
        progress.BarColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("starting", total=1.0)
        yield lambda what, share: bar.update(task, description=what, completed=share)
