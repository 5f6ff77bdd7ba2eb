"""The database as its owner, and how a database is named in what is said about it."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from memsidecar.app import open_databases
from memsidecar.cli.failures import CommandFailed, problems_of
from memsidecar.domain.errors import DatabaseUnavailable, Problem, SetupError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from memsidecar.config import Config


@asynccontextmanager
async def open_owner_database(config: Config) -> AsyncIterator[str]:
    """Give the owner's connection URL: the configured one, or that of the embedded Postgres.

    Raises:
        SetupError: A database is configured, but not its owner.
    """
    if config.owner_database_url is not None:
        yield config.owner_database_url
        return
    if not config.embedded:
        raise SetupError(
            Problem(
                "This takes the owner role, and no URL of it is set.",
                "Set MEMSIDECAR_OWNER_DATABASE_URL to postgresql://OWNER:PASSWORD@HOST:5432/DATABASE.",
            )
        )
    async with open_databases(config, join=True) as databases:
        yield databases.owner_url or ""


@contextmanager
def naming(url: str | None) -> Iterator[None]:
    """Say which database it was that could not be reached."""
    try:
        yield
    except DatabaseUnavailable as error:
        if url is None:
            raise
        [problem] = problems_of(error)
        what = f"The database at {database_place(url)} cannot be reached."
        raise CommandFailed([Problem(what, problem.remedy)]) from error


def database_place(url: str) -> str:
    """Give host, port and database of a connection URL, and nothing secret."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    host = parts.hostname or query.get("host", ["localhost"])[0]
    port = parts.port or query.get("port", ["5432"])[0]
    return f"{host}:{port}, database {parts.path.lstrip('/') or 'of the same name as the user'}"
