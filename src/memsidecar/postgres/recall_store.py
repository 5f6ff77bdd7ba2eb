"""Recall in Postgres. Implements ``domain.recall.RecallStore``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memsidecar.domain.recall import Neighbour
from memsidecar.postgres.queries import load_queries
from memsidecar.postgres.turn_rows import scope_parameters, turn_from_row

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from memsidecar.domain.turns import TurnScope
    from memsidecar.postgres.database import Database

_QUERIES = load_queries("conversation_memory")


class PostgresRecallStore:
    """Finds turns in ``conversation_embeddings``."""

    def __init__(self, database: Database, *, model_id: int) -> None:
        self._database = database
        self._model_id = model_id

    async def nearest(
        self, tenant_id: UUID, scope: TurnScope, vector: bytes, *, limit: int, deadline: float | None
    ) -> tuple[str, Sequence[Neighbour]]:
        """Scan the whole scope; see the port."""
        async with self._database.tenant(tenant_id, deadline=deadline) as connection:
            rows = await connection.fetch(
                _QUERIES["nearest_turns"], tenant_id, *scope_parameters(scope), self._model_id, vector, limit
            )
        return "exact", [Neighbour(turn_from_row(row), row["similarity"]) for row in rows]
