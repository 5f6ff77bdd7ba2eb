"""What the database itself refuses, by hand, whatever the program does."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import asyncpg
import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from uuid import UUID

    from tests.conftest import TestDatabase

INSERT_TURN = """
    INSERT INTO conversation_embeddings
        (tenant_id, id, turn_id, agent_id, user_id, conversation_id, role, content, token_count, model_id, embedding)
    VALUES ($1, $2, $2, $3, 'U1', 'C1', 'user', 'hello', 3, $4, array_fill(0.05, ARRAY[384])::vector)
"""
TENANT_TABLES = """
    SELECT c.relname::text AS name
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p')
      AND (c.relname = 'tenants' OR EXISTS (
          SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped))
    ORDER BY 1
"""


@pytest.fixture
async def app(test_database: TestDatabase) -> AsyncIterator[asyncpg.Connection]:
    """The app role by hand, as in psql."""
    connection = await asyncpg.connect(test_database.app_url)
    yield connection
    await connection.close()


@pytest.fixture
async def owner(test_database: TestDatabase) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(test_database.owner_url)
    yield connection
    await connection.close()


@pytest.fixture
async def superuser(test_database: TestDatabase) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(test_database.superuser_url)
    yield connection
    await connection.close()


async def set_tenant(connection: asyncpg.Connection, tenant_id: UUID) -> None:
    await connection.execute(f"SET app.current_tenant = '{tenant_id}'")


async def insert_turn(connection: asyncpg.Connection, tenant_id: UUID, model_id: int) -> UUID:
    turn_id = uuid4()
    await connection.execute(INSERT_TURN, tenant_id, turn_id, uuid4(), model_id)
    return turn_id


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE conversation_embeddings SET content = 'rewritten'",
        "DELETE FROM conversation_embeddings",
        "TRUNCATE conversation_embeddings",
    ],
)
async def test_what_was_said_cannot_be_changed_by_the_app_role(
    app: asyncpg.Connection, tenant_id: UUID, model_id: int, statement: str
) -> None:
    await set_tenant(app, tenant_id)
    await insert_turn(app, tenant_id, model_id)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await app.execute(statement)
    assert await app.fetchval("SELECT content FROM conversation_embeddings") == "hello"


@pytest.mark.parametrize("role", ["owner", "superuser"])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE conversation_embeddings SET content = 'rewritten'",
        "DELETE FROM conversation_embeddings",
        "TRUNCATE conversation_embeddings CASCADE",
        "UPDATE user_memory_revisions SET memory = 'rewritten'",
        "TRUNCATE user_memory_revisions",
    ],
)
async def test_append_only_tables_refuse_even_the_owner_and_superusers(
    owner: asyncpg.Connection, superuser: asyncpg.Connection, role: str, tenant_id: UUID, statement: str
) -> None:
    connection = {"owner": owner, "superuser": superuser}[role]
    await set_tenant(connection, tenant_id)
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
        await connection.execute(statement)


async def test_without_a_tenant_every_tenant_table_is_empty(
    app: asyncpg.Connection, tenant_id: UUID, model_id: int
) -> None:
    await set_tenant(app, tenant_id)
    await insert_turn(app, tenant_id, model_id)
    await app.execute("RESET app.current_tenant")
    tables = [row["name"] for row in await app.fetch(TENANT_TABLES)]
    assert "conversation_embeddings" in tables
    for table in tables:
        if not await app.fetchval("SELECT has_table_privilege(current_user, $1, 'SELECT')", table):
            continue
        assert await app.fetchval(f"SELECT count(*) FROM {table}") == 0, table


@pytest.mark.parametrize("setting", ["", None])
async def test_without_a_tenant_an_insert_fails(
    app: asyncpg.Connection, tenant_id: UUID, model_id: int, setting: str | None
) -> None:
    if setting is not None:
        await app.execute("SET app.current_tenant = ''")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await insert_turn(app, tenant_id, model_id)


async def test_another_tenants_rows_cannot_be_read_written_or_referenced(
    app: asyncpg.Connection, new_tenant: Callable[..., Awaitable[UUID]], model_id: int
) -> None:
    ours, theirs = await new_tenant("ours"), await new_tenant("theirs")
    await set_tenant(app, theirs)
    turn_id = await insert_turn(app, theirs, model_id)
    await set_tenant(app, ours)
    assert await app.fetch("SELECT * FROM conversation_embeddings WHERE id = $1", turn_id) == []
    assert [row["id"] for row in await app.fetch("SELECT id FROM tenants")] == [ours]
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await insert_turn(app, theirs, model_id)
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await app.execute(
            "INSERT INTO superseded_turns (tenant_id, id, agent_id, user_id) VALUES ($1, $2, $3, 'U1')",
            ours,
            turn_id,
            uuid4(),
        )


async def test_every_reference_between_tenant_tables_carries_the_tenant(owner: asyncpg.Connection) -> None:
    """A foreign key is checked past row-level security: without the tenant in it, it could name another's row."""
    rows = await owner.fetch(
        f"""
        SELECT conrelid::regclass::text AS table, conname::text AS constraint
        FROM pg_constraint AS x
        WHERE contype = 'f' AND conrelid::regclass::text IN (SELECT name FROM ({TENANT_TABLES}) AS t)
          AND confrelid::regclass::text IN (SELECT name FROM ({TENANT_TABLES}) AS t)
          AND NOT EXISTS (
              SELECT FROM pg_attribute AS a
              WHERE a.attrelid = x.conrelid AND a.attnum = ANY (x.conkey) AND a.attname = 'tenant_id')
        """
    )
    assert rows == []


async def test_keys_say_nothing_about_other_tenants(
    app: asyncpg.Connection, new_tenant: Callable[..., Awaitable[UUID]], model_id: int
) -> None:
    """The same id in two tenants is no conflict, so a conflict cannot tell that it exists."""
    ours, theirs = await new_tenant("ours"), await new_tenant("theirs")
    turn_id = uuid4()
    for tenant in (theirs, ours):
        await set_tenant(app, tenant)
        await app.execute(INSERT_TURN, tenant, turn_id, uuid4(), model_id)
        assert await app.fetchval("SELECT count(*) FROM conversation_embeddings") == 1


async def test_every_tenant_table_is_protected(owner: asyncpg.Connection) -> None:
    unprotected = await owner.fetch(
        f"""
        SELECT name FROM ({TENANT_TABLES}) AS tables
        WHERE NOT (SELECT relrowsecurity AND relforcerowsecurity FROM pg_class WHERE oid = name::regclass)
           OR NOT EXISTS (SELECT FROM pg_policies WHERE tablename = name AND policyname = 'tenant_isolation')
        """
    )
    assert unprotected == []


async def test_every_tenant_table_starts_its_keys_with_the_tenant(owner: asyncpg.Connection) -> None:
    """Rows can then be distributed by tenant, and an index never has to be shared."""
    rows = await owner.fetch(
        """
        SELECT c.relname::text AS table, i.relname::text AS index
        FROM pg_index x
        JOIN pg_class c ON c.oid = x.indrelid
        JOIN pg_class i ON i.oid = x.indexrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'public'
        JOIN pg_attribute t ON t.attrelid = c.oid AND t.attname = 'tenant_id'
        WHERE x.indisunique AND x.indkey[0] <> t.attnum AND c.relname <> 'api_tokens'
        """
    )
    assert rows == []


async def test_nothing_stays_set_on_a_pooled_connection(test_database: TestDatabase, tenant_id: UUID) -> None:
    from memsidecar.postgres.database import Database

    database = await Database.connect(test_database.app_url, max_connections=1)
    changed = (
        "SELECT name FROM pg_settings WHERE source = 'session' AND name <> 'application_name' ORDER BY 1"
    )
    async with database.control() as connection:
        before = await connection.fetch(changed)
    async with database.tenant(tenant_id) as connection:
        assert await connection.fetchval("SELECT count(*) FROM tenants") == 1
    for failing in ("SELECT 1/0", "SELECT * FROM missing"):
        with pytest.raises(asyncpg.PostgresError):
            async with database.tenant(tenant_id) as connection:
                await connection.fetch(failing)
    async with database.control() as connection:
        assert (
            await connection.fetchval("SELECT NULLIF(current_setting('app.current_tenant', true), '')")
            is None
        )
        assert await connection.fetchval("SELECT count(*) FROM tenants") == 0
        assert await connection.fetch(changed) == before
    await database.close()
