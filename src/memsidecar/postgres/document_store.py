"""Documents in Postgres. Implements ``domain.documents.DocumentStore``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

from memsidecar.domain.documents import Document, DocumentChunk, DocumentType
from memsidecar.domain.paging import Page
from memsidecar.postgres.queries import load_queries

if TYPE_CHECKING:
    from datetime import datetime

    import asyncpg

    from memsidecar.domain.documents import DocumentScope
    from memsidecar.postgres.database import Database

_QUERIES = load_queries("documents")


class PostgresDocumentStore:
    """Reads and deletes rows of ``documents`` and ``document_chunks``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(
        self, tenant_id: UUID, document_id: UUID, *, include_content: bool, deadline: float | None
    ) -> Document | None:
        """Read a document; see the port."""
        async with self._database.tenant(tenant_id, deadline=deadline) as connection:
            row = await connection.fetchrow(_QUERIES["get_document"], tenant_id, document_id, include_content)
        return None if row is None else document_from_row(row)

    async def chunks(
        self, tenant_id: UUID, document_id: UUID, *, deadline: float | None
    ) -> list[DocumentChunk]:
        """Read the chunks of a document; see the port."""
        async with self._database.tenant(tenant_id, deadline=deadline) as connection:
            rows = await connection.fetch(_QUERIES["document_chunks"], tenant_id, document_id)
        return [chunk_from_row(row) for row in rows]

    async def list(
        self,
        tenant_id: UUID,
        scope: DocumentScope,
        *,
        limit: int,
        after: tuple[datetime, UUID] | None,
        deadline: float | None,
    ) -> Page[Document]:
        """Read documents; see the port."""
        async with self._database.tenant(tenant_id, deadline=deadline) as connection:
            rows = await connection.fetch(
                _QUERIES["list_documents"],
                tenant_id,
                *scope_parameters(scope),
                *(after or (None, None)),
                limit + 1,
            )
        documents = tuple(document_from_row(row) for row in rows[:limit])
        if len(rows) <= limit:
            return Page(documents, None)
        return Page(documents, (documents[-1].created_at, documents[-1].document_id))

    async def delete(self, tenant_id: UUID, document_id: UUID, *, deadline: float | None) -> int | None:
        """Delete a document; see the port."""
        async with self._database.tenant(tenant_id, deadline=deadline) as connection:
            deleted: int | None = await connection.fetchval(
                _QUERIES["delete_document"], tenant_id, document_id
            )
        return deleted


def scope_parameters(scope: DocumentScope) -> tuple[Any, ...]:
    """Give $2 to $9 of the statements that select by scope."""
    return (
        scope.user_id,
        scope.whole_tenant,
        scope.exclude_global,
        [kind.value for kind in scope.document_types],
        list(scope.document_ids),
        json.dumps(dict(scope.metadata)),
        scope.occurred.start,
        scope.occurred.end,
    )


def document_from_row(row: asyncpg.Record) -> Document:
    """Build the document a row stands for."""
    return Document(
        document_id=UUID(int=row["id"].int),
        document_key=row["document_key"],
        user_id=row["user_id"],
        is_global=row["is_global"],
        document_type=DocumentType(row["document_type"]),
        title=row["title"],
        metadata=json.loads(row["metadata"]),
        language=row["language"],
        occurred_at=row["occurred_at"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        chunk_count=row["chunk_count"],
        content_sha256=row["content_sha256"],
        content_characters=row["content_characters"],
        content=row["content"],
    )


def chunk_from_row(row: asyncpg.Record) -> DocumentChunk:
    """Build the chunk a row stands for."""
    return DocumentChunk(
        chunk_id=UUID(int=row["id"].int),
        document_id=UUID(int=row["document_id"].int),
        chunk_index=row["chunk_index"],
        text=row["content"],
        start_char=row["start_char"],
        end_char=row["end_char"],
        heading_path=tuple(row["heading_path"]),
        page_number=row["page_number"],
        metadata=json.loads(row["metadata"]),
    )
