"""Recall in Postgres. Implements ``domain.recall_engine.RecallStore``."""

from __future__ import annotations

from contextlib import asynccontextmanager
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING

from memsidecar.domain.participants import Participants
from memsidecar.domain.ranking import Candidate, Corpus
from memsidecar.domain.recall_engine import Neighbour
from memsidecar.domain.turns import Role
from memsidecar.postgres.earned_indexes import EarnedIndexes
from memsidecar.postgres.queries import load_queries
from memsidecar.postgres.turn_rows import scope_parameters, turn_from_row

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from uuid import UUID

    import asyncpg

    from memsidecar.domain.turns import Turn, TurnScope
    from memsidecar.postgres.database import Connection, Database

_QUERIES = load_queries("recall")
_SCOPE_MARK = "/* scope */ true"


class ScopeKind(Enum):
    """Which index answers a scope; the value names the condition in ``sql/recall.sql``."""

    USER_AND_AGENT = "scope_of_user_and_agent"
    USER = "scope_of_user"
    CONVERSATIONS = "scope_of_conversations"
    AGENT = "scope_of_agent"
    TENANT = "scope_of_tenant"


def scope_kind(scope: TurnScope) -> ScopeKind:
    """Choose the narrowest index for a scope."""
    one_agent = len(scope.agent_ids) == 1
    if scope.conversation_ids:
        return ScopeKind.CONVERSATIONS
    if scope.user_id is not None:
        return ScopeKind.USER_AND_AGENT if one_agent else ScopeKind.USER
    return ScopeKind.AGENT if one_agent else ScopeKind.TENANT


@cache
def _composed(name: str, conditions: tuple[str, ...]) -> str:
    texts = (_without_comments(_QUERIES[condition]) for condition in conditions)
    return _QUERIES[name].replace(_SCOPE_MARK, "\n        AND ".join(texts))


def _without_comments(text: str) -> str:
    body = text.partition("*/")[2]
    return "\n".join(line for line in body.strip().splitlines() if not line.startswith("--"))


def scoped_query(name: str, scope: TurnScope) -> str:
    """Give the statement ``name`` with the conditions a scope has: its index condition, and its filters."""
    kind = scope_kind(scope)
    of_user = kind in {ScopeKind.USER_AND_AGENT, ScopeKind.USER}
    filters = {
        "filter_agents": bool(scope.agent_ids) and kind not in {ScopeKind.USER_AND_AGENT, ScopeKind.AGENT},
        "filter_user": scope.user_id is not None and not of_user,
        "filter_roles": bool(scope.roles),
        "filter_from": scope.occurred.start is not None,
        "filter_until": scope.occurred.end is not None,
        "filter_metadata": bool(scope.metadata),
        "filter_speakers": bool(scope.speaker_ids),
        "filter_excluded_turns": bool(scope.exclude_turn_ids),
        "filter_excluded_conversations": bool(scope.exclude_conversation_ids),
        "filter_stood": scope.as_of is not None,
        "filter_standing_of_user": scope.as_of is None and scope.user_id is not None,
        "filter_standing": scope.as_of is None and scope.user_id is None,
    }
    return _composed(name, (kind.value, *(condition for condition, asked in filters.items() if asked)))


class PostgresRecallStore:
    """Finds turns in ``conversation_embeddings``."""

    def __init__(self, database: Database, *, model_id: int) -> None:
        self._database = database
        self._model_id = model_id
        self._earned_indexes = EarnedIndexes()

    async def participants(
        self, tenant_id: UUID, scope: TurnScope, query: str, *, deadline: float | None
    ) -> Participants:
        """Say who speaks in a scope; see the port."""
        async with self._database.tenant(tenant_id, deadline=deadline) as connection:
            rows = await connection.fetch(
                _QUERIES["participants"], tenant_id, scope.agent_ids, scope.user_id, query
            )
        return Participants(
            names=tuple(sorted({name for row in rows for name in row["names"]})),
            roles=frozenset(Role(row["role"]) for row in rows),
        )

    @asynccontextmanager
    async def reading(
        self, tenant_id: UUID, *, deadline: float | None
    ) -> AsyncIterator[PostgresRecallReader]:
        """Open a view; see the port."""
        async with self._database.tenant(tenant_id, deadline=deadline) as connection:
            yield PostgresRecallReader(connection, tenant_id, self._model_id, self._earned_indexes)


class PostgresRecallReader:
    """Reads within one transaction of one tenant."""

    def __init__(
        self, connection: Connection, tenant_id: UUID, model_id: int, earned_indexes: EarnedIndexes
    ) -> None:
        self._connection = connection
        self._tenant_id = tenant_id
        self._model_id = model_id
        self._earned_indexes = earned_indexes
        self.strategy = "exact"

    async def nearest(self, scope: TurnScope, vector: bytes, *, limit: int) -> Sequence[Neighbour]:
        """Search by lists where the tenant's own index serves the scope, else measure all of it; see the port."""
        parameters = (self._tenant_id, *scope_parameters(scope), self._model_id, vector, limit)
        if scope_kind(scope) in {ScopeKind.AGENT, ScopeKind.TENANT}:
            index = await self._earned_indexes.of(self._tenant_id, self._connection)
            if index is not None and index.serves(scope):
                await self._connection.execute(_QUERIES["prefer_lists"])
                rows = await self._connection.fetch(
                    scoped_query("nearest_turns_by_lists", scope), *parameters
                )
                if len(rows) == limit:  # fewer: what is visible is rare, or there is no more
                    self.strategy = "lists"
                    return [_neighbour(row) for row in rows]
        rows = await self._connection.fetch(scoped_query("nearest_turns", scope), *parameters)
        return [_neighbour(row) for row in rows]

    async def candidates(
        self, scope: TurnScope, vector: bytes, query: str, *, language: str, pool: int
    ) -> tuple[Sequence[Candidate], Corpus]:
        """Measure the whole scope by both legs; see the port."""
        rows = await self._connection.fetch(
            scoped_query("recall_candidates", scope),
            self._tenant_id,
            *scope_parameters(scope),
            self._model_id,
            vector,
            language,
            query,
            pool,
        )
        if not rows:
            return [], Corpus(0, 1.0, ())
        turns, average_length, *frequencies = rows[0]["corpus"]
        return [Candidate(*row[:-1]) for row in rows], Corpus(
            int(turns), average_length, tuple(map(int, frequencies))
        )

    async def turns(self, row_ids: Sequence[UUID], vector: bytes) -> Mapping[UUID, Neighbour]:
        """Read turns by row; see the port."""
        rows = await self._connection.fetch(_QUERIES["recalled_turns"], self._tenant_id, row_ids, vector)
        return {row["id"]: _neighbour(row) for row in rows}

    async def near_duplicates(
        self, row_ids: Sequence[UUID], similarity: float
    ) -> Sequence[tuple[UUID, UUID]]:
        """Give pairs of near-duplicates; see the port."""
        rows = await self._connection.fetch(_QUERIES["near_duplicates"], self._tenant_id, row_ids, similarity)
        return [(row["id"], row["duplicate_id"]) for row in rows]

    async def context(
        self, row_ids: Sequence[UUID], reach: int, scope: TurnScope
    ) -> Mapping[UUID, Sequence[Turn]]:
        """Read the turns around rows; see the port."""
        rows = await self._connection.fetch(
            _QUERIES["surrounding_turns"], self._tenant_id, row_ids, reach, scope.as_of
        )
        around: dict[UUID, list[Turn]] = {}
        for row in rows:
            around.setdefault(row["row_id"], []).append(turn_from_row(row))
        return around


def _neighbour(row: asyncpg.Record) -> Neighbour:
    return Neighbour(row["id"], turn_from_row(row), row["similarity"])
