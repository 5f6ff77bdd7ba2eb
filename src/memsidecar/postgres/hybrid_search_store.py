"""Hybrid search in Postgres. Implements ``domain.hybrid_search.HybridSearchStore``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

from memsidecar.domain.documents import DocumentChunk
from memsidecar.domain.highlighting import highlighted
from memsidecar.domain.hybrid_search import DocumentHit
from memsidecar.domain.recall import ScorePart
from memsidecar.postgres.document_store import chunk_from_row, document_from_row, scope_parameters
from memsidecar.postgres.queries import load_queries

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from memsidecar.domain.hybrid_search import HybridSearchRequest
    from memsidecar.postgres.database import Connection, Database

_QUERIES = load_queries("hybrid_search")


class PostgresHybridSearchStore:
    """Runs ``hybrid_search()``."""

    def __init__(self, database: Database, *, model_id: int) -> None:
        self._database = database
        self._model_id = model_id

    async def search(
        self, tenant_id: UUID, request: HybridSearchRequest, vector: bytes, *, deadline: float | None
    ) -> tuple[str, Sequence[DocumentHit]]:
        """Find passages; see the port."""
        options = request.options
        async with self._database.tenant(tenant_id, deadline=deadline) as connection:
            rows = await connection.fetch(
                _QUERIES["hybrid_search"],
                request.query,
                vector,
                request.top_k,
                *scope_parameters(request.scope),
                self._model_id,
                options.vector_weight,
                options.lexical_weight,
                options.candidates,
                request.group_by_document,
                tenant_id,
            )
            hits = [
                _hit_from_row(row, request)
                for row in rows
                if options.min_score is None or row["score"] >= options.min_score
            ]
            if request.highlight:
                hits = await _with_highlights(connection, request.query, hits)
            if request.neighbours:
                hits = await _with_neighbours(connection, tenant_id, hits, request.neighbours)
        return "exact", _grouped(hits) if request.group_by_document else hits


def _hit_from_row(row: asyncpg.Record, request: HybridSearchRequest) -> DocumentHit:
    document = document_from_row(row)
    options = request.options
    parts = (
        ScorePart(
            "vector", row["similarity"], row["vector_score"], options.vector_weight, row["vector_rank"]
        ),
        ScorePart(
            "lexical", row["bm25_score"], row["lexical_score"], options.lexical_weight, row["lexical_rank"]
        ),
    )
    chunk = DocumentChunk(
        chunk_id=UUID(int=row["chunk_id"].int),
        document_id=document.document_id,
        chunk_index=row["chunk_index"],
        text=row["chunk_content"],
        start_char=row["start_char"],
        end_char=row["end_char"],
        heading_path=tuple(row["heading_path"]),
        page_number=row["page_number"],
        metadata=document.metadata,
    )
    return DocumentHit(chunk, document, row["score"], row["similarity"], parts if request.explain else ())


async def _with_highlights(
    connection: Connection, query: str, hits: Sequence[DocumentHit]
) -> list[DocumentHit]:
    rows = await connection.fetch(
        _QUERIES["matching_words"],
        query,
        [hit.document.language for hit in hits],
        [hit.chunk.text for hit in hits],
    )
    words: dict[int, set[str]] = {}
    for row in rows:
        words.setdefault(row["position"], set()).add(row["word"])
    return [
        replace(hit, highlights=highlighted(hit.chunk.text, words.get(position, set()), query))
        for position, hit in enumerate(hits, start=1)
    ]


async def _with_neighbours(
    connection: Connection, tenant_id: UUID, hits: Sequence[DocumentHit], each_way: int
) -> list[DocumentHit]:
    rows = await connection.fetch(
        _QUERIES["neighbouring_chunks"],
        tenant_id,
        [hit.chunk.document_id for hit in hits],
        [hit.chunk.chunk_index for hit in hits],
        each_way,
    )
    context: dict[int, list[DocumentChunk]] = {}
    for row in rows:
        context.setdefault(row["position"], []).append(chunk_from_row(row))
    return [
        replace(hit, context=tuple(context.get(position, ()))) for position, hit in enumerate(hits, start=1)
    ]


def _grouped(hits: Sequence[DocumentHit]) -> list[DocumentHit]:
    """Put the further hits of a document, which follow its best one, inside it."""
    groups: list[list[DocumentHit]] = []
    for hit in hits:
        if groups and groups[-1][0].document.document_id == hit.document.document_id:
            groups[-1].append(hit)
        else:
            groups.append([hit])
    return [replace(group[0], more=tuple(group[1:])) for group in groups]
