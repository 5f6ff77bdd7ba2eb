"""Bringing a database to the schema and back."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from memsidecar.domain.errors import SetupError
from memsidecar.postgres.embedded.installation import find_installation
from memsidecar.postgres.migrations import migrate
from memsidecar.postgres.schema import head_revision, migrations_directory, schema_state, version_problem

if TYPE_CHECKING:
    from tests.conftest import TestDatabase

SCHEMA_DUMP = Path(__file__).resolve().parents[2] / "migrations" / "schema.sql"


def dump_schema(database: TestDatabase) -> str:
    """Give the schema as pg_dump writes it, without what changes from run to run."""
    result = subprocess.run(
        [
            str(find_installation().program("pg_dump")),
            "--schema-only",
            "--no-owner",
            f"--dbname={database.superuser_url}",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [
        line
        for line in result.stdout.splitlines()
        if not line.startswith(("--", "SET ", "SELECT pg_catalog.set_config", "\\"))
    ]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


async def test_the_committed_dump_is_what_the_migrations_make(test_database: TestDatabase) -> None:
    """Shows every change of the schema in review; MEMSIDECAR_WRITE_SCHEMA=1 writes it again."""
    dump = await asyncio.to_thread(dump_schema, test_database)
    if os.environ.get("MEMSIDECAR_WRITE_SCHEMA"):
        SCHEMA_DUMP.write_text(dump)
    assert dump == SCHEMA_DUMP.read_text()


async def test_going_down_removes_everything_and_up_again_makes_the_same(test_database: TestDatabase) -> None:
    before = await asyncio.to_thread(dump_schema, test_database)
    await migrate(test_database.owner_url, revision="base")
    connection = await asyncpg.connect(test_database.owner_url)
    left = await connection.fetch(
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        " AND relname NOT LIKE 'alembic_version%' UNION ALL"
        " SELECT p.oid::regprocedure::text FROM pg_proc p WHERE pronamespace = 'public'::regnamespace AND NOT EXISTS"
        " (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')"
    )
    assert left == []
    await connection.close()
    await migrate(test_database.owner_url)
    assert await asyncio.to_thread(dump_schema, test_database) == before


async def test_migrating_again_changes_nothing(test_database: TestDatabase) -> None:
    state = await migrate(test_database.owner_url)
    assert state.up_to_date
    assert state.current == head_revision()


async def test_several_replicas_may_migrate_at_once(test_database: TestDatabase) -> None:
    await migrate(test_database.owner_url, revision="base")
    states = await asyncio.gather(*[migrate(test_database.owner_url) for _replica in range(5)])
    assert sorted(state.up_to_date for state in states) == [False, True, True, True, True]
    connection = await asyncpg.connect(test_database.app_url)
    assert (await schema_state(connection)).up_to_date
    await connection.close()


async def test_a_role_without_the_rights_is_told_what_it_lacks(test_database: TestDatabase) -> None:
    with pytest.raises(SetupError, match="CREATEROLE"):
        await migrate(test_database.app_url, revision="base")


@pytest.mark.parametrize(
    ("postgres", "pgvector", "sentence"),
    [
        (15, "0.8.6", "this database is PostgreSQL 15; memsidecar runs on 16 to 18"),
        (19, "0.8.6", "this database is PostgreSQL 19"),
        (18, None, "does not have the extension pgvector"),
        (17, "0.8.3", "has pgvector 0.8.3; memsidecar needs 0.8.4 or newer"),
        (16, "0.7.4", "has pgvector 0.7.4"),
    ],
)
def test_other_versions_are_refused_with_a_sentence(
    postgres: int, pgvector: str | None, sentence: str
) -> None:
    problem = version_problem(postgres, pgvector)
    assert problem is not None
    assert sentence in problem.what
    assert problem.remedy


@pytest.mark.parametrize(
    ("postgres", "pgvector"), [(16, "0.8.4"), (17, "0.8.5"), (18, "0.8.6"), (18, "0.9.0"), (18, "1.0")]
)
def test_supported_versions_are_taken(postgres: int, pgvector: str) -> None:
    assert version_problem(postgres, pgvector) is None


def test_the_last_revision_by_name_is_the_head() -> None:
    """The server finds it by name, without loading Alembic."""
    from alembic.script import ScriptDirectory

    assert head_revision() == ScriptDirectory(str(migrations_directory())).get_current_head()
