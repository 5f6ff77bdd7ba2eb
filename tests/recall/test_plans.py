"""Each kind of scope is answered by the index made for it, whether plans are generic or made for the values at hand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import pytest

from memsidecar.domain.turns import TurnScope
from memsidecar.postgres.index_maintenance import IndexMaintenance
from memsidecar.postgres.queries import load_queries
from memsidecar.postgres.recall_store import scoped_query
from memsidecar.postgres.turn_rows import scope_parameters

from .conftest import unit_vectors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from memsidecar.postgres.database import Database
    from tests.conftest import TestDatabase

    from .conftest import InsertTurns

AGENT = UUID(int=1)
OTHER_AGENT = UUID(int=2)
PLANS = ("force_generic_plan", "force_custom_plan")


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every node of a plan."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


@pytest.fixture
async def peopled(
    tenant_id: UUID,
    new_tenant: Callable[..., Awaitable[UUID]],
    insert_turns: InsertTurns,
    test_database: TestDatabase,
) -> UUID:
    """A tenant with a large user, many small ones and a second agent, beside another tenant."""
    await insert_turns(tenant_id, unit_vectors(1500, 1), agent_id=AGENT, user_id="large")
    for number in range(60):
        await insert_turns(tenant_id, unit_vectors(25, number), agent_id=AGENT, user_id=f"small-{number}")
    await insert_turns(tenant_id, unit_vectors(400, 2), agent_id=OTHER_AGENT, user_id="large")
    await insert_turns(await new_tenant("other"), unit_vectors(2000, 3), agent_id=AGENT, user_id="large")
    connection = await asyncpg.connect(test_database.superuser_url)
    await connection.execute("VACUUM ANALYZE conversation_embeddings")
    await connection.close()
    return tenant_id


async def scans(
    database: Database, tenant_id: UUID, model_id: int, name: str, scope: TurnScope, settings: str
) -> list[dict[str, Any]]:
    """Scans of turns in the plan of a statement, under row-level security, and what they read."""
    parameters = [tenant_id, *scope_parameters(scope), model_id, unit_vectors(1, 9)[0].tobytes()]
    parameters += ["english", "turn 7", 50] if name == "recall_candidates" else [10]
    async with database.tenant(tenant_id) as connection:
        await connection.execute(settings)
        explained = await connection.fetchval(
            f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {scoped_query(name, scope)}", *parameters
        )
    return [
        node
        for node in nodes(json.loads(explained)[0]["Plan"])
        if node.get("Alias", "").startswith("turn") and "Scan" in node["Node Type"]
    ]


SCOPES = {
    "large user": (TurnScope(agent_ids=(AGENT,), user_id="large"), 1500),
    "small user": (TurnScope(agent_ids=(AGENT,), user_id="small-7"), 25),
    "agent": (TurnScope(agent_ids=(OTHER_AGENT,)), 400),
}


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("name", SCOPES)
async def test_users_and_agents_are_measured_in_the_index_alone(
    database: Database, peopled: UUID, model_id: int, name: str, plan: str
) -> None:
    scope, rows = SCOPES[name]
    # A scope whose rows lie side by side in a small table would rightly be read from the table itself.
    settings = f"SET LOCAL plan_cache_mode = {plan}; SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off"
    measured, *again = await scans(database, peopled, model_id, "nearest_turns", scope, settings)
    assert measured["Node Type"] == "Index Only Scan"
    assert measured["Index Name"] == "conversation_embeddings_scope"
    assert measured["Actual Rows"] * measured["Actual Loops"] == rows
    assert measured["Heap Fetches"] == 0
    assert [node["Index Name"] for node in again] == ["conversation_embeddings_pkey"]


@pytest.mark.parametrize("plan", PLANS)
async def test_a_tenant_without_lists_reads_its_own_rows_alone(
    database: Database, peopled: UUID, model_id: int, plan: str
) -> None:
    settings = f"SET LOCAL plan_cache_mode = {plan}; SET LOCAL enable_seqscan = off"
    measured = (await scans(database, peopled, model_id, "nearest_turns", TurnScope(), settings))[0]
    assert (measured["Actual Rows"], measured.get("Rows Removed by Filter", 0)) == (3400, 0)


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("statement", ["nearest_turns", "recall_candidates"])
async def test_conversations_and_users_of_any_agent_read_their_own_rows_alone(
    database: Database, peopled: UUID, model_id: int, statement: str, plan: str
) -> None:
    settings = f"SET LOCAL plan_cache_mode = {plan}"
    by_conversation = {"conversation_embeddings_conversation"}
    # Since Postgres 18 the index of users and agents is also good for a user of any agent.
    by_user = {"conversation_embeddings_user", "conversation_embeddings_scope"}
    expected = [
        (TurnScope(user_id="small-7"), by_user, 25),
        (TurnScope(conversation_ids=("chat-60",)), by_conversation, 20),
        (TurnScope(conversation_ids=("chat-60",), user_id="large", agent_ids=(AGENT,)), by_conversation, 20),
    ]
    for scope, indexes, rows in expected:
        read = (await scans(database, peopled, model_id, statement, scope, settings))[0]
        assert read.get("Index Name") in indexes
        assert (read["Actual Rows"], read.get("Rows Removed by Filter", 0)) == (rows, 0)


@pytest.mark.parametrize("agent_ids", [(), (AGENT,)])
async def test_a_large_tenant_is_searched_by_its_own_lists(
    database: Database, peopled: UUID, model_id: int, test_database: TestDatabase, agent_ids: tuple[UUID, ...]
) -> None:
    changes = await IndexMaintenance(test_database.owner_url, earned_at=3000, retired_below=2500).run()
    assert [change.tenant_id for change in changes] == [peopled]
    scope = TurnScope(agent_ids=agent_ids)
    settings = load_queries("recall")["prefer_lists"]
    by_lists, *again = await scans(database, peopled, model_id, "nearest_turns_by_lists", scope, settings)
    assert by_lists["Node Type"] == "Index Scan"
    assert by_lists["Index Name"].startswith(f"turns_ivf_{peopled.hex}_")
    assert by_lists["Actual Rows"] == 40
    assert [node["Index Name"] for node in again] == ["conversation_embeddings_pkey"]
