"""DocumentService: taking documents in, reading and searching them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from memsidecar.domain.limits import (
    DEFAULT_JOB_PAGE_SIZE,
    DEFAULT_PAGE_SIZE,
    MAX_JOB_PAGE_SIZE,
    MAX_UNARY_DOCUMENT_BYTES,
)
from memsidecar.domain.paging import decode_page_token, encode_page_token
from memsidecar.rpc.document_messages import (
    chunk_message,
    document_message,
    job_message,
    read_new_document,
    read_scope,
    read_search,
    read_statuses,
    search_message,
    wrong_size,
)
from memsidecar.rpc.document_stream import DocumentStream
from memsidecar.rpc.validation import Violations
from memsidecar.v1 import documents_pb2 as pb
from memsidecar.v1.documents_pb2_grpc import DocumentServiceServicer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from memsidecar.domain.documents import Documents
    from memsidecar.domain.hybrid_search import HybridSearch
    from memsidecar.domain.ingestion import Ingestion
    from memsidecar.rpc.authentication import Authentication
    from memsidecar.rpc.context import ServicerContext


class DocumentService(DocumentServiceServicer):
    """Checks requests, calls the use cases, builds responses; the contract is documented in the proto."""

    def __init__(
        self,
        authentication: Authentication,
        documents: Documents,
        ingestion: Ingestion,
        hybrid_search: HybridSearch,
    ) -> None:
        self._authentication = authentication
        self._documents = documents
        self._ingestion = ingestion
        self._hybrid_search = hybrid_search

    async def IngestDocument(
        self, request: pb.IngestDocumentRequest, context: ServicerContext
    ) -> pb.IngestDocumentResponse:
        """Take in one document."""
        caller = await self._authentication.caller(context)
        violations = Violations()
        request_id = violations.identifier("request_id", request.request_id, required=False)
        content = request.document.content
        document = read_new_document(violations, "document", request.document, content)
        problem = wrong_size(len(content), MAX_UNARY_DOCUMENT_BYTES)
        if problem:
            violations.add("document.content", f"{problem}; larger ones go through IngestDocuments")
        violations.raise_if_any()
        job = await self._ingestion.submit(caller, document, request_id=request_id)
        return pb.IngestDocumentResponse(job=job_message(job))

    async def IngestDocuments(
        self, request_iterator: AsyncIterator[pb.IngestDocumentsRequest], context: ServicerContext
    ) -> pb.IngestDocumentsResponse:
        """Take in many documents, or large ones in parts."""
        caller = await self._authentication.caller(context)
        stream = DocumentStream(request_iterator)
        request_id = await stream.request_id()
        job = await self._ingestion.submit_many(caller, stream.documents(), request_id=request_id)
        return pb.IngestDocumentsResponse(job=job_message(job))

    async def GetIngestionJob(
        self, request: pb.GetIngestionJobRequest, context: ServicerContext
    ) -> pb.GetIngestionJobResponse:
        """Read a job."""
        caller = await self._authentication.caller(context)
        job = await self._ingestion.get(caller, _job_id(request.job_id))
        return pb.GetIngestionJobResponse(job=job_message(job))

    async def ListIngestionJobs(
        self, request: pb.ListIngestionJobsRequest, context: ServicerContext
    ) -> pb.ListIngestionJobsResponse:
        """List jobs."""
        caller = await self._authentication.caller(context)
        violations = Violations()
        statuses = read_statuses(violations, list(request.statuses))
        limit = violations.page_size(request.page_size, default=DEFAULT_JOB_PAGE_SIZE, most=MAX_JOB_PAGE_SIZE)
        violations.raise_if_any()
        request_key = f"jobs {statuses!r}"
        after = decode_page_token(request.page_token, request_key=request_key, kinds=(datetime, UUID))
        page = await self._ingestion.list(caller, statuses, limit=limit, after=after)
        return pb.ListIngestionJobsResponse(
            jobs=[job_message(job) for job in page.items],
            next_page_token=encode_page_token(page.next_position, request_key=request_key),
        )

    async def CancelIngestionJob(
        self, request: pb.CancelIngestionJobRequest, context: ServicerContext
    ) -> pb.CancelIngestionJobResponse:
        """Stop a job."""
        caller = await self._authentication.caller(context)
        job = await self._ingestion.cancel(caller, _job_id(request.job_id))
        return pb.CancelIngestionJobResponse(job=job_message(job))

    async def WatchIngestionJob(
        self, request: pb.WatchIngestionJobRequest, context: ServicerContext
    ) -> AsyncIterator[pb.WatchIngestionJobResponse]:
        """Follow a job until it has ended."""
        caller = await self._authentication.caller(context)
        async for job in self._ingestion.watch(caller, _job_id(request.job_id)):
            yield pb.WatchIngestionJobResponse(job=job_message(job))

    async def GetDocument(
        self, request: pb.GetDocumentRequest, context: ServicerContext
    ) -> pb.GetDocumentResponse:
        """Read a document."""
        caller = await self._authentication.caller(context)
        document, chunks = await self._documents.get(
            caller,
            _document_id(request.document_id),
            include_content=request.include_content,
            include_chunks=request.include_chunks,
        )
        return pb.GetDocumentResponse(
            document=document_message(document), chunks=[chunk_message(chunk) for chunk in chunks]
        )

    async def ListDocuments(
        self, request: pb.ListDocumentsRequest, context: ServicerContext
    ) -> pb.ListDocumentsResponse:
        """List documents."""
        caller = await self._authentication.caller(context)
        violations = Violations()
        scope = read_scope(violations, request.scope)
        limit = violations.page_size(request.page_size, default=DEFAULT_PAGE_SIZE)
        violations.raise_if_any()
        request_key = f"documents {scope!r}"
        after = decode_page_token(request.page_token, request_key=request_key, kinds=(datetime, UUID))
        page = await self._documents.list(caller, scope, limit=limit, after=after)
        return pb.ListDocumentsResponse(
            documents=[document_message(document) for document in page.items],
            next_page_token=encode_page_token(page.next_position, request_key=request_key),
        )

    async def DeleteDocument(
        self, request: pb.DeleteDocumentRequest, context: ServicerContext
    ) -> pb.DeleteDocumentResponse:
        """Delete a document with its chunks."""
        caller = await self._authentication.caller(context)
        deleted = await self._documents.delete(caller, _document_id(request.document_id))
        return pb.DeleteDocumentResponse(deleted_chunks=deleted)

    async def HybridSearch(
        self, request: pb.HybridSearchRequest, context: ServicerContext
    ) -> pb.HybridSearchResponse:
        """Find passages."""
        caller = await self._authentication.caller(context)
        violations = Violations()
        search = read_search(violations, request)
        violations.raise_if_any()
        return search_message(await self._hybrid_search.search(caller, search))


def _job_id(value: str) -> UUID:
    violations = Violations()
    job_id = violations.uuid("job_id", value)
    violations.raise_if_any()
    return job_id


def _document_id(value: str) -> UUID:
    violations = Violations()
    document_id = violations.uuid("document_id", value)
    violations.raise_if_any()
    return document_id
