"""Tenants: customers, teams or workspaces that the database keeps apart."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from memsidecar.domain.audit import DEPLOYMENT_TRAIL, NewAuditEvent
from memsidecar.domain.caller import Right
from memsidecar.domain.errors import NotFound, PermissionDenied
from memsidecar.domain.identifiers import new_uuid7
from memsidecar.domain.quotas import Quota

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, timedelta
    from uuid import UUID

    from memsidecar.domain.caller import Caller
    from memsidecar.domain.paging import Page


class MemoryOverflow(Enum):
    """What happens when a user memory reaches the hard limit."""

    REFUSE = "refuse"
    ARCHIVE = "archive"


@dataclass(frozen=True, slots=True)
class Retention:
    """How long things are kept; None means for ever."""

    turns: timedelta | None = None
    documents: timedelta | None = None
    jobs: timedelta | None = None
    memory_revisions: timedelta | None = None


@dataclass(frozen=True, slots=True)
class TenantSettings:
    """What may be changed about a tenant."""

    language: str = "english"
    retention: Retention = field(default_factory=Retention)
    quota: Quota = field(default_factory=Quota)
    memory_overflow: MemoryOverflow = MemoryOverflow.REFUSE


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant."""

    tenant_id: UUID
    name: str
    settings: TenantSettings
    created_at: datetime


class TenantStore(Protocol):
    """Where tenants are kept."""

    async def create(
        self,
        tenant_id: UUID,
        name: str,
        settings: TenantSettings,
        *,
        events: Sequence[NewAuditEvent] = (),
        deadline: float | None,
    ) -> Tenant:
        """Make a tenant, and record the act. Raises ``AlreadyExists`` when the name or the id is taken."""
        ...

    async def find(
        self, *, tenant_id: UUID | None = None, name: str | None = None, deadline: float | None = None
    ) -> Tenant | None:
        """Read a tenant by id or by name."""
        ...

    async def list(self, *, after: str, limit: int, deadline: float | None) -> Page[Tenant]:
        """Read tenants by name. ``after`` is the name read last, empty at the start."""
        ...

    async def update(
        self,
        tenant_id: UUID,
        settings: TenantSettings,
        *,
        events: Sequence[NewAuditEvent] = (),
        deadline: float | None,
    ) -> Tenant | None:
        """Replace the settings, and record the act; None when there is no such tenant."""
        ...


class TenantDirectory:
    """Makes, reads and changes tenants for callers."""

    def __init__(self, store: TenantStore) -> None:
        self._store = store

    async def create(
        self, caller: Caller, name: str, settings: TenantSettings, tenant_id: UUID | None
    ) -> Tenant:
        """Make a tenant.

        Raises:
            PermissionDenied: The credential lacks ``operator``.
            AlreadyExists: The name or the id is taken.
        """
        caller.require(Right.OPERATOR)
        new_id = tenant_id or new_uuid7()
        return await self._store.create(
            new_id,
            name,
            settings,
            events=_events(caller, new_id, "tenant.create", {"name": name}),
            deadline=caller.deadline,
        )

    async def get(self, caller: Caller, tenant_id: UUID | None) -> Tenant:
        """Read a tenant, the caller's own by default.

        Raises:
            PermissionDenied: The credential has neither ``operator`` nor ``admin``.
            NotFound: No such tenant for this caller.
        """
        wanted = tenant_id or caller.tenant_id
        if Right.OPERATOR not in caller.rights:
            caller.require(Right.ADMIN)
            if wanted != caller.tenant_id:
                raise NotFound("there is no such tenant")
        if wanted is None:
            raise PermissionDenied("an operator has no tenant of its own: name one by tenant_id")
        tenant = await self._store.find(tenant_id=wanted, deadline=caller.deadline)
        if tenant is None:
            raise NotFound("there is no such tenant")
        return tenant

    async def list(self, caller: Caller, *, after: str, limit: int) -> Page[Tenant]:
        """Read tenants by name.

        Raises:
            PermissionDenied: The credential lacks ``operator``.
        """
        caller.require(Right.OPERATOR)
        return await self._store.list(after=after, limit=limit, deadline=caller.deadline)

    async def update(self, caller: Caller, tenant_id: UUID, changes: Mapping[str, Any]) -> Tenant:
        """Change settings.

        Args:
            caller: Who asks.
            tenant_id: Which tenant.
            changes: Fields of ``TenantSettings`` and their new values; ``retention`` and ``quota`` may be mappings of
                their own fields to change only some of them.

        Raises:
            PermissionDenied: The credential lacks ``operator``.
            NotFound: No such tenant.
        """
        caller.require(Right.OPERATOR)
        tenant = await self._store.find(tenant_id=tenant_id, deadline=caller.deadline)
        if tenant is None:
            raise NotFound("there is no such tenant")
        settings = tenant.settings
        values = dict(changes)
        for name in ("retention", "quota"):
            if name in values:
                values[name] = replace(getattr(settings, name), **values[name])
        updated = await self._store.update(
            tenant_id,
            replace(settings, **values),
            events=_events(caller, tenant_id, "tenant.update", _flat(changes)),
            deadline=caller.deadline,
        )
        if updated is None:
            raise NotFound("there is no such tenant")
        return updated


def _events(caller: Caller, tenant_id: UUID, action: str, details: Mapping[str, Any]) -> list[NewAuditEvent]:
    """An act on a tenant is seen by the tenant and by those who run the deployment."""
    return [
        NewAuditEvent(trail, caller.name, action, str(tenant_id), details)
        for trail in (tenant_id, DEPLOYMENT_TRAIL)
    ]


def _flat(changes: Mapping[str, Any]) -> dict[str, str]:
    """Name changes as an update mask does, with their new values as text."""
    flat: dict[str, str] = {}
    for name, value in changes.items():
        if isinstance(value, dict):
            flat.update({f"{name}.{part}": str(inner) for part, inner in value.items()})
        else:
            flat[name] = str(value.value if isinstance(value, Enum) else value)
    return flat
