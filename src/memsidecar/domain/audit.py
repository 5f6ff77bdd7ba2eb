"""The trail of administrative acts: who did what when, bound together so that nothing can be changed unnoticed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from memsidecar.domain.caller import Right

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from memsidecar.domain.caller import Caller
    from memsidecar.domain.paging import Page

DEPLOYMENT_TRAIL = UUID(int=0)
"""The trail of acts that stand above tenants: tenants made and erased, operator tokens."""

_EVENTS_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class NewAuditEvent:
    """An act to record, in the transaction that does it. Holds no content and no plain user id."""

    trail: UUID
    """The tenant it belongs to, or ``DEPLOYMENT_TRAIL``."""
    actor: str
    """Name of the credential."""
    action: str
    """What was done, as noun and verb: ``token.create``, ``user.erase``."""
    subject: str
    """On what: an id or a digest."""
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def details_json(self) -> str:
        """The details as they are stored and signed: JSON with sorted keys and no spaces."""
        return json.dumps(dict(self.details), sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """An act that was recorded."""

    sequence: int
    """Position in the trail, from 1."""
    occurred_at: datetime
    actor: str
    action: str
    subject: str
    details_json: str
    digest: bytes

    def digest_after(self, previous: bytes, trail: UUID) -> bytes:
        """Give the digest this event must have after the one before it.

        SHA-256 over the fields previous digest (hex, empty for the first), trail, sequence, time, actor, action,
        subject and details, each as text in UTF-8 behind its length in bytes (four bytes, big-endian). The database
        computes the same in ``audit_digest``; this is the second opinion.
        """
        moment = self.occurred_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        fields = [
            previous.hex(),
            str(trail),
            str(self.sequence),
            moment,
            self.actor,
            self.action,
            self.subject,
            self.details_json,
        ]
        hashed = hashlib.sha256()
        for text in fields:
            encoded = text.encode("utf-8", "surrogatepass")
            hashed.update(len(encoded).to_bytes(4) + encoded)
        return hashed.digest()


@dataclass(frozen=True, slots=True)
class TrailVerdict:
    """What a check of a trail found."""

    events: int
    """Events checked."""
    first_broken_sequence: int
    """First event that does not follow from the one before it; 0 when all do."""
    head_digest: bytes
    """Digest of the last event. Kept elsewhere, it also shows whether events were cut off the end."""

    @property
    def intact(self) -> bool:
        """Whether every event follows from the one before it."""
        return self.first_broken_sequence == 0


class AuditStore(Protocol):
    """Where trails are kept. Acts are recorded by the stores that do them."""

    async def record(self, event: NewAuditEvent, *, deadline: float | None) -> None:
        """Record an act that stores nothing itself, such as an export."""
        ...

    async def list_events(
        self, trail: UUID, *, before: int | None, limit: int, deadline: float | None
    ) -> Page[AuditEvent]:
        """Read events, newest first, from below the sequence ``before``."""
        ...

    async def read_forward(
        self, trail: UUID, *, after: int, limit: int, deadline: float | None
    ) -> list[AuditEvent]:
        """Read events, oldest first, from above the sequence ``after``."""
        ...


class AuditTrail:
    """Reads and checks trails for callers."""

    def __init__(self, store: AuditStore) -> None:
        self._store = store

    async def list_events(self, caller: Caller, *, before: int | None, limit: int) -> Page[AuditEvent]:
        """Read the caller's trail, newest first: that of its tenant, or of the deployment for an operator.

        Raises:
            PermissionDenied: The credential lacks ``admin``.
        """
        return await self._store.list_events(
            _trail(caller), before=before, limit=limit, deadline=caller.deadline
        )

    async def verify(self, caller: Caller) -> TrailVerdict:
        """Compute every digest of the caller's trail again.

        Raises:
            PermissionDenied: The credential lacks ``admin``.
        """
        trail = _trail(caller)
        digest, checked = b"", 0
        while True:
            events = await self._store.read_forward(
                trail, after=checked, limit=_EVENTS_AT_ONCE, deadline=caller.deadline
            )
            for event in events:
                if event.sequence != checked + 1 or event.digest != event.digest_after(digest, trail):
                    return TrailVerdict(checked, checked + 1, digest)
                digest, checked = event.digest, event.sequence
            if len(events) < _EVENTS_AT_ONCE:
                return TrailVerdict(checked, 0, digest)


def _trail(caller: Caller) -> UUID:
    if caller.tenant_id is None:
        caller.require(Right.OPERATOR)
        return DEPLOYMENT_TRAIL
    return caller.tenant(Right.ADMIN)
