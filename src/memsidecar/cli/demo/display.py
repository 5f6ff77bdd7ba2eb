"""What the demo prints: for a stranger, in a minute."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rich.markup import escape

from memsidecar.cli.console import print_indented

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from rich.console import Console

    from memsidecar.cli.demo.conversation import Question
    from memsidecar.client import AppendedTurn, DocumentSearch, NewTurn, Recall, RecallHit, ServerInfo

_SMALL_WORDS = frozenset(
    re.findall(
        r"\w+",
        """a an and are at but do for from had has have he her his how i if in is it me my not of off on or
        our she so that the their them then they this to us was we what when where which who why will with you""",
    )
)
_PARTS = {
    "vector": "meaning",
    "lexical": "words",
    "question": "asks itself",
    "reply": "answers a turn",
    "session": "its session",
    "speaker": "who is asked about",
    "date": "date asked about",
}
_SMALLEST_SHOWN = 0.005
_SAMPLE = (0, 5, 17)
"""Turns shown as a taste of the conversation."""


class DemoDisplay:
    """Prints the demo step by step."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def begins(self) -> None:
        """Say what is going to happen."""
        self._console.print()
        self._console.print(
            "[bold]memsidecar demo[/]: a chat agent's memory, served over gRPC, kept in Postgres"
        )
        self._console.print()

    def serving(self, address: str, info: ServerInfo, seconds: float) -> None:
        """Say what was started."""
        self._step(1, f"A sidecar is serving on [bold]{address}[/] after {seconds:.1f} s, with")
        self._line(
            f"PostgreSQL {info.postgres_version} and pgvector {info.pgvector_version}, started by itself, and"
        )
        self._line(f"the embedding model {info.model.name} ({info.model.precision}) inside the process.")
        self._console.print()

    def stored(self, turns: Sequence[NewTurn], results: Sequence[AppendedTurn], seconds: float) -> None:
        """Say what went in."""
        repeated = sum(result.repeated for result in results)
        speakers = sorted({turn.speaker.display_name for turn in turns if turn.speaker})
        each = 1000 * seconds / len(turns)
        self._step(
            2, f"{len(turns)} turns of a bicycle hire's support channel go in, one AppendTurn call each:"
        )
        self._line(
            f"{len(turns) - repeated} stored, {repeated} known from an earlier run; {each:.0f} ms each."
        )
        self._line(f"The assistant Quill listens in for Dana. Speakers: {', '.join(speakers)}. For example:")
        for turn in (turns[index] for index in _SAMPLE):
            name = turn.speaker.display_name if turn.speaker else ""
            self._line(f"  [dim]{_day(turn.occurred_at)}  {name:<15}[/] {escape(turn.content)}")
        self._console.print()
        self._step(
            3,
            "Questions, as an agent asks them before it answers (RecallSimilar). Below each: score, day and",
        )
        self._line("speaker of the two best turns, what was said, and why it was found.")
        self._console.print()

    def answered(self, number: int, question: Question, recall: Recall, seconds: float) -> None:
        """Show a question and the turns that came back."""
        self._question(number, question.text, seconds)
        if question.occurred is not None and question.occurred.start is not None:
            self._line(f"[dim]only what was said in {question.occurred.start:%B %Y}[/]")
        for hit in recall.hits:
            speaker = hit.turn.speaker.display_name
            self._line(f"[green]{hit.score:.2f}[/]  [dim]{_day(hit.turn.occurred_at)}[/]  [cyan]{speaker}[/]")
            self._quote(hit.turn.content)
            for turn in hit.context:
                if turn.occurred_at >= hit.turn.occurred_at:
                    self._quote(f"then {turn.speaker.display_name}: {turn.content}", style="dim")
            self._line(f"      [dim]{_why(question.text, hit)}[/]")
        self._console.print()

    def found(self, number: int, question: str, search: DocumentSearch, seconds: float) -> None:
        """Show a question to the documents and the passage that came back."""
        self._question(number, question, seconds)
        self._line("[dim]asked of a document, the staff handbook (IngestDocument, HybridSearch)[/]")
        for hit in search.hits:
            place = " > ".join(hit.chunk.heading_path) or hit.document.title
            self._line(f"[green]{hit.score:.2f}[/]  [cyan]{escape(place)}[/]")
            self._quote(hit.chunk.text)
        self._console.print()

    def stays(self, address: str) -> None:
        """Say how to ask more."""
        self._step(4, f"Still serving on [bold]{address}[/] until Ctrl-C. In another terminal:")
        self._line(f"memsidecar recall --server {address} 'what happens in winter?'")
        self._console.print()

    def ends(self) -> None:
        """Say what to type next."""
        self._step(4, "That was all of it: no language model was called, nothing left this machine. Next:")
        self._line("[bold]./dev test[/]                  every test, on the same real parts")
        self._line(
            "[bold]./dev demo --stay[/]           the same, but it goes on serving for questions of your own"
        )
        self._line("[bold].venv/bin/memsidecar serve[/]  a sidecar that keeps what it is told")
        self._line("[bold]README.md[/]                   calling it from Python and with grpcurl")
        self._console.print()

    def _step(self, number: int, text: str) -> None:
        self._console.print(f"[bold]{number}.[/] {text}", soft_wrap=True)

    def _line(self, text: str) -> None:
        self._console.print(f"   {text}", soft_wrap=True)

    def _question(self, number: int, text: str, seconds: float) -> None:
        self._console.print(
            f"   [bold yellow]{number}  {escape(text)}[/]  [dim]{1000 * seconds:.0f} ms[/]", soft_wrap=True
        )

    def _quote(self, text: str, style: str = "") -> None:
        print_indented(self._console, text, 9, style)


def _why(question: str, hit: RecallHit) -> str:
    """Take the score apart: what each part added, and which words of the question were found."""
    found = ", ".join(sorted(_words(question) & _words(hit.turn.content)))
    shown = []
    for part in hit.parts:
        added = part.normalized * part.weight
        if abs(added) < _SMALLEST_SHOWN:
            continue
        words = f" ({found})" if part.name == "lexical" and found else ""
        shown.append(
            f"{'-' if added < 0 else '+'} {abs(added):.2f} {_PARTS.get(part.name, part.name)}{words}"
        )
    return f"why: {' '.join(shown).removeprefix('+ ')}"


def _words(text: str) -> set[str]:
    return {word for word in re.findall(r"\w+", text.lower()) if word not in _SMALL_WORDS}


def _day(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%a %d %b %Y}"
