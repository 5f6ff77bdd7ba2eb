"""Documents go in as jobs and come out as documents and chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict

from memsidecar.v1 import documents_pb2 as pb
from tests.documents.conftest import ended, stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.documents.conftest import Ingest

HANDBOOK = b"""# Travel

Book early: prices double in the last week.

## Refunds

Refunds arrive within ten days of the request. Send the receipt with it.

## Hotels

Choose one of the listed hotels, or ask first.
"""


async def read(documents: Any, document_id: str) -> pb.GetDocumentResponse:
    request = pb.GetDocumentRequest(document_id=document_id, include_content=True, include_chunks=True)
    response: pb.GetDocumentResponse = await documents.GetDocument(request)
    return response


async def test_a_document_is_kept_whole_and_as_chunks(documents: Any, ingest: Ingest) -> None:
    job = await ingest("travel.md", HANDBOOK, user_id="U1", metadata={"team": "sales"})

    assert job.status == pb.INGESTION_STATUS_COMPLETED
    assert (job.total_documents, job.processed_documents, job.progress_percent) == (1, 1, 100.0)
    found = await read(documents, job.document_ids[0])
    assert found.document.title == "Travel"
    assert found.document.document_type == pb.DOCUMENT_TYPE_MARKDOWN
    assert found.document.content.encode() == HANDBOOK
    assert found.document.content_characters == len(HANDBOOK)
    assert found.document.chunk_count == len(found.chunks) > 0
    for index, chunk in enumerate(found.chunks):
        assert chunk.chunk_index == index
        assert chunk.text == found.document.content[chunk.start_char : chunk.end_char]
        assert MessageToDict(chunk.metadata) == {"team": "sales"}


async def test_the_same_content_again_costs_nothing(documents: Any, ingest: Ingest) -> None:
    first = await ingest("travel.md", HANDBOOK, user_id="U1")
    before = await read(documents, first.document_ids[0])
    again = await documents.IngestDocument(
        pb.IngestDocumentRequest(
            document=pb.NewDocument(document_key="travel.md", user_id="U1", content=HANDBOOK)
        )
    )

    assert again.job.status == pb.INGESTION_STATUS_COMPLETED
    assert again.job.unchanged_documents == again.job.processed_documents == 1
    assert list(again.job.document_ids) == list(first.document_ids)
    assert await read(documents, first.document_ids[0]) == before


async def test_new_metadata_reaches_the_chunks_without_embedding_again(
    documents: Any, ingest: Ingest
) -> None:
    first = await ingest("travel.md", HANDBOOK, user_id="U1", metadata={"team": "sales"})
    before = await read(documents, first.document_ids[0])
    again = await ingest("travel.md", HANDBOOK, user_id="U1", metadata={"team": "support"}, language="german")

    assert again.unchanged_documents == 1
    after = await read(documents, first.document_ids[0])
    assert after.document.language == "german"
    assert [chunk.chunk_id for chunk in after.chunks] == [chunk.chunk_id for chunk in before.chunks]
    assert {chunk.metadata["team"] for chunk in after.chunks} == {"support"}


async def test_other_content_replaces_the_document(documents: Any, ingest: Ingest) -> None:
    first = await ingest("travel.md", HANDBOOK, user_id="U1")
    second = await ingest("travel.md", b"# Travel\n\nNobody travels any more.\n", user_id="U1")

    assert list(second.document_ids) == list(first.document_ids)
    found = await read(documents, first.document_ids[0])
    assert "Nobody" in found.document.content
    assert all("Nobody" in chunk.text for chunk in found.chunks)
    assert found.document.chunk_count == len(found.chunks)


async def test_the_same_key_of_two_owners_is_two_documents(documents: Any, ingest: Ingest) -> None:
    await ingest("notes.txt", b"Mine.", user_id="U1")
    await ingest("notes.txt", b"Yours.", user_id="U2")
    await ingest("notes.txt", b"Ours.", is_global=True)

    listed = await documents.ListDocuments(pb.ListDocumentsRequest())
    assert len(listed.documents) == 3


async def test_one_bad_document_fails_alone(documents: Any) -> None:
    submitted = await documents.IngestDocuments(
        stream(
            pb.NewDocument(document_key="good.txt", is_global=True, content=b"All is well."),
            pb.NewDocument(document_key="bad.txt", is_global=True, content=b"caf\xe9"),
            pb.NewDocument(document_key="blank.txt", is_global=True, content=b" \n \n"),
        )
    )
    job = await ended(documents, submitted.job.job_id)

    assert job.status == pb.INGESTION_STATUS_PARTIAL
    assert (job.processed_documents, job.failed_documents, job.progress_percent) == (1, 2, 100.0)
    errors = {error.document: error.error for error in job.errors}
    assert "not UTF-8" in errors["bad.txt"]
    assert "no text" in errors["blank.txt"]
    listed = await documents.ListDocuments(pb.ListDocumentsRequest())
    assert [document.document_key for document in listed.documents] == ["good.txt"]


async def test_a_large_document_arrives_in_parts(documents: Any) -> None:
    sentence = b"The quick brown fox jumps over the lazy dog once more. "

    async def parts() -> AsyncIterator[pb.IngestDocumentsRequest]:
        yield pb.IngestDocumentsRequest(
            document=pb.NewDocument(document_key="fox.txt", is_global=True, content=sentence)
        )
        for _ in range(20):
            yield pb.IngestDocumentsRequest(content=sentence * 10)

    submitted = await documents.IngestDocuments(parts())
    job = await ended(documents, submitted.job.job_id)
    found = await read(documents, job.document_ids[0])
    assert found.document.content.encode() == sentence * 201


async def test_a_request_id_makes_a_repetition_safe(documents: Any) -> None:
    document = pb.NewDocument(document_key="a.txt", is_global=True, content=b"Once.")
    request = pb.IngestDocumentRequest(document=document, request_id="r1")
    first = await documents.IngestDocument(request)
    second = await documents.IngestDocument(request)
    third = await documents.IngestDocuments(
        iter([pb.IngestDocumentsRequest(document=document, request_id="r1")])
    )

    assert first.job.job_id == second.job.job_id == third.job.job_id
    jobs = await documents.ListIngestionJobs(pb.ListIngestionJobsRequest())
    assert len(jobs.jobs) == 1


async def test_a_stream_with_a_bad_document_stores_nothing(documents: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await documents.IngestDocuments(
            stream(
                pb.NewDocument(document_key="a.txt", is_global=True, content=b"Fine."),
                pb.NewDocument(document_key="", content=b"Nobody's."),
            )
        )

    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    jobs = await documents.ListIngestionJobs(pb.ListIngestionJobsRequest())
    assert not jobs.jobs


async def test_deletion_takes_the_chunks(documents: Any, ingest: Ingest) -> None:
    job = await ingest("travel.md", HANDBOOK, user_id="U1")
    chunks = len((await read(documents, job.document_ids[0])).chunks)
    request = pb.DeleteDocumentRequest(document_id=job.document_ids[0])

    assert (await documents.DeleteDocument(request)).deleted_chunks == chunks
    with pytest.raises(grpc.aio.AioRpcError) as missing:
        await documents.DeleteDocument(request)
    assert missing.value.code() == grpc.StatusCode.NOT_FOUND
    found = await documents.HybridSearch(
        pb.HybridSearchRequest(query="refunds", scope=pb.DocumentScope(user_id="U1"))
    )
    assert not found.hits
