"""Works on ingestion jobs: reads documents, embeds their passages, stores both in one step.

Any number of workers in any number of processes share the jobs of all tenants. A job is held by a lease; a worker that
dies leaves nothing behind but a lease that runs out, and every document is stored, or recorded as failed, in one
transaction that also counts it. So a document is taken in once, whenever the power goes.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from memsidecar.domain.chunking import context_of, embedded_text
from memsidecar.domain.document_reading import SourceDocument, UnreadableDocument
from memsidecar.domain.embedding import Lane
from memsidecar.domain.errors import DatabaseBusy, DatabaseUnavailable, DomainError, EmbeddingOverloaded
from memsidecar.domain.identifiers import new_uuid7
from memsidecar.domain.observation import UNOBSERVED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence
    from uuid import UUID

    from memsidecar.domain.document_reading import DocumentReader, Passage, ReadDocument
    from memsidecar.domain.embedding import Embedder, Embedding
    from memsidecar.domain.observation import Observer

_LOGGER = logging.getLogger(__name__)

LEASE = timedelta(seconds=15)
"""A lease is renewed three times as often as it runs out: a stalled moment does not lose it."""
SLICE_SECONDS = 20.0
"""How long a worker stays with one job before it looks whether another one waits."""
ATTEMPTS = 20
"""A document is given up when a worker began it so often and never finished: it brings workers down."""
_SHORTEST_REST = 0.1
_LONGEST_REST = 1.0
"""Seconds between looks for work; longer the longer there is none."""
_DROP_EVERY_SECONDS = 60.0
_PASSAGES_AT_ONCE = 32
_REQUESTS_AHEAD = 3
"""Passages are embedded in requests of 32, three of them under way, so that the engine never waits for a document."""


class LeaseLost(Exception):
    """The job was cancelled, or another worker has it: nothing of it may be stored from here."""


@dataclass(frozen=True, slots=True)
class HeldJob:
    """A job this worker holds."""

    tenant_id: UUID
    job_id: UUID
    worker_id: UUID


@dataclass(frozen=True, slots=True)
class Assignment:
    """A document of a held job that nobody has worked on yet, its bytes left out."""

    position: int
    size: int
    """Bytes as sent."""


@dataclass(frozen=True, slots=True)
class StartedDocument:
    """A document being worked on."""

    source: SourceDocument
    attempt: int
    """1 for the first time."""


@dataclass(frozen=True, slots=True)
class FinishedChunk:
    """One passage, ready to be stored."""

    start: int
    end: int
    heading_path: tuple[str, ...]
    page: int
    embedding: Embedding


@dataclass(frozen=True, slots=True)
class IngestionBacklog:
    """What has still to be taken in, over all tenants."""

    open_jobs: int
    oldest_seconds: float
    """How long ago the oldest job that is not done was submitted; 0 when there is none."""


class IngestionWorkStore(Protocol):
    """Where work comes from and results go. Raises the storage errors of ``domain.errors``."""

    async def claim(self, worker_id: UUID, lease: timedelta) -> HeldJob | None:
        """Take a job nobody works on, of whatever tenant."""
        ...

    async def renew(self, job: HeldJob, lease: timedelta) -> bool:
        """Hold a job for longer; False when it is not held any more."""
        ...

    async def release(self, job: HeldJob) -> None:
        """Give a job back, so that any worker may take it at once."""
        ...

    async def assignments(self, job: HeldJob, *, limit: int) -> list[Assignment]:
        """Give documents of the job that are not done, in order."""
        ...

    async def start(self, job: HeldJob, position: int) -> StartedDocument | None:
        """Begin a document; None when it is done, as one whose stored form is of the same recipe is by this call.

        Raises:
            LeaseLost: The job is not held any more.
        """
        ...

    async def store(
        self, job: HeldJob, position: int, document: ReadDocument, chunks: Sequence[FinishedChunk]
    ) -> None:
        """Store a document with its chunks in place of the one of the same key, and count it, in one step.

        Raises:
            LeaseLost: The job is not held any more; nothing was stored.
        """
        ...

    async def fail(self, job: HeldJob, position: int, error: str) -> None:
        """Record why a document is not taken in, and count it, in one step.

        Raises:
            LeaseLost: The job is not held any more; nothing was recorded.
        """
        ...

    async def drop_abandoned(self) -> None:
        """Forget jobs whose documents stopped arriving."""
        ...

    async def backlog(self) -> IngestionBacklog:
        """Tell how much work there is."""
        ...


class IngestionWorker:
    """Works on jobs until it is stopped.

    Args:
        store: Where work comes from and results go.
        reader: Turns bytes into passages.
        embedder: Makes the vectors, in the background lane.
        jobs_at_once: Jobs held at the same time, so that a long one does not hold up the others.
        documents_at_once: Documents of one job under way, so that reading and storing overlap with embedding.
        bytes_at_once: Bytes of documents under way in all; a larger document goes alone.
        lease: How long a job rests after the worker that held it died.
        observer: Is told of every document that is done with.
    """

    def __init__(
        self,
        store: IngestionWorkStore,
        reader: DocumentReader,
        embedder: Embedder,
        *,
        jobs_at_once: int = 3,
        documents_at_once: int = 3,
        bytes_at_once: int = 16 * 1_048_576,
        lease: timedelta = LEASE,
        observer: Observer = UNOBSERVED,
    ) -> None:
        self._observer = observer
        self._store = store
        self._reader = reader
        self._embedder = embedder
        self._lease = lease
        self._jobs_at_once = jobs_at_once
        self._documents_at_once = documents_at_once
        self._bytes = _Allowance(bytes_at_once)
        self._worker_id = new_uuid7()
        self._work_waits = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._next_drop = 0.0

    def start(self) -> None:
        """Begin to work, in tasks of the running event loop."""
        self._tasks = [
            asyncio.create_task(self._work(), name=f"ingestion {n}") for n in range(self._jobs_at_once)
        ]

    async def stop(self) -> None:
        """Leave what is under way to other workers, at once."""
        await _end(self._tasks)
        self._tasks = []

    async def backlog(self) -> IngestionBacklog:
        """Tell how much work there is, for every worker there may be.

        Raises:
            DatabaseUnavailable: The database does not answer.
        """
        return await self._store.backlog()

    def notice(self) -> None:
        """Look for work now rather than at the next look."""
        self._work_waits.set()

    async def _work(self) -> None:
        rest = _SHORTEST_REST
        while True:
            try:
                job = await self._store.claim(self._worker_id, self._lease)
                if job is not None:
                    rest = _SHORTEST_REST
                    await self._work_on(job)
                    continue
                await self._drop_abandoned()
            except (DatabaseUnavailable, DatabaseBusy) as error:
                _LOGGER.warning("ingestion waits for the database: %s", error.message)
                rest = _LONGEST_REST
            except LeaseLost:
                continue
            except Exception:
                _LOGGER.exception("ingestion stumbled and goes on")
                rest = _LONGEST_REST
            self._work_waits.clear()
            try:
                async with asyncio.timeout(rest * random.uniform(0.75, 1.25)):  # noqa: S311 - spreads the looks of many workers
                    await self._work_waits.wait()
            except TimeoutError:
                rest = min(rest * 1.5, _LONGEST_REST)

    async def _drop_abandoned(self) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._next_drop:
            self._next_drop = now + _DROP_EVERY_SECONDS
            await self._store.drop_abandoned()

    async def _work_on(self, job: HeldJob) -> None:
        """Work on a job for a slice of time, or until it is done or not ours any more."""
        work = asyncio.ensure_future(self._run_slice(job))
        heartbeat = asyncio.ensure_future(self._keep(job))
        try:
            await asyncio.wait({work, heartbeat}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise LeaseLost
            await work
        finally:
            await _end((work, heartbeat))
            await asyncio.shield(self._store.release(job))

    async def _keep(self, job: HeldJob) -> None:
        """Hold the job; returns when it is lost."""
        failures = 0
        while failures < 2:
            await asyncio.sleep(self._lease.total_seconds() / 3)
            try:
                if not await self._store.renew(job, self._lease):
                    return
                failures = 0
            except DomainError:
                failures += 1

    async def _run_slice(self, job: HeldJob) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + SLICE_SECONDS
        under_way: dict[int, asyncio.Task[None]] = {}
        try:
            while loop.time() < until:
                limit = 2 * self._documents_at_once
                waiting = [
                    a for a in await self._store.assignments(job, limit=limit) if a.position not in under_way
                ]
                if not waiting and not under_way:
                    return
                for assignment in waiting[: self._documents_at_once - len(under_way)]:
                    task = asyncio.create_task(self._take_in(job, assignment))
                    under_way[assignment.position] = task
                await self._settle(under_way, asyncio.FIRST_COMPLETED)
            await self._settle(under_way, asyncio.ALL_COMPLETED)
        finally:
            await _end(under_way.values())

    @staticmethod
    async def _settle(under_way: dict[int, asyncio.Task[None]], return_when: str) -> None:
        if under_way:
            await asyncio.wait(under_way.values(), return_when=return_when)
        for position, task in tuple(under_way.items()):
            if task.done():
                del under_way[position]
                task.result()

    async def _take_in(self, job: HeldJob, assignment: Assignment) -> None:
        async with self._bytes.take(assignment.size):
            started = await self._store.start(job, assignment.position)
            if started is None:
                self._observer.ingested("unchanged")
                return
            if started.attempt > ATTEMPTS:
                await self._store.fail(
                    job,
                    assignment.position,
                    f"the server was stopped {ATTEMPTS} times while reading it: leave it out",
                )
                self._observer.ingested("failed")
                return
            try:
                document = await self._reader.read(started.source)
            except UnreadableDocument as error:
                await self._store.fail(job, assignment.position, str(error))
                self._observer.ingested("failed")
                return
            del started
            chunks = await self._embedded(document, job.tenant_id)
            await self._store.store(job, assignment.position, document, chunks)
            self._observer.ingested("stored")

    async def _embedded(self, document: ReadDocument, tenant_id: UUID) -> list[FinishedChunk]:
        title = document.title if document.titled else ""

        @lru_cache(maxsize=64)
        def context(heading_path: tuple[str, ...]) -> str:
            return context_of(title, heading_path, self._embedder.token_offsets)

        def texts(passages: Sequence[Passage]) -> list[str]:
            return [
                embedded_text(context(passage.heading_path), document.content[passage.start : passage.end])
                for passage in passages
            ]

        chunks: list[FinishedChunk] = []
        requests: deque[tuple[Sequence[Passage], asyncio.Task[list[Embedding]]]] = deque()
        try:
            for first in range(0, len(document.passages), _PASSAGES_AT_ONCE):
                passages = document.passages[first : first + _PASSAGES_AT_ONCE]
                requests.append((passages, asyncio.create_task(self._embed(texts(passages), tenant_id))))
                if len(requests) == _REQUESTS_AHEAD:
                    chunks += await _finished(*requests.popleft())
            while requests:
                chunks += await _finished(*requests.popleft())
        finally:
            await _end(request for _, request in requests)
        return chunks

    async def _embed(self, texts: Sequence[str], tenant_id: UUID) -> list[Embedding]:
        while True:
            try:
                return await self._embedder.embed(texts, owner=tenant_id, lane=Lane.BACKGROUND)
            except EmbeddingOverloaded as error:
                await asyncio.sleep(error.retry_after.total_seconds())


async def _finished(
    passages: Sequence[Passage], request: asyncio.Task[list[Embedding]]
) -> list[FinishedChunk]:
    return [
        FinishedChunk(passage.start, passage.end, passage.heading_path, passage.page, embedding)
        for passage, embedding in zip(passages, await request, strict=True)
    ]


async def _end(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel what still runs and wait until it has ended."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class _Allowance:
    """A number of bytes that work under way may hold in all; what is larger than all of it goes alone."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._taken = 0
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def take(self, size: int) -> AsyncIterator[None]:
        size = min(size, self._size)
        async with self._changed:
            await self._changed.wait_for(lambda: self._taken + size <= self._size)
            self._taken += size
        try:
            yield
        finally:
            self._taken -= size
            async with self._changed:
                self._changed.notify_all()
