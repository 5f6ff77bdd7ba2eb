"""Large tenants earn an index of their own, and lose it when they shrink; recall stays complete throughout."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import pytest

from memsidecar.domain.turns import Role, TurnScope
from memsidecar.postgres.earned_indexes import read_earned_indexes
from memsidecar.postgres.index_maintenance import Deed, IndexMaintenance
from memsidecar.postgres.recall_store import PostgresRecallStore

from .conftest import unit_vectors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from memsidecar.postgres.database import Database
    from memsidecar.postgres.earned_indexes import EarnedIndex
    from tests.conftest import TestDatabase

    from .conftest import InsertTurns

AGENT = UUID(int=1)
SMALL_AGENT = UUID(int=2)


@pytest.fixture
def maintenance(test_database: TestDatabase) -> IndexMaintenance:
    """Maintenance with thresholds small enough for a test."""
    return IndexMaintenance(test_database.owner_url, earned_at=600, retired_below=300)


@pytest.fixture
async def superuser(test_database: TestDatabase) -> AsyncIterator[asyncpg.Connection]:
    """A connection that may do everything."""
    connection = await asyncpg.connect(test_database.superuser_url)
    yield connection
    await connection.close()


@pytest.fixture
async def large(tenant_id: UUID, insert_turns: InsertTurns, superuser: asyncpg.Connection) -> UUID:
    """A tenant of 800 turns, 50 of them of a second agent."""
    await insert_turns(tenant_id, unit_vectors(750, 1), agent_id=AGENT)
    await insert_turns(tenant_id, unit_vectors(50, 2), agent_id=SMALL_AGENT)
    await superuser.execute("ANALYZE conversation_embeddings")
    return tenant_id


async def indexes(superuser: asyncpg.Connection) -> list[EarnedIndex]:
    return await read_earned_indexes(superuser)


async def test_only_large_tenants_earn_an_index_and_once(
    maintenance: IndexMaintenance,
    large: UUID,
    new_tenant: Callable[..., Awaitable[UUID]],
    insert_turns: InsertTurns,
    superuser: asyncpg.Connection,
) -> None:
    await insert_turns(await new_tenant("small"), unit_vectors(500, 3), agent_id=AGENT)
    [change] = await maintenance.run()
    assert (change.deed, change.tenant_id, change.rows) == (Deed.BUILT, large, 800)
    [index] = await indexes(superuser)
    assert (index.tenant_id, index.rows, index.agents, index.valid) == (large, 800, frozenset({AGENT}), True)
    assert await maintenance.run() == []


async def test_a_tenant_that_doubled_gets_a_new_index_and_one_that_shrank_none(
    maintenance: IndexMaintenance, large: UUID, insert_turns: InsertTurns, superuser: asyncpg.Connection
) -> None:
    await maintenance.run()
    [first] = await indexes(superuser)
    await insert_turns(large, unit_vectors(900, 4), agent_id=AGENT)
    [change] = await maintenance.run()
    assert (change.deed, change.rows) == (Deed.BUILT, 1700)
    [second] = await indexes(superuser)
    assert second.name != first.name
    await superuser.execute("SET ROLE memsidecar_eraser")
    await superuser.execute(f"SET app.current_tenant = '{large}'")
    await superuser.execute(
        "DELETE FROM conversation_embeddings WHERE occurred_at > '2026-01-01 00:01:00+00'"
    )
    await superuser.execute("RESET ROLE")
    [change] = await maintenance.run()
    assert change.deed is Deed.RETIRED
    assert await indexes(superuser) == []


async def test_what_an_interrupted_build_left_is_replaced(
    maintenance: IndexMaintenance, large: UUID, superuser: asyncpg.Connection
) -> None:
    await maintenance.run()
    [index] = await indexes(superuser)
    await superuser.execute(
        f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{index.name}'::regclass"
    )
    [change] = await maintenance.run()
    assert change.deed is Deed.BUILT
    assert [each.valid for each in await indexes(superuser)] == [True]


async def test_two_maintainers_do_not_meet(maintenance: IndexMaintenance, large: UUID) -> None:
    changes = await asyncio.gather(maintenance.run(), maintenance.run())
    assert sorted(len(each) for each in changes) == [0, 1]


async def test_lists_give_full_similarities_and_whatever_they_cannot_serve_is_measured(
    maintenance: IndexMaintenance,
    database: Database,
    model_id: int,
    large: UUID,
    superuser: asyncpg.Connection,
) -> None:
    exact = PostgresRecallStore(database, model_id=model_id)
    question = unit_vectors(1, 9)[0].tobytes()
    cases = [
        (TurnScope(), "lists"),
        (TurnScope(agent_ids=(AGENT,)), "lists"),
        (TurnScope(agent_ids=(SMALL_AGENT,)), "exact"),
        (TurnScope(agent_ids=(AGENT, SMALL_AGENT)), "exact"),
        (TurnScope(user_id="ann"), "exact"),
        (TurnScope(roles=(Role.USER,)), "exact"),
        (TurnScope(conversation_ids=("chat-3",)), "exact"),
    ]
    before = []
    for scope, _strategy in cases:
        async with exact.reading(large, deadline=None) as reader:
            before.append(await reader.nearest(scope, question, limit=10))
            assert reader.strategy == "exact"
    await maintenance.run()
    served = PostgresRecallStore(database, model_id=model_id)
    for (scope, strategy), expected in zip(cases, before, strict=True):
        async with served.reading(large, deadline=None) as reader:
            assert await reader.nearest(scope, question, limit=10) == expected
            assert reader.strategy == strategy


async def test_more_hits_than_lists_give_are_measured(
    maintenance: IndexMaintenance, recall_store: PostgresRecallStore, large: UUID
) -> None:
    await maintenance.run()
    async with recall_store.reading(large, deadline=None) as reader:
        assert len(await reader.nearest(TurnScope(), unit_vectors(1, 9)[0].tobytes(), limit=1000)) == 800
        assert reader.strategy == "exact"
