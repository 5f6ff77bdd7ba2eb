"""User memory between messages and the domain: what comes in is checked, what goes out is built."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memsidecar.domain.limits import MAX_MEMORY_CHARACTERS, MAX_MEMORY_METADATA_BYTES
from memsidecar.domain.user_memory import MemoryKey, MemoryWrite, MemoryWriteMode, MetadataWriteMode
from memsidecar.rpc.messages import struct, timestamp
from memsidecar.v1 import user_memory_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Mapping

    from memsidecar.domain.user_memory import ArchivedPassage, UserMemory
    from memsidecar.rpc.validation import Violations

_MEMORY_MODES: Mapping[int, MemoryWriteMode] = {
    pb.MEMORY_WRITE_MODE_REPLACE: MemoryWriteMode.REPLACE,
    pb.MEMORY_WRITE_MODE_APPEND: MemoryWriteMode.APPEND,
}
_METADATA_MODES: Mapping[int, MetadataWriteMode] = {
    pb.METADATA_WRITE_MODE_MERGE: MetadataWriteMode.MERGE,
    pb.METADATA_WRITE_MODE_REPLACE: MetadataWriteMode.REPLACE,
}
_LARGEST_REVISION = 2**62


def read_key(
    violations: Violations,
    message: pb.UpsertUserMemoryRequest
    | pb.GetUserMemoryRequest
    | pb.ListUserMemoryRevisionsRequest
    | pb.RestoreUserMemoryRevisionRequest
    | pb.SearchUserMemoryArchiveRequest,
) -> MemoryKey:
    """Check whose memory a request is about."""
    return MemoryKey(
        user_id=violations.identifier("user_id", message.user_id),
        agent_id=violations.optional_uuid("agent_id", message.agent_id),
    )


def read_write(violations: Violations, message: pb.UpsertUserMemoryRequest) -> MemoryWrite:
    """Check a write: it changes the text, the object or both."""
    has_memory, has_metadata = message.HasField("memory"), message.HasField("metadata")
    if not has_memory and not has_metadata:
        violations.add("memory", "is required unless metadata is given: a write changes at least one of them")
    return MemoryWrite(
        memory=violations.text("memory", message.memory, most=MAX_MEMORY_CHARACTERS) if has_memory else None,
        memory_mode=violations.choice(
            "memory_mode", message.memory_mode, _MEMORY_MODES, default=MemoryWriteMode.REPLACE
        )
        or MemoryWriteMode.REPLACE,
        metadata=violations.metadata("metadata", message.metadata, most=MAX_MEMORY_METADATA_BYTES)
        if has_metadata
        else None,
        metadata_mode=violations.choice(
            "metadata_mode", message.metadata_mode, _METADATA_MODES, default=MetadataWriteMode.MERGE
        )
        or MetadataWriteMode.MERGE,
        expected_revision=read_expected_revision(violations, message),
        request_id=violations.identifier("request_id", message.request_id, required=False),
    )


def read_expected_revision(
    violations: Violations, message: pb.UpsertUserMemoryRequest | pb.RestoreUserMemoryRevisionRequest
) -> int | None:
    """Check the revision a write builds on."""
    if not message.HasField("expected_revision"):
        return None
    return violations.integer("expected_revision", message.expected_revision, least=0, most=_LARGEST_REVISION)


def read_revision(violations: Violations, message: pb.RestoreUserMemoryRevisionRequest) -> int:
    """Check the number of a revision."""
    return violations.integer("revision", message.revision, least=1, most=_LARGEST_REVISION)


def memory_message(memory: UserMemory) -> pb.UserMemory:
    """Build the message of a memory."""
    return pb.UserMemory(
        user_id=memory.key.user_id,
        agent_id="" if memory.key.agent_id is None else str(memory.key.agent_id),
        memory=memory.memory,
        metadata=struct(memory.metadata),
        revision=memory.revision,
        updated_at=timestamp(memory.updated_at),
        updated_by=memory.updated_by,
        size_bytes=memory.size_bytes,
    )


def passage_message(passage: ArchivedPassage) -> pb.ArchivedParagraph:
    """Build the message of an archived passage."""
    return pb.ArchivedParagraph(
        text=passage.text,
        revision=passage.revision,
        archived_at=timestamp(passage.archived_at),
        similarity=passage.similarity,
    )
