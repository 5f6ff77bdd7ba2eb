"""The calls of UserMemoryService, and how their answers are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memsidecar.client.calls import Call, Page
from memsidecar.client.messages import read_moment, read_struct, struct
from memsidecar.client.user_memory import (
    ArchivedParagraph,
    MemoryWriteMode,
    MetadataWriteMode,
    UserMemory,
    UserMemoryWrite,
)
from memsidecar.domain.identifiers import new_uuid7
from memsidecar.v1 import user_memory_pb2 as pb
from memsidecar.v1.user_memory_pb2_grpc import UserMemoryServiceStub

if TYPE_CHECKING:
    from collections.abc import Mapping

_MEMORY_MODES = {
    MemoryWriteMode.REPLACE: pb.MEMORY_WRITE_MODE_REPLACE,
    MemoryWriteMode.APPEND: pb.MEMORY_WRITE_MODE_APPEND,
}
_METADATA_MODES = {
    MetadataWriteMode.MERGE: pb.METADATA_WRITE_MODE_MERGE,
    MetadataWriteMode.REPLACE: pb.METADATA_WRITE_MODE_REPLACE,
}


def upsert(
    user_id: str,
    *,
    agent_id: str,
    memory: str | None,
    memory_mode: MemoryWriteMode,
    metadata: Mapping[str, Any] | None,
    metadata_mode: MetadataWriteMode,
    expected_revision: int | None,
    request_id: str,
) -> Call[UserMemoryWrite]:
    """Describe UpsertUserMemory."""
    request = pb.UpsertUserMemoryRequest(
        user_id=user_id,
        agent_id=agent_id,
        memory=memory,
        memory_mode=_MEMORY_MODES[memory_mode],
        metadata=struct(metadata),
        metadata_mode=_METADATA_MODES[metadata_mode],
        expected_revision=expected_revision,
        request_id=request_id or str(new_uuid7()),
    )
    return Call(UserMemoryServiceStub, "UpsertUserMemory", request, _read_write)


def get(user_id: str, agent_id: str) -> Call[UserMemory]:
    """Describe GetUserMemory."""
    return Call(
        UserMemoryServiceStub,
        "GetUserMemory",
        pb.GetUserMemoryRequest(user_id=user_id, agent_id=agent_id),
        lambda response: _read_memory(response.memory),
    )


def list_revisions(user_id: str, agent_id: str, page_size: int, page_token: str) -> Call[Page[UserMemory]]:
    """Describe ListUserMemoryRevisions for one page."""
    return Call(
        UserMemoryServiceStub,
        "ListUserMemoryRevisions",
        pb.ListUserMemoryRevisionsRequest(
            user_id=user_id, agent_id=agent_id, page_size=page_size, page_token=page_token
        ),
        lambda response: Page(tuple(map(_read_memory, response.revisions)), response.next_page_token),
    )


def restore(user_id: str, revision: int, *, agent_id: str, expected_revision: int | None) -> Call[UserMemory]:
    """Describe RestoreUserMemoryRevision; each repetition would write one more revision."""
    return Call(
        UserMemoryServiceStub,
        "RestoreUserMemoryRevision",
        pb.RestoreUserMemoryRevisionRequest(
            user_id=user_id, agent_id=agent_id, revision=revision, expected_revision=expected_revision
        ),
        lambda response: _read_memory(response.memory),
        safe_to_repeat=False,
    )


def search_archive(
    user_id: str, query: str, *, agent_id: str, top_k: int
) -> Call[tuple[ArchivedParagraph, ...]]:
    """Describe SearchUserMemoryArchive."""
    return Call(
        UserMemoryServiceStub,
        "SearchUserMemoryArchive",
        pb.SearchUserMemoryArchiveRequest(user_id=user_id, agent_id=agent_id, query=query, top_k=top_k),
        lambda response: tuple(map(_read_paragraph, response.paragraphs)),
    )


def _read_write(message: pb.UpsertUserMemoryResponse) -> UserMemoryWrite:
    return UserMemoryWrite(
        memory=_read_memory(message.memory),
        compaction_suggested=message.compaction_suggested,
        archived_paragraphs=message.archived_paragraphs,
        repeated=message.repeated,
    )


def _read_memory(message: pb.UserMemory) -> UserMemory:
    return UserMemory(
        user_id=message.user_id,
        agent_id=message.agent_id,
        memory=message.memory,
        metadata=read_struct(message.metadata),
        revision=message.revision,
        updated_at=read_moment(message.updated_at),
        updated_by=message.updated_by,
        size_bytes=message.size_bytes,
    )


def _read_paragraph(message: pb.ArchivedParagraph) -> ArchivedParagraph:
    return ArchivedParagraph(
        text=message.text,
        revision=message.revision,
        archived_at=read_moment(message.archived_at),
        similarity=message.similarity,
    )
