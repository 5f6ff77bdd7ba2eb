"""How a database is named in what is said about it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from memsidecar.cli.failures import CommandFailed, problems_of
from memsidecar.domain.errors import DatabaseUnavailable, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator


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
