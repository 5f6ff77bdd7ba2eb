"""Recall: what do we already know that matters for this query?"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from memsidecar.domain.caller import Right
from memsidecar.domain.embedding import Lane
from memsidecar.domain.observation import UNOBSERVED, Stage
from memsidecar.domain.participants import spoken_query
from memsidecar.domain.ranking import Weights, rank, weights_of
from memsidecar.domain.recall import Recall, RecallHit, RecallMode
from memsidecar.domain.scopes import allowed_scope

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from uuid import UUID

    from memsidecar.domain.caller import Caller
    from memsidecar.domain.embedding import Embedder, Embedding
    from memsidecar.domain.observation import Observer
    from memsidecar.domain.participants import Participants
    from memsidecar.domain.ranking import Candidate, Corpus, Ranked
    from memsidecar.domain.recall import RecallRequest
    from memsidecar.domain.turns import Turn, TurnScope

POOL = 50
"""Candidates of each leg that are ranked, with their neighbours: more changes nothing on LoCoMo, 50 hardly anything."""

WORDS_ALONE = Weights(
    vector=0,
    lexical=1,
    neighbour_credit=0,
    reply_credit=0,
    question_penalty=0,
    session_prior=0,
    speaker_boost=0,
    date_boost=0,
    time=0,
)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A turn, the row it stands in, and its exact cosine similarity to the query."""

    row_id: UUID
    turn: Turn
    similarity: float


class RecallReader(Protocol):
    """One consistent view of a tenant's turns."""

    strategy: str
    """How the neighbours were found: ``exact`` when the whole scope was measured."""

    async def nearest(self, scope: TurnScope, vector: bytes, *, limit: int) -> Sequence[Neighbour]:
        """Give min(limit, visible) turns by falling similarity; ties by time, latest first, then by id."""
        ...

    async def candidates(
        self, scope: TurnScope, vector: bytes, query: str, *, language: str, pool: int
    ) -> tuple[Sequence[Candidate], Corpus]:
        """Give the best of each leg with their neighbours, in order of thread and position."""
        ...

    async def turns(self, row_ids: Sequence[UUID], vector: bytes) -> Mapping[UUID, Neighbour]:
        """Read turns by row."""
        ...

    async def near_duplicates(
        self, row_ids: Sequence[UUID], similarity: float
    ) -> Sequence[tuple[UUID, UUID]]:
        """Give pairs of rows at least so similar, the one that comes first in ``row_ids`` first."""
        ...

    async def context(
        self, row_ids: Sequence[UUID], reach: int, scope: TurnScope
    ) -> Mapping[UUID, Sequence[Turn]]:
        """Read up to ``reach`` visible turns on each side of rows, in the order they were said."""
        ...


class RecallStore(Protocol):
    """Where turns are found."""

    async def participants(
        self, tenant_id: UUID, scope: TurnScope, query: str, *, deadline: float | None
    ) -> Participants:
        """Say who speaks in a scope, as far as the query is concerned."""
        ...

    def reading(
        self, tenant_id: UUID, *, deadline: float | None
    ) -> AbstractAsyncContextManager[RecallReader]:
        """Open a view."""
        ...


@dataclass(slots=True)
class _Stopwatch:
    """Seconds per stage."""

    seconds: dict[str, float] = field(default_factory=dict)
    _since: float = field(default_factory=time.perf_counter)

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._since
        self._since = now


class RecallEngine:
    """Answers recalls for callers."""

    def __init__(self, store: RecallStore, embedder: Embedder, observer: Observer = UNOBSERVED) -> None:
        self._store = store
        self._embedder = embedder
        self._observer = observer

    async def recall(self, caller: Caller, request: RecallRequest) -> Recall:
        """Find what matters for a query, best first: min(top_k, visible turns) hits; by words alone, those with words.

        Raises:
            PermissionDenied: The credential lacks ``recall`` or does not cover the agent.
            EmbeddingOverloaded: Repeat later.
        """
        tenant_id = caller.tenant(Right.RECALL)
        request = replace(request, scope=allowed_scope(caller, request.scope))
        stopwatch = _Stopwatch()
        participants = None
        if request.mode is not RecallMode.VECTOR:
            participants = await self._store.participants(
                tenant_id, request.scope, request.query, deadline=caller.deadline
            )
            stopwatch.lap("database")
        text = request.query if participants is None else spoken_query(request.query, participants)
        [embedding] = await self._embedder.embed([text], owner=tenant_id, deadline=caller.deadline)
        stopwatch.lap("embed")
        async with self._store.reading(tenant_id, deadline=caller.deadline) as reader:
            if participants is None:
                hits = await _nearest(reader, request, embedding)
            else:
                hits = await _ranked(reader, request, embedding, participants, caller.language, stopwatch)
            hits, budget_reached = await _with_context(reader, request, hits)
            strategy = reader.strategy
        stopwatch.lap("database")
        self._observer.searched("recall", strategy)
        if participants is not None:
            self._observer.spent(Stage.RANK, Lane.INTERACTIVE, stopwatch.seconds["rank"])
        return Recall(
            hits=tuple(hit for _row_id, hit in hits),
            model=self._embedder.model,
            strategy=strategy,
            query_truncated=embedding.truncated,
            budget_reached=budget_reached,
            timings=stopwatch.seconds if request.explain else {},
        )


_Hits = list[tuple["UUID", RecallHit]]


async def _nearest(reader: RecallReader, request: RecallRequest, embedding: Embedding) -> _Hits:
    options = request.ranking
    wanted = request.top_k if options.duplicate_similarity is None else request.top_k * 4
    found = await reader.nearest(request.scope, embedding.vector, limit=wanted)
    kept = [each for each in found if options.min_score is None or each.similarity >= options.min_score]
    duplicates = await _duplicates(reader, [each.row_id for each in kept], options.duplicate_similarity)
    turn_ids = {each.row_id: each.turn.turn_id for each in kept}
    return [
        (
            each.row_id,
            RecallHit(
                each.turn,
                score=each.similarity,
                similarity=each.similarity,
                duplicate_turn_ids=tuple(turn_ids[row_id] for row_id in duplicates[each.row_id]),
            ),
        )
        for each in kept
        if each.row_id in duplicates
    ][: request.top_k]


async def _ranked(  # noqa: PLR0917
    reader: RecallReader,
    request: RecallRequest,
    embedding: Embedding,
    participants: Participants,
    language: str,
    stopwatch: _Stopwatch,
) -> _Hits:
    candidates, corpus = await reader.candidates(
        request.scope, embedding.vector, request.query, language=language, pool=max(POOL, request.top_k)
    )
    stopwatch.lap("database")
    options = request.ranking
    wanted = request.top_k if options.duplicate_similarity is None else request.top_k * 4
    ranked = rank(
        candidates,
        corpus,
        request.query,
        participants,
        now=datetime.now(UTC),
        limit=wanted,
        weights=WORDS_ALONE if request.mode is RecallMode.LEXICAL else weights_of(options),
        time_preference=request.time_preference,
        explain=request.explain,
    )
    ranked = [each for each in ranked if _counts(each, request)]
    stopwatch.lap("rank")
    duplicates = await _duplicates(
        reader, [each.candidate.id for each in ranked], options.duplicate_similarity
    )
    ranked = [each for each in ranked if each.candidate.id in duplicates][: request.top_k]
    collapsed = [row_id for each in ranked for row_id in duplicates[each.candidate.id]]
    turns = await reader.turns([*(each.candidate.id for each in ranked), *collapsed], embedding.vector)
    return [
        (
            each.candidate.id,
            RecallHit(
                turns[each.candidate.id].turn,
                score=each.score,
                similarity=turns[each.candidate.id].similarity,
                parts=each.parts,
                duplicate_turn_ids=tuple(
                    turns[row_id].turn.turn_id for row_id in duplicates[each.candidate.id]
                ),
            ),
        )
        for each in ranked
    ]


def _counts(ranked: Ranked, request: RecallRequest) -> bool:
    if request.mode is RecallMode.LEXICAL and ranked.words == 0:
        return False
    return request.ranking.min_score is None or ranked.score >= request.ranking.min_score


async def _duplicates(
    reader: RecallReader, row_ids: Sequence[UUID], similarity: float | None
) -> dict[UUID, list[UUID]]:
    """Give the rows that stay, best first, each with the rows that collapse into it."""
    kept: dict[UUID, list[UUID]] = {row_id: [] for row_id in row_ids}
    if similarity is None or len(row_ids) < 2:
        return kept
    later_of: dict[UUID, list[UUID]] = {}
    for first, later in await reader.near_duplicates(row_ids, similarity):
        later_of.setdefault(first, []).append(later)
    for row_id in row_ids:
        if row_id in kept:
            for later in later_of.get(row_id, ()):
                if kept.pop(later, None) is not None:
                    kept[row_id].append(later)
    return kept


async def _with_context(reader: RecallReader, request: RecallRequest, hits: _Hits) -> tuple[_Hits, bool]:
    """Add the turns around each hit, and keep the best hits that fit the token budget, at least one."""
    if request.neighbours and hits:
        around = await reader.context([row_id for row_id, _hit in hits], request.neighbours, request.scope)
        hits = [(row_id, replace(hit, context=tuple(around.get(row_id, ())))) for row_id, hit in hits]
    if not request.token_budget:
        return hits, False
    kept: _Hits = []
    left = request.token_budget
    for row_id, hit in hits:
        size = hit.turn.token_count + sum(turn.token_count for turn in hit.context)
        if kept and size > left:
            continue
        kept.append((row_id, hit))
        left -= size
    return kept, len(kept) < len(hits)
