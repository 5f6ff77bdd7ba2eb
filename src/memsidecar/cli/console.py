"""Where the command line writes: results to standard output, everything about them to standard error."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

if TYPE_CHECKING:
    from rich.progress import ProgressColumn
    from rich.table import Table

WIDEST_TABLE = 200


def output_console() -> Console:
    """Give the console for results."""
    return Console(highlight=False)


def error_console() -> Console:
    """Give the console for progress and complaints."""
    return Console(stderr=True, highlight=False)


def byte_progress(console: Console) -> Progress:
    """Make a progress display for steps that may have a length in bytes."""
    return _progress(console, BarColumn(bar_width=30), _KnownSizeColumn(binary_units=True))


class _KnownSizeColumn(DownloadColumn):
    """Says nothing about steps that have no length."""

    def render(self, task: Task) -> Text:
        return Text() if task.total is None else super().render(task)


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


def print_table(table: Table) -> None:
    """Print a table to standard output with every value whole, however narrow the terminal."""
    Console(highlight=False, width=max(output_console().width, WIDEST_TABLE)).print(table, no_wrap=True)


def print_indented(console: Console, text: str, indent: int, style: str = "") -> None:
    """Print a text as it is, folded at the width of the console, each line indented by so many spaces."""
    for paragraph in text.splitlines():
        for line in textwrap.wrap(paragraph, max(console.width - indent, 20)) or [""]:
            console.print(Text(f"{' ' * indent}{line}".rstrip(), style), soft_wrap=True)
