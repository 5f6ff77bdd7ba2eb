"""Which schema and which versions of Postgres and pgvector this version needs, and what a database has.

Kept apart from the migrations themselves: a server looks, it never migrates, and Alembic with SQLAlchemy would cost it
47 MB of memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from memsidecar.domain.errors import Problem

if TYPE_CHECKING:
    from memsidecar.postgres.database import Connection

OLDEST_POSTGRES = 16
NEWEST_POSTGRES = 18
OLDEST_PGVECTOR = (0, 8, 4)
"""First release with the iterative scan fixes that recall depends on."""


@dataclass(frozen=True, slots=True)
class SchemaState:
    """Where a database stands."""

    current: str | None
    """Revision of the database; None before the first migration."""
    head: str
    """Revision this version needs."""

    @property
    def up_to_date(self) -> bool:
        """Whether nothing is left to do."""
        return self.current == self.head


def migrations_directory() -> Path:
    """Find the revisions: inside an installed package, else at the top of a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent.parent / "migrations"


def head_revision() -> str:
    """Give the revision this version of the program needs: the last by name, ``0002_...`` after ``0001_...``."""
    return max(path.stem for path in (migrations_directory() / "versions").glob("[0-9]*.py"))


async def schema_state(connection: Connection) -> SchemaState:
    """Read where a database stands, as any role."""
    known = await connection.fetchval("SELECT to_regclass('alembic_version') IS NOT NULL")
    current = await connection.fetchval("SELECT version_num FROM alembic_version") if known else None
    return SchemaState(current, head_revision())


def version_problem(postgres_major: int, pgvector: str | None) -> Problem | None:
    """Say what is wrong with the versions of a database, or None.

    Args:
        postgres_major: For example 18.
        pgvector: For example ``0.8.6``; None when the server does not have it.
    """
    if not OLDEST_POSTGRES <= postgres_major <= NEWEST_POSTGRES:
        return Problem(
            f"this database is PostgreSQL {postgres_major}; memsidecar runs on {OLDEST_POSTGRES} to {NEWEST_POSTGRES}.",
            "Use a database of one of these versions.",
        )
    if pgvector is None:
        return Problem(
            "this PostgreSQL server does not have the extension pgvector.",
            "Install pgvector 0.8.4 or newer on the server (package postgresql-NN-pgvector, or an image that has it).",
        )
    if tuple(int(part) for part in pgvector.split(".")[:3]) < OLDEST_PGVECTOR:
        return Problem(
            f"this database has pgvector {pgvector}; memsidecar needs 0.8.4 or newer.",
            "Install a newer pgvector on the server, then run ALTER EXTENSION vector UPDATE as its owner.",
        )
    return None
