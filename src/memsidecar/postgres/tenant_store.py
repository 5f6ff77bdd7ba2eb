"""Tenants in Postgres, by way of the control plane's functions. Implements ``domain.tenants.TenantStore``."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg

from memsidecar.domain.errors import AlreadyExists
from memsidecar.domain.paging import Page
from memsidecar.domain.quotas import Quota
from memsidecar.domain.tenants import MemoryOverflow, Retention, Tenant, TenantSettings
from memsidecar.postgres.audit_store import record_audit_events
from memsidecar.postgres.queries import load_queries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memsidecar.domain.audit import NewAuditEvent
    from memsidecar.postgres.database import Connection, Database

_QUERIES = load_queries("control_plane")


class PostgresTenantStore:
    """Keeps tenants in ``tenants``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self,
        tenant_id: UUID,
        name: str,
        settings: TenantSettings,
        *,
        events: Sequence[NewAuditEvent] = (),
        deadline: float | None,
    ) -> Tenant:
        """Make a tenant; see the port."""
        async with self._database.control(deadline=deadline) as connection:
            try:
                await connection.fetchrow(_QUERIES["create_tenant"], tenant_id, name, settings.language)
            except asyncpg.UniqueViolationError as error:
                raise AlreadyExists("a tenant of that name or id exists: choose another name") from error
            tenant = await _update(connection, tenant_id, settings)
            await record_audit_events(connection, events)
        if tenant is None:
            raise LookupError("the tenant that was just made is not there")
        return tenant

    async def find(
        self, *, tenant_id: UUID | None = None, name: str | None = None, deadline: float | None = None
    ) -> Tenant | None:
        """Read a tenant; see the port."""
        async with self._database.control(deadline=deadline) as connection:
            row = await connection.fetchrow(_QUERIES["find_tenant"], tenant_id, name)
        return None if row is None else _tenant(row)

    async def list(self, *, after: str, limit: int, deadline: float | None) -> Page[Tenant]:
        """Read tenants by name; see the port."""
        async with self._database.control(deadline=deadline) as connection:
            rows = await connection.fetch(_QUERIES["list_tenants"], after, limit + 1)
        tenants = tuple(_tenant(row) for row in rows[:limit])
        return Page(tenants, (tenants[-1].name,) if len(rows) > limit else None)

    async def update(
        self,
        tenant_id: UUID,
        settings: TenantSettings,
        *,
        events: Sequence[NewAuditEvent] = (),
        deadline: float | None,
    ) -> Tenant | None:
        """Replace the settings; see the port."""
        async with self._database.control(deadline=deadline) as connection:
            tenant = await _update(connection, tenant_id, settings)
            if tenant is not None:
                await record_audit_events(connection, events)
        return tenant


async def _update(connection: Connection, tenant_id: UUID, settings: TenantSettings) -> Tenant | None:
    row = await connection.fetchrow(
        _QUERIES["update_tenant"],
        tenant_id,
        settings.language,
        settings.retention.turns,
        settings.retention.documents,
        settings.retention.jobs,
        settings.retention.memory_revisions,
        settings.quota.max_turns,
        settings.quota.max_document_bytes,
        settings.quota.calls_per_second,
        settings.memory_overflow.value,
    )
    return None if row is None else _tenant(row)


def _tenant(row: asyncpg.Record) -> Tenant:
    return Tenant(
        tenant_id=UUID(int=row["id"].int),
        name=row["name"],
        created_at=row["created_at"],
        settings=TenantSettings(
            language=row["language"],
            retention=Retention(
                row["retain_turns"],
                row["retain_documents"],
                row["retain_jobs"],
                row["retain_memory_revisions"],
            ),
            quota=Quota(row["max_turns"], row["max_document_bytes"], row["calls_per_second"]),
            memory_overflow=MemoryOverflow(row["memory_overflow"]),
        ),
    )
