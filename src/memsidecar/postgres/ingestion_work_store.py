"""Work on ingestion jobs in Postgres. Implements ``domain.ingestion_worker.IngestionWorkStore``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from memsidecar.domain.document_reading import SourceDocument
from memsidecar.domain.documents import DocumentType
from memsidecar.domain.identifiers import new_uuid7
from memsidecar.domain.ingestion_worker import (
    Assignment,
    HeldJob,
    IngestionBacklog,
    LeaseLost,
    StartedDocument,
)
from memsidecar.postgres.queries import load_queries

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from memsidecar.domain.document_reading import ReadDocument
    from memsidecar.domain.ingestion_worker import FinishedChunk
    from memsidecar.postgres.database import Connection, Database

_QUERIES = load_queries("ingestion")
_ROWS_AT_ONCE = 500
"""Chunks in one statement: about 1.5 MB."""


class PostgresIngestionWorkStore:
    """Takes jobs, and stores documents with their chunks."""

    def __init__(self, database: Database, *, model_id: int) -> None:
        self._database = database
        self._model_id = model_id

    async def claim(self, worker_id: UUID, lease: timedelta) -> HeldJob | None:
        """Take a job; see the port."""
        async with self._database.control() as connection:
            row = await connection.fetchrow(_QUERIES["claim_job"], worker_id, int(lease.total_seconds()))
        if row is None:
            return None
        return HeldJob(UUID(int=row["tenant_id"].int), UUID(int=row["job_id"].int), worker_id)

    async def backlog(self) -> IngestionBacklog:
        """Tell how much work there is; see the port."""
        async with self._database.control() as connection:
            row = await connection.fetchrow(_QUERIES["backlog"])
        return IngestionBacklog(row["open_jobs"], row["oldest_seconds"])

    async def renew(self, job: HeldJob, lease: timedelta) -> bool:
        """Hold a job for longer; see the port."""
        async with self._database.tenant(job.tenant_id) as connection:
            held = await connection.fetchval(
                _QUERIES["renew_job"], job.tenant_id, job.job_id, job.worker_id, int(lease.total_seconds())
            )
        return held is not None

    async def release(self, job: HeldJob) -> None:
        """Give a job back; see the port."""
        async with self._database.tenant(job.tenant_id) as connection:
            await connection.execute(_QUERIES["release_job"], job.tenant_id, job.job_id, job.worker_id)

    async def assignments(self, job: HeldJob, *, limit: int) -> list[Assignment]:
        """Give documents that are not done; see the port."""
        async with self._database.tenant(job.tenant_id) as connection:
            rows = await connection.fetch(_QUERIES["job_assignments"], job.tenant_id, job.job_id, limit)
        return [Assignment(row["position"], row["size"]) for row in rows]

    async def start(self, job: HeldJob, position: int) -> StartedDocument | None:
        """Begin a document; see the port."""
        async with self._database.tenant(job.tenant_id) as connection:
            await _hold(connection, job)
            row = await connection.fetchrow(_QUERIES["begin_document"], job.tenant_id, job.job_id, position)
            if row is None:
                return None
            kept = await connection.fetchval(_QUERIES["keep_document"], job.tenant_id, job.job_id, position)
            if kept is not None:
                await _finish(connection, job, position, "unchanged", document_id=kept)
                return None
            raw = await connection.fetchval(_QUERIES["document_bytes"], job.tenant_id, job.job_id, position)
        kind = row["document_type"]
        return StartedDocument(
            SourceDocument(row["document_key"], raw, DocumentType(kind) if kind else None, row["title"]),
            attempt=row["attempts"],
        )

    async def store(
        self, job: HeldJob, position: int, document: ReadDocument, chunks: Sequence[FinishedChunk]
    ) -> None:
        """Store a document with its chunks; see the port."""
        async with self._database.tenant(job.tenant_id) as connection:
            document_id = await connection.fetchval(
                _QUERIES["replace_document"],
                job.tenant_id,
                job.job_id,
                position,
                new_uuid7(),
                document.document_type.value,
                document.title,
                document.content,
                len(chunks),
            )
            if document_id is not None:
                await connection.execute(_QUERIES["delete_chunks"], job.tenant_id, document_id)
                for first in range(0, len(chunks), _ROWS_AT_ONCE):
                    some = chunks[first : first + _ROWS_AT_ONCE]
                    columns = _chunk_columns(document.content, some)
                    await connection.execute(
                        _QUERIES["insert_chunks"], job.tenant_id, document_id, self._model_id, first, *columns
                    )
            # The job comes last, as its row is what everybody else who works on it waits for.
            await _hold(connection, job)
            status = "completed" if document_id is not None else "unchanged"
            await _finish(connection, job, position, status, document_id=document_id)

    async def fail(self, job: HeldJob, position: int, error: str) -> None:
        """Record why a document is not taken in; see the port."""
        async with self._database.tenant(job.tenant_id) as connection:
            await _hold(connection, job)
            await _finish(connection, job, position, "failed", error=error)

    async def drop_abandoned(self) -> None:
        """Forget jobs whose documents stopped arriving; see the port."""
        async with self._database.control() as connection:
            await connection.execute(_QUERIES["drop_abandoned_jobs"])


def _chunk_columns(content: str, chunks: Sequence[FinishedChunk]) -> tuple[list[Any], ...]:
    return (
        [uuid4() for _ in chunks],
        [content[chunk.start : chunk.end] for chunk in chunks],
        [chunk.start for chunk in chunks],
        [chunk.end for chunk in chunks],
        [json.dumps(chunk.heading_path) for chunk in chunks],
        [chunk.page for chunk in chunks],
        [chunk.embedding.token_count for chunk in chunks],
        [chunk.embedding.vector for chunk in chunks],
    )


async def _hold(connection: Connection, job: HeldJob) -> None:
    """Keep everybody else from the job until the transaction ends.

    Raises:
        LeaseLost: It was cancelled, or somebody else has it.
    """
    if await connection.fetchval(_QUERIES["lock_held_job"], job.tenant_id, job.job_id, job.worker_id) is None:
        raise LeaseLost


async def _finish(
    connection: Connection,
    job: HeldJob,
    position: int,
    status: str,
    *,
    document_id: UUID | None = None,
    error: str | None = None,
) -> None:
    """Count a document of a job that is held.

    Raises:
        LeaseLost: It was counted before.
    """
    if (
        await connection.fetchval(_QUERIES["lock_queued_document"], job.tenant_id, job.job_id, position)
        is None
    ):
        raise LeaseLost
    await connection.execute(
        _QUERIES["finish_document"], job.tenant_id, job.job_id, position, status, document_id, error
    )
