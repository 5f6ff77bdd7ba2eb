"""Documents between messages and the domain: what comes in is checked, what goes out is built."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from memsidecar.domain.documents import DocumentScope, DocumentType
from memsidecar.domain.hybrid_search import HybridOptions, HybridSearchRequest
from memsidecar.domain.ingestion import IngestionStatus, NewDocument
from memsidecar.domain.limits import (
    DEFAULT_TOP_K,
    MAX_CHUNK_NEIGHBOURS,
    MAX_DOCUMENT_KEY_CHARACTERS,
    MAX_FUTURE,
    MAX_LANGUAGE_CHARACTERS,
    MAX_QUERY_CHARACTERS,
    MAX_SCOPE_DOCUMENTS,
    MAX_TITLE_CHARACTERS,
    MAX_TOP_K,
)
from memsidecar.rpc.messages import model_message, struct, time_range, timestamp
from memsidecar.v1 import common_pb2
from memsidecar.v1 import documents_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Mapping

    from memsidecar.domain.documents import Document, DocumentChunk
    from memsidecar.domain.hybrid_search import DocumentHit, HybridSearchResult
    from memsidecar.domain.ingestion import IngestionJob
    from memsidecar.rpc.validation import Violations

_TYPE_VALUES = {
    DocumentType.TEXT: pb.DOCUMENT_TYPE_TEXT,
    DocumentType.MARKDOWN: pb.DOCUMENT_TYPE_MARKDOWN,
    DocumentType.HTML: pb.DOCUMENT_TYPE_HTML,
    DocumentType.PDF: pb.DOCUMENT_TYPE_PDF,
    DocumentType.CODE: pb.DOCUMENT_TYPE_CODE,
}
_TYPES: Mapping[int, DocumentType] = {value: kind for kind, value in _TYPE_VALUES.items()}
_STATUS_VALUES = {
    IngestionStatus.QUEUED: pb.INGESTION_STATUS_QUEUED,
    IngestionStatus.PROCESSING: pb.INGESTION_STATUS_PROCESSING,
    IngestionStatus.COMPLETED: pb.INGESTION_STATUS_COMPLETED,
    IngestionStatus.FAILED: pb.INGESTION_STATUS_FAILED,
    IngestionStatus.PARTIAL: pb.INGESTION_STATUS_PARTIAL,
}
_STATUSES: Mapping[int, IngestionStatus] = {value: status for status, value in _STATUS_VALUES.items()}


def read_new_document(violations: Violations, field: str, message: pb.NewDocument, raw: bytes) -> NewDocument:
    """Check a document to take in, all but its content.

    Args:
        violations: Takes what is wrong.
        field: Path of the message in the request.
        message: The document; its ``content`` is not looked at.
        raw: All of its content.
    """
    kind = message.document_type
    return NewDocument(
        document_key=violations.text(
            f"{field}.document_key", message.document_key, most=MAX_DOCUMENT_KEY_CHARACTERS, least=1
        ),
        user_id=violations.identifier(f"{field}.user_id", message.user_id, required=not message.is_global),
        raw=raw,
        is_global=message.is_global,
        document_type=violations.choice(f"{field}.document_type", kind, _TYPES) if kind else None,
        title=violations.text(f"{field}.title", message.title, most=MAX_TITLE_CHARACTERS),
        metadata=violations.metadata(f"{field}.metadata", message.metadata),
        language=violations.text(f"{field}.language", message.language, most=MAX_LANGUAGE_CHARACTERS),
        occurred_at=violations.time(
            f"{field}.occurred_at",
            message.occurred_at if message.HasField("occurred_at") else None,
            not_after=datetime.now(UTC) + MAX_FUTURE,
        ),
    )


def wrong_size(size: int, most: int) -> str:
    """Say what is wrong with the size of a document's content; empty when nothing is."""
    if size == 0:
        return f"is empty: send 1 to {most:,} bytes"
    return f"has {size:,} bytes: send at most {most:,}" if size > most else ""


def read_statuses(violations: Violations, values: list[int]) -> tuple[IngestionStatus, ...]:
    """Check a list of statuses."""
    statuses = [
        violations.choice(f"statuses[{index}]", value, _STATUSES) for index, value in enumerate(values)
    ]
    return tuple(status for status in statuses if status is not None)


def read_scope(violations: Violations, message: pb.DocumentScope) -> DocumentScope:
    """Check a scope."""
    kinds = [
        violations.choice(f"scope.document_types[{index}]", value, _TYPES)
        for index, value in enumerate(message.document_types)
    ]
    return DocumentScope(
        user_id=violations.identifier("scope.user_id", message.user_id, required=False) or None,
        exclude_global=message.exclude_global,
        document_types=tuple(kind for kind in kinds if kind is not None),
        document_ids=violations.uuids("scope.document_ids", message.document_ids, most=MAX_SCOPE_DOCUMENTS),
        metadata=violations.metadata("scope.metadata", message.metadata),
        occurred=time_range(violations, "scope.occurred", message.occurred),
    )


def read_search(violations: Violations, message: pb.HybridSearchRequest) -> HybridSearchRequest:
    """Check a search."""
    return HybridSearchRequest(
        query=violations.text("query", message.query, most=MAX_QUERY_CHARACTERS, least=1),
        scope=read_scope(violations, message.scope),
        top_k=violations.integer("top_k", message.top_k, least=1, most=MAX_TOP_K, default=DEFAULT_TOP_K),
        options=_read_options(violations, message.options),
        group_by_document=message.group_by_document,
        neighbours=violations.integer("neighbours", message.neighbours, least=0, most=MAX_CHUNK_NEIGHBOURS),
        explain=message.explain,
        highlight=message.highlight,
    )


def _read_options(violations: Violations, message: pb.HybridOptions) -> HybridOptions:
    given: dict[str, Any] = {}
    for weight in ("vector_weight", "lexical_weight"):
        if message.HasField(weight):
            given[weight] = violations.number(f"options.{weight}", getattr(message, weight), least=0, most=10)
    if given.get("vector_weight") == given.get("lexical_weight") == 0:
        violations.add("options", "gives both legs no weight: raise vector_weight or lexical_weight")
    if message.HasField("candidates"):
        given["candidates"] = violations.integer(
            "options.candidates", message.candidates, least=10, most=1_000
        )
    if message.HasField("min_score"):
        given["min_score"] = violations.number("options.min_score", message.min_score, least=-100, most=100)
    return HybridOptions(**given)


def job_message(job: IngestionJob) -> pb.IngestionJob:
    """Build the message of a job."""
    return pb.IngestionJob(
        job_id=str(job.job_id),
        status=_STATUS_VALUES[job.status],
        total_documents=job.total,
        processed_documents=job.processed,
        failed_documents=job.failed,
        progress_percent=job.progress_percent,
        errors=[
            pb.IngestionError(
                document=failure.document, error=failure.error, timestamp=timestamp(failure.timestamp)
            )
            for failure in job.errors
        ],
        created_at=timestamp(job.created_at),
        started_at=timestamp(job.started_at),
        finished_at=timestamp(job.finished_at),
        document_ids=[str(document_id) for document_id in job.document_ids],
        unchanged_documents=job.unchanged,
        cancelled=job.cancelled,
    )


def document_message(document: Document) -> pb.Document:
    """Build the message of a document."""
    return pb.Document(
        document_id=str(document.document_id),
        document_key=document.document_key,
        user_id=document.user_id,
        is_global=document.is_global,
        document_type=_TYPE_VALUES[document.document_type],
        title=document.title,
        content=document.content,
        metadata=struct(document.metadata),
        language=document.language,
        occurred_at=timestamp(document.occurred_at),
        created_at=timestamp(document.created_at),
        updated_at=timestamp(document.updated_at),
        chunk_count=document.chunk_count,
        content_sha256=document.content_sha256.hex(),
        content_characters=document.content_characters,
    )


def chunk_message(chunk: DocumentChunk) -> pb.DocumentChunk:
    """Build the message of a chunk."""
    return pb.DocumentChunk(
        chunk_id=str(chunk.chunk_id),
        document_id=str(chunk.document_id),
        chunk_index=chunk.chunk_index,
        text=chunk.text,
        start_char=chunk.start_char,
        end_char=chunk.end_char,
        heading_path=chunk.heading_path,
        page_number=chunk.page_number,
        metadata=struct(chunk.metadata),
    )


def search_message(result: HybridSearchResult) -> pb.HybridSearchResponse:
    """Build the answer to a search."""
    timings = None
    if result.timings:
        timings = common_pb2.Timings(
            **{f"{stage}_micros": int(seconds * 1e6) for stage, seconds in result.timings.items()}
        )
    return pb.HybridSearchResponse(
        hits=[_hit_message(hit) for hit in result.hits],
        model=model_message(result.model),
        strategy=result.strategy,
        query_truncated=result.query_truncated,
        timings=timings,
    )


def _hit_message(hit: DocumentHit) -> pb.DocumentHit:
    return pb.DocumentHit(
        chunk=chunk_message(hit.chunk),
        document=document_message(hit.document),
        score=hit.score,
        similarity=hit.similarity,
        parts=[
            common_pb2.ScorePart(
                name=part.name, raw=part.raw, normalized=part.normalized, weight=part.weight, rank=part.rank
            )
            for part in hit.parts
        ],
        highlights=[pb.Span(start_char=start, end_char=end) for start, end in hit.highlights],
        context=[chunk_message(chunk) for chunk in hit.context],
        more=[_hit_message(other) for other in hit.more],
    )
