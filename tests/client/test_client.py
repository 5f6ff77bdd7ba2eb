"""The client against a running server: what goes in comes out, and what fails says how."""

from __future__ import annotations

import asyncio
import inspect
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import grpc
import pytest

from memsidecar.client import (
    AlreadyExistsError,
    AppendedTurn,
    AsyncMemoryClient,
    ConflictError,
    DocumentScope,
    DocumentType,
    Event,
    FieldViolation,
    HybridOptions,
    IngestionStatus,
    InvalidRequestError,
    MemoryClient,
    MemoryWriteMode,
    MetadataWriteMode,
    NewDocument,
    NewTurn,
    NotFoundError,
    RankingOptions,
    RecallMode,
    RefusedTurn,
    Role,
    Speaker,
    TimePreference,
    TimeRange,
    TurnAction,
    TurnOrder,
    TurnScope,
    UnauthenticatedError,
)
from memsidecar.client.conversation_calls import MAX_BATCH_BYTES, MAX_BATCH_TURNS, batches

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from memsidecar.app import RunningSidecar

AGENT = "018f2b3c-5d6e-7f80-9a1b-2c3d4e5f6071"
MORNING = datetime(2025, 9, 30, 7, 48, tzinfo=UTC)


def turn(content: str, **fields: Any) -> NewTurn:
    return NewTurn(
        **{"agent_id": AGENT, "user_id": "U1", "conversation_id": "C1", "content": content, **fields}
    )


@pytest.fixture
async def client(sidecar: RunningSidecar) -> AsyncIterator[AsyncMemoryClient]:
    async with AsyncMemoryClient(sidecar.address) as open_client:
        yield open_client


async def test_a_turn_comes_back_as_it_went_in(client: AsyncMemoryClient) -> None:
    appended = await client.append(
        turn(
            "The spare key hangs behind the clock.",
            role=Role.ASSISTANT,
            speaker=Speaker("B1", "Quill"),
            occurred_at=MORNING,
            metadata={"channel": {"kind": "support"}, "stars": 4.5, "tags": ["key", None, True]},
            event=Event("slack:T1/C1", "Ev1"),
        )
    )
    assert not appended.repeated
    assert not appended.truncated
    assert appended.model.dimensions == 384
    got = await client.get_turn(appended.turn_id)
    assert got.content == "The spare key hangs behind the clock."
    assert (got.role, got.speaker, got.occurred_at) == (Role.ASSISTANT, Speaker("B1", "Quill"), MORNING)
    assert got.metadata == {"channel": {"kind": "support"}, "stars": 4.5, "tags": ["key", None, True]}
    assert got.event == Event("slack:T1/C1", "Ev1")
    assert (got.action, got.edited_at) == (TurnAction.SAID, None)
    assert got.created_at == appended.created_at


async def test_recall_takes_every_option(client: AsyncMemoryClient) -> None:
    await client.append(turn("The kiln runs at night.", occurred_at=MORNING, metadata={"room": "yard"}))
    await client.append(turn("The kiln was sold.", user_id="U2"))
    recall = await client.recall(
        "when is the kiln on?",
        TurnScope(
            agent_id=AGENT,
            user_id="U1",
            conversation_ids=("C1",),
            roles=(Role.USER,),
            occurred=TimeRange(MORNING, MORNING + timedelta(hours=1)),
            metadata={"room": "yard"},
            speaker_ids=("U1",),
            exclude_turn_ids=(str(uuid4()),),
            exclude_conversation_ids=("C2",),
            as_of=datetime.now(UTC) + timedelta(minutes=1),
        ),
        top_k=5,
        ranking=RankingOptions(vector_weight=1.0, session_gap=timedelta(hours=2)),
        time_preference=TimePreference(half_life=timedelta(days=7)),
        neighbours=1,
        token_budget=1000,
        explain=True,
    )
    [hit] = recall.hits
    assert hit.turn.content == "The kiln runs at night."
    assert 0 < hit.similarity <= 1
    assert {part.name for part in hit.parts}
    assert recall.timings is not None
    assert recall.strategy
    vector = await client.recall("when is the kiln on?", mode=RecallMode.VECTOR, top_k=1)
    assert vector.hits[0].score == pytest.approx(vector.hits[0].similarity)


async def test_edits_and_deletions_are_seen(client: AsyncMemoryClient) -> None:
    said = await client.append(turn("We meet on Monday", event=Event("slack", "E1")))
    await client.append(
        turn(
            "We meet on Tuesday",
            event=Event("slack", "E2"),
            action=TurnAction.EDITED,
            target=Event("slack", "E1"),
        )
    )
    assert (await client.get_turn(said.turn_id)).content == "We meet on Tuesday"
    await client.append(
        turn("", event=Event("slack", "E3"), action=TurnAction.DELETED, target=Event("slack", "E1"))
    )
    assert [each async for each in client.list_turns()] == []
    history = await client.get_turn_history(said.turn_id)
    assert history.deleted
    assert [row.action for row in history.rows] == [TurnAction.SAID, TurnAction.EDITED, TurnAction.DELETED]


async def test_listings_read_every_page(client: AsyncMemoryClient) -> None:
    turns = [
        turn(
            f"number {number}",
            conversation_id=f"C{number % 2}",
            occurred_at=MORNING + timedelta(minutes=number),
        )
        for number in range(5)
    ]
    results = await client.append_many(turns)
    assert all(isinstance(result, AppendedTurn) for result in results)
    oldest_first = client.list_turns(order=TurnOrder.OLDEST_FIRST, page_size=2)
    assert [each.content async for each in oldest_first] == [f"number {number}" for number in range(5)]
    newest_first = client.list_turns(TurnScope(conversation_ids=("C0",)), page_size=2)
    assert [each.content async for each in newest_first] == ["number 4", "number 2", "number 0"]
    conversations = [each async for each in client.list_conversations(page_size=1)]
    assert [(each.conversation_id, each.turn_count) for each in conversations] == [("C0", 3), ("C1", 2)]


async def test_one_refused_turn_leaves_the_others_stored(client: AsyncMemoryClient) -> None:
    await client.append(turn("We meet on Monday", event=Event("slack", "E1")))
    refused, stored = await client.append_many(
        [turn("We meet on Sunday", event=Event("slack", "E1")), turn("Good morning")]
    )
    assert isinstance(refused, RefusedTurn)
    assert refused.reason == "EVENT_CONTENT_DIFFERS"
    assert isinstance(stored, AppendedTurn)


def test_turns_are_cut_into_batches_that_a_call_takes() -> None:
    small = [turn("x") for _ in range(2 * MAX_BATCH_TURNS + 1)]
    assert [len(batch) for batch in batches(small)] == [MAX_BATCH_TURNS, MAX_BATCH_TURNS, 1]
    large = [turn("é" * 30_000) for _ in range(40)]
    cut = list(batches(large))
    assert sum(len(batch) for batch in cut) == 40
    assert all(sum(len(each.content.encode()) for each in batch) <= MAX_BATCH_BYTES for batch in cut)
    assert list(batches([])) == []


async def test_every_bad_field_is_in_the_error(client: AsyncMemoryClient) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await client.append(turn(" ", agent_id="nobody"))
    error = caught.value
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.reason == "INVALID_INPUT"
    assert {violation.field for violation in error.violations} == {"turn.agent_id", "turn.content"}
    assert all(
        isinstance(violation, FieldViolation) and violation.description for violation in error.violations
    )


async def test_each_failure_has_its_exception(client: AsyncMemoryClient) -> None:
    with pytest.raises(NotFoundError):
        await client.get_turn(str(uuid4()))
    await client.append(turn("One", event=Event("slack", "E1")))
    with pytest.raises(AlreadyExistsError) as caught:
        await client.append(turn("Two", event=Event("slack", "E1")))
    assert caught.value.reason == "EVENT_CONTENT_DIFFERS"


async def test_a_moment_without_a_time_zone_is_refused(client: AsyncMemoryClient) -> None:
    with pytest.raises(ValueError, match="has no time zone"):
        await client.append(turn("When?", occurred_at=datetime(2025, 9, 30)))  # noqa: DTZ001
    with pytest.raises(ValueError, match="either a half_life or a window"):
        await client.recall("When?", time_preference=TimePreference())


async def test_user_memory_is_written_read_and_restored(client: AsyncMemoryClient) -> None:
    with pytest.raises(NotFoundError):
        await client.get_user_memory("U1")
    first = await client.upsert_user_memory(
        "U1", memory="Allergic to prawns.", metadata={"team": "yard", "old": 1}
    )
    assert (first.memory.revision, first.repeated) == (1, False)
    second = await client.upsert_user_memory(
        "U1",
        memory="Lives in Ghent.",
        memory_mode=MemoryWriteMode.APPEND,
        metadata={"old": None, "new": [1]},
        expected_revision=1,
    )
    assert second.memory.memory == "Allergic to prawns.\n\nLives in Ghent."
    assert second.memory.metadata == {"team": "yard", "new": [1]}
    with pytest.raises(ConflictError) as caught:
        await client.upsert_user_memory("U1", memory="Late.", expected_revision=1)
    assert caught.value.metadata["current_revision"] == "2"
    replaced = await client.upsert_user_memory("U1", metadata={}, metadata_mode=MetadataWriteMode.REPLACE)
    assert replaced.memory.metadata == {}
    restored = await client.restore_user_memory("U1", 1)
    assert (restored.memory, restored.revision) == ("Allergic to prawns.", 4)
    revisions = [each.revision async for each in client.list_user_memory_revisions("U1", page_size=2)]
    assert revisions == [4, 3, 2, 1]
    assert (await client.get_user_memory("U1")).memory == "Allergic to prawns."
    assert await client.search_user_memory_archive("U1", "food") == ()


async def test_documents_are_taken_in_searched_and_deleted(client: AsyncMemoryClient) -> None:
    text = b"# Handbook\n\n## Keys\n\nThe spare key hangs behind the clock.\n\n## Kiln\n\nThe kiln runs at night.\n"
    job = await client.ingest(
        NewDocument(document_key="handbook.md", content=text, is_global=True, metadata={"shelf": "A"})
    )
    job = await client.wait_for_job(job.job_id)
    assert job.status is IngestionStatus.COMPLETED
    assert await client.get_job(job.job_id) == job
    assert [each.job_id async for each in client.list_jobs(statuses=[IngestionStatus.COMPLETED])] == [
        job.job_id
    ]
    [document_id] = job.document_ids

    found = await client.search(
        "where is the key?",
        DocumentScope(user_id="U1", document_types=(DocumentType.MARKDOWN,), metadata={"shelf": "A"}),
        top_k=1,
        options=HybridOptions(vector_weight=1.0, lexical_weight=1.0),
        explain=True,
        highlight=True,
    )
    [hit] = found.hits
    assert hit.chunk.heading_path[0] == "Handbook"
    document = await client.get_document(document_id, include_content=True)
    assert document.document_type is DocumentType.MARKDOWN
    assert document.content[hit.chunk.start_char : hit.chunk.end_char] == hit.chunk.text
    marked = {hit.chunk.text[span.start_char : span.end_char].lower() for span in hit.highlights}
    assert "key" in marked
    chunks = await client.list_chunks(document_id)
    assert [chunk.chunk_index for chunk in chunks] == list(range(document.chunk_count))
    assert [each.document_key async for each in client.list_documents()] == ["handbook.md"]
    assert await client.delete_document(document_id) == document.chunk_count
    with pytest.raises(NotFoundError):
        await client.get_document(document_id)


async def test_many_documents_and_large_ones_are_one_job(client: AsyncMemoryClient) -> None:
    large = ("The kiln runs at night. " * 50 + "\n\n").encode() * 4_000
    documents = [
        NewDocument(document_key=f"note-{number}.txt", content=b"Good morning", user_id="U1")
        for number in range(3)
    ]
    job = await client.ingest_many(documents)
    statuses = [each.status async for each in client.watch_job(job.job_id)]
    assert statuses[-1] is IngestionStatus.COMPLETED
    assert len(large) > 4 * 1024 * 1024
    too_much = await client.ingest(NewDocument(document_key="large.txt", content=large, user_id="U1"))
    assert too_much.total_documents == 1
    assert (await client.cancel_job(too_much.job_id)).cancelled


async def test_the_server_says_what_it_is(client: AsyncMemoryClient, sidecar: RunningSidecar) -> None:
    assert await client.health()
    assert await client.health("memsidecar.v1.DocumentService")
    with pytest.raises(NotFoundError):
        await client.health("memsidecar.v1.NoSuchService")
    info = await client.server_info()
    assert info.postgres_version == sidecar.facts.postgres_version
    assert info.model.name == "all-MiniLM-L6-v2"
    assert {"append", "recall", "documents", "admin"} <= set(info.rights)


async def test_a_token_is_sent(start_sidecar: Callable[..., Any]) -> None:
    async with start_sidecar(authentication="token") as sidecar:
        async with AsyncMemoryClient(sidecar.address) as nobody:
            with pytest.raises(UnauthenticatedError):
                await nobody.recall("anything")
        async with AsyncMemoryClient(sidecar.address, token="msc_wrong") as stranger:
            with pytest.raises(UnauthenticatedError):
                await stranger.recall("anything")
            assert await stranger.health()


async def test_the_sync_client_does_the_same(sidecar: RunningSidecar) -> None:
    def use() -> None:
        with MemoryClient(sidecar.address) as client:
            first, _second = client.append_many([turn("The kiln runs at night."), turn("Good morning")])
            assert isinstance(first, AppendedTurn)
            assert client.append(turn("Good night", request_id="1")).repeated is False
            assert client.append(turn("Good night", request_id="1")).repeated is True
            assert client.recall("when is the kiln on?", top_k=1).hits[0].turn.turn_id == first.turn_id
            assert len(list(client.list_turns(page_size=2))) == 3
            job = client.ingest(NewDocument(document_key="a.txt", content=b"Hello", user_id="U1"))
            assert client.wait_for_job(job.job_id).status is IngestionStatus.COMPLETED
            assert client.search("hello", DocumentScope(user_id="U1")).hits[0].chunk.text == "Hello"
            assert client.upsert_user_memory("U1", memory="Short.").memory.size_bytes == 6
            with pytest.raises(InvalidRequestError):
                client.recall("")
            assert client.health()

    await asyncio.to_thread(use)


def test_both_clients_have_the_same_calls() -> None:
    def calls(kind: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(method).parameters)
            for name, method in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_")
        }

    assert calls(MemoryClient) == calls(AsyncMemoryClient)
    for name in calls(MemoryClient):
        assert inspect.getdoc(getattr(MemoryClient, name)) == inspect.getdoc(getattr(AsyncMemoryClient, name))
