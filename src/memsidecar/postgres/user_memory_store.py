"""User memories in Postgres. Implements ``domain.user_memory.UserMemoryStore``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from memsidecar.domain.errors import NotFound, RequestContentDiffers
from memsidecar.domain.identifiers import ALL_AGENTS, new_uuid7
from memsidecar.domain.paging import Page
from memsidecar.domain.tenants import MemoryOverflow
from memsidecar.domain.user_memory import ArchivedPassage, UserMemory, WrittenMemory
from memsidecar.postgres.locks import user_memory_lock
from memsidecar.postgres.queries import load_queries

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    import asyncpg

    from memsidecar.domain.user_memory import MemoryKey, NewRevision, WriteRequest
    from memsidecar.postgres.database import Database

_QUERIES = load_queries("user_memory")


class PostgresUserMemoryStore:
    """Keeps memories in ``user_memories``, their history and archive beside it."""

    def __init__(self, database: Database, *, model_id: int) -> None:
        self._database = database
        self._model_id = model_id

    async def write(
        self,
        tenant_id: UUID,
        key: MemoryKey,
        request: WriteRequest | None,
        decide: Callable[[UserMemory | None, MemoryOverflow], NewRevision],
        *,
        author: str,
        deadline: float | None,
    ) -> WrittenMemory:
        """Write the next revision under the memory's lock; see the port."""
        columns = (tenant_id, key.user_id, key.agent_id or ALL_AGENTS)
        lock = user_memory_lock(tenant_id, key.agent_id or ALL_AGENTS, key.user_id)
        request_columns = (None, None) if request is None else (request.request_id, request.digest)
        async with self._database.tenant(tenant_id, deadline=deadline, locks=[lock]) as connection:
            row = await connection.fetchrow(_QUERIES["memory_to_write"], *columns, *request_columns)
            if row is None:
                raise NotFound("the tenant does not exist any more")
            current = None if row["revision"] is None else _memory(key, row)
            if row["repeated"] and not row["same"]:
                raise RequestContentDiffers
            if row["repeated"] and current is not None:
                return WrittenMemory(current, repeated=True)
            revision = decide(current, MemoryOverflow(row["memory_overflow"]))
            written = await connection.fetchrow(
                _QUERIES["write_memory"],
                *columns,
                1 if current is None else current.revision + 1,
                revision.memory,
                json.dumps(dict(revision.metadata)),
                author,
                *request_columns,
                self._model_id,
                [new_uuid7() for _passage in revision.archived],
                [passage for passage, _embedding in revision.archived],
                [embedding.vector for _passage, embedding in revision.archived],
            )
            return WrittenMemory(_memory(key, written), revision.archived_paragraphs)

    async def read(self, tenant_id: UUID, key: MemoryKey, *, deadline: float | None) -> UserMemory | None:
        """Read the current revision; see the port."""
        return await self._read("read_memory", tenant_id, key, deadline=deadline)

    async def read_revision(
        self, tenant_id: UUID, key: MemoryKey, revision: int, *, deadline: float | None
    ) -> UserMemory | None:
        """Read one revision; see the port."""
        return await self._read("read_revision", tenant_id, key, revision, deadline=deadline)

    async def list_revisions(
        self, tenant_id: UUID, key: MemoryKey, *, limit: int, before: int | None, deadline: float | None
    ) -> Page[UserMemory]:
        """Read revisions, newest first; see the port."""
        async with self._database.tenant(tenant_id, deadline=deadline) as connection:
            rows = await connection.fetch(
                _QUERIES["list_revisions"],
                tenant_id,
                key.user_id,
                key.agent_id or ALL_AGENTS,
                before,
                limit + 1,
            )
        revisions = tuple(_memory(key, row) for row in rows[:limit])
        return Page(revisions, (revisions[-1].revision,) if len(rows) > limit else None)

    async def search_archive(
        self, tenant_id: UUID, key: MemoryKey, vector: bytes, *, limit: int, deadline: float | None
    ) -> list[ArchivedPassage]:
        """Give the nearest passages; see the port."""
        async with self._database.tenant(tenant_id, deadline=deadline) as connection:
            rows = await connection.fetch(
                _QUERIES["search_archive"],
                tenant_id,
                key.user_id,
                key.agent_id or ALL_AGENTS,
                self._model_id,
                vector,
                limit,
            )
        return [
            ArchivedPassage(row["passage"], row["revision"], row["archived_at"], row["similarity"])
            for row in rows
        ]

    async def _read(
        self, query: str, tenant_id: UUID, key: MemoryKey, *more: Any, deadline: float | None
    ) -> UserMemory | None:
        async with self._database.tenant(tenant_id, deadline=deadline) as connection:
            row = await connection.fetchrow(
                _QUERIES[query], tenant_id, key.user_id, key.agent_id or ALL_AGENTS, *more
            )
        return None if row is None else _memory(key, row)


def _memory(key: MemoryKey, row: asyncpg.Record) -> UserMemory:
    return UserMemory(
        key, row["memory"], json.loads(row["metadata"]), row["revision"], row["updated_at"], row["updated_by"]
    )
