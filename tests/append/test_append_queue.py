"""Appends that arrive together share a commit, and still stand or fall alone."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from memsidecar.domain.append_queue import AppendQueue
from memsidecar.domain.conversation_memory import MANY_TURNS, ConversationMemory
from memsidecar.domain.embedding import Lane
from memsidecar.domain.errors import DeadlineExceeded
from memsidecar.domain.turns import AppendedTurn, NewTurn, Role, TurnScope
from memsidecar.postgres.conversation_store import PostgresConversationStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from memsidecar.domain.caller import Caller
    from memsidecar.domain.embedding import Embedding
    from memsidecar.embedding.engine import OnnxEmbedder
    from memsidecar.postgres.database import Database
    from tests.conftest import TestDatabase

AGENT = UUID("018f2b3c-5d6e-7f80-9a1b-2c3d4e5f6071")


class RecordingStore(PostgresConversationStore):
    """The real store, which also notes what it was asked to write together."""

    def __init__(self, database: Database, *, model_id: int) -> None:
        super().__init__(database, model_id=model_id)
        self.batches: list[tuple[UUID, list[str]]] = []

    async def append(self, tenant_id: UUID, turns: Sequence[NewTurn], *arguments: Any, **options: Any) -> Any:
        self.batches.append((tenant_id, [turn.content for turn in turns]))
        return await super().append(tenant_id, turns, *arguments, **options)


def new_turn(content: str, **fields: Any) -> NewTurn:
    return NewTurn(
        **{
            "agent_id": AGENT,
            "user_id": "U1",
            "conversation_id": "C1",
            "role": Role.USER,
            "content": content,
            "occurred_at": datetime.now(UTC),
            **fields,
        }
    )


@pytest.fixture
def store(database: Database, model_id: int) -> RecordingStore:
    return RecordingStore(database, model_id=model_id)


@pytest.fixture
def queue(store: RecordingStore) -> AppendQueue:
    return AppendQueue(store)


@pytest.fixture
async def embedding(embedder: OnnxEmbedder) -> Embedding:
    return (await embedder.embed(["hello"]))[0]


async def stored(store: RecordingStore, tenant_id: UUID) -> list[str]:
    page = await store.list_turns(
        tenant_id, TurnScope(), newest_first=False, limit=1000, after=None, deadline=None
    )
    return sorted(turn.content for turn in page.items)


async def test_a_lone_call_is_written_at_once(
    queue: AppendQueue, store: RecordingStore, tenant_id: UUID, embedding: Embedding
) -> None:
    [outcome] = await queue.append(
        tenant_id, [new_turn("alone")], [embedding], language="english", deadline=None
    )
    assert isinstance(outcome, AppendedTurn)
    assert await stored(store, tenant_id) == ["alone"]


async def test_calls_that_arrive_while_others_are_written_go_together(
    queue: AppendQueue, store: RecordingStore, tenant_id: UUID, embedding: Embedding
) -> None:
    outcomes = await asyncio.gather(
        *[
            queue.append(
                tenant_id,
                [new_turn(f"call {call}, first"), new_turn(f"call {call}, second")],
                [embedding] * 2,
                language="english",
                deadline=None,
            )
            for call in range(50)
        ]
    )
    turn_ids = {each.turn_id for call in outcomes for each in call if isinstance(each, AppendedTurn)}
    assert len(turn_ids) == 100
    assert len(store.batches) < 10
    assert await stored(store, tenant_id) == sorted(
        f"call {call}, {place}" for call in range(50) for place in ("first", "second")
    )


async def test_each_call_gets_the_answer_for_its_own_rows(
    queue: AppendQueue, store: RecordingStore, tenant_id: UUID, embedding: Embedding
) -> None:
    outcomes = await asyncio.gather(
        *[
            queue.append(tenant_id, [new_turn(f"{call}")], [embedding], language="english", deadline=None)
            for call in range(20)
        ]
    )
    for call, [outcome] in enumerate(outcomes):
        assert isinstance(outcome, AppendedTurn)
        read = await store.get_turn(tenant_id, (), outcome.turn_id, deadline=None)
        assert read is not None
        assert read.content == f"{call}"


async def test_tenants_never_share_a_statement(
    queue: AppendQueue,
    store: RecordingStore,
    new_tenant: Callable[..., Awaitable[UUID]],
    embedding: Embedding,
) -> None:
    tenants = [await new_tenant() for _number in range(3)]
    await asyncio.gather(
        *[
            queue.append(tenant, [new_turn(f"of {tenant}")], [embedding], language="english", deadline=None)
            for tenant in tenants * 10
        ]
    )
    for tenant, contents in store.batches:
        assert set(contents) == {f"of {tenant}"}
    for tenant in tenants:
        assert await stored(store, tenant) == [f"of {tenant}"] * 10


async def test_one_bad_row_fails_alone(
    queue: AppendQueue, store: RecordingStore, tenant_id: UUID, embedding: Embedding
) -> None:
    """The database refuses the user id, which the edge would have refused before."""
    calls = [
        queue.append(
            tenant_id,
            [new_turn(f"{number}", user_id="x" * 300 if number == 7 else "U1")],
            [embedding],
            language="english",
            deadline=None,
        )
        for number in range(20)
    ]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(outcomes[7], asyncpg.CheckViolationError)
    assert [number for number, outcome in enumerate(outcomes) if isinstance(outcome, BaseException)] == [7]
    assert await stored(store, tenant_id) == sorted(f"{number}" for number in range(20) if number != 7)


async def test_rows_of_a_caller_that_left_are_not_written(
    queue: AppendQueue,
    store: RecordingStore,
    tenant_id: UUID,
    embedding: Embedding,
    test_database: TestDatabase,
) -> None:
    blocker = await asyncpg.connect(test_database.owner_url)
    await blocker.execute("BEGIN; LOCK TABLE conversation_embeddings IN ACCESS EXCLUSIVE MODE")
    loop = asyncio.get_running_loop()

    def append(content: str, deadline: float | None = None) -> asyncio.Task[Any]:
        return asyncio.create_task(
            queue.append(tenant_id, [new_turn(content)], [embedding], language="english", deadline=deadline)
        )

    writing = [append("first")]
    await asyncio.sleep(0.1)
    writing.append(append("second"))
    await asyncio.sleep(0.1)
    leaving, late, staying = append("left"), append("late", loop.time() + 0.05), append("stayed")
    await asyncio.sleep(0.1)
    leaving.cancel()
    await blocker.execute("ROLLBACK")
    await blocker.close()
    await asyncio.gather(*writing, staying)
    with pytest.raises(DeadlineExceeded):
        await late
    assert await stored(store, tenant_id) == ["first", "second", "stayed"]


async def test_an_unknown_tenant_is_told_so_to_every_caller(
    queue: AppendQueue, store: RecordingStore, embedding: Embedding
) -> None:
    nobody = uuid4()
    outcomes = await asyncio.gather(
        *[
            queue.append(nobody, [new_turn("x")], [embedding], language="english", deadline=None)
            for _call in range(5)
        ],
        return_exceptions=True,
    )
    assert {type(outcome).__name__ for outcome in outcomes} == {"NotFound"}


async def test_an_import_does_not_embed_before_those_a_person_waits_for(
    store: RecordingStore, caller: Caller, embedder: OnnxEmbedder
) -> None:
    memory = ConversationMemory(store, embedder)
    counted = {lane: embedder.counters(lane).texts for lane in Lane}
    await memory.append(caller, [new_turn(f"imported {number}") for number in range(MANY_TURNS + 1)])
    await memory.append(caller, [new_turn(f"said {number}") for number in range(MANY_TURNS)])
    assert embedder.counters(Lane.BACKGROUND).texts - counted[Lane.BACKGROUND] == MANY_TURNS + 1
    assert embedder.counters(Lane.INTERACTIVE).texts - counted[Lane.INTERACTIVE] == MANY_TURNS
