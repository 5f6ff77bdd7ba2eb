"""Retries, edits and deletions: what counts as the same event, and where a changed turn stands."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from memsidecar.domain.errors import EventContentDiffers, InvalidInput
from memsidecar.domain.recall import RecallRequest
from memsidecar.domain.turns import AppendedTurn, Role, Speaker, TimeRange, TurnScope
from memsidecar.postgres.conversation_store import PostgresConversationStore
from memsidecar.postgres.database import Database
from tests.lifecycle.turn_events import MORNING, deleted, edited, event, said

if TYPE_CHECKING:
    from memsidecar.domain.caller import Caller
    from memsidecar.domain.conversation_memory import ConversationMemory
    from memsidecar.domain.recall_engine import RecallEngine
    from memsidecar.domain.turns import NewTurn, Turn
    from memsidecar.embedding.engine import OnnxEmbedder
    from tests.conftest import TestDatabase

OTHER_AGENT = UUID("018f2b3c-5d6e-7f80-9a1b-2c3d4e5f6072")


@pytest.fixture
def log(caller: Caller, conversation_memory: ConversationMemory) -> Log:
    return Log(caller, conversation_memory)


class Log:
    """Appends and lists, in few words."""

    def __init__(self, caller: Caller, memory: ConversationMemory) -> None:
        self._caller = caller
        self._memory = memory

    async def append(self, turn: NewTurn) -> AppendedTurn:
        [outcome] = await self._memory.append(self._caller, [turn])
        if isinstance(outcome, AppendedTurn):
            return outcome
        raise outcome

    async def listed(self, **scope: Any) -> list[Turn]:
        page = await self._memory.list_turns(
            self._caller, TurnScope(**scope), newest_first=False, limit=100, after=None
        )
        return list(page.items)

    async def contents(self, **scope: Any) -> list[str]:
        return [turn.content for turn in await self.listed(**scope)]

    async def history(self, turn_id: UUID) -> list[str]:
        return [turn.content for turn in await self._memory.turn_history(self._caller, turn_id)]


async def test_a_hundred_identical_calls_from_two_replicas_make_one_row(
    log: Log,
    caller: Caller,
    conversation_memory: ConversationMemory,
    test_database: TestDatabase,
    embedder: OnnxEmbedder,
    model_id: int,
) -> None:
    other_pool = await Database.connect(test_database.app_url, max_connections=10)
    other = type(conversation_memory)(PostgresConversationStore(other_pool, model_id=model_id), embedder)
    replicas = [log, Log(caller, other)]
    answers = await asyncio.gather(*(replicas[number % 2].append(said("ann")) for number in range(100)))
    await other_pool.close()
    assert len({answer.turn_id for answer in answers}) == 1
    assert sum(not answer.repeated for answer in answers) == 1
    assert await log.contents() == ["let us meet at noon"]


@pytest.mark.parametrize(
    "other",
    [
        {"content": "let us meet at one"},
        {"role": Role.ASSISTANT},
        {"conversation_id": "dinner"},
        {"speaker": Speaker("bob", "Ann")},
    ],
    ids=lambda other: next(iter(other)),
)
async def test_the_same_event_with_other_content_is_refused(log: Log, other: dict[str, Any]) -> None:
    first = await log.append(said("ann"))
    with pytest.raises(EventContentDiffers) as refused:
        await log.append(said("ann", **other))
    assert refused.value.metadata == {"turn_id": str(first.turn_id)}
    assert await log.contents() == ["let us meet at noon"]


@pytest.mark.parametrize(
    "delivery",
    [
        {"occurred_at": MORNING + timedelta(minutes=1)},
        {"metadata": {"retry": 2}},
        {"speaker": Speaker("ann", "Ann (out of office)")},
    ],
    ids=lambda delivery: next(iter(delivery)),
)
async def test_what_differs_between_deliveries_is_still_the_same_event(
    log: Log, delivery: dict[str, Any]
) -> None:
    first = await log.append(said("ann"))
    again = await log.append(said("ann", **delivery))
    assert again.repeated
    assert again.turn_id == first.turn_id
    [turn] = await log.listed()
    assert (turn.occurred_at, turn.metadata, turn.speaker.display_name) == (MORNING, {}, "Ann")


async def test_an_event_of_one_kind_is_not_repeated_as_another(log: Log) -> None:
    await log.append(said("ann"))
    edit = edited("ann", "2-edit", "let us meet at one", seconds=10)
    await log.append(edit)
    for other in (
        replace(edit, content="let us meet at two"),
        replace(edit, target=event("another turn")),
        said("ann", event=event("2-edit"), content="let us meet at one"),
        deleted("ann", seconds=10, event=event("2-edit")),
        deleted("ann", seconds=10, event=event("1-said"), target=event("2-edit")),
    ):
        with pytest.raises(EventContentDiffers):
            await log.append(other)
    assert await log.contents() == ["let us meet at one"]


async def test_the_same_event_is_another_turn_for_another_user_or_agent(log: Log) -> None:
    turns = [said("ann"), said("bob"), said("ann", agent_id=OTHER_AGENT)]
    answers = [await log.append(turn) for turn in turns]
    assert not any(answer.repeated for answer in answers)
    await log.append(deleted("bob", seconds=5))
    assert {(turn.user_id, turn.agent_id) for turn in await log.listed()} == {
        ("ann", turns[0].agent_id),
        ("ann", OTHER_AGENT),
    }


async def test_an_edit_of_an_edit_is_refused(log: Log) -> None:
    await log.append(said("ann"))
    await log.append(edited("ann", "2-edit", "let us meet at one", seconds=10))
    with pytest.raises(InvalidInput) as refused:
        await log.append(edited("ann", "3-edit", "at two", seconds=20, target=event("2-edit")))
    assert [violation.field for violation in refused.value.violations] == ["turn.target"]
    assert await log.contents() == ["let us meet at one"]


async def test_changes_without_an_event_of_their_own_are_applied(log: Log) -> None:
    await log.append(said("ann"))
    await log.append(edited("ann", "", "let us meet at one", seconds=10, event=None))
    await log.append(edited("ann", "", "let us meet at two", seconds=20, event=None))
    assert await log.contents() == ["let us meet at two"]
    await log.append(deleted("ann", seconds=30, event=None))
    assert await log.contents() == []


async def test_filters_look_at_the_place_of_the_turn(
    log: Log, caller: Caller, recall_engine: RecallEngine
) -> None:
    await log.append(edited("ann", "2-edit", "let us meet at one", seconds=7200))
    await log.append(said("ann"))
    first_hour = TimeRange(MORNING, MORNING + timedelta(hours=1))
    for scope in (
        {"occurred": first_hour},
        {"conversation_ids": ("lunch",)},
        {"roles": (Role.USER,)},
        {"speaker_ids": ("ann",)},
        {"metadata": {"edit": "2-edit"}},
    ):
        assert await log.contents(**scope) == ["let us meet at one"]
        recall = await recall_engine.recall(caller, RecallRequest("when?", TurnScope(**scope)))
        assert [hit.turn.content for hit in recall.hits] == ["let us meet at one"]
    for scope in (
        {"occurred": TimeRange(start=MORNING + timedelta(hours=1))},
        {"conversation_ids": ("thread of 2-edit",)},
        {"roles": (Role.TOOL,)},
        {"speaker_ids": ("someone else",)},
    ):
        assert await log.contents(**scope) == []


async def test_an_edited_turn_is_left_out_by_its_own_id(log: Log) -> None:
    original = await log.append(said("ann"))
    await log.append(edited("ann", "2-edit", "let us meet at one", seconds=10))
    assert await log.contents(exclude_turn_ids=(original.turn_id,)) == []


async def test_the_past_is_seen_as_it_stood(
    log: Log, caller: Caller, conversation_memory: ConversationMemory, recall_engine: RecallEngine
) -> None:
    seen = [datetime.now(UTC)]
    for turn in (
        edited("ann", "2-edit", "let us meet at one", seconds=10),
        said("ann"),
        edited("ann", "3-edit", "let us meet at two", seconds=20),
        deleted("ann", seconds=30),
    ):
        await log.append(turn)
        seen.append(datetime.now(UTC))
        await asyncio.sleep(0.002)
    stood = [
        [(turn.content, turn.conversation_id) for turn in await log.listed(as_of=moment)] for moment in seen
    ]
    assert stood == [
        [],
        [("let us meet at one", "thread of 2-edit")],
        [("let us meet at one", "lunch")],
        [("let us meet at two", "lunch")],
        [],
    ]
    recall = await recall_engine.recall(caller, RecallRequest("when?", TurnScope(as_of=seen[2])))
    assert [hit.turn.content for hit in recall.hits] == ["let us meet at one"]
    conversations = await conversation_memory.list_conversations(
        caller, TurnScope(as_of=seen[1]), limit=10, after=None
    )
    assert [(found.conversation_id, found.turn_count) for found in conversations.items] == [
        ("thread of 2-edit", 1)
    ]


async def test_history_tells_everything_once_in_order(log: Log) -> None:
    await log.append(edited("ann", "3-edit", "let us meet at two", seconds=20))
    await log.append(deleted("ann", seconds=30))
    await log.append(edited("ann", "2-edit", "let us meet at one", seconds=10))
    original = await log.append(said("ann"))
    assert await log.history(original.turn_id) == [
        "let us meet at noon",
        "let us meet at one",
        "let us meet at two",
        "",
    ]


async def test_a_deleted_turn_is_gone_from_its_conversation(
    log: Log, caller: Caller, conversation_memory: ConversationMemory
) -> None:
    await log.append(said("ann"))
    await log.append(said("ann", event=event("another"), content="and bring the plans"))
    await log.append(deleted("ann", seconds=10))
    page = await conversation_memory.list_conversations(caller, TurnScope(), limit=10, after=None)
    assert [(found.conversation_id, found.turn_count) for found in page.items] == [("lunch", 1)]
