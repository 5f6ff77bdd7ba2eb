"""Recall: what do we already know that matters for this query?"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from memsidecar.domain.caller import Right
from memsidecar.domain.limits import DEFAULT_TOP_K
from memsidecar.domain.observation import UNOBSERVED, Stage
from memsidecar.domain.scopes import allowed_scope

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, timedelta
    from uuid import UUID

    from memsidecar.domain.caller import Caller
    from memsidecar.domain.embedding import Embedder, ModelIdentity
    from memsidecar.domain.observation import Observer
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


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A turn and its cosine similarity to the query."""

    turn: Turn
    similarity: float


class RecallStore(Protocol):
    """Finds turns by their vectors."""

    async def nearest(
        self, tenant_id: UUID, scope: TurnScope, vector: bytes, *, limit: int, deadline: float | None
    ) -> tuple[str, Sequence[Neighbour]]:
        """Give min(limit, visible) turns by falling similarity, and the name of the strategy that found them.

        Ties are ordered by ``occurred_at``, latest first, then by id.
        """
        ...


class RecallEngine:
    """Answers recalls for callers."""

    def __init__(self, store: RecallStore, embedder: Embedder, observer: Observer = UNOBSERVED) -> None:
        self._store = store
        self._embedder = embedder
        self._observer = observer

    async def recall(self, caller: Caller, request: RecallRequest) -> Recall:
        """Find what matters for a query, best first: min(top_k, visible turns) hits.

        Raises:
            PermissionDenied: The credential lacks ``recall`` or does not cover the agent.
            EmbeddingOverloaded: Repeat later.
        """
        tenant_id = caller.tenant(Right.RECALL)
        scope = allowed_scope(caller, request.scope)
        [embedding] = await self._embedder.embed([request.query], deadline=caller.deadline)
        strategy, neighbours = await self._store.nearest(
            tenant_id, scope, embedding.vector, limit=request.top_k, deadline=caller.deadline
        )
        self._observer.searched("recall", strategy)
        with self._observer.stage(Stage.RANK):
            hits = tuple(
                RecallHit(turn=neighbour.turn, score=neighbour.similarity, similarity=neighbour.similarity)
                for neighbour in neighbours
            )
        return Recall(
            hits=hits,
            model=self._embedder.model,
            strategy=strategy,
            query_truncated=embedding.truncated,
        )
