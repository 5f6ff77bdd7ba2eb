"""What is known about a user: one text and one object per user, every revision kept."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from memsidecar.domain.caller import Right
from memsidecar.domain.errors import Conflict, FieldViolation, InvalidInput, MemoryTooLarge, NotFound
from memsidecar.domain.limits import HARD_MEMORY_BYTES, MAX_MEMORY_METADATA_BYTES, SOFT_MEMORY_BYTES
from memsidecar.domain.memory_text import merge_patch, move_oldest, size_in_bytes, split_passage
from memsidecar.domain.tenants import MemoryOverflow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from uuid import UUID

    from memsidecar.domain.caller import Caller
    from memsidecar.domain.embedding import Embedder, Embedding
    from memsidecar.domain.paging import Page

_MOST_ATTEMPTS = 8
"""How often a write is started again because another one came between; each time the text moved to the archive is
embedded first, outside the transaction."""


@dataclass(frozen=True, slots=True)
class MemoryKey:
    """Whose memory: of a user, and of one agent or, with None, shared by all agents."""

    user_id: str
    agent_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class UserMemory:
    """One revision of the memory of a user."""

    key: MemoryKey
    memory: str
    metadata: Mapping[str, Any]
    revision: int
    updated_at: datetime
    updated_by: str

    @property
    def size_bytes(self) -> int:
        """Size of the text in UTF-8."""
        return size_in_bytes(self.memory)


class MemoryWriteMode(Enum):
    """How a new text meets the old one."""

    REPLACE = "replace"
    APPEND = "append"


class MetadataWriteMode(Enum):
    """How a new object meets the old one."""

    MERGE = "merge"
    REPLACE = "replace"


@dataclass(frozen=True, slots=True)
class MemoryWrite:
    """A validated write. What is None stays as it is."""

    memory: str | None = None
    memory_mode: MemoryWriteMode = MemoryWriteMode.REPLACE
    metadata: Mapping[str, Any] | None = None
    metadata_mode: MetadataWriteMode = MetadataWriteMode.MERGE
    expected_revision: int | None = None
    """The revision this write builds on; 0 for "none yet", None for "whatever it is"."""
    request_id: str = ""

    @property
    def request(self) -> WriteRequest | None:
        """What makes a repetition safe; None without a request id."""
        if not self.request_id:
            return None
        content = json.dumps(
            [
                self.memory,
                self.memory_mode.value,
                self.metadata,
                self.metadata_mode.value,
                self.expected_revision,
            ],
            sort_keys=True,
        )
        return WriteRequest(
            self.request_id, hashlib.sha256(content.encode("utf-8", "surrogatepass")).digest()
        )


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """A client's name for a write, and the SHA-256 digest of what it writes."""

    request_id: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class NewRevision:
    """What a write makes of a memory."""

    memory: str
    metadata: Mapping[str, Any]
    archived: tuple[tuple[str, Embedding], ...] = ()
    """Passages that move to the archive, oldest first."""
    archived_paragraphs: int = 0


@dataclass(frozen=True, slots=True)
class WrittenMemory:
    """What became of a write."""

    memory: UserMemory
    archived_paragraphs: int = 0
    repeated: bool = False

    @property
    def compaction_suggested(self) -> bool:
        """Whether the text has passed the soft limit and should be rewritten shorter."""
        return self.memory.size_bytes > SOFT_MEMORY_BYTES


@dataclass(frozen=True, slots=True)
class ArchivedPassage:
    """A paragraph, or part of a long one, that outgrew a memory."""

    text: str
    revision: int
    archived_at: datetime
    similarity: float


class UserMemoryStore(Protocol):
    """Where user memories are kept."""

    async def write(
        self,
        tenant_id: UUID,
        key: MemoryKey,
        request: WriteRequest | None,
        decide: Callable[[UserMemory | None, MemoryOverflow], NewRevision],
        *,
        author: str,
        deadline: float | None,
    ) -> WrittenMemory:
        """Write the next revision as ``decide`` makes it of the current one, writers of a memory one after the other.

        ``decide`` is also given what the tenant wants at the hard limit; what it raises ends the write. A request that
        is known writes nothing and gives the memory as it is.

        Raises:
            RequestContentDiffers: The request id is known for another write.
        """
        ...

    async def read(self, tenant_id: UUID, key: MemoryKey, *, deadline: float | None) -> UserMemory | None:
        """Read the current revision."""
        ...

    async def read_revision(
        self, tenant_id: UUID, key: MemoryKey, revision: int, *, deadline: float | None
    ) -> UserMemory | None:
        """Read one revision."""
        ...

    async def list_revisions(
        self, tenant_id: UUID, key: MemoryKey, *, limit: int, before: int | None, deadline: float | None
    ) -> Page[UserMemory]:
        """Read revisions, newest first, from below ``before``."""
        ...

    async def search_archive(
        self, tenant_id: UUID, key: MemoryKey, vector: bytes, *, limit: int, deadline: float | None
    ) -> list[ArchivedPassage]:
        """Give the archived passages nearest to a vector, most similar first."""
        ...


class UserMemories:
    """Writes and reads user memories for callers."""

    def __init__(self, store: UserMemoryStore, embedder: Embedder) -> None:
        self._store = store
        self._embedder = embedder

    async def upsert(self, caller: Caller, key: MemoryKey, write: MemoryWrite) -> WrittenMemory:
        """Write the memory of a user.

        Raises:
            PermissionDenied: The credential lacks ``append`` or does not cover the agent.
            Conflict: ``expected_revision`` is not the current one.
            MemoryTooLarge: The hard limit would be passed and the tenant does not archive.
            RequestContentDiffers: The request id is known for another write.
        """
        tenant_id = _allowed(caller, key, Right.APPEND)
        if write.memory is not None:
            _require_size(size_in_bytes(write.memory), current=None)
        embedded: dict[str, Embedding] = {}
        for _attempt in range(_MOST_ATTEMPTS):
            try:
                return await self._store.write(
                    tenant_id,
                    key,
                    write.request,
                    lambda current, overflow: self._revision(current, overflow, write, embedded),
                    author=caller.name,
                    deadline=caller.deadline,
                )
            except _NotEmbeddedError as missing:
                made = await self._embedder.embed(missing.passages, owner=tenant_id, deadline=caller.deadline)
                embedded.update(zip(missing.passages, made, strict=True))
        raise Conflict("the memory is being rewritten all the time: repeat the call")

    async def restore(
        self, caller: Caller, key: MemoryKey, revision: int, expected_revision: int | None
    ) -> UserMemory:
        """Make an earlier revision the current one, as a new revision.

        Raises:
            PermissionDenied: The credential lacks ``append`` or does not cover the agent.
            NotFound: No such revision.
            Conflict: ``expected_revision`` is not the current one.
        """
        tenant_id = _allowed(caller, key, Right.APPEND)
        earlier = await self._store.read_revision(tenant_id, key, revision, deadline=caller.deadline)
        if earlier is None:
            raise NotFound("there is no such revision")

        def decide(current: UserMemory | None, _overflow: MemoryOverflow) -> NewRevision:
            _require_revision(current, expected_revision)
            return NewRevision(earlier.memory, earlier.metadata)

        written = await self._store.write(
            tenant_id, key, None, decide, author=caller.name, deadline=caller.deadline
        )
        return written.memory

    async def get(self, caller: Caller, key: MemoryKey) -> UserMemory:
        """Read the memory of a user.

        Raises:
            PermissionDenied: The credential lacks ``recall`` or does not cover the agent.
            NotFound: Nothing was written yet.
        """
        tenant_id = _allowed(caller, key, Right.RECALL)
        memory = await self._store.read(tenant_id, key, deadline=caller.deadline)
        if memory is None:
            raise NotFound("nothing is written about this user yet")
        return memory

    async def list_revisions(
        self, caller: Caller, key: MemoryKey, *, limit: int, before: int | None
    ) -> Page[UserMemory]:
        """Read revisions, newest first; none when nothing was written yet.

        Raises:
            PermissionDenied: The credential lacks ``recall`` or does not cover the agent.
        """
        tenant_id = _allowed(caller, key, Right.RECALL)
        return await self._store.list_revisions(
            tenant_id, key, limit=limit, before=before, deadline=caller.deadline
        )

    async def search_archive(
        self, caller: Caller, key: MemoryKey, query: str, *, top_k: int
    ) -> list[ArchivedPassage]:
        """Find archived passages by meaning, most similar first: min(top_k, archived) of them.

        Raises:
            PermissionDenied: The credential lacks ``recall`` or does not cover the agent.
            EmbeddingOverloaded: Repeat later.
        """
        tenant_id = _allowed(caller, key, Right.RECALL)
        [embedding] = await self._embedder.embed([query], owner=tenant_id, deadline=caller.deadline)
        return await self._store.search_archive(
            tenant_id, key, embedding.vector, limit=top_k, deadline=caller.deadline
        )

    def _revision(
        self,
        current: UserMemory | None,
        overflow: MemoryOverflow,
        write: MemoryWrite,
        embedded: Mapping[str, Embedding],
    ) -> NewRevision:
        _require_revision(current, write.expected_revision)
        metadata = _next_metadata(current, write)
        text = _next_text(current, write)
        if overflow is MemoryOverflow.REFUSE:
            _require_size(size_in_bytes(text), current=current)
        moved, text = move_oldest(text, HARD_MEMORY_BYTES)
        _require_size(size_in_bytes(text), current=current)
        passages = [
            passage
            for paragraph in moved
            for passage in split_passage(paragraph, self._embedder.token_offsets)
        ]
        missing = [passage for passage in passages if passage not in embedded]
        if missing:
            raise _NotEmbeddedError(missing)
        archived = tuple((passage, embedded[passage]) for passage in passages)
        return NewRevision(text, metadata, archived, len(moved))


class _NotEmbeddedError(Exception):
    """Passages have to be embedded before the write can go on."""

    def __init__(self, passages: list[str]) -> None:
        super().__init__(len(passages))
        self.passages = list(dict.fromkeys(passages))


def _allowed(caller: Caller, key: MemoryKey, right: Right) -> UUID:
    if key.agent_id is not None:
        caller.require_agent(key.agent_id)
    return caller.tenant(right)


def _next_text(current: UserMemory | None, write: MemoryWrite) -> str:
    before = "" if current is None else current.memory
    if write.memory is None:
        return before
    if write.memory_mode is MemoryWriteMode.APPEND and before:
        return f"{before}\n\n{write.memory}" if write.memory else before
    return write.memory


def _next_metadata(current: UserMemory | None, write: MemoryWrite) -> Mapping[str, Any]:
    before = {} if current is None else current.metadata
    if write.metadata is None:
        return before
    if write.metadata_mode is MetadataWriteMode.REPLACE:
        return write.metadata
    merged: dict[str, Any] = merge_patch(before, write.metadata)
    size = size_in_bytes(json.dumps(merged, ensure_ascii=False))
    if size > MAX_MEMORY_METADATA_BYTES:
        raise InvalidInput(
            [
                FieldViolation(
                    "metadata",
                    f"would be {size:,} bytes as JSON after the merge: remove members with null, to at most"
                    f" {MAX_MEMORY_METADATA_BYTES:,}",
                )
            ]
        )
    return merged


def _require_revision(current: UserMemory | None, expected: int | None) -> None:
    revision = 0 if current is None else current.revision
    if expected is not None and expected != revision:
        raise Conflict(
            f"the memory is at revision {revision}, not {expected}: read it again, then repeat",
            metadata={"current_revision": str(revision)},
        )


def _require_size(size: int, *, current: UserMemory | None) -> None:
    if size > HARD_MEMORY_BYTES:
        raise MemoryTooLarge(
            size=size, limit=HARD_MEMORY_BYTES, current_size=None if current is None else current.size_bytes
        )
