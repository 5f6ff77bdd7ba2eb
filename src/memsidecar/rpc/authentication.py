"""Who is calling: from the credential of the call or of its connection, never from the request."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol, TypeVar

from memsidecar.domain.call_rates import CallRates
from memsidecar.domain.caller import TENANT_RIGHTS, Caller, Right
from memsidecar.domain.errors import Overloaded, Unauthenticated
from memsidecar.domain.tokens import SECRET_PREFIX, hash_secret

if TYPE_CHECKING:
    from memsidecar.domain.tokens import Token, TokenStore
    from memsidecar.rpc.certificate_authentication import CertificateAuthentication
    from memsidecar.rpc.context import ServicerContext
    from memsidecar.rpc.jwt_authentication import JwtAuthentication
    from memsidecar.rpc.known_tenants import KnownTenants

TOKEN_CACHE_SECONDS = 2.0
"""How long a token is believed before the database is asked again: a revocation is felt everywhere within this time."""

TOKEN_CACHE_SIZE = 10_000

UNKNOWN_TOKENS_PER_SECOND = 100
"""Tokens not seen before that are looked for, averaged over ten seconds."""

V = TypeVar("V")


class Authentication(Protocol):
    """Finds out who is calling."""

    async def caller(self, context: ServicerContext) -> Caller:
        """Give the caller of a call, its deadline included.

        Raises:
            Unauthenticated: No credential, or one that does not work.
        """
        ...


class OpenAuthentication:
    """Believes everybody to be one tenant and its operator.

    For a loopback or unix socket address only, where the network is the credential.

    Args:
        tenant: Name of the tenant.
        tenants: Finds it.
    """

    def __init__(self, tenant: str, tenants: KnownTenants) -> None:
        self._tenant = tenant
        self._tenants = tenants

    async def caller(self, context: ServicerContext) -> Caller:
        """Give the one caller there is."""
        deadline = _deadline(context)
        tenant = await self._tenants.find(self._tenant, deadline)
        return Caller(
            name="local",
            rights=TENANT_RIGHTS | {Right.OPERATOR},
            tenant_id=tenant.tenant_id,
            language=tenant.settings.language,
            quota=tenant.settings.quota,
            deadline=deadline,
        )


class CredentialAuthentication:
    """Believes what a call or its connection brings as credential.

    A call with ``authorization: Bearer <secret>`` acts as the owner of that API token or JWT, whatever certificate its
    connection has. A call without it acts as the client certificate.

    Args:
        tokens: API tokens.
        jwts: JSON web tokens; None where they are not configured.
        certificates: Client certificates; None where they are not configured.
    """

    def __init__(
        self,
        tokens: TokenAuthentication,
        jwts: JwtAuthentication | None = None,
        certificates: CertificateAuthentication | None = None,
    ) -> None:
        self._tokens = tokens
        self._jwts = jwts
        self._certificates = certificates

    async def caller(self, context: ServicerContext) -> Caller:
        """Give the caller behind the credential; see the protocol."""
        deadline = _deadline(context)
        secret = _bearer_secret(context)
        if secret is None:
            if self._certificates is None:
                raise Unauthenticated(
                    "this server needs a token: send the metadata 'authorization: Bearer <token>'"
                )
            return await self._certificates.caller(context.auth_context(), deadline)
        if self._jwts is not None and not secret.startswith(SECRET_PREFIX):
            return await self._jwts.caller(secret, deadline)
        return await self._tokens.caller(secret, deadline)


class TokenAuthentication:
    """Believes API tokens."""

    def __init__(self, store: TokenStore) -> None:
        self._store = store
        self._found: OrderedDict[bytes, tuple[float, Token]] = OrderedDict()
        self._unknown: OrderedDict[bytes, float] = OrderedDict()
        self._lookups = CallRates()

    async def caller(self, secret: str, deadline: float | None) -> Caller:
        """Give the caller behind a token.

        Raises:
            Unauthenticated: There is no such token, or it has ended.
            Overloaded: So many unknown tokens are being tried that this one was not looked for.
        """
        token = await self._find(hash_secret(secret), deadline)
        if token is None or not token.works_at(datetime.now(UTC)):
            raise Unauthenticated("the token is not valid: it may be mistyped, expired or revoked")
        return Caller(
            name=token.name,
            rights=token.rights,
            tenant_id=token.tenant_id,
            language=token.language,
            quota=token.quota,
            agent_ids=token.agent_ids,
            deadline=deadline,
        )

    async def _find(self, digest: bytes, deadline: float | None) -> Token | None:
        now = asyncio.get_running_loop().time()
        found = self._found.get(digest)
        if found is not None and now < found[0]:
            return found[1]
        if found is None:
            # Whoever tries secrets gets a share of the database, never all of it, and pushes nobody's token out.
            if now < self._unknown.get(digest, 0.0):
                return None
            wait = self._lookups.count("unknown", UNKNOWN_TOKENS_PER_SECOND)
            if wait:
                raise Overloaded(
                    "too many unknown tokens are being tried: repeat the call after the given delay",
                    retry_after=timedelta(seconds=max(wait, 1.0)),
                )
        token = await self._store.find(digest, deadline=deadline)
        self._remember(digest, token, now + TOKEN_CACHE_SECONDS)
        return token

    def _remember(self, digest: bytes, token: Token | None, until: float) -> None:
        if token is None:
            self._found.pop(digest, None)
            _put_last(self._unknown, digest, until)
        else:
            _put_last(self._found, digest, (until, token))


def _put_last(entries: OrderedDict[bytes, V], digest: bytes, value: V) -> None:
    entries[digest] = value
    entries.move_to_end(digest)
    if len(entries) > TOKEN_CACHE_SIZE:
        entries.popitem(last=False)


def _bearer_secret(context: ServicerContext) -> str | None:
    for key, value in context.invocation_metadata() or ():
        if key == "authorization":
            scheme, _, secret = str(value).partition(" ")
            if scheme.lower() == "bearer" and secret.strip():
                return secret.strip()
            raise Unauthenticated("the authorization metadata is not of the form 'Bearer <token>'")
    return None


def _deadline(context: ServicerContext) -> float | None:
    remaining = context.time_remaining()
    return None if remaining is None else asyncio.get_running_loop().time() + remaining
