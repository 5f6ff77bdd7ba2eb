"""What a recall asks and answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from memsidecar.domain.limits import DEFAULT_TOP_K

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta
    from uuid import UUID

    from memsidecar.domain.embedding import ModelIdentity
    from memsidecar.domain.turns import TimeRange, Turn, TurnScope


class RecallMode(Enum):
    """How hits are found and ordered."""

    FUSED = "fused"
    VECTOR = "vector"
    LEXICAL = "lexical"


@dataclass(frozen=True, slots=True)
class TimePreference:
    """A soft preference for time: a half-life or a window, never both."""

    half_life: timedelta | None = None
    window: TimeRange | None = None
    reference: datetime | None = None


@dataclass(frozen=True, slots=True)
class RankingOptions:
    """Weights a request may set; None takes the default."""

    vector_weight: float | None = None
    lexical_weight: float | None = None
    neighbour_credit: float | None = None
    session_prior: float | None = None
    speaker_boost: float | None = None
    time_weight: float | None = None
    reply_credit: float | None = None
    question_penalty: float | None = None
    date_boost: float | None = None
    session_gap: timedelta | None = None
    min_score: float | None = None
    duplicate_similarity: float | None = None


@dataclass(frozen=True, slots=True)
class RecallRequest:
    """A validated recall."""

    query: str
    scope: TurnScope
    top_k: int = DEFAULT_TOP_K
    mode: RecallMode = RecallMode.FUSED
    ranking: RankingOptions = RankingOptions()
    time_preference: TimePreference | None = None
    neighbours: int = 0
    token_budget: int = 0
    explain: bool = False


@dataclass(frozen=True, slots=True)
class ScorePart:
    """One part of a score."""

    name: str
    raw: float
    normalized: float
    weight: float
    rank: int


@dataclass(frozen=True, slots=True)
class RecallHit:
    """One recalled turn."""

    turn: Turn
    score: float
    similarity: float
    parts: tuple[ScorePart, ...] = ()
    context: tuple[Turn, ...] = ()
    duplicate_turn_ids: tuple[UUID, ...] = ()


@dataclass(frozen=True, slots=True)
class Recall:
    """The answer to a recall."""

    hits: tuple[RecallHit, ...]
    model: ModelIdentity
    strategy: str
    query_truncated: bool
    budget_reached: bool = False
    timings: Mapping[str, float] = field(default_factory=dict)
    """Seconds per stage."""
