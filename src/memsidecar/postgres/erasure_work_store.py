"""Erasing in Postgres, through the eraser role. Implements ``domain.erasure_worker.ErasureWorkStore``."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

from memsidecar.domain.audit import DEPLOYMENT_TRAIL, NewAuditEvent
from memsidecar.domain.erasure import SubjectKind
from memsidecar.domain.erasure_worker import LEASE, DoomedRow, ErasureLeaseLost, HeldErasure
from memsidecar.postgres.audit_store import record_audit_events
from memsidecar.postgres.erasure_store import subject_from_row
from memsidecar.postgres.locks import turns_lock
from memsidecar.postgres.queries import load_queries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import timedelta

    import asyncpg

    from memsidecar.postgres.database import Connection, Database
    from memsidecar.postgres.locks import AdvisoryLock

_QUERIES = load_queries("erasure")


class PostgresErasureWorkStore:
    """Deletes rows, always those of the one tenant the erasure belongs to: row-level security holds the eraser too."""

    def __init__(self, database: Database) -> None:
        """Set up on the eraser's database."""
        self._database = database

    async def claim(self, worker_id: UUID, lease: timedelta) -> HeldErasure | None:
        """Take an erasure; see the port."""
        async with self._database.control() as connection:
            claimed = await connection.fetchrow(
                _QUERIES["claim_erasure"], worker_id, int(lease.total_seconds())
            )
        if claimed is None:
            return None
        tenant_id, erasure_id = UUID(int=claimed["tenant_id"].int), UUID(int=claimed["erasure_id"].int)
        async with self._database.tenant(tenant_id) as connection:
            row = await connection.fetchrow(_QUERIES["read_subject"], tenant_id, erasure_id, worker_id)
        return None if row is None else HeldErasure(tenant_id, erasure_id, worker_id, subject_from_row(row))

    async def find_turns(self, held: HeldErasure, *, limit: int) -> list[DoomedRow]:
        """Find rows of turns; see the port."""
        subject = held.subject
        async with self._held(held) as (connection, _erased):
            if subject.kind is SubjectKind.USER:
                rows = await connection.fetch(
                    _QUERIES["turns_of_user"], held.tenant_id, subject.user_id, limit
                )
            elif subject.kind is SubjectKind.CONVERSATION:
                rows = await connection.fetch(
                    _QUERIES["turns_of_conversation"],
                    held.tenant_id,
                    subject.conversation_id,
                    limit,
                    subject.agent_id,
                    subject.user_id or None,
                )
            else:
                rows = await connection.fetch(_QUERIES["turns_of_tenant"], held.tenant_id, limit)
        return [DoomedRow(row["id"], row["agent_id"], row["user_id"]) for row in rows]

    async def delete_turns(self, held: HeldErasure, rows: Sequence[DoomedRow]) -> None:
        """Delete rows of turns; see the port."""
        memories = {(row.agent_id, row.user_id) for row in rows}
        locks = [
            turns_lock(held.tenant_id, agent_id, user_id, shared=False) for agent_id, user_id in memories
        ]
        async with self._held(held, locks) as (connection, erased):
            await _delete(connection, erased, "delete_turns", held.tenant_id, [row.row_id for row in rows])
            columns = [list(column) for column in zip(*memories, strict=True)]
            await _delete(connection, erased, "delete_speakers", held.tenant_id, *columns)

    async def delete_others(self, held: HeldErasure, *, limit: int) -> int:
        """Delete some of everything but turns; see the port."""
        if held.subject.kind is SubjectKind.CONVERSATION:
            async with self._held(held):
                return 0
        user_id = held.subject.user_id if held.subject.kind is SubjectKind.USER else None
        async with self._held(held) as (connection, erased):
            # What jobs hold goes first: an ingestion under way then finds nothing to store any more.
            await connection.execute(_QUERIES["lock_jobs"], held.tenant_id, user_id)
            deleted = await _delete(
                connection, erased, "delete_job_documents", held.tenant_id, user_id, limit
            )
            await connection.execute(_QUERIES["end_jobs"], held.tenant_id)
            deleted += await _delete(connection, erased, "delete_empty_jobs", held.tenant_id)
            for query in ("delete_chunks", "delete_documents", "delete_memories"):
                deleted += await _delete(connection, erased, query, held.tenant_id, user_id, limit)
        return deleted

    async def running_transactions(self) -> frozenset[str]:
        """Name the transactions that are running now; see the port."""
        async with self._database.control() as connection:
            return frozenset(row["name"] for row in await connection.fetch(_QUERIES["running_transactions"]))

    async def complete(self, held: HeldErasure) -> int:
        """Complete the erasure if nothing is left; see the port."""
        async with self._held(held) as (connection, erased):
            receipt = await connection.fetchrow(
                _QUERIES["read_subject"], held.tenant_id, held.erasure_id, held.worker_id
            )
            if held.subject.kind is SubjectKind.TENANT:
                remaining = await self._complete_tenant(connection, held, receipt, erased)
            else:
                remaining = await _remaining(connection, held)
                if remaining == 0:
                    await _end(connection, held, receipt, erased, {})
        return remaining

    async def fail(self, held: HeldErasure, error: str, remaining: int) -> None:
        """Stop the erasure; see the port."""
        async with self._database.tenant(held.tenant_id) as connection:
            await connection.execute(
                _QUERIES["fail_erasure"], held.tenant_id, held.erasure_id, held.worker_id, error, remaining
            )

    async def release(self, held: HeldErasure) -> None:
        """Give the erasure back; see the port."""
        async with self._database.tenant(held.tenant_id) as connection:
            await connection.execute(
                _QUERIES["hold_erasure"], held.tenant_id, held.erasure_id, held.worker_id, 0
            )

    async def _complete_tenant(
        self, connection: Connection, held: HeldErasure, receipt: asyncpg.Record, erased: Counter[str]
    ) -> int:
        head = await connection.fetchrow(_QUERIES["trail_head"], held.tenant_id)
        trail = {} if head is None else {"trail_events": head["sequence"], "trail_head": head["digest"]}
        await _delete(connection, erased, "delete_tenant", held.tenant_id, held.erasure_id)
        remaining = await _remaining(connection, held)
        if remaining == 0:
            await _end(connection, held, receipt, erased, trail)
        return remaining

    @asynccontextmanager
    async def _held(
        self, held: HeldErasure, locks: Sequence[AdvisoryLock] = ()
    ) -> AsyncIterator[tuple[Connection, Counter[str]]]:
        """Run a transaction under the lease; what is added to the counter is written down with it."""
        async with self._database.tenant(held.tenant_id, locks=locks) as connection:
            row = await connection.fetchrow(
                _QUERIES["hold_erasure"],
                held.tenant_id,
                held.erasure_id,
                held.worker_id,
                int(LEASE.total_seconds()),
            )
            if row is None:
                raise ErasureLeaseLost
            before = json.loads(row["erased"])
            erased: Counter[str] = Counter(before)
            yield connection, erased
            if +erased != Counter(before):
                await connection.execute(
                    _QUERIES["count_erased"], held.tenant_id, held.erasure_id, json.dumps(+erased)
                )


async def _delete(connection: Connection, erased: Counter[str], query: str, *parameters: Any) -> int:
    """Run a statement that gives how many rows it deleted, by table, and count them."""
    row = await connection.fetchrow(_QUERIES[query], *parameters)
    deleted = Counter(dict(row.items()))
    erased.update(deleted)
    return deleted.total()


async def _remaining(connection: Connection, held: HeldErasure) -> int:
    subject = held.subject
    if subject.kind is SubjectKind.USER:
        parameters: tuple[Any, ...] = (subject.user_id,)
    elif subject.kind is SubjectKind.CONVERSATION:
        parameters = (subject.conversation_id, subject.agent_id, subject.user_id or None)
    else:
        parameters = (held.erasure_id,)
    return int(
        await connection.fetchval(_QUERIES[f"rows_of_{subject.kind.value}"], held.tenant_id, *parameters)
    )


async def _end(
    connection: Connection,
    held: HeldErasure,
    receipt: asyncpg.Record,
    erased: Counter[str],
    details: dict[str, Any],
) -> None:
    """Forget the subject, keep the receipt, and tell the audit trail."""
    await connection.execute(_QUERIES["complete_erasure"], held.tenant_id, held.erasure_id)
    of_tenant = held.subject.kind is SubjectKind.TENANT
    event = NewAuditEvent(
        DEPLOYMENT_TRAIL if of_tenant else held.tenant_id,
        receipt["requested_by"],
        f"{held.subject.kind.value}.erased",
        str(held.tenant_id) if of_tenant else receipt["subject_digest"],
        {"erasure_id": str(held.erasure_id), "rows": dict(+erased), **details},
    )
    await record_audit_events(connection, [event])
