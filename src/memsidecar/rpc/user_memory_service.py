"""UserMemoryService: what is known about a user."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memsidecar.domain.limits import DEFAULT_TOP_K, MAX_QUERY_CHARACTERS, MAX_TOP_K
from memsidecar.domain.paging import decode_page_token, encode_page_token
from memsidecar.rpc.user_memory_messages import (
    memory_message,
    passage_message,
    read_expected_revision,
    read_key,
    read_revision,
    read_write,
)
from memsidecar.rpc.validation import Violations
from memsidecar.v1 import user_memory_pb2 as pb
from memsidecar.v1.user_memory_pb2_grpc import UserMemoryServiceServicer

if TYPE_CHECKING:
    from memsidecar.domain.user_memory import UserMemories
    from memsidecar.rpc.authentication import Authentication
    from memsidecar.rpc.context import ServicerContext

DEFAULT_REVISIONS = 20
MAX_REVISIONS = 200
"""Revisions on one page: each may hold 64 KiB of text and as much metadata."""


class UserMemoryService(UserMemoryServiceServicer):
    """Checks requests, calls the use cases, builds responses; the contract is documented in the proto."""

    def __init__(self, authentication: Authentication, memories: UserMemories) -> None:
        self._authentication = authentication
        self._memories = memories

    async def UpsertUserMemory(
        self, request: pb.UpsertUserMemoryRequest, context: ServicerContext
    ) -> pb.UpsertUserMemoryResponse:
        """Write the memory of a user."""
        caller = await self._authentication.caller(context)
        violations = Violations()
        key = read_key(violations, request)
        write = read_write(violations, request)
        violations.raise_if_any()
        written = await self._memories.upsert(caller, key, write)
        return pb.UpsertUserMemoryResponse(
            memory=memory_message(written.memory),
            compaction_suggested=written.compaction_suggested,
            archived_paragraphs=written.archived_paragraphs,
            repeated=written.repeated,
        )

    async def GetUserMemory(
        self, request: pb.GetUserMemoryRequest, context: ServicerContext
    ) -> pb.GetUserMemoryResponse:
        """Read the memory of a user."""
        caller = await self._authentication.caller(context)
        violations = Violations()
        key = read_key(violations, request)
        violations.raise_if_any()
        return pb.GetUserMemoryResponse(memory=memory_message(await self._memories.get(caller, key)))

    async def ListUserMemoryRevisions(
        self, request: pb.ListUserMemoryRevisionsRequest, context: ServicerContext
    ) -> pb.ListUserMemoryRevisionsResponse:
        """List every revision, newest first."""
        caller = await self._authentication.caller(context)
        violations = Violations()
        key = read_key(violations, request)
        limit = violations.page_size(request.page_size, default=DEFAULT_REVISIONS, most=MAX_REVISIONS)
        violations.raise_if_any()
        request_key = f"revisions {key!r}"
        position = decode_page_token(request.page_token, request_key=request_key, kinds=(int,))
        page = await self._memories.list_revisions(
            caller, key, limit=limit, before=position[0] if position else None
        )
        return pb.ListUserMemoryRevisionsResponse(
            revisions=[memory_message(memory) for memory in page.items],
            next_page_token=encode_page_token(page.next_position, request_key=request_key),
        )

    async def RestoreUserMemoryRevision(
        self, request: pb.RestoreUserMemoryRevisionRequest, context: ServicerContext
    ) -> pb.RestoreUserMemoryRevisionResponse:
        """Make an earlier revision the current one."""
        caller = await self._authentication.caller(context)
        violations = Violations()
        key = read_key(violations, request)
        revision = read_revision(violations, request)
        expected_revision = read_expected_revision(violations, request)
        violations.raise_if_any()
        memory = await self._memories.restore(caller, key, revision, expected_revision)
        return pb.RestoreUserMemoryRevisionResponse(memory=memory_message(memory))

    async def SearchUserMemoryArchive(
        self, request: pb.SearchUserMemoryArchiveRequest, context: ServicerContext
    ) -> pb.SearchUserMemoryArchiveResponse:
        """Search the paragraphs that grew out of a memory."""
        caller = await self._authentication.caller(context)
        violations = Violations()
        key = read_key(violations, request)
        query = violations.text("query", request.query, most=MAX_QUERY_CHARACTERS, least=1)
        top_k = violations.integer("top_k", request.top_k, least=1, most=MAX_TOP_K, default=DEFAULT_TOP_K)
        violations.raise_if_any()
        passages = await self._memories.search_archive(caller, key, query, top_k=top_k)
        return pb.SearchUserMemoryArchiveResponse(
            paragraphs=[passage_message(passage) for passage in passages]
        )
