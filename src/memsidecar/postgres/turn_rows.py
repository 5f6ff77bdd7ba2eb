"""Rows of ``conversation_embeddings`` as turns, and scopes as statement parameters."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from memsidecar.domain.turns import Event, Role, Speaker, Turn, TurnAction

if TYPE_CHECKING:
    import asyncpg

    from memsidecar.domain.turns import TurnScope


def event_from_row(row: asyncpg.Record) -> Turn:
    """Build what a row says for itself, under its own id: one line of a turn's history."""
    return replace(turn_from_row(row), turn_id=UUID(int=row["id"].int))


def turn_from_row(row: asyncpg.Record) -> Turn:
    """Build the turn a row stands for; an edit carries the event of the turn it changes."""
    action = TurnAction(row["action"])
    changed = action is not TurnAction.SAID
    source = row["target_source"] if changed else row["source"]
    event_id = row["target_event_id"] if changed else row["event_id"]
    return Turn(
        turn_id=UUID(int=row["turn_id"].int),
        agent_id=UUID(int=row["agent_id"].int),
        user_id=row["user_id"],
        conversation_id=row["conversation_id"],
        role=Role(row["role"]),
        speaker=Speaker(row["speaker_id"], row["speaker_name"]),
        content=row["content"],
        occurred_at=row["occurred_at"],
        created_at=row["created_at"],
        metadata=json.loads(row["metadata"]),
        event=None if event_id is None else Event(source, event_id),
        action=action,
        token_count=row["token_count"],
        edited_at=row["changed_at"],
    )


def scope_parameters(scope: TurnScope) -> tuple[Any, ...]:
    """Give $2 to $12 of the statements that select turns by scope."""
    return (
        scope.agent_ids,
        scope.user_id,
        scope.conversation_ids,
        [role.value for role in scope.roles],
        scope.occurred.start,
        scope.occurred.end,
        json.dumps(dict(scope.metadata)),
        scope.speaker_ids,
        scope.exclude_turn_ids,
        scope.exclude_conversation_ids,
        scope.as_of,
    )
