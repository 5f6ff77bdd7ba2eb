"""The client for asynchronous code."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self, TypeVar

import grpc

from memsidecar.client import conversation_calls, document_calls, server_calls, user_memory_calls
from memsidecar.client.channels import (
    BATCH_TIMEOUT_SECONDS,
    CHANNEL_OPTIONS,
    DEFAULT_ADDRESS,
    DEFAULT_TIMEOUT_SECONDS,
    JOB_TIMEOUT_SECONDS,
    call_metadata,
)
from memsidecar.client.errors import MemoryServiceError, UnavailableError, error_of
from memsidecar.client.retries import Attempts, RetryPolicy
from memsidecar.client.turns import RecallMode, TurnOrder
from memsidecar.client.user_memory import MemoryWriteMode, MetadataWriteMode
from memsidecar.v1.documents_pb2_grpc import DocumentServiceStub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
    from types import TracebackType

    from memsidecar.client.calls import Call, Page
    from memsidecar.client.documents import (
        Document,
        DocumentChunk,
        DocumentScope,
        DocumentSearch,
        HybridOptions,
        IngestionJob,
        IngestionStatus,
        NewDocument,
    )
    from memsidecar.client.server import ServerInfo
    from memsidecar.client.turns import (
        AppendedTurn,
        Conversation,
        NewTurn,
        RankingOptions,
        Recall,
        RefusedTurn,
        TimePreference,
        Turn,
        TurnHistory,
        TurnScope,
    )
    from memsidecar.client.user_memory import ArchivedParagraph, UserMemory, UserMemoryWrite

R = TypeVar("R")
T = TypeVar("T")


class AsyncMemoryClient:
    """Talks to a memsidecar, from one event loop. The same calls as ``MemoryClient``.

    Every call ends by its deadline, and raises a ``MemoryServiceError`` when it fails. Calls that are safe to
    repeat are repeated when the server cannot be reached or is overloaded; writes are made safe to repeat by
    an id that is made for them.

    Args:
        address: ``host:port`` or ``unix:/path/to.sock``.
        token: Secret of an API token; None for a server without authentication.
        credentials: TLS, from ``grpc.ssl_channel_credentials``; None talks in the clear.
        timeout_seconds: Deadline of calls that are not given one, retries included.
        retries: How often and how patiently calls are repeated.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        token: str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        retries: RetryPolicy | None = None,
    ) -> None:
        self._metadata = call_metadata(token)
        self._timeout_seconds = timeout_seconds
        self._retries = retries or RetryPolicy()
        self._address = address
        self._credentials = credentials
        self._open_channel: grpc.aio.Channel | None = None

    async def close(self) -> None:
        """Close the connection."""
        if self._open_channel is not None:
            await self._open_channel.close()
            self._open_channel = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # What was said

    async def append(self, turn: NewTurn, *, timeout_seconds: float | None = None) -> AppendedTurn:
        """Store one turn, or an edit or deletion of one; on return it is durable and can be recalled."""
        return await self._run(conversation_calls.append(turn), timeout_seconds)

    async def append_many(
        self, turns: Iterable[NewTurn], *, timeout_seconds: float = BATCH_TIMEOUT_SECONDS
    ) -> list[AppendedTurn | RefusedTurn]:
        """Store many turns, in as many calls as it takes; each turn stands or falls alone.

        Args:
            turns: Any number of them.
            timeout_seconds: Deadline of each call.

        Returns:
            One result for each turn, in their order.

        Raises:
            MemoryServiceError: A call failed; the turns of the calls before it are stored.
        """
        results: list[AppendedTurn | RefusedTurn] = []
        for batch in conversation_calls.batches(turns):
            answers = await self._run(conversation_calls.append_many(batch), timeout_seconds)
            results.extend(answers)
        return results

    async def recall(
        self,
        query: str,
        scope: TurnScope | None = None,
        *,
        top_k: int = 10,
        mode: RecallMode = RecallMode.FUSED,
        ranking: RankingOptions | None = None,
        time_preference: TimePreference | None = None,
        neighbours: int = 0,
        token_budget: int = 0,
        explain: bool = False,
        timeout_seconds: float | None = None,
    ) -> Recall:
        """Find what matters for a query among the turns of a scope, best first.

        Args:
            query: What to look for, in natural language.
            scope: Where to look; None is everything the credential allows.
            top_k: How many hits, 1 to 200.
            mode: How to find and order.
            ranking: Weights of the fused order.
            time_preference: Soft preference for time.
            neighbours: Turns before and after each hit to return with it, 0 to 10 each way.
            token_budget: Upper limit of word pieces of everything returned; 0 for none.
            explain: Return the parts of each score, and timings.
            timeout_seconds: Deadline; None takes the client's.
        """
        call = conversation_calls.recall(
            query,
            scope,
            top_k=top_k,
            mode=mode,
            ranking=ranking,
            time_preference=time_preference,
            neighbours=neighbours,
            token_budget=token_budget,
            explain=explain,
        )
        return await self._run(call, timeout_seconds)

    def list_turns(
        self,
        scope: TurnScope | None = None,
        *,
        order: TurnOrder = TurnOrder.NEWEST_FIRST,
        page_size: int = 100,
    ) -> AsyncIterator[Turn]:
        """Read every turn of a scope, page by page as they are asked for."""
        return self._items(lambda token: conversation_calls.list_turns(scope, order, page_size, token))

    async def get_turn(self, turn_id: str) -> Turn:
        """Read one turn in its latest state."""
        return await self._run(conversation_calls.get_turn(turn_id))

    async def get_turn_history(self, turn_id: str) -> TurnHistory:
        """Read everything that happened to one turn."""
        return await self._run(conversation_calls.turn_history(turn_id))

    def list_conversations(
        self, scope: TurnScope | None = None, *, page_size: int = 100
    ) -> AsyncIterator[Conversation]:
        """Read every conversation of a scope, the most recently active first."""
        return self._items(lambda token: conversation_calls.list_conversations(scope, page_size, token))

    # What is known about a user

    async def upsert_user_memory(
        self,
        user_id: str,
        *,
        agent_id: str = "",
        memory: str | None = None,
        memory_mode: MemoryWriteMode = MemoryWriteMode.REPLACE,
        metadata: Mapping[str, Any] | None = None,
        metadata_mode: MetadataWriteMode = MetadataWriteMode.MERGE,
        expected_revision: int | None = None,
        request_id: str = "",
    ) -> UserMemoryWrite:
        """Write the memory of a user; the revision it replaces is kept.

        Args:
            user_id: The user.
            agent_id: The agent whose memory of the user it is; empty for the one all agents share.
            memory: The text; None leaves it as it is.
            memory_mode: How the text is written.
            metadata: The object; None leaves it as it is.
            metadata_mode: How the object is written.
            expected_revision: Write only if this is the current revision, 0 for "only if there is none yet".
            request_id: Makes a repetition safe. Default: one is made.

        Raises:
            ConflictError: ``expected_revision`` is not the current one.
        """
        call = user_memory_calls.upsert(
            user_id,
            agent_id=agent_id,
            memory=memory,
            memory_mode=memory_mode,
            metadata=metadata,
            metadata_mode=metadata_mode,
            expected_revision=expected_revision,
            request_id=request_id,
        )
        return await self._run(call)

    async def get_user_memory(self, user_id: str, *, agent_id: str = "") -> UserMemory:
        """Read the memory of a user. Raises ``NotFoundError`` when nothing was written yet."""
        return await self._run(user_memory_calls.get(user_id, agent_id))

    def list_user_memory_revisions(
        self, user_id: str, *, agent_id: str = "", page_size: int = 20
    ) -> AsyncIterator[UserMemory]:
        """Read every revision, newest first."""
        return self._items(
            lambda token: user_memory_calls.list_revisions(user_id, agent_id, page_size, token)
        )

    async def restore_user_memory(
        self, user_id: str, revision: int, *, agent_id: str = "", expected_revision: int | None = None
    ) -> UserMemory:
        """Make an earlier revision the current one, as a new revision."""
        return await self._run(
            user_memory_calls.restore(
                user_id, revision, agent_id=agent_id, expected_revision=expected_revision
            )
        )

    async def search_user_memory_archive(
        self, user_id: str, query: str, *, agent_id: str = "", top_k: int = 10
    ) -> tuple[ArchivedParagraph, ...]:
        """Search the paragraphs that outgrew a memory."""
        return await self._run(
            user_memory_calls.search_archive(user_id, query, agent_id=agent_id, top_k=top_k)
        )

    # Documents

    async def ingest(
        self,
        document: NewDocument,
        *,
        request_id: str = "",
        timeout_seconds: float = BATCH_TIMEOUT_SECONDS,
    ) -> IngestionJob:
        """Hand in a document, and get the job that takes it in; see ``wait_for_job``."""
        return await self._run(document_calls.ingest(document, request_id), timeout_seconds)

    async def ingest_many(
        self,
        documents: Sequence[NewDocument],
        *,
        request_id: str = "",
        timeout_seconds: float = BATCH_TIMEOUT_SECONDS,
    ) -> IngestionJob:
        """Hand in many documents as one job."""
        return await self._run(document_calls.ingest_many(documents, request_id), timeout_seconds)

    async def watch_job(
        self, job_id: str, *, timeout_seconds: float = JOB_TIMEOUT_SECONDS
    ) -> AsyncIterator[IngestionJob]:
        """Give a job as it is now and after every change, until it has ended."""
        attempts = Attempts(self._retries, timeout_seconds=timeout_seconds)
        request = document_calls.watch_job(job_id)
        while True:
            try:
                async for response in DocumentServiceStub(self._channel).WatchIngestionJob(
                    request, timeout=attempts.remaining_seconds, metadata=self._metadata
                ):
                    attempts.progressed()
                    job = document_calls.read_job(response.job)
                    yield job
                    if job.status.ended:
                        return
                failure: MemoryServiceError = UnavailableError(
                    "the server ended the stream before the job ended"
                )
            except grpc.aio.AioRpcError as error:
                failure = error_of(error)
            await asyncio.sleep(attempts.delay_after(failure))

    async def wait_for_job(
        self, job_id: str, *, timeout_seconds: float = JOB_TIMEOUT_SECONDS
    ) -> IngestionJob:
        """Wait until a job has ended, well or badly.

        Raises:
            DeadlineExceededError: It did not end in time; it goes on.
        """
        return [job async for job in self.watch_job(job_id, timeout_seconds=timeout_seconds)][-1]

    async def get_job(self, job_id: str) -> IngestionJob:
        """Read a job."""
        return await self._run(document_calls.get_job(job_id))

    def list_jobs(
        self, *, statuses: Sequence[IngestionStatus] = (), page_size: int = 20
    ) -> AsyncIterator[IngestionJob]:
        """Read jobs, newest first."""
        return self._items(lambda token: document_calls.list_jobs(statuses, page_size, token))

    async def cancel_job(self, job_id: str) -> IngestionJob:
        """Stop a job: what is done stays."""
        return await self._run(document_calls.cancel_job(job_id))

    async def search(
        self,
        query: str,
        scope: DocumentScope | None = None,
        *,
        top_k: int = 10,
        options: HybridOptions | None = None,
        group_by_document: bool = False,
        neighbours: int = 0,
        explain: bool = False,
        highlight: bool = False,
        timeout_seconds: float | None = None,
    ) -> DocumentSearch:
        """Find passages of documents by meaning and by word at once, best first.

        Args:
            query: Natural language; ``"exact words"`` must stand together, ``-word`` must not occur.
            scope: Where to look.
            top_k: How many hits, 1 to 200.
            options: Weights.
            group_by_document: At most one hit per document, with its others inside it.
            neighbours: Chunks before and after each hit to return with it, 0 to 5 each way.
            explain: Return the parts of each score, and timings.
            highlight: Say where the query's words are.
            timeout_seconds: Deadline; None takes the client's.
        """
        call = document_calls.search(
            query,
            scope,
            top_k=top_k,
            options=options,
            group_by_document=group_by_document,
            neighbours=neighbours,
            explain=explain,
            highlight=highlight,
        )
        return await self._run(call, timeout_seconds)

    async def get_document(self, document_id: str, *, include_content: bool = False) -> Document:
        """Read a document."""
        return await self._run(document_calls.get_document(document_id, include_content=include_content))

    async def list_chunks(self, document_id: str) -> tuple[DocumentChunk, ...]:
        """Read every chunk of a document, in order."""
        return await self._run(document_calls.list_chunks(document_id))

    def list_documents(
        self, scope: DocumentScope | None = None, *, page_size: int = 100
    ) -> AsyncIterator[Document]:
        """Read every document of a scope, newest first, without content."""
        return self._items(lambda token: document_calls.list_documents(scope, page_size, token))

    async def delete_document(self, document_id: str) -> int:
        """Delete a document, and give the number of chunks that went with it."""
        return await self._run(document_calls.delete_document(document_id))

    # The server itself

    async def health(self, service: str = "") -> bool:
        """Say whether the server, or one of its services by full name, is serving."""
        return await self._run(server_calls.health(service))

    async def server_info(self) -> ServerInfo:
        """Read version, model, database versions, tenant and rights."""
        return await self._run(server_calls.server_info())

    @property
    def _channel(self) -> grpc.aio.Channel:
        # Made by the first call, because a channel belongs to the event loop that runs when it is made.
        if self._open_channel is None:
            if self._credentials is None:
                self._open_channel = grpc.aio.insecure_channel(self._address, options=CHANNEL_OPTIONS)
            else:
                self._open_channel = grpc.aio.secure_channel(
                    self._address, self._credentials, options=CHANNEL_OPTIONS
                )
        return self._open_channel

    async def _run(self, call: Call[R], timeout_seconds: float | None = None) -> R:
        attempts = Attempts(
            self._retries,
            timeout_seconds=self._timeout_seconds if timeout_seconds is None else timeout_seconds,
            safe_to_repeat=call.safe_to_repeat,
        )
        method = getattr(call.service(self._channel), call.method)
        while True:
            try:
                response = await method(
                    call.payload(), timeout=attempts.remaining_seconds, metadata=self._metadata
                )
            except grpc.aio.AioRpcError as error:
                await asyncio.sleep(attempts.delay_after(error_of(error)))
            else:
                return call.read(response)

    async def _items(self, page_call: Callable[[str], Call[Page[T]]]) -> AsyncIterator[T]:
        page = await self._run(page_call(""))
        for item in page.items:
            yield item
        while page.next_page_token:
            page = await self._run(page_call(page.next_page_token))
            for item in page.items:
                yield item
