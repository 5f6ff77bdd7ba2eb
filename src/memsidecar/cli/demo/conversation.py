"""What the demo puts in and asks: six weeks of a bicycle hire's support channel, and the staff handbook.

The conversation lies beside this module in the form that ``memsidecar import`` reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from typing import Final

from memsidecar.cli.turn_lines import read_turn
from memsidecar.client import NewDocument, NewTurn, TimeRange

AGENT_ID: Final = "018f2b3c-5d6e-7f80-9a1b-2c3d4e5f6071"
USER_ID: Final = "U07DANA"
"""Whose memory it is: Dana's assistant sits in the channel and remembers for her."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question to the conversation, and how the turn begins that answers it."""

    text: str
    answer: str
    occurred: TimeRange | None = None
    """Only what was said in this span."""


QUESTIONS: Final = (
    Question("What food is Dana allergic to?", "No prawns or crab"),
    Question("Somebody is breaking in during the night, who comes?", "At night ring Halima"),
    Question("Why is bike 77 not available?", "Bike 77 is out of service"),
    Question(
        "Who is our contact at the school, and how do we reach him?", "Told them. Their contact is Mr Okafor"
    ),
    Question("When do customers get their money back?", "A family of five waited"),
    Question(
        "When do customers get their money back?",
        "A rider came back at noon",
        TimeRange(datetime(2025, 10, 1, tzinfo=UTC), datetime(2025, 11, 1, tzinfo=UTC)),
    ),
)

DOCUMENT_QUESTION: Final = "How long is CCTV footage kept?"


def turns() -> list[NewTurn]:
    """Give the conversation as a bot in the channel would send it, each turn with the channel's event id."""
    lines = _file("conversation.jsonl").decode().splitlines()
    return [read_turn(line) for line in lines]


def handbook() -> NewDocument:
    """Give the handbook as a file that everybody may search."""
    return NewDocument(document_key="handbook.md", content=_file("handbook.md"), is_global=True)


def _file(name: str) -> bytes:
    return resources.files("memsidecar.cli.demo").joinpath(name).read_bytes()
