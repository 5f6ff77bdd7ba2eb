"""Client certificates: which tenant and rights each identity has, from a file that is read again when it changes."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from memsidecar.domain.caller import TENANT_RIGHTS, Caller, Right
from memsidecar.domain.errors import Problem, SetupError, Unauthenticated
from memsidecar.rpc.reloaded_files import ReloadedFiles

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from memsidecar.rpc.known_tenants import KnownTenants

_LOGGER = logging.getLogger(__name__)

_PROPERTIES: Final = {
    "URI": "peer_uri",
    "DNS": "peer_dns",
    "EMAIL": "peer_email",
    "CN": "x509_common_name",
}
"""Kinds of identity and the property of the connection, as gRPC names it, that lists those of the certificate."""


@dataclass(frozen=True, slots=True)
class CertificateEntry:
    """What the holder of a certificate may do."""

    identity: str
    """``URI:``, ``DNS:``, ``EMAIL:`` (subject alternative names) or ``CN:`` (common name), then the exact name."""
    tenant: str | None
    """Name or id; None for an operator."""
    rights: frozenset[Right]
    agent_ids: frozenset[UUID]


class CertificateAuthentication:
    """Believes client certificates that the TLS handshake found good.

    Args:
        path: JSON: ``{"certificates": [{"identity": "URI:spiffe://…", "tenant": "acme", "rights": ["recall"],
            "agents": []}]}``. ``agents`` may be left out. Rights ``["operator"]`` stand alone, without a tenant.
        tenants: Finds the tenants named there.

    Raises:
        SetupError: The file cannot be read or is wrong.
    """

    def __init__(self, path: Path, tenants: KnownTenants) -> None:
        self._tenants = tenants
        try:
            self._entries = ReloadedFiles([path], lambda contents: read_entries(contents[0]), _refused)
        except (OSError, ValueError) as error:
            raise SetupError(
                Problem(
                    f"the file of client certificates cannot be used: {_said(error)}.",
                    "Correct it, or unset MEMSIDECAR_TLS_CLIENTS.",
                )
            ) from error

    async def caller(self, connection: Mapping[str, Iterable[bytes]], deadline: float | None) -> Caller:
        """Give the caller behind the certificate of a connection.

        Args:
            connection: What gRPC knows of the connection (``auth_context``).
            deadline: Event loop time at which the caller stops waiting.

        Raises:
            Unauthenticated: It has none, or one that no entry or more than one names.
        """
        entries = self._entries.current()
        found = [entries[identity] for identity in _identities(connection) if identity in entries]
        if len(found) != 1:
            raise Unauthenticated(
                "the client certificate is not that of exactly one entry in this server's list: have it added, or send"
                " the metadata 'authorization: Bearer <token>'"
            )
        entry = found[0]
        if entry.tenant is None:
            return Caller(name=entry.identity, rights=entry.rights, tenant_id=None, deadline=deadline)
        tenant = await self._tenants.find(entry.tenant, deadline)
        return Caller(
            name=entry.identity,
            rights=entry.rights,
            tenant_id=tenant.tenant_id,
            language=tenant.settings.language,
            quota=tenant.settings.quota,
            agent_ids=entry.agent_ids,
            deadline=deadline,
        )


def read_entries(text: bytes) -> dict[str, CertificateEntry]:
    """Read the file of client certificates, by identity.

    Raises:
        ValueError: Says everything that is wrong.
    """
    try:
        listed = json.loads(text)["certificates"]
        entries = [_entry(index, fields) for index, fields in enumerate(listed)]
    except (KeyError, TypeError, AttributeError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError('it is not of the form {"certificates": [...]}') from error
    problems = [problem for _entry_read, problem in entries if problem]
    identities = [entry.identity for entry, _problem in entries]
    problems += [
        f"{identity} is there twice"
        for identity in sorted({i for i in identities if identities.count(i) > 1})
    ]
    if problems:
        raise ValueError("; ".join(problems))
    return {entry.identity: entry for entry, _problem in entries}


def _entry(index: int, fields: Mapping[str, Any]) -> tuple[CertificateEntry, str]:
    """Read one entry and say what is wrong with it, empty when nothing is."""
    wrong = []
    identity, tenant = fields.get("identity"), fields.get("tenant")
    kind, _, name = identity.partition(":") if isinstance(identity, str) else ("", "", "")
    if kind not in _PROPERTIES or not name:
        wrong.append("identity must be URI:, DNS:, EMAIL: or CN: and a name")
    rights = _rights(fields.get("rights"))
    if not rights:
        wrong.append(f"rights must be a list of {', '.join(right.value for right in Right)}")
    if Right.OPERATOR in rights and (len(rights) > 1 or tenant is not None):
        wrong.append("operator stands alone and has no tenant")
    if rights & TENANT_RIGHTS and (not isinstance(tenant, str) or not tenant or "\x00" in tenant):
        wrong.append("tenant must be the name or id of a tenant")
    agent_ids = _agents(fields["agents"]) if "agents" in fields else frozenset()
    if "agents" in fields and not agent_ids:
        wrong.append("agents must be a list of agent ids, or be left out for all")
    if unknown := sorted(set(fields) - {"identity", "tenant", "rights", "agents"}):
        wrong.append(f"{', '.join(unknown)} is not known")
    problem = f"certificates[{index}]: {', '.join(wrong)}" if wrong else ""
    return CertificateEntry(str(identity), tenant, rights, agent_ids), problem


def _rights(value: Any) -> frozenset[Right]:
    """Read a list of rights; empty when anything about it is wrong."""
    try:
        return frozenset(Right(right) for right in value if isinstance(value, list))
    except (ValueError, TypeError):
        return frozenset()


def _agents(value: Any) -> frozenset[UUID]:
    """Read a list of agent ids; empty when anything about it is wrong."""
    try:
        return frozenset(UUID(agent) for agent in value if isinstance(value, list))
    except (ValueError, TypeError, AttributeError):
        return frozenset()


def _identities(connection: Mapping[str, Iterable[bytes]]) -> frozenset[str]:
    return frozenset(
        f"{kind}:{name.decode('utf-8', 'replace')}"
        for kind, property_name in _PROPERTIES.items()
        for name in connection.get(property_name, ())
    )


def _refused(error: Exception) -> None:
    _LOGGER.warning(
        "the changed file of client certificates is not used, the last good one is: %s", _said(error)
    )


def _said(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename} cannot be read ({error.strerror})"
    return str(error)
