"""Audit trails in Postgres. Implements ``domain.audit.AuditStore``, and records the acts of other stores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memsidecar.domain.audit import AuditEvent
from memsidecar.domain.paging import Page
from memsidecar.postgres.queries import load_queries

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    import asyncpg

    from memsidecar.domain.audit import NewAuditEvent
    from memsidecar.postgres.database import Connection, Database

_QUERIES = load_queries("audit")


async def record_audit_events(connection: Connection, events: Iterable[NewAuditEvent]) -> None:
    """Record acts in the transaction that does them."""
    for event in events:
        await connection.execute(
            _QUERIES["record_event"],
            event.trail,
            event.actor,
            event.action,
            event.subject,
            event.details_json,
        )


class PostgresAuditStore:
    """Reads ``audit_events``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, event: NewAuditEvent, *, deadline: float | None) -> None:
        """Record an act; see the port."""
        async with self._database.tenant(event.trail, deadline=deadline) as connection:
            await record_audit_events(connection, [event])

    async def list_events(
        self, trail: UUID, *, before: int | None, limit: int, deadline: float | None
    ) -> Page[AuditEvent]:
        """Read events, newest first; see the port."""
        async with self._database.tenant(trail, deadline=deadline) as connection:
            rows = await connection.fetch(_QUERIES["list_events"], trail, before, limit + 1)
        events = tuple(_event(row) for row in rows[:limit])
        return Page(events, (events[-1].sequence,) if len(rows) > limit else None)

    async def read_forward(
        self, trail: UUID, *, after: int, limit: int, deadline: float | None
    ) -> list[AuditEvent]:
        """Read events, oldest first; see the port."""
        async with self._database.tenant(trail, deadline=deadline) as connection:
            rows = await connection.fetch(_QUERIES["read_events"], trail, after, limit)
        return [_event(row) for row in rows]


def _event(row: asyncpg.Record) -> AuditEvent:
    return AuditEvent(
        row["sequence"],
        row["occurred_at"],
        row["actor"],
        row["action"],
        row["subject"],
        row["details"],
        row["digest"],
    )
