"""The calls of DocumentService, and how their answers are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memsidecar.client.calls import Call, Page
from memsidecar.client.documents import (
    Document,
    DocumentChunk,
    DocumentHit,
    DocumentSearch,
    DocumentType,
    IngestionError,
    IngestionJob,
    IngestionStatus,
    Span,
)
from memsidecar.client.messages import (
    read_model,
    read_moment,
    read_optional_moment,
    read_part,
    read_struct,
    read_timings,
    struct,
    time_range,
    timestamp,
)
from memsidecar.domain.identifiers import new_uuid7
from memsidecar.v1 import documents_pb2 as pb
from memsidecar.v1.documents_pb2_grpc import DocumentServiceStub

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from memsidecar.client.documents import DocumentScope, HybridOptions, NewDocument

MAX_UNARY_BYTES = 4 * 1_048_576
"""A document in one message; larger ones are streamed."""
MAX_PART_BYTES = 1_048_576
"""Content of one part of a streamed document."""

_TYPES = {
    DocumentType.TEXT: pb.DOCUMENT_TYPE_TEXT,
    DocumentType.MARKDOWN: pb.DOCUMENT_TYPE_MARKDOWN,
    DocumentType.HTML: pb.DOCUMENT_TYPE_HTML,
    DocumentType.PDF: pb.DOCUMENT_TYPE_PDF,
    DocumentType.CODE: pb.DOCUMENT_TYPE_CODE,
}
_TYPE_NAMES = {value: document_type for document_type, value in _TYPES.items()}
_STATUSES = {
    IngestionStatus.QUEUED: pb.INGESTION_STATUS_QUEUED,
    IngestionStatus.PROCESSING: pb.INGESTION_STATUS_PROCESSING,
    IngestionStatus.COMPLETED: pb.INGESTION_STATUS_COMPLETED,
    IngestionStatus.FAILED: pb.INGESTION_STATUS_FAILED,
    IngestionStatus.PARTIAL: pb.INGESTION_STATUS_PARTIAL,
}
_STATUS_NAMES = {value: status for status, value in _STATUSES.items()}


def ingest(document: NewDocument, request_id: str) -> Call[IngestionJob]:
    """Describe IngestDocument, or its streaming form for a document that is too large for one message."""
    if len(document.content) > MAX_UNARY_BYTES:
        return ingest_many([document], request_id)
    message = _new_document(document)
    message.content = document.content
    request = pb.IngestDocumentRequest(document=message, request_id=request_id or str(new_uuid7()))
    return Call(DocumentServiceStub, "IngestDocument", request, lambda response: read_job(response.job))


def ingest_many(documents: Sequence[NewDocument], request_id: str) -> Call[IngestionJob]:
    """Describe IngestDocuments."""
    request_id = request_id or str(new_uuid7())
    return Call(
        DocumentServiceStub,
        "IngestDocuments",
        lambda: _parts(documents, request_id),
        lambda response: read_job(response.job),
    )


def _parts(documents: Iterable[NewDocument], request_id: str) -> Iterator[pb.IngestDocumentsRequest]:
    for document in documents:
        message = _new_document(document)
        message.content = document.content[:MAX_PART_BYTES]
        yield pb.IngestDocumentsRequest(document=message, request_id=request_id)
        for start in range(MAX_PART_BYTES, len(document.content), MAX_PART_BYTES):
            yield pb.IngestDocumentsRequest(content=document.content[start : start + MAX_PART_BYTES])


def get_job(job_id: str) -> Call[IngestionJob]:
    """Describe GetIngestionJob."""
    return Call(
        DocumentServiceStub,
        "GetIngestionJob",
        pb.GetIngestionJobRequest(job_id=job_id),
        lambda response: read_job(response.job),
    )


def list_jobs(
    statuses: Iterable[IngestionStatus], page_size: int, page_token: str
) -> Call[Page[IngestionJob]]:
    """Describe ListIngestionJobs for one page."""
    return Call(
        DocumentServiceStub,
        "ListIngestionJobs",
        pb.ListIngestionJobsRequest(
            statuses=[_STATUSES[status] for status in statuses], page_size=page_size, page_token=page_token
        ),
        lambda response: Page(tuple(map(read_job, response.jobs)), response.next_page_token),
    )


def cancel_job(job_id: str) -> Call[IngestionJob]:
    """Describe CancelIngestionJob."""
    return Call(
        DocumentServiceStub,
        "CancelIngestionJob",
        pb.CancelIngestionJobRequest(job_id=job_id),
        lambda response: read_job(response.job),
    )


def watch_job(job_id: str) -> pb.WatchIngestionJobRequest:
    """Build the request of WatchIngestionJob."""
    return pb.WatchIngestionJobRequest(job_id=job_id)


def search(
    query: str,
    scope: DocumentScope | None,
    *,
    top_k: int,
    options: HybridOptions | None,
    group_by_document: bool,
    neighbours: int,
    explain: bool,
    highlight: bool,
) -> Call[DocumentSearch]:
    """Describe HybridSearch."""
    request = pb.HybridSearchRequest(
        query=query,
        scope=_scope(scope),
        top_k=top_k,
        options=_options(options),
        group_by_document=group_by_document,
        neighbours=neighbours,
        explain=explain,
        highlight=highlight,
    )
    return Call(DocumentServiceStub, "HybridSearch", request, _read_search)


def get_document(document_id: str, *, include_content: bool) -> Call[Document]:
    """Describe GetDocument, without chunks."""
    return Call(
        DocumentServiceStub,
        "GetDocument",
        pb.GetDocumentRequest(document_id=document_id, include_content=include_content),
        lambda response: _read_document(response.document),
    )


def list_chunks(document_id: str) -> Call[tuple[DocumentChunk, ...]]:
    """Describe GetDocument for its chunks."""
    return Call(
        DocumentServiceStub,
        "GetDocument",
        pb.GetDocumentRequest(document_id=document_id, include_chunks=True),
        lambda response: tuple(map(_read_chunk, response.chunks)),
    )


def list_documents(scope: DocumentScope | None, page_size: int, page_token: str) -> Call[Page[Document]]:
    """Describe ListDocuments for one page."""
    return Call(
        DocumentServiceStub,
        "ListDocuments",
        pb.ListDocumentsRequest(scope=_scope(scope), page_size=page_size, page_token=page_token),
        lambda response: Page(tuple(map(_read_document, response.documents)), response.next_page_token),
    )


def delete_document(document_id: str) -> Call[int]:
    """Describe DeleteDocument; a repetition would say NOT_FOUND."""
    return Call(
        DocumentServiceStub,
        "DeleteDocument",
        pb.DeleteDocumentRequest(document_id=document_id),
        lambda response: int(response.deleted_chunks),
        safe_to_repeat=False,
    )


def read_job(message: pb.IngestionJob) -> IngestionJob:
    """Read a job."""
    return IngestionJob(
        job_id=message.job_id,
        status=_STATUS_NAMES[message.status],
        total_documents=message.total_documents,
        processed_documents=message.processed_documents,
        failed_documents=message.failed_documents,
        unchanged_documents=message.unchanged_documents,
        progress_percent=message.progress_percent,
        errors=tuple(
            IngestionError(document=error.document, error=error.error, timestamp=read_moment(error.timestamp))
            for error in message.errors
        ),
        document_ids=tuple(message.document_ids),
        cancelled=message.cancelled,
        created_at=read_moment(message.created_at),
        started_at=read_optional_moment(message, "started_at"),
        finished_at=read_optional_moment(message, "finished_at"),
    )


def _new_document(document: NewDocument) -> pb.NewDocument:
    return pb.NewDocument(
        document_key=document.document_key,
        user_id=document.user_id,
        is_global=document.is_global,
        document_type=pb.DOCUMENT_TYPE_UNSPECIFIED
        if document.document_type is None
        else _TYPES[document.document_type],
        title=document.title,
        metadata=struct(document.metadata or None),
        language=document.language,
        occurred_at=timestamp(document.occurred_at),
    )


def _scope(scope: DocumentScope | None) -> pb.DocumentScope | None:
    if scope is None:
        return None
    return pb.DocumentScope(
        user_id=scope.user_id,
        exclude_global=scope.exclude_global,
        document_types=[_TYPES[document_type] for document_type in scope.document_types],
        document_ids=scope.document_ids,
        metadata=struct(scope.metadata or None),
        occurred=time_range(scope.occurred),
    )


def _options(options: HybridOptions | None) -> pb.HybridOptions | None:
    if options is None:
        return None
    return pb.HybridOptions(
        vector_weight=options.vector_weight,
        lexical_weight=options.lexical_weight,
        candidates=options.candidates,
        min_score=options.min_score,
    )


def _read_document(message: pb.Document) -> Document:
    return Document(
        document_id=message.document_id,
        document_key=message.document_key,
        user_id=message.user_id,
        is_global=message.is_global,
        document_type=_TYPE_NAMES[message.document_type],
        title=message.title,
        content=message.content,
        metadata=read_struct(message.metadata),
        language=message.language,
        occurred_at=read_moment(message.occurred_at),
        created_at=read_moment(message.created_at),
        updated_at=read_moment(message.updated_at),
        chunk_count=message.chunk_count,
        content_sha256=message.content_sha256,
        content_characters=message.content_characters,
    )


def _read_chunk(message: pb.DocumentChunk) -> DocumentChunk:
    return DocumentChunk(
        chunk_id=message.chunk_id,
        document_id=message.document_id,
        chunk_index=message.chunk_index,
        text=message.text,
        start_char=message.start_char,
        end_char=message.end_char,
        heading_path=tuple(message.heading_path),
        page_number=message.page_number,
        metadata=read_struct(message.metadata),
    )


def _read_search(message: pb.HybridSearchResponse) -> DocumentSearch:
    return DocumentSearch(
        hits=tuple(map(_read_hit, message.hits)),
        model=read_model(message.model),
        strategy=message.strategy,
        query_truncated=message.query_truncated,
        timings=read_timings(message),
    )


def _read_hit(message: pb.DocumentHit) -> DocumentHit:
    return DocumentHit(
        chunk=_read_chunk(message.chunk),
        document=_read_document(message.document),
        score=message.score,
        similarity=message.similarity,
        parts=tuple(map(read_part, message.parts)),
        highlights=tuple(Span(span.start_char, span.end_char) for span in message.highlights),
        context=tuple(map(_read_chunk, message.context)),
        more=tuple(map(_read_hit, message.more)),
    )
