"""Jobs that take documents in: submitting, reading, stopping and watching them."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from memsidecar.domain.caller import Right
from memsidecar.domain.chunking import CHUNKING_VERSION
from memsidecar.domain.errors import NotFound, QuotaExceeded
from memsidecar.domain.identifiers import new_uuid7

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from memsidecar.domain.caller import Caller
    from memsidecar.domain.documents import DocumentType
    from memsidecar.domain.embedding import ModelIdentity
    from memsidecar.domain.paging import Page
    from memsidecar.domain.storage_quota import StorageQuota

_BATCH_BYTES = 4 * 1_048_576
_BATCH_DOCUMENTS = 100
"""Documents of a stream are stored whenever so much has arrived."""
_FIRST_LOOK_SECONDS = 0.05
_LONGEST_LOOK_SECONDS = 1.0
"""A watched job is looked at again after this long: soon after a change, later while nothing changes."""


class IngestionStatus(Enum):
    """How far a job is."""

    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    PARTIAL = "partial"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to the job."""
        return self not in {IngestionStatus.QUEUED, IngestionStatus.PROCESSING}


@dataclass(frozen=True, slots=True)
class NewDocument:
    """A document to take in, validated."""

    document_key: str
    user_id: str
    """Empty for a document that belongs to nobody and is global."""
    raw: bytes = field(repr=False)
    is_global: bool = False
    document_type: DocumentType | None = None
    """None to guess."""
    title: str = ""
    """Empty to take the first heading, else the key."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    language: str = ""
    """Text search configuration; empty for the tenant's."""
    occurred_at: datetime | None = None
    """None for the moment it was submitted."""
    refusal: str = ""
    """Why it cannot be taken in, when that is known already; it then fails alone, and its bytes are not kept."""


@dataclass(frozen=True, slots=True)
class QueuedDocument:
    """A document of a job, as the job holds it."""

    document: NewDocument
    raw_sha256: bytes
    recipe_sha256: bytes
    """SHA-256 of everything the chunks are made from; a stored document of the same recipe needs no work."""


@dataclass(frozen=True, slots=True)
class IngestionFailure:
    """Why one document was not taken in."""

    document: str
    """Its key."""
    error: str
    timestamp: datetime


@dataclass(frozen=True, slots=True)
class IngestionJob:
    """A job and how far it is."""

    job_id: UUID
    status: IngestionStatus
    total: int
    processed: int
    """Taken in, those recognised as unchanged included."""
    failed: int
    unchanged: int
    progress_percent: float
    """(processed + failed) / total * 100."""
    errors: tuple[IngestionFailure, ...]
    cancelled: bool
    document_ids: tuple[UUID, ...]
    """Taken in by this job, at most the first 1,000."""
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class IngestionJobStore(Protocol):
    """Where jobs are kept. Every method acts on one tenant and raises the storage errors of ``domain.errors``."""

    async def find_by_request(
        self, tenant_id: UUID, request_id: str, *, deadline: float | None
    ) -> IngestionJob | None:
        """Read the job that a request id made."""
        ...

    async def submit(
        self,
        tenant_id: UUID,
        job_id: UUID,
        document: QueuedDocument,
        *,
        request_id: str,
        requested_by: str,
        deadline: float | None,
    ) -> IngestionJob:
        """Store a job of one document in one step; it has ended already when the document is stored unchanged.

        Gives the earlier job when the request id, if it is not empty, is known.
        """
        ...

    async def open(self, tenant_id: UUID, job_id: UUID, *, requested_by: str, deadline: float | None) -> None:
        """Begin a job whose documents arrive one by one; nobody sees it until it is closed."""
        ...

    async def add(
        self, tenant_id: UUID, job_id: UUID, documents: Sequence[QueuedDocument], *, deadline: float | None
    ) -> None:
        """Store more documents of an open job."""
        ...

    async def close(
        self, tenant_id: UUID, job_id: UUID, *, request_id: str, deadline: float | None
    ) -> IngestionJob:
        """Make an open job one that is worked on.

        Gives the earlier job, and drops this one, when the request id, if it is not empty, is known.
        """
        ...

    async def drop(self, tenant_id: UUID, job_id: UUID) -> None:
        """Forget an open job with its documents."""
        ...

    async def get(self, tenant_id: UUID, job_id: UUID, *, deadline: float | None) -> IngestionJob | None:
        """Read a job."""
        ...

    async def list(
        self,
        tenant_id: UUID,
        statuses: Sequence[IngestionStatus],
        *,
        limit: int,
        after: tuple[datetime, UUID] | None,
        deadline: float | None,
    ) -> Page[IngestionJob]:
        """Read jobs of these statuses (none for all), newest first; ``after`` is of the last one read."""
        ...

    async def cancel(self, tenant_id: UUID, job_id: UUID, *, deadline: float | None) -> IngestionJob | None:
        """End a job now; documents that are not done are not taken in. Nothing happens to a job that has ended."""
        ...


class Ingestion:
    """Submits and follows jobs for callers.

    Args:
        store: Where jobs are kept.
        model: The model whose vectors chunks get.
        submitted: Called after a job was stored, so that a worker in this process need not wait to notice.
        storage_quota: Keeps tenants within their limits; None has none.
    """

    def __init__(
        self,
        store: IngestionJobStore,
        model: ModelIdentity,
        *,
        submitted: Callable[[], None],
        storage_quota: StorageQuota | None = None,
    ) -> None:
        self._store = store
        self._model = model
        self._submitted = submitted
        self._storage_quota = storage_quota

    async def submit(self, caller: Caller, document: NewDocument, *, request_id: str) -> IngestionJob:
        """Store a job for one document.

        Raises:
            PermissionDenied: The credential lacks ``documents``.
            QuotaExceeded: The tenant may not store so much.
        """
        tenant_id = caller.tenant(Right.DOCUMENTS)
        try:
            await self._make_room(caller, document)
        except QuotaExceeded:
            # A repetition needs no room.
            earlier = await self._earlier(caller, tenant_id, request_id)
            if earlier is None:
                raise
            return earlier
        job = await self._store.submit(
            tenant_id,
            new_uuid7(),
            self._queued(caller, document),
            request_id=request_id,
            requested_by=caller.name,
            deadline=caller.deadline,
        )
        self._submitted()
        return job

    async def submit_many(
        self, caller: Caller, documents: AsyncIterator[NewDocument], *, request_id: str
    ) -> IngestionJob:
        """Store a job for documents that arrive one by one. Nothing is kept when they do not all arrive.

        Raises:
            PermissionDenied: The credential lacks ``documents``.
            QuotaExceeded: The tenant may not store so much.
        """
        tenant_id = caller.tenant(Right.DOCUMENTS)
        earlier = await self._earlier(caller, tenant_id, request_id)
        if earlier is not None:
            return earlier
        job_id = new_uuid7()
        await self._store.open(tenant_id, job_id, requested_by=caller.name, deadline=caller.deadline)
        try:
            await self._receive(caller, tenant_id, job_id, documents)
            job = await self._store.close(tenant_id, job_id, request_id=request_id, deadline=caller.deadline)
        except BaseException:
            await asyncio.shield(self._store.drop(tenant_id, job_id))
            raise
        self._submitted()
        return job

    async def _receive(
        self, caller: Caller, tenant_id: UUID, job_id: UUID, documents: AsyncIterator[NewDocument]
    ) -> None:
        batch: list[QueuedDocument] = []
        size = 0
        async for document in documents:
            await self._make_room(caller, document)
            batch.append(self._queued(caller, document))
            size += len(document.raw)
            if size >= _BATCH_BYTES or len(batch) >= _BATCH_DOCUMENTS:
                await self._store.add(tenant_id, job_id, batch, deadline=caller.deadline)
                batch, size = [], 0
        if batch:
            await self._store.add(tenant_id, job_id, batch, deadline=caller.deadline)

    async def _make_room(self, caller: Caller, document: NewDocument) -> None:
        if self._storage_quota is not None:
            await self._storage_quota.add_document_bytes(caller, len(document.raw))

    async def _earlier(self, caller: Caller, tenant_id: UUID, request_id: str) -> IngestionJob | None:
        if not request_id:
            return None
        return await self._store.find_by_request(tenant_id, request_id, deadline=caller.deadline)

    def _queued(self, caller: Caller, document: NewDocument) -> QueuedDocument:
        raw_sha256 = hashlib.sha256(document.raw).digest()
        recipe = [
            CHUNKING_VERSION,
            self._model.sha256,
            self._model.precision,
            document.document_type.value if document.document_type else "",
            document.title,
            raw_sha256.hex(),
        ]
        return QueuedDocument(
            document=replace(document, language=document.language or caller.language),
            raw_sha256=raw_sha256,
            recipe_sha256=hashlib.sha256(json.dumps(recipe).encode()).digest(),
        )

    async def get(self, caller: Caller, job_id: UUID) -> IngestionJob:
        """Read a job.

        Raises:
            NotFound: No such job for this caller.
            PermissionDenied: The credential lacks ``documents``.
        """
        tenant_id = caller.tenant(Right.DOCUMENTS)
        return _found(await self._store.get(tenant_id, job_id, deadline=caller.deadline))

    async def list(
        self,
        caller: Caller,
        statuses: Sequence[IngestionStatus],
        *,
        limit: int,
        after: tuple[datetime, UUID] | None,
    ) -> Page[IngestionJob]:
        """Read jobs, newest first.

        Raises:
            PermissionDenied: The credential lacks ``documents``.
        """
        tenant_id = caller.tenant(Right.DOCUMENTS)
        return await self._store.list(tenant_id, statuses, limit=limit, after=after, deadline=caller.deadline)

    async def cancel(self, caller: Caller, job_id: UUID) -> IngestionJob:
        """End a job now; documents that are done stay. A job that has ended stays as it is.

        Raises:
            NotFound: No such job for this caller.
            PermissionDenied: The credential lacks ``documents``.
        """
        tenant_id = caller.tenant(Right.DOCUMENTS)
        return _found(await self._store.cancel(tenant_id, job_id, deadline=caller.deadline))

    async def watch(self, caller: Caller, job_id: UUID) -> AsyncIterator[IngestionJob]:
        """Give the job at once and after every change, whichever replica works on it, until it has ended.

        The job is looked at, not listened to: LISTEN does not work through PgBouncer.

        Raises:
            NotFound: No such job for this caller.
            PermissionDenied: The credential lacks ``documents``.
        """
        seen: IngestionJob | None = None
        delay = _FIRST_LOOK_SECONDS
        while True:
            job = await self.get(caller, job_id)
            if job != seen:
                yield job
                seen, delay = job, _FIRST_LOOK_SECONDS
            if job.status.ended:
                return
            await asyncio.sleep(delay)
            delay = min(delay * 2, _LONGEST_LOOK_SECONDS)


def _found(job: IngestionJob | None) -> IngestionJob:
    if job is None:
        raise NotFound("there is no such ingestion job")
    return job
