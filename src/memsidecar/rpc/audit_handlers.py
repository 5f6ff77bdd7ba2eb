"""The part of AdministrationService that shows the trail of administrative acts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memsidecar.domain.limits import DEFAULT_PAGE_SIZE
from memsidecar.domain.paging import decode_page_token, encode_page_token
from memsidecar.rpc.messages import timestamp
from memsidecar.rpc.validation import Violations
from memsidecar.v1 import administration_pb2 as pb

if TYPE_CHECKING:
    from memsidecar.domain.audit import AuditEvent, AuditTrail
    from memsidecar.rpc.authentication import Authentication
    from memsidecar.rpc.context import ServicerContext


class AuditHandlers:
    """ListAuditEvents and VerifyAuditTrail."""

    _authentication: Authentication
    _audit: AuditTrail

    async def ListAuditEvents(
        self, request: pb.ListAuditEventsRequest, context: ServicerContext
    ) -> pb.ListAuditEventsResponse:
        """Read the trail, newest first."""
        caller = await self._authentication.caller(context)
        violations = Violations()
        limit = violations.page_size(request.page_size, default=DEFAULT_PAGE_SIZE)
        violations.raise_if_any()
        position = decode_page_token(request.page_token, request_key="audit", kinds=(int,))
        page = await self._audit.list_events(caller, before=position[0] if position else None, limit=limit)
        return pb.ListAuditEventsResponse(
            events=[_event_message(event) for event in page.items],
            next_page_token=encode_page_token(page.next_position, request_key="audit"),
        )

    async def VerifyAuditTrail(
        self, _request: pb.VerifyAuditTrailRequest, context: ServicerContext
    ) -> pb.VerifyAuditTrailResponse:
        """Compute the hash chain again."""
        caller = await self._authentication.caller(context)
        verdict = await self._audit.verify(caller)
        return pb.VerifyAuditTrailResponse(
            intact=verdict.intact,
            events=verdict.events,
            first_broken_sequence=verdict.first_broken_sequence,
            head_digest=verdict.head_digest.hex(),
        )


def _event_message(event: AuditEvent) -> pb.AuditEvent:
    return pb.AuditEvent(
        sequence=event.sequence,
        occurred_at=timestamp(event.occurred_at),
        actor=event.actor,
        action=event.action,
        subject=event.subject,
        details_json=event.details_json,
        digest=event.digest.hex(),
    )
