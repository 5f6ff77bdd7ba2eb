"""Exports and imports in Postgres. Implements ``domain.user_export.ExportStore``."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from memsidecar.domain.erasure import Subject, SubjectKind
from memsidecar.postgres.audit_store import record_audit_events
from memsidecar.postgres.erasure_store import tenant_key
from memsidecar.postgres.locks import turns_lock, user_memory_lock
from memsidecar.postgres.queries import load_queries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    import asyncpg

    from memsidecar.domain.audit import NewAuditEvent
    from memsidecar.domain.embedding import Embedding
    from memsidecar.postgres.database import Database

_QUERIES = load_queries("export")
_LINES_AT_ONCE = 200
_REVISIONS_AT_ONCE = 20
"""Each may have 128 KiB."""
_CHUNKS_AT_ONCE = 500


class PostgresExportStore:
    """Reads lines as the database writes them, page by page, each page in a transaction of its own."""

    def __init__(self, database: Database, *, model_id: int) -> None:
        self._database = database
        self._model_id = model_id

    async def subject_digest(self, tenant_id: UUID, user_id: str, *, deadline: float | None) -> str:
        """Give the name of a user in the audit trail; see the port."""
        async with self._database.tenant(tenant_id, deadline=deadline) as connection:
            key = await tenant_key(connection, tenant_id)
        return Subject(SubjectKind.USER, user_id).digest(key)

    async def record(self, event: NewAuditEvent, *, deadline: float | None) -> None:
        """Record an act; see the port."""
        async with self._database.tenant(event.trail, deadline=deadline) as connection:
            await record_audit_events(connection, [event])

    async def read(
        self, kind: str, tenant_id: UUID, user_id: str, *, with_vectors: bool
    ) -> AsyncIterator[tuple[str, str]]:
        """Give the lines of one kind; see the port."""
        if kind == "turn":
            lines = self._read_turns(tenant_id, user_id, with_vectors)
        elif kind == "document":
            lines = self._read_documents(tenant_id, user_id, with_vectors)
        elif kind == "memory_revision":
            lines = self._read_pages(
                kind, "revision_lines", ("agent_id", "revision"), (tenant_id, user_id), (_REVISIONS_AT_ONCE,)
            )
        elif kind == "archived_passage":
            lines = self._read_pages(
                kind, "passage_lines", ("id",), (tenant_id, user_id), (_LINES_AT_ONCE, with_vectors)
            )
        else:
            lines = self._read_pages(
                kind, "ingestion_lines", ("job_id", "position"), (tenant_id, user_id), (1,)
            )
        async for line in lines:
            yield line

    async def _read_turns(
        self, tenant_id: UUID, user_id: str, with_vectors: bool
    ) -> AsyncIterator[tuple[str, str]]:
        for query, key in (("own_turns", ("occurred_at", "id")), ("spoken_turns", ("id",))):
            after: tuple[Any, ...] = (None,) * len(key)
            while True:
                async with self._database.tenant(tenant_id) as connection:
                    found = await connection.fetch(
                        _QUERIES[query], tenant_id, user_id, *after, _LINES_AT_ONCE
                    )
                    lines = await connection.fetch(
                        _QUERIES["turn_lines"], tenant_id, [row["id"] for row in found], with_vectors
                    )
                for row in lines:
                    yield "turn", row["line"]
                if len(found) < _LINES_AT_ONCE:
                    break
                after = tuple(found[-1][name] for name in key)

    async def _read_documents(
        self, tenant_id: UUID, user_id: str, with_vectors: bool
    ) -> AsyncIterator[tuple[str, str]]:
        async for _kind, line, document in self._read_rows(
            "document", "document_line", ("id",), (tenant_id, user_id), ()
        ):
            yield "document", line
            async for chunk_line in self._read_pages(
                "chunk",
                "chunk_lines",
                ("chunk_index",),
                (tenant_id, document["id"]),
                (_CHUNKS_AT_ONCE, with_vectors),
                start=(-1,),
            ):
                yield chunk_line

    async def _read_pages(
        self,
        kind: str,
        query: str,
        key: tuple[str, ...],
        before: tuple[Any, ...],
        behind: tuple[Any, ...],
        *,
        start: tuple[Any, ...] | None = None,
    ) -> AsyncIterator[tuple[str, str]]:
        async for row_kind, line, _row in self._read_rows(kind, query, key, before, behind, start=start):
            yield row_kind, line

    async def _read_rows(
        self,
        kind: str,
        query: str,
        key: tuple[str, ...],
        before: tuple[Any, ...],
        behind: tuple[Any, ...],
        *,
        start: tuple[Any, ...] | None = None,
    ) -> AsyncIterator[tuple[str, str, asyncpg.Record]]:
        """Run a statement again and again, each time after the last row it gave, until it gives none."""
        after = start or (None,) * len(key)
        while True:
            async with self._database.tenant(before[0]) as connection:
                rows = await connection.fetch(_QUERIES[query], *before, *after, *behind)
            for row in rows:
                yield kind, row["line"], row
            if not rows:
                return
            after = tuple(rows[-1][name] for name in key)

    async def import_turns(
        self,
        tenant_id: UUID,
        turns: Sequence[Sequence[Mapping[str, Any]]],
        vectors: Sequence[Sequence[Embedding]],
    ) -> int:
        """Take in turns; see the port."""
        rows: list[dict[str, Any]] = []
        row_vectors: list[bytes] = []
        seen: set[str] = set()
        repeated = 0
        for position, (turn, embeddings) in enumerate(zip(turns, vectors, strict=True)):
            names = {row["id"] for row in turn} | {event for row in turn for event in _events(row)}
            if names & seen:  # the same turn twice in one export
                repeated += 1
                continue
            seen |= names
            for row, embedding in zip(turn, embeddings, strict=True):
                row_vectors.append(embedding.vector)
                rows.append({**row, "position": position, "vector_position": len(row_vectors)})
        memories = {(row["agent_id"], row["user_id"]) for row in rows}
        locks = [
            turns_lock(tenant_id, UUID(agent_id), user_id, shared=False) for agent_id, user_id in memories
        ]
        async with self._database.tenant(tenant_id, locks=locks) as connection:
            known = await connection.fetch(
                _QUERIES["import_turns"], tenant_id, self._model_id, json.dumps(rows), row_vectors
            )
        return repeated + len(known)

    async def import_revision(
        self, tenant_id: UUID, revision: Mapping[str, Any], *, following: bool
    ) -> bool | None:
        """Take in a revision; see the port."""
        agent_id = UUID(revision["agent_id"])
        key = (tenant_id, revision["user_id"], agent_id)
        written = (revision["revision"], revision["memory"], json.dumps(revision["metadata"]))
        lock = user_memory_lock(tenant_id, agent_id, revision["user_id"])
        async with self._database.tenant(tenant_id, locks=[lock]) as connection:
            stored = await connection.fetchrow(_QUERIES["stored_revision"], *key, *written)
            if stored is not None and stored["same"] is not None:
                return False if stored["same"] else None
            if stored is not None and (not following or revision["revision"] <= stored["current_revision"]):
                return None
            await connection.execute(
                _QUERIES["import_revision"],
                *key,
                *written,
                _moment(revision["updated_at"]),
                revision["updated_by"],
            )
        return True

    async def import_passage(self, tenant_id: UUID, passage: Mapping[str, Any], embedding: Embedding) -> bool:
        """Take in an archived passage; see the port."""
        async with self._database.tenant(tenant_id) as connection:
            taken = await connection.fetchval(
                _QUERIES["import_passage"],
                tenant_id,
                passage["user_id"],
                UUID(passage["agent_id"]),
                UUID(passage["id"]),
                passage["revision"],
                passage["passage"],
                _moment(passage["archived_at"]),
                self._model_id,
                embedding.vector,
            )
        return taken is not None

    async def import_document(
        self,
        tenant_id: UUID,
        document: Mapping[str, Any],
        chunks: Sequence[Mapping[str, Any]],
        vectors: Sequence[Embedding],
    ) -> bool:
        """Take in a document with its chunks; see the port."""
        async with self._database.tenant(tenant_id) as connection:
            document_id = await connection.fetchval(
                _QUERIES["import_document"], tenant_id, json.dumps(dict(document))
            )
            if document_id is None:
                return False
            for first in range(0, len(chunks), _CHUNKS_AT_ONCE):
                some = chunks[first : first + _CHUNKS_AT_ONCE]
                rows = [{**chunk, "vector_position": index} for index, chunk in enumerate(some, start=1)]
                await connection.execute(
                    _QUERIES["import_chunks"],
                    tenant_id,
                    document_id,
                    self._model_id,
                    json.dumps(rows),
                    [embedding.vector for embedding in vectors[first : first + _CHUNKS_AT_ONCE]],
                )
        return True


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _events(row: Mapping[str, Any]) -> Iterator[str]:
    """Name the events a row is about, so that the same turn twice in one import is noticed."""
    memory = [row["agent_id"], row["user_id"]]
    for source, event_id in (
        (row["source"], row["event_id"]),
        (row["target_source"], row["target_event_id"]),
    ):
        if event_id is not None:
            yield json.dumps([*memory, source, event_id])
