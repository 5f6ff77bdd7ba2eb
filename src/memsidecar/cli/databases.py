"""The database a command works on, and how it is named in what is said about it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from memsidecar.app import embedded_directory
from memsidecar.cli.failures import CommandFailed, problems_of
from memsidecar.domain.errors import DatabaseUnavailable, Problem
from memsidecar.postgres.embedded import running_urls

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memsidecar.config import Config


def attached(config: Config) -> Config:
    """Point at the embedded Postgres that a running server has, where one runs; else change nothing."""
    if not config.embedded:
        return config
    urls = running_urls(embedded_directory(config))
    if urls is None:
        return config
    return replace(
        config,
        database_url=urls.app_url,
        owner_database_url=urls.owner_url,
        eraser_database_url=urls.eraser_url,
    )


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
