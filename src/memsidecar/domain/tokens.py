"""API tokens: random secrets, of which only a hash is kept."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from memsidecar.domain.audit import DEPLOYMENT_TRAIL, NewAuditEvent
from memsidecar.domain.caller import TENANT_RIGHTS, Right
from memsidecar.domain.errors import (
    FailedPrecondition,
    FieldViolation,
    InvalidInput,
    NotFound,
    PermissionDenied,
)
from memsidecar.domain.identifiers import new_uuid7
from memsidecar.domain.quotas import UNLIMITED, Quota

if TYPE_CHECKING:
    from uuid import UUID

    from memsidecar.domain.caller import Caller
    from memsidecar.domain.paging import Page

SECRET_PREFIX = "msc_"  # noqa: S105
"""Lets a person, and a secret scanner, recognise a memsidecar token."""

SECRET_BYTES = 32
"""Random bytes in a secret: 256 bits, so that a plain hash is enough and no salt or stretching is needed."""

DEFAULT_OVERLAP = timedelta(hours=1)
MAX_OVERLAP = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Token:
    """A credential without its secret."""

    token_id: UUID
    tenant_id: UUID | None
    name: str
    rights: frozenset[Right]
    agent_ids: frozenset[UUID]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    language: str = "english"
    """Of the tenant; known when the token was found by its secret."""
    quota: Quota = UNLIMITED
    """Of the tenant, likewise."""

    def works_at(self, moment: datetime) -> bool:
        """Tell whether the token is valid at a moment."""
        return all(end is None or moment < end for end in (self.expires_at, self.revoked_at))


class Secret(str):
    """A secret that does not show itself in logs and tracebacks."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret('…')"


class TokenStore(Protocol):
    """Where tokens are kept."""

    async def find(self, secret_sha256: bytes, *, deadline: float | None) -> Token | None:
        """Read the token behind a secret, whether it still works or not."""
        ...

    async def get(self, tenant_id: UUID, token_id: UUID, *, deadline: float | None) -> Token | None:
        """Read a token of a tenant."""
        ...

    async def create(
        self, token: Token, secret_sha256: bytes, *, event: NewAuditEvent, deadline: float | None
    ) -> Token:
        """Store a token, and record the act. Raises ``NotFound`` when the tenant does not exist."""
        ...

    async def list(
        self,
        tenant_id: UUID | None,
        *,
        after: tuple[datetime, UUID] | None,
        limit: int,
        deadline: float | None,
    ) -> Page[Token]:
        """Read the tokens of a tenant, or of operators for None, newest first."""
        ...

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
        """Let a token end at a moment, never later than it would anyway; None when there is no such token.

        Recorded in the trail the token belongs to, as done by ``actor``.
        """
        ...


def new_secret() -> Secret:
    """Make a secret: the prefix and 43 characters of URL-safe base64."""
    return Secret(SECRET_PREFIX + secrets.token_urlsafe(SECRET_BYTES))


def hash_secret(secret: str) -> bytes:
    """Give the SHA-256 digest under which a secret is stored and found."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


class TokenRegistry:
    """Makes, lists and ends tokens for callers."""

    def __init__(self, store: TokenStore) -> None:
        self._store = store

    async def create(
        self,
        caller: Caller,
        *,
        tenant_id: UUID | None,
        name: str,
        rights: frozenset[Right],
        agent_ids: frozenset[UUID],
        lifetime: timedelta | None,
    ) -> tuple[Token, Secret]:
        """Make a token and give it with its secret, which is kept nowhere.

        Raises:
            PermissionDenied: The caller may not make tokens for that tenant or with those rights.
            NotFound: No such tenant.
        """
        tenant = _tenant_acted_on(caller, tenant_id)
        if Right.OPERATOR in rights and (tenant is not None or rights != {Right.OPERATOR}):
            raise InvalidInput([FieldViolation("rights", "operator stands alone and belongs to no tenant")])
        if tenant is None and Right.OPERATOR not in rights:
            raise InvalidInput(
                [FieldViolation("tenant_id", "is required: name the tenant the token acts for")]
            )
        if Right.OPERATOR not in caller.rights and not rights <= caller.rights & TENANT_RIGHTS:
            raise PermissionDenied("a token cannot have rights that its maker lacks")
        if caller.agent_ids and not (agent_ids and agent_ids <= caller.agent_ids):
            raise PermissionDenied("a token cannot cover agents that its maker does not")
        now = datetime.now(UTC)
        token = Token(
            token_id=new_uuid7(),
            tenant_id=tenant,
            name=name,
            rights=rights,
            agent_ids=agent_ids,
            created_at=now,
            expires_at=None if lifetime is None else now + lifetime,
            revoked_at=None,
        )
        return await self._store_new(caller, token)

    async def list(
        self, caller: Caller, *, tenant_id: UUID | None, after: tuple[datetime, UUID] | None, limit: int
    ) -> Page[Token]:
        """Read tokens, newest first.

        Raises:
            PermissionDenied: The credential lacks ``admin``.
        """
        tenant = _tenant_acted_on(caller, tenant_id)
        return await self._store.list(tenant, after=after, limit=limit, deadline=caller.deadline)

    async def rotate(self, caller: Caller, token_id: UUID, overlap: timedelta) -> tuple[Token, Secret]:
        """Make a successor with the same rights and the same time of expiry, and end the old token after the overlap.

        Raises:
            NotFound: No such token for this caller.
            PermissionDenied: The token may more than the caller, who is told its successor's secret.
            FailedPrecondition: The token has ended already.
        """
        await self._require_no_more_than(caller, token_id)
        now = datetime.now(UTC)
        old = await self._end(caller, token_id, now + overlap, action="token.rotate")
        if any(end is not None and end < now for end in (old.expires_at, old.revoked_at)):
            raise FailedPrecondition("this token has ended: make a new one")
        successor = replace(old, token_id=new_uuid7(), created_at=now, revoked_at=None)
        return await self._store_new(caller, successor)

    async def revoke(self, caller: Caller, token_id: UUID) -> Token:
        """End a token now.

        Raises:
            NotFound: No such token for this caller.
        """
        return await self._end(caller, token_id, datetime.now(UTC), action="token.revoke")

    async def _require_no_more_than(self, caller: Caller, token_id: UUID) -> None:
        if Right.OPERATOR in caller.rights:
            return
        tenant_id = caller.tenant(Right.ADMIN)
        token = await self._store.get(tenant_id, token_id, deadline=caller.deadline)
        if token is None:
            raise NotFound("there is no such token")
        if not token.rights <= caller.rights:
            raise PermissionDenied("a token with rights that its rotator lacks cannot be rotated")
        if caller.agent_ids and not (token.agent_ids and token.agent_ids <= caller.agent_ids):
            raise PermissionDenied("a token for agents that its rotator does not cover cannot be rotated")

    async def _end(self, caller: Caller, token_id: UUID, at: datetime, *, action: str) -> Token:
        operator = Right.OPERATOR in caller.rights
        if not operator:
            caller.tenant(Right.ADMIN)
        token = await self._store.end(
            token_id,
            tenant_id=caller.tenant_id,
            any_tenant=operator,
            at=at,
            actor=caller.name,
            action=action,
            deadline=caller.deadline,
        )
        if token is None:
            raise NotFound("there is no such token")
        return token

    async def _store_new(self, caller: Caller, token: Token) -> tuple[Token, Secret]:
        secret = new_secret()
        event = NewAuditEvent(
            token.tenant_id or DEPLOYMENT_TRAIL,
            caller.name,
            "token.create",
            str(token.token_id),
            {"name": token.name, "rights": sorted(right.value for right in token.rights)},
        )
        stored = await self._store.create(token, hash_secret(secret), event=event, deadline=caller.deadline)
        return stored, secret


def _tenant_acted_on(caller: Caller, tenant_id: UUID | None) -> UUID | None:
    if Right.OPERATOR in caller.rights:
        return tenant_id or caller.tenant_id
    own = caller.tenant(Right.ADMIN)
    if tenant_id not in (None, own):
        raise PermissionDenied("this credential acts on its own tenant only")
    return own
