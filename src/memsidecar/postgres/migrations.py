"""Brings a database to the schema this version needs, and back.

Runs as the owner role. Every step is one transaction, guarded by an advisory lock, so that several replicas may start
it at once: the first does the work, the others wait and find nothing to do.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, cast

import asyncpg
from alembic import command, op
from alembic.config import Config
from sqlalchemy import pool, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from memsidecar.domain.errors import Problem, SetupError
from memsidecar.postgres.errors import connection_error
from memsidecar.postgres.schema import SchemaState, head_revision, migrations_directory, version_problem

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

LOCK_KEY = 0x6D656D73
"""Key of the advisory lock: the ASCII bytes of "mems"."""


def run_scripts(revision: str, direction: str) -> None:
    """Run the ``.sql`` files of a revision, in order of name going up and in reverse going down.

    Called by the revision files. A file may hold many statements; they go to the server as one script.
    """
    folder = migrations_directory() / "sql" / revision
    scripts = sorted(folder.glob(f"*.{direction}.sql"), reverse=direction == "down")
    connection = op.get_bind()
    connection.execute(
        text("SELECT 1")
    )  # the driver opens its transaction with the first statement it is given
    driver = cast("asyncpg.Connection", connection.connection.driver_connection)
    adapter = connection.connection.dbapi_connection
    for script in scripts:
        statements = script.read_text(encoding="utf-8")
        adapter.run_async(lambda _driver, statements=statements: driver.execute(statements))  # type: ignore[union-attr]


async def migrate(
    url: str, *, revision: str = "head", app_login: str | None = None, eraser_login: str | None = None
) -> SchemaState:
    """Bring the database to ``revision`` and say where it stood before.

    Args:
        url: Connection URL of the owner role.
        revision: ``head``, or an earlier one to downgrade to; ``base`` removes everything.
        app_login: Login role to make a member of ``memsidecar_app``.
        eraser_login: Login role to make a member of ``memsidecar_eraser``.

    Raises:
        SetupError: Postgres or pgvector is too old or too new, or the role may not do it.
        DatabaseUnavailable: Nothing answers.
    """
    engine = create_async_engine(_sqlalchemy_url(url), poolclass=pool.NullPool)
    try:
        async with engine.connect() as connection:
            await _check_versions(connection)
            await connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": LOCK_KEY})
            await connection.commit()
            before = SchemaState(await _current_revision(connection), head_revision())
            await connection.rollback()
            await connection.run_sync(_run_alembic, revision, before)
            for group, login in (("memsidecar_app", app_login), ("memsidecar_eraser", eraser_login)):
                if login is not None:
                    await connection.execute(text(f"GRANT {group} TO {_quoted(connection, login)}"))
            await connection.commit()
            return before
    except Exception as error:
        raise _explained(error) or error from error
    finally:
        await engine.dispose()


def _quoted(connection: AsyncConnection, role: str) -> str:
    return connection.dialect.identifier_preparer.quote_identifier(role)


async def _current_revision(connection: AsyncConnection) -> str | None:
    known = (await connection.execute(text("SELECT to_regclass('alembic_version') IS NOT NULL"))).scalar_one()
    if not known:
        return None
    return cast(
        "str | None", (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalar()
    )


async def _check_versions(connection: AsyncConnection) -> None:
    number = int(
        (await connection.execute(text("SELECT current_setting('server_version_num')"))).scalar_one()
    )
    vector = (
        await connection.execute(
            text("SELECT default_version FROM pg_available_extensions WHERE name = 'vector'")
        )
    ).scalar()
    installed = (
        await connection.execute(text("SELECT extversion FROM pg_extension WHERE extname = 'vector'"))
    ).scalar()
    await connection.rollback()
    problem = version_problem(number // 10000, installed or vector)
    if problem is not None:
        raise SetupError(problem)


def _run_alembic(connection: Connection, revision: str, before: SchemaState) -> None:
    config = Config()
    config.set_main_option("script_location", str(migrations_directory()))
    config.attributes["connection"] = connection
    logging.getLogger("alembic").setLevel(logging.WARNING)
    if revision == "head":
        command.upgrade(config, "head")
    elif before.current is not None:
        command.downgrade(config, revision)


def _sqlalchemy_url(url: str) -> str:
    return make_url(url).set(drivername="postgresql+asyncpg").render_as_string(hide_password=False)


def _explained(error: Exception) -> Exception | None:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, asyncpg.InsufficientPrivilegeError):
            return SetupError(
                Problem(
                    f"the owner role may not do that: {cause.message}.",
                    "Give it CREATEROLE and CREATE on the database and schema, and have an administrator run"
                    " CREATE EXTENSION vector once.",
                )
            )
        translated = connection_error(cause)
        if translated is not None:
            return translated
        cause = cause.__cause__
    return None


def migrate_now(url: str, *, revision: str = "head") -> SchemaState:
    """Run ``migrate`` from code that is not asynchronous."""
    return asyncio.run(migrate(url, revision=revision))
