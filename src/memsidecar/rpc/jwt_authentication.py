"""JSON web tokens of an identity provider, checked here: signature, issuer, audience, times, tenant and scopes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import jwt

from memsidecar.domain.caller import TENANT_RIGHTS, Caller
from memsidecar.domain.errors import Unauthenticated

if TYPE_CHECKING:
    from memsidecar.rpc.json_web_keys import JsonWebKeys
    from memsidecar.rpc.known_tenants import KnownTenants

SCOPE_PREFIX: Final = "memsidecar:"
"""A scope ``memsidecar:recall`` gives the right ``recall``; scopes of other programs are passed over."""

LEEWAY_SECONDS: Final = 30
"""How far the clocks of the issuer and of this machine may be apart."""

_RIGHTS_BY_SCOPE = {SCOPE_PREFIX + right.value: right for right in TENANT_RIGHTS}
_MAX_NAME_CHARACTERS = 128


@dataclass(frozen=True, slots=True)
class JwtRules:
    """What a token must say, and where it says it."""

    issuer: str
    audience: str
    tenant_claim: str = "tenant"
    """Claim with the name or id of the tenant."""
    scope_claim: str = "scope"
    """Claim with the scopes: words in one text, or a list."""
    agents_claim: str = "agents"
    """Claim with a list of agent ids that the token is limited to; without the claim it covers all."""


class JwtAuthentication:
    """Believes JSON web tokens. They give the rights of a tenant, never those of an operator."""

    def __init__(
        self, rules: JwtRules, *, keys: JsonWebKeys | None, secret: str | None, tenants: KnownTenants
    ) -> None:
        self._rules = rules
        self._keys = keys
        self._secret = secret
        self._tenants = tenants

    async def caller(self, token: str, deadline: float | None) -> Caller:
        """Give the caller behind a token.

        Raises:
            Unauthenticated: The token is not one of ours, or no longer.
            KeysUnavailable: The issuer's keys could not be fetched, so nothing can be said about the token.
        """
        claims = await self._verified_claims(token)
        tenant = await self._tenants.find(_text_claim(claims, self._rules.tenant_claim), deadline)
        return Caller(
            name=str(claims.get("sub") or "jwt")[:_MAX_NAME_CHARACTERS],
            rights=frozenset(
                right
                for scope, right in _RIGHTS_BY_SCOPE.items()
                if scope in _words_claim(claims, self._rules.scope_claim)
            ),
            tenant_id=tenant.tenant_id,
            language=tenant.settings.language,
            quota=tenant.settings.quota,
            agent_ids=_agents_claim(claims, self._rules.agents_claim),
            deadline=deadline,
        )

    async def _verified_claims(self, token: str) -> dict[str, Any]:
        try:
            header = jwt.get_unverified_header(token)
            algorithm, key = await self._key(header)
            return jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                issuer=self._rules.issuer,
                audience=self._rules.audience,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.ExpiredSignatureError as error:
            raise Unauthenticated("the JWT has expired: ask its issuer for a new one") from error
        except jwt.ImmatureSignatureError as error:
            raise Unauthenticated("the JWT is not valid yet: compare the clocks") from error
        except jwt.InvalidAudienceError as error:
            raise Unauthenticated("the JWT is for another audience") from error
        except jwt.InvalidIssuerError as error:
            raise Unauthenticated("the JWT is of another issuer") from error
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise Unauthenticated(
                "the JWT is not valid: its form, a claim or its signature is wrong"
            ) from error

    async def _key(self, header: dict[str, Any]) -> tuple[str, Any]:
        """Choose the key and with it the algorithm: what the token says of itself only narrows the choice."""
        if header.get("alg") == "HS256" and self._secret is not None:
            return "HS256", self._secret
        if header.get("alg") in {"RS256", "EdDSA"} and self._keys is not None:
            key = await self._keys.find(header.get("kid"), header["alg"])
            if key is not None:
                return header["alg"], key
            raise Unauthenticated("the JWT is signed with a key that its issuer does not publish")
        raise Unauthenticated("the JWT is signed with an algorithm that this server does not accept")


def _text_claim(claims: dict[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not value or "\x00" in value:
        raise Unauthenticated(f"the JWT has no text in its claim '{name}', which has to name a tenant")
    return value


def _words_claim(claims: dict[str, Any], name: str) -> frozenset[str]:
    value = claims.get(name, "")
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise Unauthenticated(f"the claim '{name}' of the JWT is neither text nor a list of texts")
    return frozenset(words)


def _agents_claim(claims: dict[str, Any], name: str) -> frozenset[UUID]:
    if name not in claims:
        return frozenset()
    value = claims[name]
    try:
        agents = frozenset(UUID(agent) for agent in value if isinstance(value, list))
    except (ValueError, TypeError, AttributeError):
        agents = frozenset()
    if not agents:
        # An empty or broken limit must not be read as "no limit".
        raise Unauthenticated(f"the claim '{name}' of the JWT is not a list of agent ids")
    return agents
