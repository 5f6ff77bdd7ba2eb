"""Who is calling, as the credential says; never as the request says."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from memsidecar.domain.errors import PermissionDenied
from memsidecar.domain.quotas import UNLIMITED, Quota

if TYPE_CHECKING:
    from uuid import UUID


class Right(Enum):
    """What a credential may do."""

    APPEND = "append"
    RECALL = "recall"
    DOCUMENTS = "documents"
    ADMIN = "admin"
    OPERATOR = "operator"


TENANT_RIGHTS = frozenset({Right.APPEND, Right.RECALL, Right.DOCUMENTS, Right.ADMIN})
"""Rights a tenant's own credential can have; ``operator`` stands above tenants."""


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller, for the length of one call."""

    name: str
    """Name of the credential, for the audit trail."""
    rights: frozenset[Right]
    tenant_id: UUID | None
    """None for an operator, who belongs to no tenant."""
    language: str = "english"
    """Text search configuration of the tenant's new rows."""
    agent_ids: frozenset[UUID] = field(default_factory=frozenset)
    """Agents the credential is limited to; empty means all."""
    quota: Quota = UNLIMITED
    """Limits of the tenant."""
    deadline: float | None = None
    """Event loop time (``loop.time()``) at which the caller stops waiting; None for never."""

    def require(self, right: Right) -> None:
        """Let the call go on only with a right.

        Raises:
            PermissionDenied: The credential lacks it.
        """
        if right not in self.rights:
            raise PermissionDenied(f"this call needs a credential with the right '{right.value}'")

    def tenant(self, right: Right) -> UUID:
        """Give the tenant the call acts on, for a caller with the right.

        Raises:
            PermissionDenied: The credential lacks the right or belongs to no tenant.
        """
        self.require(right)
        if self.tenant_id is None:
            raise PermissionDenied("this call acts on a tenant: use a credential of that tenant")
        return self.tenant_id

    def require_agent(self, agent_id: UUID) -> None:
        """Let the call go on only if the credential covers the agent.

        Raises:
            PermissionDenied: The credential is limited to other agents.
        """
        if self.agent_ids and agent_id not in self.agent_ids:
            raise PermissionDenied("this credential does not cover that agent_id")
