"""Who is calling: from the credential of the call or of its connection, never from the request."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from memsidecar.domain.caller import Caller
from memsidecar.domain.errors import Unauthenticated
from memsidecar.domain.tokens import SECRET_PREFIX, hash_secret

if TYPE_CHECKING:
    from memsidecar.domain.tokens import Token, TokenStore
    from memsidecar.rpc.certificate_authentication import CertificateAuthentication
    from memsidecar.rpc.context import ServicerContext
    from memsidecar.rpc.jwt_authentication import JwtAuthentication

TOKEN_CACHE_SECONDS = 2.0
"""How long a token is believed before the database is asked again: a revocation is felt everywhere within this time."""

TOKEN_CACHE_SIZE = 10_000


class Authentication(Protocol):
    """Finds out who is calling."""

    async def caller(self, context: ServicerContext) -> Caller:
        """Give the caller of a call, its deadline included.

        Raises:
            Unauthenticated: No credential, or one that does not work.
        """
        ...


class OpenAuthentication:
    """Believes everybody: for a loopback or unix socket address only, where the network is the credential."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def caller(self, context: ServicerContext) -> Caller:
        """Give the one caller there is."""
        return replace(self._caller, deadline=_deadline(context))


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
        self._known: OrderedDict[bytes, tuple[float, Token | None]] = OrderedDict()

    async def caller(self, secret: str, deadline: float | None) -> Caller:
        """Give the caller behind a token.

        Raises:
            Unauthenticated: There is no such token, or it has ended.
        """
        token = await self._find(secret, deadline)
        if token is None or not token.works_at(datetime.now(UTC)):
            raise Unauthenticated("the token is not valid: it may be mistyped, expired or revoked")
        return Caller(
            name=token.name,
            rights=token.rights,
            tenant_id=token.tenant_id,
            language=token.language,
            agent_ids=token.agent_ids,
            deadline=deadline,
        )

    async def _find(self, secret: str, deadline: float | None) -> Token | None:
        digest = hash_secret(secret)
        now = asyncio.get_running_loop().time()
        remembered = self._known.get(digest)
        if remembered is not None and now < remembered[0]:
            return remembered[1]
        token = await self._store.find(digest, deadline=deadline)
        self._known[digest] = (now + TOKEN_CACHE_SECONDS, token)
        self._known.move_to_end(digest)
        while len(self._known) > TOKEN_CACHE_SIZE:
            self._known.popitem(last=False)
        return token


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
