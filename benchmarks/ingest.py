"""Ingestion: how close to the model's own speed, in how much memory, and whether kills leave a trace.

Rate: chunks a second from submitting a job to its end, server, Postgres and readers on the same processors, against the
same engine embedding the same chunks and nothing else. Memory: what the server and its readers hold while one large
document goes in. Kills: workers are killed at random moments while a job of many documents goes in; what is stored in
the end must be what an undisturbed job stores.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import psutil

from benchmarks.document_corpus import Corpus
from memsidecar.app import run_sidecar
from memsidecar.config import Config
from memsidecar.domain.caller import TENANT_RIGHTS, Caller
from memsidecar.domain.chunking import context_of, embedded_text
from memsidecar.domain.document_reading import SourceDocument
from memsidecar.domain.embedding import Lane
from memsidecar.domain.errors import EmbeddingOverloaded
from memsidecar.domain.identifiers import new_uuid7
from memsidecar.domain.ingestion import Ingestion, NewDocument
from memsidecar.domain.tenants import TenantSettings
from memsidecar.embedding.engine import OnnxEmbedder
from memsidecar.embedding.install import install_model
from memsidecar.embedding.model_files import Precision, open_installed
from memsidecar.parsing.reader import read_document
from memsidecar.postgres.database import Database
from memsidecar.postgres.embedded import temporary_postgres
from memsidecar.postgres.embedded.urls import APP, ERASER
from memsidecar.postgres.ingestion_job_store import PostgresIngestionJobStore
from memsidecar.postgres.migrations import migrate
from memsidecar.postgres.tenant_store import PostgresTenantStore
from memsidecar.v1 import documents_pb2 as pb
from memsidecar.v1.documents_pb2_grpc import DocumentServiceStub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from uuid import UUID

    from benchmarks.options import Options
    from memsidecar.postgres.embedded import DatabaseUrls

PART_BYTES = 1_048_576
REQUEST_TEXTS = 32
REQUESTS_AT_ONCE = 8
"""Enough that the engine never waits for the loop that feeds it."""
STATE = """
    SELECT document.document_key, md5(document.content) AS content, document.chunk_count, chunk.chunk_index,
           chunk.start_char, chunk.end_char, md5(chunk.content) AS chunk
    FROM documents AS document
    LEFT JOIN document_chunks AS chunk
        ON chunk.tenant_id = document.tenant_id AND chunk.document_id = document.id
    ORDER BY 1, 4
"""


def made_up_documents(count: int, sections: int, *, seed: int = 1) -> Iterator[tuple[str, bytes]]:
    """Give Markdown files of 1 to ``sections`` sections of one to three chunks."""
    chosen = random.Random(seed)
    chunks = (chunk.text for chunk in Corpus(tenants=1, chunks=count * sections * 2, seed=seed).chunks())
    for number in range(count):
        parts = [f"# Document {number}"]
        for section in range(chosen.randint(1, sections)):
            parts.append(f"## Section {section}")
            parts += [next(chunks) for _ in range(chosen.randint(1, 2))]
        yield f"document-{number}.md", "\n\n".join(parts).encode()


async def _ended(stub: Any, job: pb.IngestionJob) -> pb.IngestionJob:
    async for message in stub.WatchIngestionJob(pb.WatchIngestionJobRequest(job_id=job.job_id)):
        job = message.job
    if job.status != pb.INGESTION_STATUS_COMPLETED:
        raise RuntimeError(f"{job.failed_documents} documents failed: {job.errors[:3]}")
    return job


async def _raw_rate(embedder: OnnxEmbedder, texts: Sequence[str]) -> float:
    """Chunks a second when the engine has nothing else to do."""
    free = asyncio.Semaphore(REQUESTS_AT_ONCE)

    async def embed(some: Sequence[str]) -> None:
        async with free:
            while True:
                try:
                    await embedder.embed(some, lane=Lane.BACKGROUND)
                except EmbeddingOverloaded as error:
                    await asyncio.sleep(error.retry_after.total_seconds())
                else:
                    return

    started = time.perf_counter()
    await asyncio.gather(
        *(embed(texts[first : first + REQUEST_TEXTS]) for first in range(0, len(texts), REQUEST_TEXTS))
    )
    return len(texts) / (time.perf_counter() - started)


async def _rate(config: Config, documents: Sequence[tuple[str, bytes]], rounds: int) -> dict[str, Any]:
    embedder = OnnxEmbedder(
        open_installed(config.model_directory, Precision(config.model_precision)), cached_texts=0
    )
    texts = []
    for key, raw in documents:
        document = read_document(SourceDocument(key, raw), embedder.token_offsets)
        for passage in document.passages:
            context = context_of(document.title, passage.heading_path, embedder.token_offsets)
            texts.append(embedded_text(context, document.content[passage.start : passage.end]))
    raw_rates, rates = [await _raw_rate(embedder, texts)], []
    try:
        async with (
            run_sidecar(config, embedder) as sidecar,
            grpc.aio.insecure_channel(sidecar.address) as channel,
        ):
            stub = DocumentServiceStub(channel)
            for number in range(rounds):
                started = time.perf_counter()
                job = (await stub.IngestDocuments(_stream(documents, user_id=f"round {number}"))).job
                await _ended(stub, job)
                rates.append(len(texts) / (time.perf_counter() - started))
                raw_rates.append(await _raw_rate(embedder, texts))
    finally:
        await embedder.close()
    ratios = [rate / ((raw_rates[n] + raw_rates[n + 1]) / 2) for n, rate in enumerate(rates)]
    return {
        "documents": len(documents),
        "chunks": len(texts),
        "raw_chunks_per_second": round(max(raw_rates), 1),
        "ingested_chunks_per_second": round(max(rates), 1),
        "ratio": round(max(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
    }


async def _stream(
    documents: Sequence[tuple[str, bytes]], *, user_id: str
) -> AsyncIterator[pb.IngestDocumentsRequest]:
    for key, raw in documents:
        document = pb.NewDocument(document_key=key, user_id=user_id, content=raw[:PART_BYTES])
        yield pb.IngestDocumentsRequest(document=document)
        for first in range(PART_BYTES, len(raw), PART_BYTES):
            yield pb.IngestDocumentsRequest(content=raw[first : first + PART_BYTES])


@asynccontextmanager
async def _served(config: Config) -> AsyncIterator[tuple[psutil.Process, Any]]:
    """Run ``memsidecar serve`` in a process of its own, on a database that is there already."""
    with tempfile.TemporaryDirectory(prefix="memsidecar-benchmark-") as folder:
        address = f"unix:{folder}/sidecar.sock"
        environment = {
            **os.environ,
            "DATABASE_URL": config.database_url or "",
            "MEMSIDECAR_LISTEN": address,
            "MEMSIDECAR_DATA_DIRECTORY": folder,
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "memsidecar", "serve", env=environment, stdout=asyncio.subprocess.DEVNULL
        )
        try:
            async with grpc.aio.insecure_channel(address) as channel:
                async with asyncio.timeout(60):
                    await channel.channel_ready()
                yield psutil.Process(process.pid), DocumentServiceStub(channel)
        finally:
            process.terminate()
            await process.wait()


def _resident(process: psutil.Process) -> tuple[int, int]:
    """Bytes in memory of the server, and of its readers."""
    readers = 0
    for child in process.children(recursive=True):
        try:
            readers += child.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return process.memory_info().rss, readers


async def _memory(config: Config, megabytes: int) -> dict[str, Any]:
    text = "\n\n".join(chunk.text for chunk in Corpus(tenants=1, chunks=megabytes * 1_500).chunks())
    raw = text.encode()[: megabytes * 1_000_000]
    async with _served(config) as (process, stub):
        small = (await stub.IngestDocuments(_stream([("small.txt", b"A few words.")], user_id="memory"))).job
        await _ended(stub, small)
        before = _resident(process)
        most = [0, 0]
        started = time.perf_counter()
        submitted = asyncio.create_task(_submit_and_wait(stub, raw))
        while not submitted.done():
            now = _resident(process)
            most = [max(most[0], now[0]), max(most[1], now[1])]
            await asyncio.sleep(0.1)
        await submitted
    return {
        "document_mb": round(len(raw) / 1e6, 1),
        "seconds": round(time.perf_counter() - started, 1),
        "server_before_mb": round(before[0] / 1e6),
        "server_most_mb": round(most[0] / 1e6),
        "readers_most_mb": round(most[1] / 1e6),
    }


async def _submit_and_wait(stub: Any, raw: bytes) -> None:
    await _ended(stub, (await stub.IngestDocuments(_stream([("large.txt", raw)], user_id="memory"))).job)


async def _state(database: Database, tenant_id: UUID) -> tuple[int, str]:
    """How many chunks a tenant has, and a digest of all that is stored of its documents."""
    async with database.tenant(tenant_id) as connection:
        rows = [tuple(row) for row in await connection.fetch(STATE)]
    return len(rows), hashlib.sha256(repr(rows).encode()).hexdigest()


async def _kills(
    urls: DatabaseUrls, config: Config, documents: Sequence[tuple[str, bytes]], kills: int
) -> dict[str, Any]:
    chosen = random.Random(5)
    database = await Database.connect(urls.app_url, max_connections=10)
    embedder = OnnxEmbedder(open_installed(config.model_directory, Precision.INT8))
    ingestion = Ingestion(PostgresIngestionJobStore(database), embedder.model, submitted=lambda: None)

    async def submitted(name: str) -> tuple[Caller, UUID]:
        tenant = await PostgresTenantStore(database).create(
            new_uuid7(), name, TenantSettings(), deadline=None
        )
        caller = Caller(name="benchmark", rights=TENANT_RIGHTS, tenant_id=tenant.tenant_id)

        async def arriving() -> AsyncIterator[NewDocument]:
            for key, raw in documents:
                yield NewDocument(document_key=key, user_id="", raw=raw, is_global=True)

        job = await ingestion.submit_many(caller, arriving(), request_id="")
        return caller, job.job_id

    command = [
        sys.executable,
        "-m",
        "benchmarks.ingestion_worker_process",
        urls.app_url,
        str(config.model_directory),
    ]
    caller, job_id = await submitted("killed")
    in_the_middle = 0
    started = time.perf_counter()
    for _ in range(kills):
        worker = await asyncio.create_subprocess_exec(*command)
        await asyncio.sleep(chosen.uniform(1.5, 5))
        worker.kill()
        await worker.wait()
        in_the_middle += not (await ingestion.get(caller, job_id)).status.ended
    undisturbed, other_id = await submitted("undisturbed")
    worker = await asyncio.create_subprocess_exec(*command)
    try:
        for who, job in ((caller, job_id), (undisturbed, other_id)):
            async for state in ingestion.watch(who, job):
                last = state
            if last.processed != len(documents):
                raise RuntimeError(
                    f"{last.processed} of {len(documents)} documents were taken in: {last.errors[:3]}"
                )
    finally:
        worker.kill()
        await worker.wait()
    states = [
        await _state(database, who.tenant_id) for who in (caller, undisturbed) if who.tenant_id is not None
    ]
    await embedder.close()
    await database.close()
    return {
        "documents": len(documents),
        "chunks": states[1][0],
        "kills": kills,
        "kills_while_working": in_the_middle,
        "same_state": states[0] == states[1],
        "seconds": round(time.perf_counter() - started, 1),
    }


async def _measure(options: Options) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    async with temporary_postgres() as postgres:
        urls = postgres.urls
        await migrate(urls.owner_url, app_login=APP, eraser_login=ERASER)
        config = Config.from_environment(
            None, database_url=urls.app_url, owner_database_url=urls.owner_url, listen="127.0.0.1:0"
        )
        install_model(config.model_directory)
        parts = options.extra or ("rate", "memory", "kills")
        if "rate" in parts:
            documents = list(made_up_documents(40 if options.quick else 150, 12))
            figures["rate"] = await _rate(config, documents, 1 if options.quick else 3)
        if "memory" in parts:
            figures["memory"] = await _memory(config, 1 if options.quick else 20)
        if "kills" in parts:
            documents = list(made_up_documents(30 if options.quick else 200, 20))
            figures["kills"] = await _kills(urls, config, documents, 5 if options.quick else 50)
    return figures


def run(options: Options) -> dict[str, Any]:
    """Measure and print the tables; ``rate``, ``memory`` or ``kills`` after the options measures that alone."""
    figures = asyncio.run(_measure(options))
    for name, row in figures.items():
        print(name)
        for label, value in row.items():
            print(f"  {label.replace('_', ' '):<30}{value}")
    return figures
