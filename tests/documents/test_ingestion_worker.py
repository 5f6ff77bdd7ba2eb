"""Any number of workers, killed at any moment, take every document in exactly once."""

from __future__ import annotations

import asyncio
import random
import sys
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from memsidecar.document_reader_process import reader_command
from memsidecar.domain.document_reading import SourceDocument
from memsidecar.domain.documents import DocumentScope, DocumentType
from memsidecar.domain.identifiers import new_uuid7
from memsidecar.domain.ingestion import Ingestion, IngestionStatus, NewDocument
from memsidecar.domain.ingestion_worker import IngestionWorker, LeaseLost
from memsidecar.embedding.model_files import tokenizer_file
from memsidecar.parsing.limits import ReadingLimits
from memsidecar.parsing.process_pool import ReaderProcesses
from memsidecar.parsing.reader import read_document
from memsidecar.postgres.document_store import PostgresDocumentStore
from memsidecar.postgres.ingestion_job_store import PostgresIngestionJobStore
from memsidecar.postgres.ingestion_work_store import PostgresIngestionWorkStore
from tests.documents.pdf_files import pdf

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path
    from uuid import UUID

    from memsidecar.domain.caller import Caller
    from memsidecar.domain.chunking import WordPieces
    from memsidecar.domain.ingestion import IngestionJob
    from memsidecar.embedding.engine import OnnxEmbedder
    from memsidecar.postgres.database import Database
    from tests.conftest import TestDatabase

LEASE = timedelta(seconds=1)


@pytest.fixture
def ingestion(database: Database, embedder: OnnxEmbedder) -> Ingestion:
    return Ingestion(PostgresIngestionJobStore(database), embedder.model, submitted=lambda: None)


@pytest.fixture
def store(database: Database, model_id: int) -> PostgresIngestionWorkStore:
    return PostgresIngestionWorkStore(database, model_id=model_id)


@pytest.fixture
async def worker(
    store: PostgresIngestionWorkStore, embedder: OnnxEmbedder, model_directory: Path
) -> AsyncIterator[IngestionWorker]:
    limits = ReadingLimits()
    readers = ReaderProcesses(reader_command(tokenizer_file(model_directory), limits), limits)
    made = IngestionWorker(store, readers, embedder, lease=LEASE)
    yield made
    await made.stop()
    await readers.close()


def text(number: int, sentences: int = 30) -> bytes:
    return " ".join(
        f"Sentence {part} of document {number} says something." for part in range(sentences)
    ).encode()


def new(key: str, raw: bytes) -> NewDocument:
    return NewDocument(document_key=key, user_id="", raw=raw, is_global=True)


def in_tenant(caller: Caller, tenant_id: UUID) -> Caller:
    return replace(caller, tenant_id=tenant_id)


async def many(ingestion: Ingestion, caller: Caller, *documents: NewDocument) -> IngestionJob:
    async def arriving() -> AsyncIterator[NewDocument]:
        for document in documents:
            yield document

    return await ingestion.submit_many(caller, arriving(), request_id="")


async def finished(ingestion: Ingestion, caller: Caller, job: IngestionJob) -> IngestionJob:
    async with asyncio.timeout(60):
        async for state in ingestion.watch(caller, job.job_id):
            job = state
    return job


async def stored(database: Database, tenant_id: UUID) -> dict[str, list[tuple[Any, ...]]]:
    """Everything that documents are found by, without the ids and times that each run makes anew."""
    async with database.tenant(tenant_id) as connection:
        rows = await connection.fetch(
            """SELECT d.document_key, d.content, d.chunk_count, c.chunk_index, c.content, c.start_char, c.end_char
               FROM documents d LEFT JOIN document_chunks c ON c.tenant_id = d.tenant_id AND c.document_id = d.id
               ORDER BY d.document_key, c.chunk_index"""
        )
    found: dict[str, list[tuple[Any, ...]]] = {}
    for row in rows:
        found.setdefault(row["document_key"], []).append(tuple(row)[1:])
    return found


async def test_killed_workers_leave_the_state_of_an_undisturbed_run(
    ingestion: Ingestion,
    worker: IngestionWorker,
    database: Database,
    new_tenant: Callable[..., Awaitable[UUID]],
    caller: Caller,
    test_database: TestDatabase,
    model_directory: Path,
) -> None:
    chosen = random.Random(3)
    documents = [new(f"{number}.txt", text(number, chosen.randrange(5, 80))) for number in range(40)]
    documents.append(new("bad.txt", b"caf\xe9"))
    job = await many(ingestion, caller, *documents)
    for _ in range(6):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "benchmarks.ingestion_worker_process",
            test_database.app_url,
            str(model_directory),
        )
        await asyncio.sleep(chosen.uniform(1.0, 3.0))
        process.kill()
        await process.wait()
    worker.start()
    job = await finished(ingestion, caller, job)

    assert (job.status, job.processed, job.failed) == (IngestionStatus.PARTIAL, 40, 1)
    assert len(job.errors) == 1
    undisturbed = in_tenant(caller, await new_tenant("undisturbed"))
    await finished(ingestion, undisturbed, await many(ingestion, undisturbed, *documents))
    assert caller.tenant_id is not None
    assert undisturbed.tenant_id is not None
    state = await stored(database, caller.tenant_id)
    assert state == await stored(database, undisturbed.tenant_id)
    assert all(len(chunks) == chunks[0][1] for chunks in state.values())


async def test_a_worker_that_lost_its_lease_stores_nothing(
    ingestion: Ingestion,
    store: PostgresIngestionWorkStore,
    database: Database,
    caller: Caller,
    word_pieces: WordPieces,
) -> None:
    job = await many(ingestion, caller, new("a.txt", text(1)))
    lost = await store.claim(new_uuid7(), timedelta(seconds=0))
    assert lost is not None
    assert lost.job_id == job.job_id
    assert (await store.start(lost, 0)) is not None
    held = await store.claim(new_uuid7(), LEASE)
    assert held is not None
    document = read_document(SourceDocument("a.txt", text(1)), word_pieces)
    with pytest.raises(LeaseLost):
        await store.store(lost, 0, document, [])
    with pytest.raises(LeaseLost):
        await store.fail(lost, 0, "no")
    assert not await store.renew(lost, LEASE)
    assert await store.renew(held, LEASE)
    assert await stored(database, lost.tenant_id) == {}
    assert (await ingestion.get(caller, job.job_id)).processed == 0


async def test_a_job_is_claimed_by_one_worker_only(
    ingestion: Ingestion, store: PostgresIngestionWorkStore, caller: Caller
) -> None:
    for number in range(5):
        await ingestion.submit(caller, new(f"{number}.txt", text(number)), request_id="")
    claimed = await asyncio.gather(*(store.claim(new_uuid7(), LEASE) for _ in range(10)))
    jobs = [held.job_id for held in claimed if held is not None]
    assert len(jobs) == len(set(jobs)) == 5


async def test_tenants_take_turns(
    ingestion: Ingestion,
    store: PostgresIngestionWorkStore,
    caller: Caller,
    new_tenant: Callable[..., Awaitable[UUID]],
) -> None:
    other = in_tenant(caller, await new_tenant("other"))
    for number in range(4):
        await ingestion.submit(caller, new(f"{number}.txt", text(number)), request_id="")
    await ingestion.submit(other, new("late.txt", text(9)), request_id="")
    turns = []
    for _ in range(3):
        held = await store.claim(new_uuid7(), LEASE)
        assert held is not None
        turns.append(held.tenant_id)
    assert turns == [caller.tenant_id, other.tenant_id, caller.tenant_id]


async def test_a_cancelled_job_keeps_what_is_done_and_takes_in_no_more(
    ingestion: Ingestion, worker: IngestionWorker, database: Database, caller: Caller
) -> None:
    job = await many(ingestion, caller, *(new(f"{number}.txt", text(number, 200)) for number in range(60)))
    worker.start()
    async for state in ingestion.watch(caller, job.job_id):
        if state.processed >= 2:
            break
    cancelled = await ingestion.cancel(caller, job.job_id)
    assert cancelled.status is IngestionStatus.PARTIAL
    assert cancelled.cancelled
    assert 2 <= cancelled.processed < 60
    await asyncio.sleep(0.5)
    assert await ingestion.get(caller, job.job_id) == cancelled
    assert caller.tenant_id is not None
    assert len(await stored(database, caller.tenant_id)) == cancelled.processed
    assert await ingestion.cancel(caller, job.job_id) == cancelled


async def test_a_cancelled_job_that_had_not_begun_has_failed(ingestion: Ingestion, caller: Caller) -> None:
    job = await many(ingestion, caller, new("a.txt", text(1)))
    cancelled = await ingestion.cancel(caller, job.job_id)
    assert (cancelled.status, cancelled.cancelled, cancelled.processed) == (IngestionStatus.FAILED, True, 0)


async def test_the_submission_made_last_wins_whatever_is_worked_on_first(
    ingestion: Ingestion,
    worker: IngestionWorker,
    database: Database,
    caller: Caller,
    store: PostgresIngestionWorkStore,
) -> None:
    old = await ingestion.submit(caller, new("a.txt", b"The old text."), request_id="")
    held = await store.claim(new_uuid7(), timedelta(seconds=3))
    assert held is not None
    assert held.job_id == old.job_id
    newer = await ingestion.submit(caller, new("a.txt", b"The new text."), request_id="")
    worker.start()
    assert (await finished(ingestion, caller, newer)).processed == 1
    old = await finished(ingestion, caller, old)
    assert (old.status, old.unchanged) == (IngestionStatus.COMPLETED, 1)
    assert caller.tenant_id is not None
    assert [row[0] for row in (await stored(database, caller.tenant_id))["a.txt"]] == ["The new text."]


async def test_a_document_that_brings_workers_down_is_given_up(
    ingestion: Ingestion, worker: IngestionWorker, database: Database, caller: Caller
) -> None:
    job = await ingestion.submit(caller, new("a.txt", text(1)), request_id="")
    assert caller.tenant_id is not None
    async with database.tenant(caller.tenant_id) as connection:
        await connection.execute("UPDATE ingestion_job_documents SET attempts = 20")
    worker.start()
    job = await finished(ingestion, caller, job)
    assert job.status is IngestionStatus.FAILED
    assert "stopped 20 times" in job.errors[0].error


async def test_a_stream_that_breaks_off_leaves_nothing(
    ingestion: Ingestion, database: Database, caller: Caller
) -> None:
    async def breaking() -> AsyncIterator[NewDocument]:
        for number in range(150):
            yield new(f"{number}.txt", text(number))
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await ingestion.submit_many(caller, breaking(), request_id="")
    assert caller.tenant_id is not None
    async with database.tenant(caller.tenant_id) as connection:
        assert await connection.fetchval("SELECT count(*) FROM ingestion_jobs") == 0
        assert await connection.fetchval("SELECT count(*) FROM ingestion_job_documents") == 0


async def test_a_job_whose_documents_stopped_arriving_is_dropped(
    ingestion: Ingestion, store: PostgresIngestionWorkStore, database: Database, caller: Caller
) -> None:
    jobs = PostgresIngestionJobStore(database)
    assert caller.tenant_id is not None
    await jobs.open(caller.tenant_id, new_uuid7(), requested_by="test", deadline=None)
    assert await store.claim(new_uuid7(), LEASE) is None
    await store.drop_abandoned()
    async with database.tenant(caller.tenant_id) as connection:
        assert await connection.fetchval("SELECT count(*) FROM ingestion_jobs") == 1
        await connection.execute("UPDATE ingestion_jobs SET lease_expires_at = now() - interval '1 second'")
    await store.drop_abandoned()
    async with database.tenant(caller.tenant_id) as connection:
        assert await connection.fetchval("SELECT count(*) FROM ingestion_jobs") == 0


async def test_documents_of_every_type_are_taken_in(
    ingestion: Ingestion, worker: IngestionWorker, database: Database, caller: Caller
) -> None:
    job = await many(
        ingestion,
        caller,
        new("a.md", b"# Heading\n\nText."),
        new("a.html", b"<h1>Heading</h1><p>Text."),
        new("a.pdf", pdf(["Heading", "Text."])),
        new("a.py", b"def heading():\n    return 'Text.'\n"),
        new("a.txt", b"Heading. Text."),
    )
    worker.start()
    assert (await finished(ingestion, caller, job)).status is IngestionStatus.COMPLETED
    assert caller.tenant_id is not None
    page = await PostgresDocumentStore(database).list(
        caller.tenant_id, DocumentScope(whole_tenant=True), limit=10, after=None, deadline=None
    )
    assert {document.document_type for document in page.items} == set(DocumentType)
