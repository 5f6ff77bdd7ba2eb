"""Making what an embedded Postgres holds: data files, login roles, the database and the extension."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
from typing import TYPE_CHECKING

import asyncpg

from memsidecar.domain.errors import Problem, SetupError
from memsidecar.postgres.embedded.account import initialising_account
from memsidecar.postgres.embedded.failure import startup_problem
from memsidecar.postgres.embedded.process import spawn
from memsidecar.postgres.embedded.settings import configuration_text, is_durable
from memsidecar.postgres.embedded.urls import APP, DATABASE, ERASER, OWNER, SUPERUSER
from memsidecar.postgres.queries import load_queries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from memsidecar.postgres.embedded.account import Account
    from memsidecar.postgres.embedded.directory import DataDirectory
    from memsidecar.postgres.embedded.installation import Installation
    from memsidecar.postgres.embedded.urls import DatabaseUrls

_QUERIES = load_queries("embedded_cluster")

CHARACTER_LOCALES = ("C.UTF-8", "en_US.UTF-8")
"""Full-text search takes from the system's locale what a letter is: in the C locale a dash or a curly quote
counts as one. The first is in every current Linux, the second in every macOS."""
CONNECT_SECONDS = 10.0


async def make_cluster(
    installation: Installation,
    directory: DataDirectory,
    account: Account | None,
    settings: Mapping[str, str],
    postgres_lock: int,
) -> None:
    """Make the data files where there are none, whole or not at all.

    Raises:
        SetupError: they cannot be made, or those that are there belong to another major version of Postgres.
    """
    if not directory.cluster.exists():
        await _initialise(installation, directory, account, settings, postgres_lock)
    version_file = directory.cluster / "PG_VERSION"
    try:
        version = version_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        version = "unknown"
    if version != installation.major:
        raise SetupError(
            Problem(
                f"The data files in {directory.cluster} are of PostgreSQL {version}, and this memsidecar"
                f" brings PostgreSQL {installation.major}, which cannot read them.",
                "Use the memsidecar that made them, or dump them with pg_dump and load them into a new data"
                " directory.",
                details={"found": version, "needed": installation.major},
            )
        )


def write_settings(directory: DataDirectory, settings: Mapping[str, str]) -> None:
    """Write the settings for the next start.

    Raises:
        OSError: they cannot be written.
    """
    written = directory.settings.with_suffix(".new")
    written.write_text(configuration_text(settings), encoding="utf-8")
    written.chmod(0o644)  # for the user Postgres runs as; an ordinary user's directory lets nobody else in
    written.replace(directory.settings)


async def make_database(urls: DatabaseUrls) -> None:
    """Make the login roles, the database and the extension where missing; bring the extension up to date.

    Raises:
        SetupError: Postgres refuses, for example because the disk is full.
    """
    try:
        await _make_database(urls)
    except (asyncpg.PostgresError, OSError) as error:
        raise SetupError(
            Problem(
                f"Postgres runs, but its database could not be made ready: {error}.",
                "Put right what it names and start again: what was made so far is kept.",
            )
        ) from error


async def _make_database(urls: DatabaseUrls) -> None:
    async with _session(urls.for_role(SUPERUSER, "postgres")) as session:
        # Only the owner may create roles: migrations make the group roles and put the other two into them.
        login_roles = {OWNER: True, APP: False, ERASER: False}
        arguments = (list(login_roles), list(login_roles.values()))
        for row in await session.fetch(_QUERIES["missing_login_roles"], *arguments):
            await session.execute(row["statement"])
        for row in await session.fetch(_QUERIES["missing_database"], DATABASE, OWNER):
            await session.execute(row["statement"])
    async with _session(urls.for_role(SUPERUSER)) as session:
        await session.execute(_QUERIES["create_vector_extension"])
        if await session.fetchval(_QUERIES["vector_extension_outdated"]):
            await session.execute(_QUERIES["update_vector_extension"])


async def _initialise(
    installation: Installation,
    directory: DataDirectory,
    account: Account | None,
    settings: Mapping[str, str],
    postgres_lock: int,
) -> None:
    maker = initialising_account(account)
    unfinished = directory.path / "cluster.new"
    for locale in CHARACTER_LOCALES:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        if maker is not None:
            maker.own(unfinished)
        arguments = _initdb_arguments(unfinished, locale, durable=is_durable(settings))
        process = await spawn(
            str(installation.program("initdb")),
            *arguments,
            account=maker,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            pass_fds=(postgres_lock,),
        )
        try:
            output = (await process.communicate())[0].decode("utf-8", errors="replace")
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        if process.returncode == 0 or "invalid locale name" not in output:
            break
    if process.returncode != 0:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise SetupError(startup_problem("initdb", output, directory.path))
    if account is not None:
        account.own_tree(unfinished)
    unfinished.rename(directory.cluster)
    folder = os.open(directory.path, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def _initdb_arguments(cluster: os.PathLike[str], locale: str, *, durable: bool) -> list[str]:
    arguments = [
        f"--pgdata={os.fspath(cluster)}",
        f"--username={SUPERUSER}",
        "--encoding=UTF8",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--no-locale",
        f"--lc-ctype={locale}",
        "--data-checksums",
        # Whoever can enter the socket's directory can read the data files: a password beside them would add
        # nothing.
        "--auth-local=trust",
        "--auth-host=reject",
        "--no-instructions",
    ]
    if not durable:
        arguments.append("--no-sync")
    elif sys.platform == "linux":
        # One call instead of one for each of a thousand files.
        arguments.append("--sync-method=syncfs")
    return arguments


@contextlib.asynccontextmanager
async def _session(url: str) -> AsyncIterator[asyncpg.Connection]:
    session = await asyncpg.connect(url, timeout=CONNECT_SECONDS)
    try:
        yield session
    finally:
        await session.close()
