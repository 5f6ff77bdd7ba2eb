"""Turns driver errors into domain errors, by SQLSTATE and constraint name, never by message text."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg

from memsidecar.domain.errors import (
    DatabaseBusy,
    DatabaseUnavailable,
    DeadlineExceeded,
    DomainError,
    NotFound,
    Problem,
    SetupError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

RETRY_AFTER = timedelta(seconds=1)
"""Delay suggested when the database itself is short of something; long enough for a connection to come free."""

TENANT_FOREIGN_KEY_SUFFIX = "_tenant_id_fkey"
"""How Postgres names the foreign key of a ``tenant_id`` column on its own."""


def _busy(what: str) -> DatabaseBusy:
    return DatabaseBusy(f"{what}: repeat the call after the given delay", retry_after=RETRY_AFTER)


_BY_SQLSTATE: dict[str, Callable[[], DomainError]] = {
    "57014": lambda: DeadlineExceeded(
        "the database did not finish before the deadline: narrow the scope or wait longer"
    ),
    "53300": lambda: _busy("the database accepts no more connections"),
    "53100": lambda: _busy("the database has no disk space left"),
    "53200": lambda: _busy("the database has no memory left"),
    "40001": lambda: _busy("another transaction changed the same rows"),
    "40P01": lambda: _busy("the database stopped a deadlock"),
    "55P03": lambda: _busy("a lock was not available"),
    "25P03": lambda: DatabaseUnavailable("the database ended a transaction that had fallen silent"),
    "25006": lambda: DatabaseUnavailable(
        "the database is read-only: it may be a standby, wait for the failover"
    ),
}
_UNAVAILABLE_CLASSES = ("08", "57P", "58")
"""Connection exceptions, operator intervention (shutdown, crash, cannot connect now), and system errors."""


DRIVER_ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    EOFError,
)
"""Everything that using a connection can raise. The third is raised between the last message of a connection that the
server ends and the end itself."""
_SETUP_PROBLEMS = {
    "28000": Problem(
        "the database does not let this user in.",
        "Correct user and password in the database URL, or what pg_hba.conf allows.",
    ),
    "28P01": Problem("the database refuses this password.", "Correct user and password in the database URL."),
    "53300": Problem(
        "the database accepts no more connections.",
        "Raise max_connections of the database, lower MEMSIDECAR_POOL_SIZE, or put a PgBouncer in between.",
    ),
    "3D000": Problem(
        "the database that the URL names does not exist.",
        "Create it, or correct the name in the database URL.",
    ),
}
"""What only correcting the configuration can mend, by the SQLSTATE of a failed connection."""


def connection_error(error: BaseException) -> DomainError | None:
    """Give the domain error that a failed attempt to connect means, or None when it is a defect of ours."""
    if isinstance(error, asyncpg.PostgresError) and error.sqlstate in _SETUP_PROBLEMS:
        return SetupError(_SETUP_PROBLEMS[error.sqlstate])
    return domain_error(error)


def domain_error(error: BaseException) -> DomainError | None:
    """Give the domain error that a driver or network error means, or None when it is a defect of ours."""
    if isinstance(error, asyncpg.PostgresError):
        sqlstate = str(error.sqlstate or "")
        if sqlstate in _BY_SQLSTATE:
            return _BY_SQLSTATE[sqlstate]()
        if sqlstate.startswith(_UNAVAILABLE_CLASSES):
            return DatabaseUnavailable("the database is not available: it may be starting or shutting down")
        if sqlstate == "23503" and str(error.constraint_name or "").endswith(TENANT_FOREIGN_KEY_SUFFIX):
            return NotFound("the tenant does not exist any more")
        return None
    if isinstance(error, DRIVER_ERRORS):
        return DatabaseUnavailable("the connection to the database was lost or could not be made")
    return None
