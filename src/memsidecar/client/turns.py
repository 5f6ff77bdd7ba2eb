"""What was said, as a client sees it: turns, scopes, recall."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

    from memsidecar.client.server import ModelIdentity


class Role(StrEnum):
    """Who produced a turn, in the sense chat models give the word."""

    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"
    TOOL = "tool"


class TurnAction(StrEnum):
    """What an appended row says."""

    SAID = "said"
    EDITED = "edited"
    DELETED = "deleted"


class RecallMode(StrEnum):
    """How hits are found and ordered."""

    FUSED = "fused"
    """Meaning, words, time and context together."""
    VECTOR = "vector"
    """Exactly the nearest neighbours by cosine similarity."""
    LEXICAL = "lexical"
    """Words only."""


class TurnOrder(StrEnum):
    """Order of a listing, by ``occurred_at``."""

    NEWEST_FIRST = "newest_first"
    OLDEST_FIRST = "oldest_first"


@dataclass(frozen=True, slots=True)
class Event:
    """The channel's own name for something that happened there, unique per tenant, agent and user."""

    source: str
    """Where ids come from, for example ``slack:T024BE7LD/C0G9QF9GZ``."""
    event_id: str


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who said it; in a thread with several people not always the user whose memory it is."""

    speaker_id: str = ""
    display_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTurn:
    """A turn to store, or an edit or deletion of one."""

    agent_id: str
    """UUID of the agent that remembers."""
    user_id: str
    """The user whose memory it is."""
    conversation_id: str
    role: Role = Role.USER
    content: str = ""
    """1 to 32,768 characters; empty for a deletion."""
    speaker: Speaker | None = None
    """Default: the user for a turn of the user, nobody in particular otherwise."""
    occurred_at: datetime | None = None
    """When it was said, with a time zone. Default: the moment of the call."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    event: Event | None = None
    """The channel's name for it: a repetition returns the first turn."""
    request_id: str = ""
    """Makes a repetition safe where there is no ``event``. Default: one is made, so that retries are safe."""
    action: TurnAction = TurnAction.SAID
    target: Event | None = None
    """The event that an edit or a deletion changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A stored turn in its latest state."""

    turn_id: str
    agent_id: str
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
    edited_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendedTurn:
    """What became of a turn that was stored."""

    turn_id: str
    created_at: datetime
    repeated: bool
    """It was stored before; nothing was added."""
    token_count: int
    """Word pieces of the content, the two markers around it included."""
    truncated: bool
    """It has more than 256 word pieces: the vector stands for the first 256."""
    model: ModelIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedTurn:
    """Why one turn of several was not stored."""

    code: int
    """Numeric gRPC status code."""
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A half-open span of time; None leaves an end open."""

    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnScope:
    """Which turns a call looks at; each field narrows, what is left out does not."""

    agent_id: str = ""
    user_id: str = ""
    conversation_ids: tuple[str, ...] = ()
    roles: tuple[Role, ...] = ()
    occurred: TimeRange | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Only turns whose metadata contains this object."""
    speaker_ids: tuple[str, ...] = ()
    exclude_turn_ids: tuple[str, ...] = ()
    exclude_conversation_ids: tuple[str, ...] = ()
    as_of: datetime | None = None
    """See the memory as it was at this moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimePreference:
    """A soft preference for time: either a half-life or a window. It hides nothing."""

    half_life: timedelta | None = None
    window: TimeRange | None = None
    reference_time: datetime | None = None
    """Moment the half-life counts from. Default: the moment of the call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingOptions:
    """Weights of the fused order; None takes the server's default. Ranges are in the contract."""

    vector_weight: float | None = None
    lexical_weight: float | None = None
    neighbour_credit: float | None = None
    session_prior: float | None = None
    speaker_boost: float | None = None
    time_weight: float | None = None
    session_gap: timedelta | None = None
    min_score: float | None = None
    duplicate_similarity: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorePart:
    """One part of a score."""

    name: str
    raw: float
    normalized: float
    weight: float
    rank: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Where the time of a call went, in microseconds."""

    queue_micros: int
    embed_micros: int
    database_micros: int
    rank_micros: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallHit:
    """One recalled turn."""

    turn: Turn
    score: float
    """Larger is better; comparable within one recall only."""
    similarity: float
    """Cosine similarity of query and turn, -1 to 1."""
    parts: tuple[ScorePart, ...]
    """Only with ``explain``."""
    context: tuple[Turn, ...]
    """Turns around the hit in the order they were said; only with ``neighbours``."""
    duplicate_turn_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recall:
    """The answer to a recall."""

    hits: tuple[RecallHit, ...]
    """Best first: min(top_k, visible turns) of them."""
    model: ModelIdentity
    strategy: str
    query_truncated: bool
    budget_reached: bool
    timings: Timings | None
    """Only with ``explain``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnHistory:
    """Everything that happened to one turn."""

    rows: tuple[Turn, ...]
    """As they were stored, oldest first."""
    deleted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A conversation as its turns show it."""

    agent_id: str
    user_id: str
    conversation_id: str
    turn_count: int
    first_occurred_at: datetime
    last_occurred_at: datetime
