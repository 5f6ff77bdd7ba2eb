"""Forgetting: everything that came from a user, a conversation or a tenant, with a receipt."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from memsidecar.domain.caller import Right
from memsidecar.domain.errors import (
    FailedPrecondition,
    FieldViolation,
    InvalidInput,
    NotFound,
    PermissionDenied,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from uuid import UUID

    from memsidecar.domain.caller import Caller

LONGEST_WAIT_SECONDS = 5.0
"""How long a call that asks for an erasure waits for its end before it answers that the erasure is running."""
_LOOK_EVERY_SECONDS = 0.05


class SubjectKind(Enum):
    """What is forgotten."""

    USER = "user"
    CONVERSATION = "conversation"
    TENANT = "tenant"


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom or what to forget. Never shown in logs: it names a person."""

    kind: SubjectKind
    user_id: str = field(default="", repr=False)
    """The user; of a conversation, whose memory of it, with '' for everybody's."""
    conversation_id: str = field(default="", repr=False)
    agent_id: UUID | None = None
    """Of a conversation, which agent's memory of it; None for all."""

    def digest(self, key: bytes) -> str:
        """Give the name of the subject in receipts and in the audit trail.

        Hex HMAC-SHA-256 under the tenant's key, of kind, user, conversation and agent, joined by NUL.
        """
        parts = [self.kind.value, self.user_id, self.conversation_id, str(self.agent_id or "")]
        message = "\x00".join(parts).encode("utf-8", "surrogatepass")
        return hmac.new(key, message, hashlib.sha256).hexdigest()

    def is_named_in(self, text: str) -> bool:
        """Tell whether a text names the subject, as a word of its own."""
        names = [name for name in (self.user_id, self.conversation_id) if name]
        return any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) for name in names)


class ErasureStatus(Enum):
    """How far an erasure is."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Erasure:
    """An erasure and, once completed, its receipt. Holds no content and no plain user id."""

    erasure_id: UUID
    tenant_id: UUID
    kind: SubjectKind
    status: ErasureStatus
    subject_digest: str
    requested_by: str
    reason: str
    requested_at: datetime
    completed_at: datetime | None
    vacuumed_at: datetime | None
    """When the space was vacuumed; None while table and index files may still hold what was erased."""
    erased: Mapping[str, int]
    """Rows removed, by table."""
    remaining_rows: int
    error: str


@dataclass(frozen=True, slots=True)
class ErasureRequest:
    """A validated request."""

    tenant_id: UUID
    subject: Subject
    reason: str
    requested_by: str
    request_id: str = field(default="", repr=False)


class ErasureReader(Protocol):
    """Where receipts are read."""

    async def find(
        self, erasure_id: UUID, *, tenant_id: UUID | None, deadline: float | None
    ) -> Erasure | None:
        """Read an erasure, of whatever tenant for None."""
        ...


class ErasureStore(ErasureReader, Protocol):
    """Where erasures are asked for; reached through the eraser role."""

    async def request(
        self, request: ErasureRequest, confirm_name: str | None, *, deadline: float | None
    ) -> Erasure:
        """Record what is to be erased, durably, and the act in the audit trail.

        A repeated request id, or a subject whose erasure has not ended, gives the erasure there is; one that failed
        goes on. ``confirm_name`` must be the tenant's name when it is given.

        Raises:
            NotFound: The tenant does not exist.
            InvalidInput: ``confirm_name`` is another name.
            RequestContentDiffers: The request id is known for another subject.
        """
        ...


class Erasures:
    """Takes requests to forget from callers."""

    def __init__(
        self, reader: ErasureReader, store: ErasureStore | None, *, requested: Callable[[], None]
    ) -> None:
        """Set up.

        Args:
            reader: Where receipts are read.
            store: Where erasures are asked for; None when this server has no way to erase.
            requested: Called when there is work for an ``ErasureWorker``.
        """
        self._reader = reader
        self._store = store
        self._requested = requested

    async def erase_user(self, caller: Caller, user_id: str, *, reason: str, request_id: str) -> Erasure:
        """Forget a user: whatever is in the user's memory, and what the user said in the memory of others.

        Raises:
            PermissionDenied: The credential lacks ``admin``, or is limited to agents.
            FailedPrecondition: This server has no way to erase.
            InvalidInput: The reason names the user.
        """
        tenant_id = caller.tenant(Right.ADMIN)
        if caller.agent_ids:
            raise PermissionDenied("erasing a user needs a credential that covers all agents")
        subject = Subject(SubjectKind.USER, user_id=user_id)
        return await self._erase(
            caller, ErasureRequest(tenant_id, subject, reason, caller.name, request_id), None
        )

    async def erase_conversation(
        self,
        caller: Caller,
        conversation_id: str,
        *,
        agent_id: UUID | None,
        user_id: str,
        reason: str,
        request_id: str,
    ) -> Erasure:
        """Forget a conversation.

        Raises:
            PermissionDenied: The credential lacks ``admin`` or does not cover the agent, or all of them for None.
            FailedPrecondition: This server has no way to erase.
            InvalidInput: The reason names the conversation or the user.
        """
        tenant_id = caller.tenant(Right.ADMIN)
        if agent_id is not None:
            caller.require_agent(agent_id)
        elif caller.agent_ids:
            raise PermissionDenied("this credential is limited to agents: name one of them by agent_id")
        subject = Subject(SubjectKind.CONVERSATION, user_id, conversation_id, agent_id)
        return await self._erase(
            caller, ErasureRequest(tenant_id, subject, reason, caller.name, request_id), None
        )

    async def erase_tenant(
        self, caller: Caller, tenant_id: UUID, *, confirm_name: str, reason: str, request_id: str
    ) -> Erasure:
        """Forget a tenant and everything in it.

        Raises:
            PermissionDenied: The credential lacks ``operator``.
            FailedPrecondition: This server has no way to erase.
            NotFound: No such tenant, and none that was erased.
            InvalidInput: ``confirm_name`` is not its name.
        """
        caller.require(Right.OPERATOR)
        subject = Subject(SubjectKind.TENANT)
        return await self._erase(
            caller, ErasureRequest(tenant_id, subject, reason, caller.name, request_id), confirm_name
        )

    async def get(self, caller: Caller, erasure_id: UUID) -> Erasure:
        """Read how far an erasure is, and its receipt.

        Raises:
            PermissionDenied: The credential lacks ``admin``.
            NotFound: No such erasure for this caller.
        """
        tenant_id = None if Right.OPERATOR in caller.rights else caller.tenant(Right.ADMIN)
        erasure = await self._reader.find(erasure_id, tenant_id=tenant_id, deadline=caller.deadline)
        if erasure is None:
            raise NotFound("there is no such erasure")
        return erasure

    async def _erase(self, caller: Caller, request: ErasureRequest, confirm_name: str | None) -> Erasure:
        if self._store is None:
            raise FailedPrecondition(
                "this server cannot erase: set MEMSIDECAR_ERASER_DATABASE_URL to the URL of a login role that is a"
                " member of memsidecar_eraser, and start it again"
            )
        if request.subject.is_named_in(request.reason):
            raise InvalidInput(
                [FieldViolation("reason", "names the subject, and would outlive it: leave the name out")]
            )
        erasure = await self._store.request(request, confirm_name, deadline=caller.deadline)
        self._requested()
        return await self._wait(caller, erasure)

    async def _wait(self, caller: Caller, erasure: Erasure) -> Erasure:
        """Wait for the end of an erasure for as long as a caller likes to wait."""
        loop = asyncio.get_running_loop()
        end = loop.time() + LONGEST_WAIT_SECONDS
        if caller.deadline is not None:
            end = min(end, loop.time() + (caller.deadline - loop.time()) / 2)
        while erasure.status is ErasureStatus.RUNNING and loop.time() < end:
            await asyncio.sleep(_LOOK_EVERY_SECONDS)
            found = await self._reader.find(
                erasure.erasure_id, tenant_id=erasure.tenant_id, deadline=caller.deadline
            )
            erasure = found or erasure
        return erasure
