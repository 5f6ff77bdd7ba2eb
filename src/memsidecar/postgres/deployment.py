"""What a database is like, and whether memsidecar may serve from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from memsidecar.domain.errors import Problem, SetupError
from memsidecar.postgres.queries import load_queries
from memsidecar.postgres.schema import SchemaState, head_revision, schema_state, version_problem

if TYPE_CHECKING:
    from memsidecar.postgres.database import Database

_QUERIES = load_queries("deployment")


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """What was found."""

    postgres_version: str
    postgres_major: int
    pgvector_version: str | None
    """As created in the database, else as the server would create it; None when the server does not have it."""
    schema: SchemaState
    role: str
    is_superuser: bool
    bypasses_rls: bool
    is_app_member: bool
    other_roles: tuple[str, ...]
    """Roles of memsidecar that the role may act as although they are not for serving."""
    owned_tables: tuple[str, ...]
    """Tenant tables that the role owns or may act as the owner of."""
    unprotected_tables: tuple[str, ...]
    """Tables with a tenant_id that lack FORCE row-level security, or have other policies than tenant_isolation."""
    granted_partitions: tuple[str, ...]
    """Partitions with privileges of their own, which go past the policy of their parent."""


async def read_facts(database: Database) -> DatabaseFacts:
    """Look at the database as the app role sees it."""
    async with database.control() as connection:
        row = await connection.fetchrow(_QUERIES["facts"])
        schema = await schema_state(connection)
        return DatabaseFacts(
            postgres_version=row["postgres_version"],
            postgres_major=row["postgres_version_number"] // 10_000,
            pgvector_version=row["pgvector_version"],
            schema=schema,
            role=row["role"],
            is_superuser=row["is_superuser"],
            bypasses_rls=row["bypasses_rls"],
            is_app_member=row["is_app_member"],
            other_roles=tuple(row["other_roles"]),
            owned_tables=tuple(row["owned_tables"]),
            unprotected_tables=tuple(row["unprotected_tables"]),
            granted_partitions=tuple(row["granted_partitions"]),
        )


@dataclass(frozen=True, slots=True)
class ConnectionRoom:
    """How many connections the database has left."""

    allowed: int
    """Connections that ordinary roles may have open in all."""
    open: int
    own: int
    """How many of the open ones the asking role holds."""

    @property
    def for_this_role(self) -> int:
        """Connections the asking role can have, those it holds already included."""
        return max(self.allowed - self.open + self.own, 0)


async def read_connection_room(database: Database) -> ConnectionRoom:
    """Count connections."""
    async with database.control() as connection:
        row = await connection.fetchrow(_QUERIES["connection_room"])
        return ConnectionRoom(allowed=row["allowed"], open=row["open"], own=row["own"])


def serving_problems(facts: DatabaseFacts) -> list[Problem]:
    """List everything that forbids serving; empty when all is well."""
    problems = []
    versions = version_problem(facts.postgres_major, facts.pgvector_version)
    if versions is not None:
        problems.append(versions)
    if not facts.schema.up_to_date:
        problems.append(
            Problem(
                f"the database is at schema revision {facts.schema.current or 'none'};"
                f" this version needs {head_revision()}.",
                "Run 'memsidecar migrate' with MEMSIDECAR_OWNER_DATABASE_URL set.",
            )
        )
    if facts.is_superuser or facts.bypasses_rls:
        problems.append(
            Problem(
                f"the database role {facts.role} is a superuser or has BYPASSRLS: row-level security does not bind it.",
                "Connect as a plain login role that is a member of memsidecar_app.",
            )
        )
    if facts.other_roles:
        problems.append(
            Problem(
                f"the database role {facts.role} is a member of {', '.join(facts.other_roles)}, which see or delete"
                " what serving must not.",
                f'Run REVOKE {", ".join(facts.other_roles)} FROM "{facts.role}" as the owner role.',
            )
        )
    if facts.owned_tables:
        problems.append(
            Problem(
                f"the database role {facts.role} owns {', '.join(facts.owned_tables)}, or is a member of the owner.",
                "Connect as a plain login role that is a member of memsidecar_app and of nothing else.",
            )
        )
    if facts.schema.current is not None and not facts.is_app_member:
        problems.append(
            Problem(
                f"the database role {facts.role} is not a member of memsidecar_app.",
                f'Run GRANT memsidecar_app TO "{facts.role}" as the owner role.',
            )
        )
    if facts.unprotected_tables:
        problems.append(
            Problem(
                f"row-level security is not in force on {', '.join(facts.unprotected_tables)}.",
                "Somebody changed the schema by hand: restore FORCE ROW LEVEL SECURITY and the policy"
                " tenant_isolation, as the migrations make them.",
            )
        )
    if facts.granted_partitions:
        problems.append(
            Problem(
                f"the partitions {', '.join(facts.granted_partitions)} are granted directly.",
                "Revoke those grants: privileges on a partition go past the policy of its parent.",
            )
        )
    return problems


def check_serving(facts: DatabaseFacts) -> None:
    """Refuse a database that memsidecar must not serve from.

    Raises:
        SetupError: With the first problem.
    """
    for problem in serving_problems(facts):
        raise SetupError(problem)
