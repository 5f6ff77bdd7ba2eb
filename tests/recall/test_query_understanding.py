"""Whom and when a query speaks of."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from memsidecar.domain.participants import Participants, spoken_query, subject
from memsidecar.domain.time_expressions import named_spans
from memsidecar.domain.turns import Role

NAMES = Participants(names=("Ana Lima", "Ana", "Tom"))
CHAT = Participants(roles=frozenset({Role.USER, Role.ASSISTANT}))


@pytest.mark.parametrize(
    ("query", "spoken", "about"),
    [
        ("What does Tom collect?", "What does I collect?", "Tom"),
        ("What is tom's dog called?", "What is I dog called?", "Tom"),
        ("Did Ana Lima call Tom?", "Did I call I?", "Ana Lima"),
        ("Where is Ana\u2019s flat?", "Where is I flat?", "Ana"),
        ("Is a tomato red in Anatolia?", "Is a tomato red in Anatolia?", None),
    ],
)
def test_names_of_participants(query: str, spoken: str, about: str | None) -> None:
    assert spoken_query(query, NAMES) == spoken
    assert subject(query, NAMES) == about


@pytest.mark.parametrize(
    ("query", "about"),
    [
        ("where did I park", "user"),
        ("what's my sister called", "user"),
        ("what did you suggest", "assistant"),
        ("the assistant's advice", "assistant"),
        ("did you like my soup", "assistant"),
        ("iodine in yours truly", "assistant"),
        ("mythical wedding youth", None),
    ],
)
def test_pronouns(query: str, about: str | None) -> None:
    assert subject(query, CHAT) == about
    assert subject(query, Participants()) is None
    assert spoken_query(query, CHAT) == query


NOW = datetime(2026, 3, 18, 15, tzinfo=UTC)  # a Wednesday


def day(year: int, month: int, number: int) -> datetime:
    return datetime(year, month, number, tzinfo=UTC)


@pytest.mark.parametrize(
    ("query", "spans"),
    [
        ("on 2023-05-08", [(day(2023, 5, 8), day(2023, 5, 9))]),
        ("on the 8th of May, 2023", [(day(2023, 5, 8), day(2023, 5, 9))]),
        ("Sept. 3rd, 2024", [(day(2024, 9, 3), day(2024, 9, 4))]),
        ("in December 2023", [(day(2023, 12, 1), day(2024, 1, 1))]),
        ("in May", [(day(2023, 5, 1), day(2023, 6, 1)), (day(2024, 5, 1), day(2024, 6, 1))]),
        ("what may happen", []),
        ("on 2023-02-31", []),
        ("yesterday", [(day(2026, 3, 17), day(2026, 3, 18))]),
        ("last week", [(day(2026, 3, 9), day(2026, 3, 16))]),
        ("last month", [(day(2026, 2, 1), day(2026, 3, 1))]),
        ("the lastweek of todays", []),
    ],
)
def test_spans_of_time(query: str, spans: list[tuple[datetime, datetime]]) -> None:
    assert named_spans(query, day(2023, 2, 1), day(2024, 12, 1), NOW) == spans
