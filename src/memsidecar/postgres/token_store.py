"""Tokens in Postgres, by way of the control plane's functions. Implements ``domain.tokens.TokenStore``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg

from memsidecar.domain.audit import DEPLOYMENT_TRAIL, NewAuditEvent
from memsidecar.domain.caller import Right
from memsidecar.domain.errors import NotFound
from memsidecar.domain.paging import Page
from memsidecar.domain.quotas import Quota
from memsidecar.domain.tokens import Token
from memsidecar.postgres.audit_store import record_audit_events
from memsidecar.postgres.queries import load_queries

if TYPE_CHECKING:
    from datetime import datetime

    from memsidecar.postgres.database import Database

_QUERIES = load_queries("control_plane")


class PostgresTokenStore:
    """Keeps tokens in ``api_tokens``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, secret_sha256: bytes, *, deadline: float | None) -> Token | None:
        """Read the token behind a secret; see the port."""
        async with self._database.control(deadline=deadline) as connection:
            row = await connection.fetchrow(_QUERIES["find_token"], secret_sha256)
        if row is None:
            return None
        quota = Quota(row["max_turns"] or 0, row["max_document_bytes"] or 0, row["calls_per_second"] or 0)
        return replace(_token(row), language=row["tenant_language"] or "english", quota=quota)

    async def get(self, tenant_id: UUID, token_id: UUID, *, deadline: float | None) -> Token | None:
        """Read a token of a tenant; see the port."""
        async with self._database.tenant(tenant_id, deadline=deadline) as connection:
            row = await connection.fetchrow(_QUERIES["get_token"], tenant_id, token_id)
        return None if row is None else _token(row)

    async def create(
        self, token: Token, secret_sha256: bytes, *, event: NewAuditEvent, deadline: float | None
    ) -> Token:
        """Store a token; see the port."""
        async with self._database.control(deadline=deadline) as connection:
            try:
                row = await connection.fetchrow(
                    _QUERIES["create_token"],
                    token.token_id,
                    token.tenant_id,
                    token.name,
                    secret_sha256,
                    sorted(right.value for right in token.rights),
                    sorted(token.agent_ids),
                    token.expires_at,
                )
            except asyncpg.ForeignKeyViolationError as error:
                raise NotFound("there is no such tenant") from error
            await record_audit_events(connection, [event])
        return _token(row)

    async def list(
        self,
        tenant_id: UUID | None,
        *,
        after: tuple[datetime, UUID] | None,
        limit: int,
        deadline: float | None,
    ) -> Page[Token]:
        """Read tokens, newest first; see the port."""
        async with self._database.control(deadline=deadline) as connection:
            rows = await connection.fetch(
                _QUERIES["list_tokens"], tenant_id, *(after or (None, None)), limit + 1
            )
        tokens = tuple(_token(row) for row in rows[:limit])
        return Page(tokens, (tokens[-1].created_at, tokens[-1].token_id) if len(rows) > limit else None)

    async def end(
        self,
        token_id: UUID,
        *,
        tenant_id: UUID | None,
        any_tenant: bool,
        at: datetime,
        actor: str,
        action: str,
        deadline: float | None,
    ) -> Token | None:
        """Let a token end; see the port."""
        async with self._database.control(deadline=deadline) as connection:
            row = await connection.fetchrow(_QUERIES["end_token"], token_id, tenant_id, any_tenant, at)
            if row is None:
                return None
            token = _token(row)
            trail = token.tenant_id or DEPLOYMENT_TRAIL
            await record_audit_events(
                connection, [NewAuditEvent(trail, actor, action, str(token_id), {"name": token.name})]
            )
        return token


def _token(row: asyncpg.Record) -> Token:
    return Token(
        token_id=UUID(int=row["id"].int),
        tenant_id=None if row["tenant_id"] is None else UUID(int=row["tenant_id"].int),
        name=row["name"],
        rights=frozenset(Right(right) for right in row["rights"]),
        agent_ids=frozenset(UUID(int=agent_id.int) for agent_id in row["agent_ids"]),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
    )
