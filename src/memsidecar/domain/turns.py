"""What was said: turns, the events that make them, and the scopes that select them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID


class Role(Enum):
    """Who produced a turn, in the sense chat models give the word."""

    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"
    TOOL = "tool"


class TurnAction(Enum):
    """What a row of the log says."""

    SAID = "said"
    EDITED = "edited"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Event:
    """The channel's own name for something that happened there, unique per tenant, agent and user."""

    source: str
    event_id: str


REQUEST_SOURCE = "memsidecar:request"
"""Source of events that a client named by ``request_id``; refused as a client's own source."""


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who said it; not always the user whose memory it is."""

    speaker_id: str = ""
    display_name: str = ""


@dataclass(frozen=True, slots=True)
class NewTurn:
    """A row to append, validated."""

    agent_id: UUID
    user_id: str
    conversation_id: str
    role: Role
    content: str
    occurred_at: datetime
    speaker: Speaker = Speaker()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    event: Event | None = None
    action: TurnAction = TurnAction.SAID
    target: Event | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """How a turn stands, or one line of its history.

    An edited turn keeps the id, conversation, role, speaker and ``occurred_at`` of its original; content and metadata
    are the last edit's.
    """

    turn_id: UUID
    agent_id: UUID
    user_id: str
    conversation_id: str
    role: Role
    speaker: Speaker
    content: str
    occurred_at: datetime
    created_at: datetime
    metadata: Mapping[str, Any]
    event: Event | None
    action: TurnAction
    token_count: int
    edited_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class AppendedTurn:
    """What became of one appended row."""

    turn_id: UUID
    created_at: datetime
    repeated: bool
    token_count: int
    truncated: bool


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A half-open span of time; None leaves an end open."""

    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True)
class TurnScope:
    """Which turns a call looks at; every field that is set narrows."""

    agent_ids: tuple[UUID, ...] = ()
    """Empty means all; several when a credential is limited to them."""
    user_id: str | None = None
    conversation_ids: tuple[str, ...] = ()
    roles: tuple[Role, ...] = ()
    occurred: TimeRange = TimeRange()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    speaker_ids: tuple[str, ...] = ()
    exclude_turn_ids: tuple[UUID, ...] = ()
    exclude_conversation_ids: tuple[str, ...] = ()
    as_of: datetime | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation as its turns show it."""

    agent_id: UUID
    user_id: str
    conversation_id: str
    turn_count: int
    first_occurred_at: datetime
    last_occurred_at: datetime
