"""A database that would not keep tenants apart is not served from, and the refusal says what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from memsidecar.domain.errors import SetupError
from memsidecar.postgres.database import Database
from memsidecar.postgres.deployment import read_facts, serving_problems

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.conftest import TestDatabase


@pytest.fixture
async def superuser(test_database: TestDatabase) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(test_database.superuser_url)
    yield connection
    await connection.close()


@pytest.fixture
async def login(test_database: TestDatabase, superuser: asyncpg.Connection) -> AsyncIterator[Any]:
    """A login role of the test's own, made with the given attributes; gives its URL."""
    name = f"login_of_{test_database.name}"
    await superuser.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'test'")

    async def make(*statements: str) -> str:
        for statement in statements:
            await superuser.execute(statement.format(login=name))
        return test_database.urls.for_role(name, test_database.name)

    yield make
    await superuser.execute(f"REASSIGN OWNED BY {name} TO postgres; DROP OWNED BY {name}; DROP ROLE {name}")


async def problems_of(url: str) -> list[str]:
    database = await Database.connect(url, max_connections=1)
    try:
        return [
            f"{problem.what} {problem.remedy}" for problem in serving_problems(await read_facts(database))
        ]
    finally:
        await database.close()


async def test_a_sound_database_has_no_problem(test_database: TestDatabase) -> None:
    assert await problems_of(test_database.app_url) == []


@pytest.mark.parametrize(
    ("statements", "complaint"),
    [
        (["ALTER ROLE {login} SUPERUSER"], "is a superuser or has BYPASSRLS"),
        (["GRANT memsidecar_app TO {login}", "ALTER ROLE {login} BYPASSRLS"], "BYPASSRLS"),
        (["GRANT memsidecar_app TO {login}", "ALTER TABLE documents OWNER TO {login}"], "owns documents"),
        (["GRANT memsidecar_app TO {login}", "GRANT memsidecar_control TO {login}"], "memsidecar_control"),
        (
            ["GRANT memsidecar_app TO {login}", "GRANT memsidecar_eraser TO {login} WITH INHERIT FALSE"],
            "memsidecar_eraser",
        ),
    ],
)
async def test_a_role_that_row_level_security_does_not_bind_is_refused(
    login: Callable[..., Any], statements: list[str], complaint: str
) -> None:
    problems = await problems_of(await login(*statements))
    assert any(complaint in problem for problem in problems), problems


async def test_a_role_without_privileges_is_told_which(
    login: Callable[..., Any], superuser: asyncpg.Connection
) -> None:
    url = await login("GRANT SELECT ON alembic_version TO {login}", "GRANT USAGE ON SCHEMA public TO {login}")
    [problem] = await problems_of(url)
    assert "is not a member of memsidecar_app" in problem


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY",
        "ALTER TABLE {table} DISABLE ROW LEVEL SECURITY",
        "DROP POLICY tenant_isolation ON {table}",
        "ALTER POLICY tenant_isolation ON {table} USING (true)",
        "ALTER POLICY tenant_isolation ON {table} USING (true OR tenant_id = current_tenant())",
        "ALTER POLICY tenant_isolation ON {table} WITH CHECK (true)",
        "ALTER POLICY tenant_isolation ON {table} TO memsidecar_eraser",
        "CREATE POLICY everybody ON {table} FOR SELECT USING (true)",
        "CREATE POLICY everybody ON {table} TO memsidecar_app USING (true)",
    ],
)
async def test_a_table_that_is_not_protected_is_named(
    test_database: TestDatabase, superuser: asyncpg.Connection, statement: str
) -> None:
    await superuser.execute(statement.format(table="document_chunks"))
    [problem] = await problems_of(test_database.app_url)
    assert "row-level security is not in force on document_chunks." in problem


async def test_a_new_tenant_table_without_protection_is_named(
    test_database: TestDatabase, superuser: asyncpg.Connection
) -> None:
    await superuser.execute("CREATE TABLE notes (tenant_id uuid)")
    [problem] = await problems_of(test_database.app_url)
    assert "not in force on notes." in problem


async def test_a_partition_that_is_granted_directly_is_named(
    test_database: TestDatabase, superuser: asyncpg.Connection
) -> None:
    await superuser.execute(
        """
        CREATE TABLE events (tenant_id uuid NOT NULL, day date NOT NULL) PARTITION BY RANGE (day);
        ALTER TABLE events ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
        CREATE POLICY tenant_isolation ON events
            USING (tenant_id = NULLIF(current_setting('app.current_tenant', true), '')::uuid);
        CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
        """
    )
    assert await problems_of(test_database.app_url) == []
    await superuser.execute("GRANT SELECT ON events_2026 TO memsidecar_app")
    [problem] = await problems_of(test_database.app_url)
    assert "the partitions events_2026 are granted directly" in problem


async def test_the_server_does_not_start(
    start_sidecar: Callable[..., Any], test_database: TestDatabase, superuser: asyncpg.Connection
) -> None:
    with pytest.raises(SetupError, match="is a superuser"):
        async with start_sidecar(database_url=test_database.superuser_url):
            pass
    await superuser.execute("ALTER TABLE user_memories NO FORCE ROW LEVEL SECURITY")
    with pytest.raises(SetupError, match="not in force on user_memories"):
        async with start_sidecar():
            pass
