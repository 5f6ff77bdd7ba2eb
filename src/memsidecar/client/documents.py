"""Documents as a client sees them: what goes in, the job that takes it in, and what a search finds."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from memsidecar.client.server import ModelIdentity
    from memsidecar.client.turns import ScorePart, TimeRange, Timings


class DocumentType(StrEnum):
    """What kind of text a document is."""

    TEXT = "text"
    MARKDOWN = "markdown"
    HTML = "html"
    PDF = "pdf"
    CODE = "code"


class IngestionStatus(StrEnum):
    """How far a job is."""

    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    PARTIAL = "partial"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self in {IngestionStatus.COMPLETED, IngestionStatus.FAILED, IngestionStatus.PARTIAL}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDocument:
    """A document to take in."""

    document_key: str
    """Its name in its source, for example a path or a URL; unique per owner."""
    content: bytes
    """The file's bytes, up to 32 MiB."""
    user_id: str = ""
    """Whose it is; required unless ``is_global``."""
    is_global: bool = False
    """Visible to every user of the tenant."""
    document_type: DocumentType | None = None
    """Default: guessed from the key and the content."""
    title: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    language: str = ""
    """Language of word search, for example ``english``. Default: the tenant's."""
    occurred_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestionError:
    """Why one document was not taken in."""

    document: str
    error: str
    timestamp: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestionJob:
    """A job and how far it is."""

    job_id: str
    status: IngestionStatus
    total_documents: int
    processed_documents: int
    failed_documents: int
    unchanged_documents: int
    progress_percent: float
    errors: tuple[IngestionError, ...]
    document_ids: tuple[str, ...]
    cancelled: bool
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A document that was taken in."""

    document_id: str
    document_key: str
    user_id: str
    is_global: bool
    document_type: DocumentType
    title: str
    content: str
    """Only when asked for."""
    metadata: Mapping[str, Any]
    language: str
    occurred_at: datetime
    created_at: datetime
    updated_at: datetime
    chunk_count: int
    content_sha256: str
    content_characters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentChunk:
    """A passage of a document: exactly ``content[start_char:end_char]`` of it."""

    chunk_id: str
    document_id: str
    chunk_index: int
    text: str
    start_char: int
    end_char: int
    heading_path: tuple[str, ...]
    """Headings above it, outermost first."""
    page_number: int
    """From 1; 0 where there are no pages."""
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentScope:
    """Which documents a search or listing looks at; each field narrows."""

    user_id: str = ""
    """See what this user sees: own documents, and global ones."""
    exclude_global: bool = False
    document_types: tuple[DocumentType, ...] = ()
    document_ids: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    occurred: TimeRange | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HybridOptions:
    """Weights of a document search; None takes the server's default. Ranges are in the contract."""

    vector_weight: float | None = None
    lexical_weight: float | None = None
    candidates: int | None = None
    min_score: float | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open span of characters within a chunk's text."""

    start_char: int
    end_char: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentHit:
    """One found passage."""

    chunk: DocumentChunk
    document: Document
    """Without content."""
    score: float
    similarity: float
    parts: tuple[ScorePart, ...]
    highlights: tuple[Span, ...]
    context: tuple[DocumentChunk, ...]
    more: tuple[DocumentHit, ...]
    """Other hits of the same document; only with ``group_by_document``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentSearch:
    """The answer to a document search."""

    hits: tuple[DocumentHit, ...]
    """Best first."""
    model: ModelIdentity
    strategy: str
    query_truncated: bool
    timings: Timings | None
