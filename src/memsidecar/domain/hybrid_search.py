"""Hybrid search: which passages answer this, by meaning and by word at once?"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from memsidecar.domain.caller import Right
from memsidecar.domain.documents import visible_scope
from memsidecar.domain.limits import DEFAULT_TOP_K
from memsidecar.domain.observation import UNOBSERVED
from memsidecar.domain.query_clauses import wanted_part

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from memsidecar.domain.caller import Caller
    from memsidecar.domain.documents import Document, DocumentChunk, DocumentScope
    from memsidecar.domain.embedding import Embedder, ModelIdentity
    from memsidecar.domain.observation import Observer
    from memsidecar.domain.recall import ScorePart

_EXCLUSION = re.compile(r"(?:(?<=\s)|^)-(?:\"[^\"]*\"|[^\s\"]+)")


@dataclass(frozen=True, slots=True)
class HybridOptions:
    """How the two legs are weighed. The defaults are those of ``hybrid_search()`` in the database."""

    vector_weight: float = 0.4
    lexical_weight: float = 0.6
    candidates: int = 100
    """Chunks taken from each leg before fusing."""
    min_score: float | None = None
    """Hits below it are dropped; None drops nothing."""


@dataclass(frozen=True, slots=True)
class HybridSearchRequest:
    """A validated search."""

    query: str
    """Natural language; ``"exact words"`` must stand together, ``-word`` and ``-"exact words"`` must not occur."""
    scope: DocumentScope
    top_k: int = DEFAULT_TOP_K
    options: HybridOptions = HybridOptions()
    group_by_document: bool = False
    neighbours: int = 0
    explain: bool = False
    highlight: bool = False


@dataclass(frozen=True, slots=True)
class DocumentHit:
    """A found passage."""

    chunk: DocumentChunk
    document: Document
    score: float
    similarity: float
    parts: tuple[ScorePart, ...] = ()
    highlights: tuple[tuple[int, int], ...] = ()
    """Spans ``[start, end)`` of the chunk's text that match the query's words."""
    context: tuple[DocumentChunk, ...] = ()
    more: tuple[DocumentHit, ...] = ()
    """Further hits of the same document, when hits are grouped."""


@dataclass(frozen=True, slots=True)
class HybridSearchResult:
    """The answer to a search."""

    hits: tuple[DocumentHit, ...]
    model: ModelIdentity
    strategy: str
    query_truncated: bool
    timings: Mapping[str, float] = field(default_factory=dict)
    """Seconds per stage; empty unless explained."""


class HybridSearchStore(Protocol):
    """Finds passages. Raises the storage errors of ``domain.errors``."""

    async def search(
        self, tenant_id: UUID, request: HybridSearchRequest, vector: bytes, *, deadline: float | None
    ) -> tuple[str, Sequence[DocumentHit]]:
        """Give the hits, best first, and the name of the strategy that found their neighbours.

        There are min(top_k, matching) of them, of documents when hits are grouped.
        """
        ...


def meaning_of(query: str) -> str:
    """Give the part of a query that says what is wanted: without exclusions, and without quotation marks."""
    wanted = " ".join(_EXCLUSION.sub(" ", query).replace('"', " ").split())
    return wanted or query


class HybridSearch:
    """Searches documents for callers."""

    def __init__(self, store: HybridSearchStore, embedder: Embedder, observer: Observer = UNOBSERVED) -> None:
        self._store = store
        self._embedder = embedder
        self._observer = observer

    async def search(self, caller: Caller, request: HybridSearchRequest) -> HybridSearchResult:
        """Find passages, best first.

        Raises:
            PermissionDenied: The credential lacks ``recall``.
            EmbeddingOverloaded: Repeat later.
        """
        wanted = wanted_part(request.query)
        clock = asyncio.get_running_loop().time
        tenant_id = caller.tenant(Right.RECALL)
        scope = visible_scope(caller, request.scope)
        began = clock()
        [embedding] = await self._embedder.embed(
            [meaning_of(wanted)], owner=tenant_id, deadline=caller.deadline
        )
        embedded = clock()
        strategy, hits = await self._store.search(
            tenant_id, replace(request, query=wanted, scope=scope), embedding.vector, deadline=caller.deadline
        )
        self._observer.searched("hybrid_search", strategy)
        timings = {"embed": embedded - began, "database": clock() - embedded} if request.explain else {}
        return HybridSearchResult(tuple(hits), self._embedder.model, strategy, embedding.truncated, timings)
