"""Keeps tenants within what they may store, at the cost of a count now and then and of nothing on each call."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from memsidecar.domain.errors import QuotaExceeded, QuotaViolation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from memsidecar.domain.caller import Caller

NEAR: Final = 0.9
"""Share of a limit from which it is counted often: another server may be storing too."""
COUNT_SECONDS: Final = 60.0
NEAR_COUNT_SECONDS: Final = 1.0
_COST_FACTOR: Final = 20.0
"""A count that took long is made less often: at most a twentieth of the time goes into counting."""
_REMEMBERED: Final = 10_000


class UsageStore(Protocol):
    """What is stored. Raises the storage errors of ``domain.errors``."""

    async def count_turns(self, tenant_id: UUID, *, deadline: float | None) -> int:
        """Count the rows of turns, edits included, deletions not."""
        ...

    async def sum_document_bytes(self, tenant_id: UUID, *, deadline: float | None) -> int:
        """Add up the text of documents, in bytes, and what waits to be taken in, as it was sent."""
        ...


@dataclass(slots=True)
class _Meter:
    used: int = 0
    counted_at: float = float("-inf")
    count_seconds: float = 0.0
    counting: asyncio.Lock = field(default_factory=asyncio.Lock)


class StorageQuota:
    """Makes room for what is about to be stored, or refuses.

    On one server a limit is passed by no more than what is under way at the moment of a count. What other servers store
    is seen at the next count: within a minute, near a limit within a second or so.

    Args:
        store: Counts.
        clock: Gives seconds that never go back.
    """

    def __init__(self, store: UsageStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._meters: OrderedDict[tuple[UUID, str], _Meter] = OrderedDict()

    async def add_turns(self, caller: Caller, turns: int) -> None:
        """Make room for turns.

        Raises:
            QuotaExceeded: There is none.
        """
        await self._add(caller, "turns", turns, caller.quota.max_turns, self._store.count_turns)

    async def add_document_bytes(self, caller: Caller, size: int) -> None:
        """Make room for a document.

        Raises:
            QuotaExceeded: There is none.
        """
        await self._add(
            caller, "document_bytes", size, caller.quota.max_document_bytes, self._store.sum_document_bytes
        )

    async def _add(
        self, caller: Caller, what: str, more: int, limit: int, count: Callable[..., Awaitable[int]]
    ) -> None:
        if not limit or not more or caller.tenant_id is None:
            return
        meter = self._meter(caller.tenant_id, what)
        async with meter.counting:
            near = meter.used + more > limit * NEAR
            patience = max(NEAR_COUNT_SECONDS if near else COUNT_SECONDS, meter.count_seconds * _COST_FACTOR)
            if self._clock() - meter.counted_at >= patience:
                began = self._clock()
                meter.used = await count(caller.tenant_id, deadline=caller.deadline)
                meter.counted_at = self._clock()
                meter.count_seconds = meter.counted_at - began
            if meter.used + more > limit:
                raise QuotaExceeded(
                    f"this tenant may store {limit:,} {what.replace('_', ' ')} and has {meter.used:,}:"
                    " erase some, or have the quota raised",
                    violations=[
                        QuotaViolation(what, f"{meter.used:,} of {limit:,} are used, {more:,} more asked for")
                    ],
                )
            meter.used += more

    def _meter(self, tenant_id: UUID, what: str) -> _Meter:
        meter = self._meters.setdefault((tenant_id, what), _Meter())
        self._meters.move_to_end((tenant_id, what))
        if len(self._meters) > _REMEMBERED:
            self._meters.popitem(last=False)
        return meter
