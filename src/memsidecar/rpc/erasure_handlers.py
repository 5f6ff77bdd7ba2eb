"""The part of AdministrationService that forgets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memsidecar.domain.erasure import ErasureStatus
from memsidecar.rpc.messages import timestamp
from memsidecar.rpc.validation import Violations
from memsidecar.v1 import administration_pb2 as pb

if TYPE_CHECKING:
    from memsidecar.domain.erasure import Erasure, Erasures
    from memsidecar.rpc.authentication import Authentication
    from memsidecar.rpc.context import ServicerContext

MAX_REASON_CHARACTERS = 512
_STATUSES = {
    ErasureStatus.RUNNING: pb.ERASURE_STATUS_RUNNING,
    ErasureStatus.COMPLETED: pb.ERASURE_STATUS_COMPLETED,
    ErasureStatus.FAILED: pb.ERASURE_STATUS_FAILED,
}


class ErasureHandlers:
    """EraseUser, EraseConversation, EraseTenant and GetErasure."""

    _authentication: Authentication
    _erasures: Erasures

    async def EraseUser(self, request: pb.EraseUserRequest, context: ServicerContext) -> pb.EraseUserResponse:
        """Erase everything that came from one user."""
        caller = await self._authentication.caller(context)
        violations = Violations()
        user_id = violations.identifier("user_id", request.user_id)
        reason, request_id = _read_request(violations, request)
        violations.raise_if_any()
        erasure = await self._erasures.erase_user(caller, user_id, reason=reason, request_id=request_id)
        return pb.EraseUserResponse(erasure=_erasure_message(erasure))

    async def EraseConversation(
        self, request: pb.EraseConversationRequest, context: ServicerContext
    ) -> pb.EraseConversationResponse:
        """Erase one conversation."""
        caller = await self._authentication.caller(context)
        violations = Violations()
        agent_id = violations.optional_uuid("agent_id", request.agent_id)
        user_id = violations.identifier("user_id", request.user_id, required=False)
        conversation_id = violations.identifier("conversation_id", request.conversation_id)
        reason, request_id = _read_request(violations, request)
        violations.raise_if_any()
        erasure = await self._erasures.erase_conversation(
            caller, conversation_id, agent_id=agent_id, user_id=user_id, reason=reason, request_id=request_id
        )
        return pb.EraseConversationResponse(erasure=_erasure_message(erasure))

    async def EraseTenant(
        self, request: pb.EraseTenantRequest, context: ServicerContext
    ) -> pb.EraseTenantResponse:
        """Erase a tenant and everything in it."""
        caller = await self._authentication.caller(context)
        violations = Violations()
        tenant_id = violations.uuid("tenant_id", request.tenant_id)
        confirm_name = violations.identifier("confirm_name", request.confirm_name)
        reason, request_id = _read_request(violations, request)
        violations.raise_if_any()
        erasure = await self._erasures.erase_tenant(
            caller, tenant_id, confirm_name=confirm_name, reason=reason, request_id=request_id
        )
        return pb.EraseTenantResponse(erasure=_erasure_message(erasure))

    async def GetErasure(
        self, request: pb.GetErasureRequest, context: ServicerContext
    ) -> pb.GetErasureResponse:
        """Read how far an erasure is."""
        caller = await self._authentication.caller(context)
        violations = Violations()
        erasure_id = violations.uuid("erasure_id", request.erasure_id)
        violations.raise_if_any()
        return pb.GetErasureResponse(erasure=_erasure_message(await self._erasures.get(caller, erasure_id)))


def _read_request(
    violations: Violations,
    request: pb.EraseUserRequest | pb.EraseConversationRequest | pb.EraseTenantRequest,
) -> tuple[str, str]:
    return (
        violations.text("reason", request.reason, most=MAX_REASON_CHARACTERS),
        violations.identifier("request_id", request.request_id, required=False),
    )


def _erasure_message(erasure: Erasure) -> pb.Erasure:
    return pb.Erasure(
        erasure_id=str(erasure.erasure_id),
        status=_STATUSES[erasure.status],
        kind=erasure.kind.value,
        subject_digest=erasure.subject_digest,
        requested_by=erasure.requested_by,
        reason=erasure.reason,
        requested_at=timestamp(erasure.requested_at),
        completed_at=timestamp(erasure.completed_at),
        erased=[pb.ErasedRows(table=table, rows=rows) for table, rows in sorted(erasure.erased.items())],
        remaining_rows=erasure.remaining_rows,
        vacuumed=erasure.vacuumed_at is not None,
        error=erasure.error,
    )
