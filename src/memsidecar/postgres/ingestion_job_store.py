"""Ingestion jobs in Postgres, as callers see them. Implements ``domain.ingestion.IngestionJobStore``."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from memsidecar.domain.errors import NotFound
from memsidecar.domain.ingestion import IngestionFailure, IngestionJob, IngestionStatus
from memsidecar.domain.paging import Page
from memsidecar.postgres.queries import load_queries

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from memsidecar.domain.ingestion import QueuedDocument
    from memsidecar.postgres.database import Connection, Database

_QUERIES = load_queries("ingestion")


class PostgresIngestionJobStore:
    """Keeps jobs in ``ingestion_jobs`` and what they hold in ``ingestion_job_documents``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_by_request(
        self, tenant_id: UUID, request_id: str, *, deadline: float | None
    ) -> IngestionJob | None:
        """Read the job that a request id made; see the port."""
        async with self._database.tenant(tenant_id, deadline=deadline) as connection:
            return await _by_request(connection, tenant_id, request_id)

    async def submit(
        self,
        tenant_id: UUID,
        job_id: UUID,
        document: QueuedDocument,
        *,
        request_id: str,
        requested_by: str,
        deadline: float | None,
    ) -> IngestionJob:
        """Store a job of one document in one transaction; see the port."""
        async with self._database.tenant(tenant_id, deadline=deadline) as connection:
            earlier = await _by_request(connection, tenant_id, request_id)
            if earlier is not None:
                return earlier
            await connection.execute(_QUERIES["insert_job"], tenant_id, job_id, requested_by)
            await _add(connection, tenant_id, job_id, [document])
            await connection.execute(_QUERIES["close_job"], tenant_id, job_id, request_id or None)
            kept = await connection.fetchval(_QUERIES["keep_document"], tenant_id, job_id, 0)
            if kept is not None:
                await connection.execute(
                    _QUERIES["finish_document"], tenant_id, job_id, 0, "unchanged", kept, None
                )
            return await _read(connection, tenant_id, job_id)

    async def open(self, tenant_id: UUID, job_id: UUID, *, requested_by: str, deadline: float | None) -> None:
        """Begin a job; see the port."""
        async with self._database.tenant(tenant_id, deadline=deadline) as connection:
            await connection.execute(_QUERIES["insert_job"], tenant_id, job_id, requested_by)

    async def add(
        self, tenant_id: UUID, job_id: UUID, documents: Sequence[QueuedDocument], *, deadline: float | None
    ) -> None:
        """Store more documents of an open job; see the port."""
        async with self._database.tenant(tenant_id, deadline=deadline) as connection:
            await _add(connection, tenant_id, job_id, documents)

    async def close(
        self, tenant_id: UUID, job_id: UUID, *, request_id: str, deadline: float | None
    ) -> IngestionJob:
        """Make an open job one that is worked on; see the port."""
        async with self._database.tenant(tenant_id, deadline=deadline) as connection:
            earlier = await _by_request(connection, tenant_id, request_id)
            if earlier is not None:
                await connection.execute(_QUERIES["drop_job"], tenant_id, job_id)
                return earlier
            closed = await connection.fetchval(_QUERIES["close_job"], tenant_id, job_id, request_id or None)
            if closed is None:
                raise _no_longer_open()
            return await _read(connection, tenant_id, job_id)

    async def drop(self, tenant_id: UUID, job_id: UUID) -> None:
        """Forget an open job; see the port."""
        async with self._database.tenant(tenant_id) as connection:
            await connection.execute(_QUERIES["drop_job"], tenant_id, job_id)

    async def get(self, tenant_id: UUID, job_id: UUID, *, deadline: float | None) -> IngestionJob | None:
        """Read a job; see the port."""
        async with self._database.tenant(tenant_id, deadline=deadline) as connection:
            row = await connection.fetchrow(_QUERIES["read_jobs"], tenant_id, job_id, [], None, None, 1)
        return None if row is None else _job_from_row(row)

    async def list(
        self,
        tenant_id: UUID,
        statuses: Sequence[IngestionStatus],
        *,
        limit: int,
        after: tuple[datetime, UUID] | None,
        deadline: float | None,
    ) -> Page[IngestionJob]:
        """Read jobs; see the port."""
        async with self._database.tenant(tenant_id, deadline=deadline) as connection:
            rows = await connection.fetch(
                _QUERIES["read_jobs"],
                tenant_id,
                None,
                [status.value for status in statuses],
                *(after or (None, None)),
                limit + 1,
            )
        jobs = tuple(_job_from_row(row) for row in rows[:limit])
        return Page(jobs, (jobs[-1].created_at, jobs[-1].job_id) if len(rows) > limit else None)

    async def cancel(self, tenant_id: UUID, job_id: UUID, *, deadline: float | None) -> IngestionJob | None:
        """End a job; see the port."""
        async with self._database.tenant(tenant_id, deadline=deadline) as connection:
            await connection.execute(_QUERIES["cancel_job"], tenant_id, job_id)
            row = await connection.fetchrow(_QUERIES["read_jobs"], tenant_id, job_id, [], None, None, 1)
        return None if row is None else _job_from_row(row)


async def _by_request(connection: Connection, tenant_id: UUID, request_id: str) -> IngestionJob | None:
    if not request_id:
        return None
    await connection.execute(_QUERIES["lock_request"], tenant_id, request_id)
    found = await connection.fetchval(_QUERIES["find_job_by_request"], tenant_id, request_id)
    return None if found is None else await _read(connection, tenant_id, found)


async def _read(connection: Connection, tenant_id: UUID, job_id: UUID) -> IngestionJob:
    row = await connection.fetchrow(_QUERIES["read_jobs"], tenant_id, job_id, [], None, None, 1)
    if row is None:
        raise NotFound("the ingestion job was erased while it was being made: send it again")
    return _job_from_row(row)


async def _add(
    connection: Connection, tenant_id: UUID, job_id: UUID, documents: Sequence[QueuedDocument]
) -> None:
    rows = [
        (
            queued.document.document_key,
            queued.document.user_id,
            queued.document.is_global,
            queued.document.document_type.value if queued.document.document_type else None,
            queued.document.title,
            json.dumps(dict(queued.document.metadata)),
            queued.document.language,
            queued.document.occurred_at,
            queued.document.raw,
            queued.raw_sha256,
            queued.recipe_sha256,
            queued.document.refusal,
        )
        for queued in documents
    ]
    columns: list[list[Any]] = [list(column) for column in zip(*rows, strict=True)]
    if not await connection.fetch(_QUERIES["add_job_documents"], tenant_id, job_id, *columns):
        raise _no_longer_open()


def _no_longer_open() -> NotFound:
    return NotFound("the ingestion job was dropped because its documents came too slowly: send it again")


def _job_from_row(row: asyncpg.Record) -> IngestionJob:
    return IngestionJob(
        job_id=UUID(int=row["id"].int),
        status=IngestionStatus(row["status"]),
        total=row["total"],
        processed=row["processed"],
        failed=row["failed"],
        unchanged=row["unchanged"],
        progress_percent=row["progress_percent"],
        errors=tuple(
            IngestionFailure(error["document"], error["error"], datetime.fromisoformat(error["timestamp"]))
            for error in json.loads(row["errors"])
        ),
        cancelled=row["cancelled"],
        document_ids=tuple(UUID(int=document_id.int) for document_id in row["document_ids"]),
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
    )
