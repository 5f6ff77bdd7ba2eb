"""Who is calling: from the credential in the call's metadata, never from the request."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from memsidecar.domain.caller import Caller
from memsidecar.domain.errors import Unauthenticated
from memsidecar.domain.tokens import hash_secret

if TYPE_CHECKING:
    from memsidecar.domain.tokens import Token, TokenStore
    from memsidecar.rpc.context import ServicerContext

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


class TokenAuthentication:
    """Believes API tokens sent as ``authorization: Bearer <secret>``."""

    def __init__(self, store: TokenStore) -> None:
        self._store = store
        self._known: OrderedDict[bytes, tuple[float, Token | None]] = OrderedDict()

    async def caller(self, context: ServicerContext) -> Caller:
        """Give the caller behind the token; see the protocol."""
        deadline = _deadline(context)
        token = await self._find(_bearer_secret(context), deadline)
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


def _bearer_secret(context: ServicerContext) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == "authorization":
            scheme, _, secret = str(value).partition(" ")
            if scheme.lower() == "bearer" and secret.strip():
                return secret.strip()
            raise Unauthenticated("the authorization metadata is not of the form 'Bearer <token>'")
    raise Unauthenticated("this server needs a token: send the metadata 'authorization: Bearer <token>'")


def _deadline(context: ServicerContext) -> float | None:
    remaining = context.time_remaining()
    return None if remaining is None else asyncio.get_running_loop().time() + remaining
