"""What tests of documents share: a stub, and taking a document in to the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from memsidecar.embedding.model_files import tokenizer_file
from memsidecar.embedding.tokenization import WordPieceTokenizer
from memsidecar.v1 import documents_pb2 as pb
from memsidecar.v1.documents_pb2_grpc import DocumentServiceStub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    import grpc

    from memsidecar.domain.chunking import WordPieces

    Ingest = Callable[..., Awaitable[pb.IngestionJob]]


@pytest.fixture
def documents(channel: grpc.aio.Channel) -> Any:
    """The service, served for real."""
    return DocumentServiceStub(channel)


async def ended(documents: Any, job_id: str) -> pb.IngestionJob:
    """Follow a job to its end."""
    job = pb.IngestionJob()
    async for message in documents.WatchIngestionJob(pb.WatchIngestionJobRequest(job_id=job_id)):
        job = message.job
    return job


async def stream(*new: pb.NewDocument) -> AsyncIterator[pb.IngestDocumentsRequest]:
    """Documents as the parts of a stream."""
    for document in new:
        yield pb.IngestDocumentsRequest(document=document)


@pytest.fixture
def ingest(documents: Any) -> Ingest:
    """Take one document in and wait: ``await ingest("a.md", b"...", is_global=True)``."""

    async def take_in(document_key: str, content: bytes, **fields: Any) -> pb.IngestionJob:
        if not fields.get("user_id") and "is_global" not in fields:
            fields["is_global"] = True
        request = pb.IngestDocumentRequest(
            document=pb.NewDocument(document_key=document_key, content=content, **fields)
        )
        return await ended(documents, (await documents.IngestDocument(request)).job.job_id)

    return take_in


@pytest.fixture(scope="session")
def word_pieces(model_directory: Path) -> WordPieces:
    """The model's tokenizer."""
    return WordPieceTokenizer(tokenizer_file(model_directory)).offsets
