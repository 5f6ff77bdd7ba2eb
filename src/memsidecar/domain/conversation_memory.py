"""Use cases on what was said: append, list, read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from memsidecar.domain.append_queue import AppendQueue
from memsidecar.domain.caller import Right
from memsidecar.domain.embedding import NO_EMBEDDING, Lane
from memsidecar.domain.errors import NotFound, QuotaExceeded
from memsidecar.domain.scopes import allowed_scope
from memsidecar.domain.turns import TurnAction

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from memsidecar.domain.caller import Caller
    from memsidecar.domain.embedding import Embedder, Embedding
    from memsidecar.domain.errors import DomainError
    from memsidecar.domain.paging import Page
    from memsidecar.domain.storage_quota import StorageQuota
    from memsidecar.domain.turns import AppendedTurn, Conversation, NewTurn, Turn, TurnScope


MANY_TURNS = 16
"""A call with more turns than this is an import: its texts do not go before those that a person waits for."""


class ConversationStore(Protocol):
    """Where turns are kept. Every method acts on one tenant and raises the storage errors of ``domain.errors``."""

    async def append(
        self,
        tenant_id: UUID,
        turns: Sequence[NewTurn],
        embeddings: Sequence[Embedding],
        *,
        language: str,
        deadline: float | None,
    ) -> list[AppendedTurn | DomainError]:
        """Store rows durably, each for itself, and answer in the same order.

        A repeated event gives the first row's ``AppendedTurn`` with ``repeated`` set; a repeated event with other
        content gives ``EventContentDiffers``. Other content means: another ``action``, ``content`` or ``target``, and
        for what was said also another conversation, role or speaker id. It does not mean another ``occurred_at``, which
        may be the moment of each delivery, nor other metadata or another display name, which channels look up or count
        up each time they deliver. The conversation, role and speaker of an edit count for nothing once its original is
        known, so they may differ too.
        """
        ...

    async def all_stored(self, tenant_id: UUID, turns: Sequence[NewTurn], *, deadline: float | None) -> bool:
        """Tell whether every one of these is an event that is stored already."""
        ...

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
        """Read visible turns by ``occurred_at`` and id. ``after`` is (time, turn id) of the last one read."""
        ...

    async def turn_history(
        self, tenant_id: UUID, agent_ids: Sequence[UUID], turn_id: UUID, *, deadline: float | None
    ) -> list[Turn]:
        """Read everything that happened to the turn that ``turn_id`` belongs to, oldest first.

        Each line has the id of its own row; empty when there is none.
        """
        ...

    async def get_turn(
        self, tenant_id: UUID, agent_ids: Sequence[UUID], turn_id: UUID, *, deadline: float | None
    ) -> Turn | None:
        """Read the latest state of a turn; None when there is none or it is deleted."""
        ...

    async def list_conversations(
        self,
        tenant_id: UUID,
        scope: TurnScope,
        *,
        limit: int,
        after: tuple[datetime, UUID, str, str] | None,
        deadline: float | None,
    ) -> Page[Conversation]:
        """Read conversations, the latest active first.

        ``after`` is (time, agent id, user id, conversation id) of the last one read.
        """
        ...


class ConversationMemory:
    """Appends and reads turns for callers."""

    def __init__(
        self, store: ConversationStore, embedder: Embedder, storage_quota: StorageQuota | None = None
    ) -> None:
        self._store = store
        self._storage_quota = storage_quota
        self._queue = AppendQueue(store)
        self._embedder = embedder

    async def append(self, caller: Caller, turns: Sequence[NewTurn]) -> list[AppendedTurn | DomainError]:
        """Embed and store rows; each that is answered with an ``AppendedTurn`` is durable.

        Raises:
            PermissionDenied: The credential lacks ``append`` or does not cover an agent.
            QuotaExceeded: The tenant may not store so many; nothing was stored.
            EmbeddingOverloaded: Nothing was stored; repeat later.
            DatabaseUnavailable: Nothing is known to be stored; repeat with the same event.
        """
        tenant_id = caller.tenant(Right.APPEND)
        for turn in turns:
            caller.require_agent(turn.agent_id)
        await self._make_room(caller, tenant_id, turns)
        texts = [turn.content for turn in turns if turn.action is not TurnAction.DELETED]
        lane = Lane.INTERACTIVE if len(texts) <= MANY_TURNS else Lane.BACKGROUND
        made = iter(await self._embedder.embed(texts, owner=tenant_id, lane=lane, deadline=caller.deadline))
        embeddings = [NO_EMBEDDING if turn.action is TurnAction.DELETED else next(made) for turn in turns]
        said = all(turn.action is TurnAction.SAID for turn in turns)
        append = self._queue.append if said else self._store.append
        return await append(tenant_id, turns, embeddings, language=caller.language, deadline=caller.deadline)

    async def _make_room(self, caller: Caller, tenant_id: UUID, turns: Sequence[NewTurn]) -> None:
        if self._storage_quota is None:
            return
        more = sum(turn.action is not TurnAction.DELETED for turn in turns)
        try:
            await self._storage_quota.add_turns(caller, more)
        except QuotaExceeded:
            # What is stored already needs no room: a repetition is answered as the first time.
            if not await self._store.all_stored(tenant_id, turns, deadline=caller.deadline):
                raise

    async def list_turns(
        self,
        caller: Caller,
        scope: TurnScope,
        *,
        newest_first: bool,
        limit: int,
        after: tuple[datetime, UUID] | None,
    ) -> Page[Turn]:
        """Read visible turns in the order they were said.

        Raises:
            PermissionDenied: The credential lacks ``recall`` or does not cover the agent.
        """
        tenant_id = caller.tenant(Right.RECALL)
        return await self._store.list_turns(
            tenant_id,
            allowed_scope(caller, scope),
            newest_first=newest_first,
            limit=limit,
            after=after,
            deadline=caller.deadline,
        )

    async def get_turn(self, caller: Caller, turn_id: UUID) -> Turn:
        """Read the latest state of a turn.

        Raises:
            NotFound: No such turn for this caller, or it was deleted.
        """
        tenant_id = caller.tenant(Right.RECALL)
        turn = await self._store.get_turn(
            tenant_id, tuple(caller.agent_ids), turn_id, deadline=caller.deadline
        )
        if turn is None:
            raise NotFound("there is no such turn")
        return turn

    async def turn_history(self, caller: Caller, turn_id: UUID) -> list[Turn]:
        """Read every row of a turn, oldest first.

        Raises:
            NotFound: No such turn for this caller.
        """
        tenant_id = caller.tenant(Right.RECALL)
        rows = await self._store.turn_history(
            tenant_id, tuple(caller.agent_ids), turn_id, deadline=caller.deadline
        )
        if not rows:
            raise NotFound("there is no such turn")
        return rows

    async def list_conversations(
        self, caller: Caller, scope: TurnScope, *, limit: int, after: tuple[datetime, UUID, str, str] | None
    ) -> Page[Conversation]:
        """Read conversations, the latest active first.

        Raises:
            PermissionDenied: The credential lacks ``recall`` or does not cover the agent.
        """
        tenant_id = caller.tenant(Right.RECALL)
        return await self._store.list_conversations(
            tenant_id, allowed_scope(caller, scope), limit=limit, after=after, deadline=caller.deadline
        )
