"""Turns as lines of JSON: what is read, and what is said about a line that is not one."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memsidecar.cli.turn_lines import read_turn
from memsidecar.client import Event, Role, Speaker, TurnAction

SAID = {"agent_id": "a", "user_id": "u", "conversation_id": "c", "content": "Hello"}


def line(**fields: object) -> str:
    return json.dumps({**SAID, **fields})


def test_every_field_is_read() -> None:
    turn = read_turn(
        line(
            role="assistant",
            speaker={"speaker_id": "B1", "display_name": "Quill"},
            occurred_at="2025-09-30T07:48:00Z",
            metadata={"mood": ["good"]},
            event={"source": "slack", "event_id": "E2"},
            action="edited",
            target={"source": "slack", "event_id": "E1"},
        )
    )
    assert turn.role is Role.ASSISTANT
    assert turn.speaker == Speaker("B1", "Quill")
    assert turn.occurred_at == datetime(2025, 9, 30, 7, 48, tzinfo=UTC)
    assert turn.metadata == {"mood": ["good"]}
    assert turn.event == Event("slack", "E2")
    assert turn.action is TurnAction.EDITED
    assert turn.target == Event("slack", "E1")


def test_defaults_fill_what_the_line_leaves_out() -> None:
    turn = read_turn('{"content": "Hello", "user_id": "mine"}', {"user_id": "theirs", "agent_id": "a"})
    assert (turn.user_id, turn.agent_id, turn.role) == ("mine", "a", Role.USER)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "the line is not an object"),
        (line(contents="Hello"), "unknown field 'contents'"),
        (line(user_id=7), "user_id is not a text"),
        (line(role="robot"), "role is 'robot': give one of user, assistant, system, tool"),
        (line(role=["user"]), r"role is \['user'\]"),
        (line(speaker="Ada"), "speaker is not an object"),
        (line(event={"source": "slack", "id": "1"}), "unknown field event.id"),
        (line(occurred_at="yesterday"), "occurred_at is 'yesterday'"),
        (line(occurred_at="2025-09-30T07:48:00"), "no time zone"),
        (line(occurred_at=5), "occurred_at is 5"),
        (line(metadata=[1]), "metadata is not an object"),
        (line(metadata={"big": 10**400}), "metadata cannot be sent"),
        ('{"content": "\\ud800"}', "half of a surrogate pair"),
        ('{"content": "\udcff"}', "not UTF-8"),
    ],
)
def test_a_bad_line_is_refused_with_what_is_wrong(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        read_turn(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
field_names = st.sampled_from(
    ["agent_id", "content", "role", "speaker", "event", "occurred_at", "metadata", "action"]
)


@settings(derandomize=True, deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(field_names, json_values))
def test_whatever_a_line_holds_it_is_read_or_refused(fields: dict[str, object]) -> None:
    with contextlib.suppress(ValueError):
        turn = read_turn(json.dumps({**SAID, **fields}))
        assert turn.user_id == "u"
