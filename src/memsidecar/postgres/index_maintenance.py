"""Builds and retires the indexes that tenants earn by size, without blocking reads or writes.

Run from time to time as the owner of the tables; ``memsidecar maintain`` does. Building reads the whole table twice and
waits for transactions that were open before it; the next run takes up what an interrupted one left.
"""

from __future__ import annotations

import json
import math
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import asyncpg

from memsidecar.postgres.earned_indexes import NAME_PREFIX, EarnedIndex, read_earned_indexes
from memsidecar.postgres.errors import connection_error
from memsidecar.postgres.queries import load_queries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from uuid import UUID

_QUERIES = load_queries("earned_indexes")

EARNED_AT = 20_000
"""Rows from which on a tenant has an index: there, lists answer in a quarter of the time of measuring everything."""

RETIRED_BELOW = 10_000
"""Rows below which an index goes; lower than ``EARNED_AT``, so that no tenant comes and goes around one number."""

REBUILT_AT = 2.0
"""Growth since it was built at which an index is built anew: the lists of the old one have become too long."""

MOST_INDEXES = 16
"""The largest tenants have one. Every index is locked and looked at by each plan of the table, whoever asks."""

AGENT_SHARE = 0.15
"""Share of the tenant's rows from which on an agent's scope is served by the tenant's index.

At 0.18 lists took half the time of measuring everything and found all; at 0.07 they took as long and missed 2 %.
"""

BUILD_MEMORY = "256MB"
"""maintenance_work_mem of a build: the sample that the lists are made from must fit."""

_LOCK = 0x6D656D5F696478
"""Advisory lock of whoever maintains; spells "mem_idx"."""


class Deed(Enum):
    """What was done to an index."""

    BUILT = "built"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class IndexChange:
    """One thing done."""

    deed: Deed
    tenant_id: UUID
    rows: int
    """The tenant's rows now."""


class IndexMaintenance:
    """Keeps the earned indexes in step with the tenants' sizes."""

    def __init__(
        self, owner_url: str, *, earned_at: int = EARNED_AT, retired_below: int = RETIRED_BELOW
    ) -> None:
        """Set up.

        Args:
            owner_url: Connection URL of the role that owns the tables, straight to the server: builds cannot run
                through a pool that shares connections by transaction.
            earned_at: Rows from which on a tenant has an index.
            retired_below: Rows below which it goes.
        """
        self._owner_url = owner_url
        self._earned_at = earned_at
        self._retired_below = retired_below

    async def run(self) -> list[IndexChange]:
        """Build, build anew and retire what is due; gives what was done, nothing while another one is at it.

        Raises:
            DatabaseUnavailable: The database does not answer.
        """
        try:
            connection = await asyncpg.connect(
                self._owner_url, server_settings={"application_name": "memsidecar"}
            )
            try:
                if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK):
                    return []
                return await self._maintain(connection)
            finally:
                await connection.close()
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            raise connection_error(error) or error from error

    async def _maintain(self, connection: asyncpg.Connection) -> list[IndexChange]:
        existing = await read_earned_indexes(connection)
        sizes = await self._sizes(connection, {index.tenant_id for index in existing})
        earning = [
            tenant_id
            for tenant_id, rows in sorted(sizes.items(), key=lambda item: -item[1])
            if rows >= self._earned_at
            or (rows >= self._retired_below and any(index.tenant_id == tenant_id for index in existing))
        ][:MOST_INDEXES]
        changes = []
        kept: set[str] = set()
        for tenant_id in earning:
            index = _fit(existing, tenant_id, sizes[tenant_id])
            if index is None:
                kept.add(await _build(connection, existing, tenant_id, sizes[tenant_id]))
                changes.append(IndexChange(Deed.BUILT, tenant_id, sizes[tenant_id]))
            else:
                kept.add(index.name)
        for index in existing:
            if index.name not in kept:
                await connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {index.name}")
                if index.valid and index.tenant_id not in earning:
                    changes.append(IndexChange(Deed.RETIRED, index.tenant_id, sizes.get(index.tenant_id, 0)))
        return changes

    async def _sizes(self, connection: asyncpg.Connection, indexed: set[UUID]) -> dict[UUID, int]:
        """Count the rows of each tenant that may have earned an index, or has one."""
        expected = await connection.fetchval(_QUERIES["expected_turns"])
        if 0 <= expected < self._retired_below and not indexed:
            return {}
        async with connection.transaction():
            await connection.execute("SET LOCAL ROLE memsidecar_control")
            tenant_ids = [row["id"] for row in await connection.fetch(_QUERIES["all_tenants"])]
        sizes = {}
        for tenant_id in tenant_ids:
            async with _tenant(connection, tenant_id):
                sizes[tenant_id] = await connection.fetchval(_QUERIES["count_turns"], tenant_id)
        return sizes


def _fit(existing: Sequence[EarnedIndex], tenant_id: UUID, rows: int) -> EarnedIndex | None:
    """Find the index that serves a tenant of this size."""
    fitting = (
        index
        for index in existing
        if index.valid and index.tenant_id == tenant_id and rows <= index.rows * REBUILT_AT
    )
    return max(fitting, key=lambda index: index.rows, default=None)


async def _build(
    connection: asyncpg.Connection, existing: Sequence[EarnedIndex], tenant_id: UUID, rows: int
) -> str:
    async with _tenant(connection, tenant_id):
        agents = await connection.fetch(_QUERIES["large_agents"], tenant_id, math.ceil(rows * AGENT_SHARE))
    # pgvector advises the square root of the rows, or rows / 1,000; twice the root gave the same hits for fewer reads.
    lists = round(2 * math.sqrt(rows))
    name = f"{NAME_PREFIX}{tenant_id.hex}_{lists}"
    if any(index.name == name for index in existing):
        await connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
    await connection.execute(f"SET maintenance_work_mem = '{BUILD_MEMORY}'")
    await connection.execute(
        f"CREATE INDEX CONCURRENTLY {name} ON conversation_embeddings"
        f" USING ivfflat (embedding_half halfvec_cosine_ops) WITH (lists = {lists})"
        f" WHERE tenant_id = '{tenant_id}'"
    )
    # Written last: an index without it is not used, and is built anew by the next run.
    built = json.dumps({"rows": rows, "agents": [str(row["agent_id"]) for row in agents]})
    await connection.execute(f"COMMENT ON INDEX {name} IS '{built}'")
    return name


@asynccontextmanager
async def _tenant(connection: asyncpg.Connection, tenant_id: UUID) -> AsyncIterator[None]:
    """Let the owner see one tenant's rows, as row-level security is forced on it too."""
    async with connection.transaction():
        await connection.execute(f"SET LOCAL app.current_tenant = '{tenant_id}'")
        yield
