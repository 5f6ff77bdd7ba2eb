"""A turn and what can happen to it, and how it must stand after any of it in any order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from memsidecar.domain.turns import Event, NewTurn, Role, Speaker, TurnAction

if TYPE_CHECKING:
    from collections.abc import Iterable

    from memsidecar.domain.turns import Turn

AGENT = UUID("018f2b3c-5d6e-7f80-9a1b-2c3d4e5f6071")
MORNING = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def event(name: str) -> Event:
    return Event("channel", name)


def said(user_id: str, **fields: Any) -> NewTurn:
    """The original."""
    return NewTurn(
        **{
            "agent_id": AGENT,
            "user_id": user_id,
            "conversation_id": "lunch",
            "role": Role.USER,
            "content": "let us meet at noon",
            "occurred_at": MORNING,
            "speaker": Speaker(user_id, "Ann"),
            "event": event("1-said"),
            **fields,
        }
    )


def edited(user_id: str, name: str, content: str, *, seconds: int, **fields: Any) -> NewTurn:
    """An edit; all it says beside its content and metadata differs from the original, and must not count."""
    return NewTurn(
        **{
            "agent_id": AGENT,
            "user_id": user_id,
            "conversation_id": f"thread of {name}",
            "role": Role.TOOL,
            "content": content,
            "occurred_at": MORNING + timedelta(seconds=seconds),
            "speaker": Speaker("someone else", "Nobody"),
            "metadata": {"edit": name},
            "event": event(name),
            "action": TurnAction.EDITED,
            "target": event("1-said"),
            **fields,
        }
    )


def deleted(user_id: str, *, seconds: int, **fields: Any) -> NewTurn:
    """A deletion."""
    return NewTurn(
        **{
            "agent_id": AGENT,
            "user_id": user_id,
            "conversation_id": "lunch",
            "role": Role.SYSTEM,
            "content": "",
            "occurred_at": MORNING + timedelta(seconds=seconds),
            "event": event("9-deleted"),
            "action": TurnAction.DELETED,
            "target": event("1-said"),
            **fields,
        }
    )


def events(user_id: str, alphabet: str) -> dict[str, NewTurn]:
    """The events that interleavings are made of, by letter.

    C is the original, E and F are edits ten seconds apart, G is an edit of the same second as F, and D is a deletion
    made between E and F: a deletion is final wherever its time falls.
    """
    every = {
        "C": said(user_id),
        "E": edited(user_id, "2-edit", "let us meet at one", seconds=10),
        "F": edited(user_id, "3-edit", "let us meet at two", seconds=20),
        "G": edited(user_id, "4-edit", "let us meet at three", seconds=20),
        "D": deleted(user_id, seconds=15),
    }
    return {letter: every[letter] for letter in alphabet}


@dataclass(frozen=True)
class Standing:
    """How a turn stands, but for what the server makes."""

    conversation_id: str
    role: Role
    speaker: Speaker
    occurred_at: datetime
    content: str
    metadata: dict[str, Any]
    edited_at: datetime | None


def expected(user_id: str, letters: Iterable[str]) -> Standing | None:
    """How the turn must stand once these events have arrived, however often and in whatever order; None for hidden."""
    known = events(user_id, "CEFGD")
    arrived = set(letters)
    edits = [known[letter] for letter in sorted(arrived & set("EFG"))]
    if "D" in arrived or not arrived:
        return None
    original = [known["C"]] if "C" in arrived else []
    place, state = (original + edits)[0], (original + edits)[-1]
    return Standing(
        place.conversation_id,
        place.role,
        place.speaker,
        place.occurred_at,
        state.content,
        dict(state.metadata),
        state.occurred_at if edits else None,
    )


def standing(turn: Turn) -> Standing:
    """How a stored turn stands."""
    return Standing(
        turn.conversation_id,
        turn.role,
        turn.speaker,
        turn.occurred_at,
        turn.content,
        dict(turn.metadata),
        turn.edited_at,
    )
