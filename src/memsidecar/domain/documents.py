"""Documents and the chunks they are found by."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from memsidecar.domain.caller import Right
from memsidecar.domain.errors import NotFound
from memsidecar.domain.turns import TimeRange

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID

    from memsidecar.domain.caller import Caller
    from memsidecar.domain.paging import Page


class DocumentType(Enum):
    """What kind of text a document is."""

    TEXT = "text"
    MARKDOWN = "markdown"
    HTML = "html"
    PDF = "pdf"
    CODE = "code"


@dataclass(frozen=True, slots=True)
class Document:
    """A document that was taken in."""

    document_id: UUID
    document_key: str
    user_id: str
    """Empty for a document that belongs to nobody and is global."""
    is_global: bool
    document_type: DocumentType
    title: str
    metadata: Mapping[str, Any]
    language: str
    occurred_at: datetime
    created_at: datetime
    updated_at: datetime
    chunk_count: int
    content_sha256: bytes
    """Of the bytes that were sent."""
    content_characters: int
    content: str = field(default="", repr=False)
    """The text that offsets point into; empty unless it was asked for."""


@dataclass(frozen=True, slots=True)
class DocumentChunk:
    """A passage: exactly the characters ``[start_char, end_char)`` of the document's content."""

    chunk_id: UUID
    document_id: UUID
    chunk_index: int
    text: str = field(repr=False)
    start_char: int
    end_char: int
    heading_path: tuple[str, ...]
    page_number: int
    """Page it starts on, from 1; 0 where there are no pages."""
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DocumentScope:
    """Which documents a call looks at; every field that is set narrows."""

    user_id: str | None = None
    """Own documents of this user, and global ones; None means global ones only, unless ``whole_tenant``."""
    whole_tenant: bool = False
    exclude_global: bool = False
    document_types: tuple[DocumentType, ...] = ()
    document_ids: tuple[UUID, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    occurred: TimeRange = field(default_factory=TimeRange)


def visible_scope(caller: Caller, scope: DocumentScope) -> DocumentScope:
    """Give the scope as the caller may see it: without a user an administrator sees the whole tenant."""
    if scope.user_id is None and Right.ADMIN in caller.rights:
        return replace(scope, whole_tenant=True)
    return scope


class DocumentStore(Protocol):
    """Where documents are kept. Every method acts on one tenant and raises the storage errors of ``domain.errors``."""

    async def get(
        self, tenant_id: UUID, document_id: UUID, *, include_content: bool, deadline: float | None
    ) -> Document | None:
        """Read a document."""
        ...

    async def chunks(
        self, tenant_id: UUID, document_id: UUID, *, deadline: float | None
    ) -> list[DocumentChunk]:
        """Read the chunks of a document in order."""
        ...

    async def list(
        self,
        tenant_id: UUID,
        scope: DocumentScope,
        *,
        limit: int,
        after: tuple[datetime, UUID] | None,
        deadline: float | None,
    ) -> Page[Document]:
        """Read documents without content, the latest taken in first; ``after`` is of the last one read."""
        ...

    async def delete(self, tenant_id: UUID, document_id: UUID, *, deadline: float | None) -> int | None:
        """Delete a document with its chunks and give how many those were; None when there is no such document."""
        ...


class Documents:
    """Reads and deletes documents for callers."""

    def __init__(self, store: DocumentStore) -> None:
        self._store = store

    async def get(
        self, caller: Caller, document_id: UUID, *, include_content: bool, include_chunks: bool
    ) -> tuple[Document, list[DocumentChunk]]:
        """Read a document, and its chunks when they are asked for.

        Raises:
            NotFound: No such document for this caller.
            PermissionDenied: The credential lacks ``recall``.
        """
        tenant_id = caller.tenant(Right.RECALL)
        document = await self._store.get(
            tenant_id, document_id, include_content=include_content, deadline=caller.deadline
        )
        if document is None:
            raise NotFound("there is no such document")
        chunks: list[DocumentChunk] = []
        if include_chunks:
            chunks = await self._store.chunks(tenant_id, document_id, deadline=caller.deadline)
        return document, chunks

    async def list(
        self, caller: Caller, scope: DocumentScope, *, limit: int, after: tuple[datetime, UUID] | None
    ) -> Page[Document]:
        """Read documents without content, the latest taken in first.

        Raises:
            PermissionDenied: The credential lacks ``recall``.
        """
        tenant_id = caller.tenant(Right.RECALL)
        return await self._store.list(
            tenant_id, visible_scope(caller, scope), limit=limit, after=after, deadline=caller.deadline
        )

    async def delete(self, caller: Caller, document_id: UUID) -> int:
        """Delete a document with its chunks, and give how many those were.

        Raises:
            NotFound: No such document for this caller.
            PermissionDenied: The credential lacks ``documents``.
        """
        tenant_id = caller.tenant(Right.DOCUMENTS)
        deleted = await self._store.delete(tenant_id, document_id, deadline=caller.deadline)
        if deleted is None:
            raise NotFound("there is no such document")
        return deleted
