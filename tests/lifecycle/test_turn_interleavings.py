"""Whatever happens to a turn, in whatever order it arrives and however often, ends in the one right state."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import pytest

from memsidecar.domain.errors import NotFound
from memsidecar.domain.recall import RecallRequest
from memsidecar.domain.turns import TurnScope
from tests.lifecycle.turn_events import events, expected, standing

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from uuid import UUID

    from memsidecar.domain.caller import Caller
    from memsidecar.domain.conversation_memory import ConversationMemory
    from memsidecar.domain.recall_engine import RecallEngine
    from memsidecar.domain.turns import AppendedTurn, NewTurn, Turn

CREATE_EDIT_DELETE = "CEFD"
EDITS_OF_ONE_SECOND = "CFG"
MOST_EVENTS = 5


def interleavings(first: str, alphabet: str) -> list[str]:
    """Every sequence of one to five events that starts with ``first``; a letter that comes again is a retry."""
    return [
        first + "".join(rest)
        for length in range(MOST_EVENTS)
        for rest in itertools.product(alphabet, repeat=length)
    ]


async def for_each(sequences: list[str], check: Callable[[str], Coroutine[None, None, None]]) -> None:
    """Check sequences, eight at a time."""
    waiting = iter(sequences)

    async def work() -> None:
        for sequence in waiting:
            await check(sequence)

    async with asyncio.TaskGroup() as group:
        for _worker in range(8):
            group.create_task(work())


class Reader:
    """Looks at a user's one turn by every way there is."""

    def __init__(self, caller: Caller, memory: ConversationMemory, engine: RecallEngine) -> None:
        self._caller = caller
        self._memory = memory
        self._engine = engine

    async def append(self, turns: Iterable[NewTurn]) -> list[AppendedTurn]:
        outcomes = await self._memory.append(self._caller, list(turns))
        errors = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        assert not errors
        return [outcome for outcome in outcomes if not isinstance(outcome, Exception)]

    async def check(self, user_id: str, arrived: Iterable[str], rows: dict[str, UUID]) -> None:
        """Listing, recall, reading by the id of a row, and history must all tell the same right story."""
        listed = await self._listed(user_id)
        wanted = expected(user_id, arrived)
        assert [standing(turn) for turn in listed] == ([] if wanted is None else [wanted])
        if wanted is not None and "C" in rows:
            assert listed[0].turn_id == rows["C"]
        recall = await self._engine.recall(
            self._caller, RecallRequest("when do we meet?", TurnScope(user_id=user_id))
        )
        assert [hit.turn for hit in recall.hits] == listed
        any_row = list(rows.values())[len(user_id) % len(rows)]
        assert await self._read(any_row) == listed
        history = await self._memory.turn_history(self._caller, any_row)
        assert sorted(turn.turn_id for turn in history) == sorted(rows.values())

    async def _listed(self, user_id: str) -> list[Turn]:
        page = await self._memory.list_turns(
            self._caller, TurnScope(user_id=user_id), newest_first=True, limit=10, after=None
        )
        return list(page.items)

    async def _read(self, turn_id: UUID) -> list[Turn]:
        try:
            return [await self._memory.get_turn(self._caller, turn_id)]
        except NotFound:
            return []


@pytest.fixture
def reader(caller: Caller, conversation_memory: ConversationMemory, recall_engine: RecallEngine) -> Reader:
    return Reader(caller, conversation_memory, recall_engine)


@pytest.mark.parametrize("first", CREATE_EDIT_DELETE)
async def test_one_call_after_the_other(reader: Reader, first: str) -> None:
    async def check(sequence: str) -> None:
        given = events(sequence, CREATE_EDIT_DELETE)
        rows: dict[str, UUID] = {}
        for letter in sequence:
            [appended] = await reader.append([given[letter]])
            assert appended.repeated == (letter in rows)
            assert rows.setdefault(letter, appended.turn_id) == appended.turn_id
        await reader.check(sequence, sequence, rows)

    await for_each(interleavings(first, CREATE_EDIT_DELETE), check)


@pytest.mark.parametrize("first", CREATE_EDIT_DELETE)
async def test_all_in_one_batch(reader: Reader, first: str) -> None:
    async def check(sequence: str) -> None:
        given = events(sequence, CREATE_EDIT_DELETE)
        appended = await reader.append(given[letter] for letter in sequence)
        rows = {letter: row.turn_id for letter, row in zip(sequence, appended, strict=True)}
        assert sum(not row.repeated for row in appended) == len(rows)
        await reader.check(sequence, sequence, rows)

    await for_each(interleavings(first, CREATE_EDIT_DELETE), check)


@pytest.mark.parametrize("attempt", range(4))
async def test_all_at_the_same_moment(reader: Reader, attempt: int) -> None:
    async def check(sequence: str) -> None:
        user_id = f"{sequence} {attempt}"
        given = events(user_id, CREATE_EDIT_DELETE)
        answers = await asyncio.gather(*(reader.append([given[letter]]) for letter in sequence))
        rows = {letter: row.turn_id for letter, [row] in zip(sequence, answers, strict=True)}
        assert sum(not row.repeated for [row] in answers) == len(rows)
        await reader.check(user_id, sequence, rows)

    together = ["".join(sorted(sequence)) for first in "CEFD" for sequence in interleavings(first, "CEFD")]
    await for_each(sorted(set(together)), check)


@pytest.mark.parametrize("first", EDITS_OF_ONE_SECOND)
async def test_edits_of_the_same_moment_have_one_order(reader: Reader, first: str) -> None:
    async def check(sequence: str) -> None:
        given = events(sequence, EDITS_OF_ONE_SECOND)
        rows = {}
        for letter in sequence:
            [appended] = await reader.append([given[letter]])
            rows[letter] = appended.turn_id
        await reader.check(sequence, sequence, rows)

    await for_each(interleavings(first, EDITS_OF_ONE_SECOND), check)
