"""Indexes that tenants earn by size: how they are named, and which there are.

A tenant with many turns has an IVFFlat index of its own turns, partial on ``tenant_id``, so that a scope of the whole
tenant need not be measured whole. Small tenants have none and pay nothing. ``postgres/index_maintenance.py`` builds and
retires them.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from memsidecar.postgres.queries import load_queries

if TYPE_CHECKING:
    from collections.abc import Mapping

    import asyncpg

    from memsidecar.domain.turns import TurnScope
    from memsidecar.postgres.database import Connection

_QUERIES = load_queries("earned_indexes")

NAME_PREFIX = "turns_ivf_"
"""Followed by the tenant in 32 hexadecimal digits, ``_``, and the number of lists."""

TIME_TO_LIVE = 15.0
"""Seconds for which the list of indexes is believed. An index that is gone costs time in between, never rows."""


@dataclass(frozen=True, slots=True)
class EarnedIndex:
    """A tenant's own index."""

    name: str
    tenant_id: UUID
    rows: int
    """Turns when it was built."""
    agents: frozenset[UUID]
    """Agents with a large enough share of the turns to be served by it."""
    valid: bool
    """False while it is built, and after a build that failed."""

    def serves(self, scope: TurnScope) -> bool:
        """Tell whether the index answers a scope faster than measuring it whole.

        That needs a scope of the whole tenant or of an agent with a large share: where a filter leaves little, most of
        what the lists give would be thrown away.
        """
        filters = (
            scope.user_id is not None,
            scope.conversation_ids,
            scope.roles,
            scope.occurred.start,
            scope.occurred.end,
            scope.metadata,
            scope.speaker_ids,
            scope.exclude_turn_ids,
            scope.exclude_conversation_ids,
            scope.as_of,
        )
        if not self.valid or any(filters) or len(scope.agent_ids) > 1:
            return False
        return all(agent_id in self.agents for agent_id in scope.agent_ids)


async def read_earned_indexes(connection: Connection | asyncpg.Connection) -> list[EarnedIndex]:
    """Read which indexes there are, those that are not valid included."""
    rows = await connection.fetch(_QUERIES["earned_indexes"], NAME_PREFIX)
    indexes = []
    for row in rows:
        built = json.loads(row["description"] or "{}")
        indexes.append(
            EarnedIndex(
                name=row["name"],
                tenant_id=UUID(hex=row["name"].removeprefix(NAME_PREFIX).partition("_")[0]),
                rows=built.get("rows", 0),
                agents=frozenset(UUID(agent) for agent in built.get("agents", ())),
                valid=row["valid"] and bool(built),
            )
        )
    return indexes


class EarnedIndexes:
    """Remembers for some seconds which tenants have an index of their own."""

    def __init__(self) -> None:
        self._by_tenant: Mapping[UUID, EarnedIndex] = {}
        self._read_at = -TIME_TO_LIVE

    async def of(self, tenant_id: UUID, connection: Connection) -> EarnedIndex | None:
        """Give the valid index of a tenant, if there is one."""
        now = time.monotonic()
        if now - self._read_at >= TIME_TO_LIVE:
            self._by_tenant = {
                index.tenant_id: index for index in await read_earned_indexes(connection) if index.valid
            }
            self._read_at = now
        return self._by_tenant.get(tenant_id)
