"""Where the command line writes: results to standard output, everything about them to standard error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from rich.progress import ProgressColumn


def output_console() -> Console:
    """Give the console for results."""
    return Console(highlight=False)


def error_console() -> Console:
    """Give the console for progress and complaints."""
    return Console(stderr=True, highlight=False)


def byte_progress(console: Console) -> Progress:
    """Make a progress display for steps that may have a length in bytes."""
    return _progress(console, BarColumn(bar_width=30), DownloadColumn(binary_units=True))


def item_progress(console: Console) -> Progress:
    """Make a progress display for countable work."""
    return _progress(console, BarColumn(bar_width=30), MofNCompleteColumn(), TimeRemainingColumn())


def _progress(console: Console, *columns: ProgressColumn) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
