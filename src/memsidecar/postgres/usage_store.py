"""How much tenants store. Implements ``domain.storage_quota.UsageStore``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memsidecar.postgres.queries import load_queries

if TYPE_CHECKING:
    from uuid import UUID

    from memsidecar.postgres.database import Database

_QUERIES = load_queries("usage")


class PostgresUsageStore:
    """Counts rows and bytes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def count_turns(self, tenant_id: UUID, *, deadline: float | None) -> int:
        """Count turns; see the port."""
        return await self._read("count_turns", tenant_id, deadline)

    async def sum_document_bytes(self, tenant_id: UUID, *, deadline: float | None) -> int:
        """Add up documents; see the port."""
        return await self._read("sum_document_bytes", tenant_id, deadline)

    async def _read(self, query: str, tenant_id: UUID, deadline: float | None) -> int:
        async with self._database.tenant(tenant_id, deadline=deadline) as connection:
            return int(await connection.fetchval(_QUERIES[query], tenant_id))
