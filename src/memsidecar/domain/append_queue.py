"""Appends that arrive together share a statement and a commit."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memsidecar.domain.errors import DeadlineExceeded, DomainError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from memsidecar.domain.conversation_memory import ConversationStore
    from memsidecar.domain.embedding import Embedding
    from memsidecar.domain.turns import AppendedTurn, NewTurn

MOST_ROWS = 256
"""Rows in one statement: as many as the largest call may bring, so that no call has to be cut."""

WRITERS_PER_TENANT = 2
"""Commits of one tenant under way at once: while one waits for the disk or for a lock, the other collects and goes."""


@dataclass(slots=True)
class _Call:
    """One caller's rows, waiting."""

    turns: Sequence[NewTurn]
    embeddings: Sequence[Embedding]
    deadline: float | None
    answer: asyncio.Future[list[AppendedTurn | DomainError]]


@dataclass(slots=True)
class _Tenant:
    """What waits and what is under way for one tenant."""

    waiting: deque[_Call]
    writers: set[asyncio.Task[None]]


class AppendQueue:
    """Writes at once when idle, and together what came in while it was writing; nobody waits for company.

    Rows of different tenants never share a transaction: each has its own ``app.current_tenant``, and no tenant can make
    another's write fail or wait.
    """

    def __init__(self, store: ConversationStore) -> None:
        self._store = store
        self._tenants: dict[tuple[UUID, str], _Tenant] = {}

    async def append(
        self,
        tenant_id: UUID,
        turns: Sequence[NewTurn],
        embeddings: Sequence[Embedding],
        *,
        language: str,
        deadline: float | None,
    ) -> list[AppendedTurn | DomainError]:
        """Store rows durably and answer in the same order; rows of a caller that left before its turn are not stored.

        Raises:
            DeadlineExceeded: The deadline passed before the rows were written.
            DomainError: As ``ConversationStore.append``; an error of one call's rows is that call's alone.
        """
        call = _Call(turns, embeddings, deadline, asyncio.get_running_loop().create_future())
        tenant = self._tenants.setdefault((tenant_id, language), _Tenant(deque(), set()))
        tenant.waiting.append(call)
        if len(tenant.writers) < WRITERS_PER_TENANT:
            writer = asyncio.create_task(self._write(tenant_id, language, tenant))
            tenant.writers.add(writer)
        return await call.answer

    async def _write(self, tenant_id: UUID, language: str, tenant: _Tenant) -> None:
        """Write until nothing waits."""
        try:
            while calls := _together(tenant.waiting):
                await self._write_calls(tenant_id, language, calls)
        finally:
            tenant.writers.discard(asyncio.current_task())
            if not tenant.waiting and not tenant.writers:
                self._tenants.pop((tenant_id, language), None)

    async def _write_calls(self, tenant_id: UUID, language: str, calls: Sequence[_Call]) -> None:
        deadlines = [call.deadline for call in calls]
        latest = (
            None if None in deadlines else max(deadline for deadline in deadlines if deadline is not None)
        )
        try:
            outcomes = await self._store.append(
                tenant_id,
                [turn for call in calls for turn in call.turns],
                [embedding for call in calls for embedding in call.embeddings],
                language=language,
                deadline=latest,
            )
        except Exception as error:
            await self._write_apart(tenant_id, language, calls, error)
            return
        first = 0
        for call in calls:
            following = first + len(call.turns)
            _answer(call, outcomes[first:following])
            first = following

    async def _write_apart(
        self, tenant_id: UUID, language: str, calls: Sequence[_Call], error: Exception
    ) -> None:
        """Find out whose rows failed: nothing of the common statement was stored, so each call gets one of its own."""
        if len(calls) == 1 or isinstance(error, DomainError):
            for call in calls:
                _answer(call, error)
            return
        for call in calls:
            await self._write_calls(tenant_id, language, [call])


def _together(waiting: deque[_Call]) -> list[_Call]:
    """Take the calls of the next statement; those whose caller has left or whose deadline passed go nowhere."""
    now = asyncio.get_running_loop().time()
    calls: list[_Call] = []
    rows = 0
    while waiting and (not calls or rows + len(waiting[0].turns) <= MOST_ROWS):
        call = waiting.popleft()
        if call.answer.done():
            continue
        if call.deadline is not None and call.deadline <= now:
            _answer(call, DeadlineExceeded("the deadline passed before the turn was written"))
            continue
        calls.append(call)
        rows += len(call.turns)
    return calls


def _answer(call: _Call, outcome: list[AppendedTurn | DomainError] | Exception) -> None:
    if call.answer.done():
        return
    if isinstance(outcome, Exception):
        call.answer.set_exception(outcome)
    else:
        call.answer.set_result(outcome)
