"""The part of AdministrationService that takes users along."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memsidecar.rpc.validation import Violations
from memsidecar.v1 import administration_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from memsidecar.domain.user_export import UserExports
    from memsidecar.rpc.authentication import Authentication
    from memsidecar.rpc.context import ServicerContext


class ExportHandlers:
    """ExportUser and ImportUser."""

    _authentication: Authentication
    _exports: UserExports

    async def ExportUser(
        self, request: pb.ExportUserRequest, context: ServicerContext
    ) -> AsyncIterator[pb.ExportUserResponse]:
        """Stream everything held about a user."""
        caller = await self._authentication.caller(context)
        violations = Violations()
        user_id = violations.identifier("user_id", request.user_id)
        violations.raise_if_any()
        async for piece in self._exports.export(caller, user_id, include_vectors=request.include_vectors):
            yield pb.ExportUserResponse(lines=piece)

    async def ImportUser(
        self, requests: AsyncIterator[pb.ImportUserRequest], context: ServicerContext
    ) -> pb.ImportUserResponse:
        """Take an export in."""
        caller = await self._authentication.caller(context)
        imported = await self._exports.import_lines(caller, _pieces(requests))
        return pb.ImportUserResponse(
            turns=imported.turns,
            memory_revisions=imported.memory_revisions,
            documents=imported.documents,
            repeated=imported.repeated,
        )


async def _pieces(requests: AsyncIterator[pb.ImportUserRequest]) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request.lines
