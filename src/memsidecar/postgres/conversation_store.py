"""Turns in Postgres: appending and reading. Implements ``domain.conversation_memory.ConversationStore``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

from memsidecar.domain.errors import (
    DatabaseUnavailable,
    DomainError,
    EventContentDiffers,
    FieldViolation,
    InvalidInput,
)
from memsidecar.domain.identifiers import new_uuid7
from memsidecar.domain.paging import Page
from memsidecar.domain.turns import AppendedTurn, Conversation, Event, TurnAction
from memsidecar.postgres.locks import turns_lock
from memsidecar.postgres.queries import load_queries
from memsidecar.postgres.turn_rows import event_from_row, scope_parameters, turn_from_row

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import asyncpg

    from memsidecar.domain.embedding import Embedding
    from memsidecar.domain.turns import NewTurn, Turn, TurnScope
    from memsidecar.postgres.database import Connection, Database
    from memsidecar.postgres.locks import AdvisoryLock

_QUERIES = load_queries("conversation_memory")
_NO_EVENT = Event(source="", event_id="")


class PostgresConversationStore:
    """Keeps turns in ``conversation_embeddings``."""

    def __init__(self, database: Database, *, model_id: int) -> None:
        self._database = database
        self._model_id = model_id

    async def append(
        self,
        tenant_id: UUID,
        turns: Sequence[NewTurn],
        embeddings: Sequence[Embedding],
        *,
        language: str,
        deadline: float | None,
    ) -> list[AppendedTurn | DomainError]:
        """Store rows in one transaction; see the port.

        What was said goes in with one statement, three round trips in all; an edit or a deletion with one of its own.
        """
        said = [index for index, turn in enumerate(turns) if turn.action is TurnAction.SAID]
        changes = [index for index, turn in enumerate(turns) if turn.action is not TurnAction.SAID]
        answers: dict[int, asyncpg.Record] = {}
        async with self._database.tenant(
            tenant_id, deadline=deadline, locks=_locks(tenant_id, turns)
        ) as connection:
            if said:
                answers |= await self._append_said(
                    connection, tenant_id, turns, embeddings, said=said, language=language
                )
            for index in changes:
                answers[index] = await self._append_change(
                    connection, tenant_id, turns[index], embeddings[index], language
                )
        return [_outcome(answers.get(index), embedding) for index, embedding in enumerate(embeddings)]

    async def _append_said(
        self,
        connection: Connection,
        tenant_id: UUID,
        turns: Sequence[NewTurn],
        embeddings: Sequence[Embedding],
        *,
        said: Sequence[int],
        language: str,
    ) -> dict[int, asyncpg.Record]:
        columns = _columns([turns[index] for index in said], [embeddings[index] for index in said])
        rows = await connection.fetch(_QUERIES["append_turns"], tenant_id, self._model_id, language, *columns)
        answers = {said[row["position"] - 1]: row for row in rows}
        missing = [index for index in said if index not in answers]
        if missing:
            answers |= await _find_events(connection, tenant_id, turns, missing)
        for row in rows:
            if row["changed"]:
                await connection.execute(_QUERIES["settle_turn"], tenant_id, row["id"], new_uuid7())
        return answers

    async def _append_change(
        self, connection: Connection, tenant_id: UUID, turn: NewTurn, embedding: Embedding, language: str
    ) -> asyncpg.Record:
        event, target = turn.event or _NO_EVENT, turn.target or _NO_EVENT
        row = await connection.fetchrow(
            _QUERIES["append_change"],
            tenant_id,
            self._model_id,
            language,
            new_uuid7(),
            turn.agent_id,
            turn.user_id,
            turn.conversation_id,
            turn.role.value,
            turn.speaker.speaker_id,
            turn.speaker.display_name,
            turn.action.value,
            event.source or None,
            event.event_id or None,
            target.source,
            target.event_id,
            turn.content,
            json.dumps(dict(turn.metadata)),
            turn.occurred_at,
            embedding.token_count,
            embedding.truncated,
            embedding.vector,
        )
        if row["settle"]:
            await connection.execute(_QUERIES["settle_turn"], tenant_id, row["id"], new_uuid7())
        return row

    async def all_stored(self, tenant_id: UUID, turns: Sequence[NewTurn], *, deadline: float | None) -> bool:
        """Look for events; see the port."""
        if any(turn.event is None for turn in turns):
            return False
        async with self._database.tenant(tenant_id, deadline=deadline) as connection:
            found = await _find_events(connection, tenant_id, turns, range(len(turns)))
        return len(found) == len(turns)

    async def list_turns(
        self,
        tenant_id: UUID,
        scope: TurnScope,
        *,
        newest_first: bool,
        limit: int,
        after: tuple[datetime, UUID] | None,
        deadline: float | None,
    ) -> Page[Turn]:
        """Read visible turns; see the port."""
        query = "list_turns_newest_first" if newest_first else "list_turns_oldest_first"
        async with self._database.tenant(tenant_id, deadline=deadline) as connection:
            rows = await connection.fetch(
                _QUERIES[query], tenant_id, *scope_parameters(scope), *(after or (None, None)), limit + 1
            )
        turns = tuple(turn_from_row(row) for row in rows[:limit])
        more = len(rows) > limit
        return Page(turns, (turns[-1].occurred_at, turns[-1].turn_id) if more else None)

    async def turn_history(
        self, tenant_id: UUID, agent_ids: Sequence[UUID], turn_id: UUID, *, deadline: float | None
    ) -> list[Turn]:
        """Read every row of a turn; see the port."""
        rows = await self._turn_rows(tenant_id, agent_ids, turn_id, deadline)
        return [event_from_row(row) for row in rows if not row["repeats"]]

    async def get_turn(
        self, tenant_id: UUID, agent_ids: Sequence[UUID], turn_id: UUID, *, deadline: float | None
    ) -> Turn | None:
        """Read the latest state of a turn; see the port."""
        rows = await self._turn_rows(tenant_id, agent_ids, turn_id, deadline)
        return next((turn_from_row(row) for row in rows if row["standing"]), None)

    async def _turn_rows(
        self, tenant_id: UUID, agent_ids: Sequence[UUID], turn_id: UUID, deadline: float | None
    ) -> list[asyncpg.Record]:
        async with self._database.tenant(tenant_id, deadline=deadline) as connection:
            return list(await connection.fetch(_QUERIES["turn_rows"], tenant_id, turn_id, list(agent_ids)))

    async def list_conversations(
        self,
        tenant_id: UUID,
        scope: TurnScope,
        *,
        limit: int,
        after: tuple[datetime, UUID, str, str] | None,
        deadline: float | None,
    ) -> Page[Conversation]:
        """Read conversations; see the port."""
        position = after or (None, None, None, None)
        async with self._database.tenant(tenant_id, deadline=deadline) as connection:
            rows = await connection.fetch(
                _QUERIES["list_conversations"], tenant_id, *scope_parameters(scope), *position, limit + 1
            )
        conversations = tuple(
            Conversation(
                UUID(int=row["agent_id"].int),
                row["user_id"],
                row["conversation_id"],
                row["turn_count"],
                row["first_occurred_at"],
                row["last_occurred_at"],
            )
            for row in rows[:limit]
        )
        if len(rows) <= limit:
            return Page(conversations, None)
        last = conversations[-1]
        return Page(
            conversations,
            (last.last_occurred_at, last.agent_id, last.user_id, last.conversation_id),
        )


def _locks(tenant_id: UUID, turns: Sequence[NewTurn]) -> list[AdvisoryLock]:
    """Lock the memories that are written to: those who say something share, an edit or a deletion has it alone."""
    return [
        turns_lock(tenant_id, turn.agent_id, turn.user_id, shared=turn.action is TurnAction.SAID)
        for turn in turns
    ]


def _columns(turns: Sequence[NewTurn], embeddings: Sequence[Embedding]) -> list[list[Any]]:
    rows = [
        (
            new_uuid7(),
            turn.agent_id,
            turn.user_id,
            turn.conversation_id,
            turn.role.value,
            turn.speaker.speaker_id,
            turn.speaker.display_name,
            turn.event.source if turn.event else None,
            turn.event.event_id if turn.event else None,
            turn.content,
            json.dumps(dict(turn.metadata)),
            turn.occurred_at,
            embedding.token_count,
            embedding.truncated,
            embedding.vector,
        )
        for turn, embedding in zip(turns, embeddings, strict=True)
    ]
    return [list(column) for column in zip(*rows, strict=True)]


async def _find_events(
    connection: Connection, tenant_id: UUID, turns: Sequence[NewTurn], missing: Sequence[int]
) -> dict[int, asyncpg.Record]:
    rows = [
        (
            index,
            turns[index].agent_id,
            turns[index].user_id,
            (turns[index].event or _NO_EVENT).source,
            (turns[index].event or _NO_EVENT).event_id,
            turns[index].conversation_id,
            turns[index].role.value,
            turns[index].speaker.speaker_id,
            turns[index].content,
        )
        for index in missing
    ]
    columns = [list(column) for column in zip(*rows, strict=True)]
    found = await connection.fetch(_QUERIES["find_events"], tenant_id, *columns)
    return {row["position"]: row for row in found}


def _outcome(row: asyncpg.Record | None, embedding: Embedding) -> AppendedTurn | DomainError:
    if row is None:
        return DatabaseUnavailable("the turn was erased while it was being repeated: send it again")
    if row.get("wrong_target"):
        return InvalidInput(
            [FieldViolation("turn.target", "names an edit or a deletion: name the event that was said first")]
        )
    if not row["same"]:
        return EventContentDiffers(
            "this event was stored before with other content: send an edit, or another event_id",
            metadata={"turn_id": str(row["id"])},
        )
    return AppendedTurn(
        turn_id=UUID(int=row["id"].int),
        created_at=row["created_at"],
        repeated=row["repeated"],
        token_count=embedding.token_count,
        truncated=embedding.truncated,
    )
