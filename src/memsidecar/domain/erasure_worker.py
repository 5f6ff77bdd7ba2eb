"""Does what erasures ask for, in small transactions, until nothing is left.

Any number of workers in any number of processes share the erasures of all tenants. An erasure is held by a lease; a
worker that dies leaves behind a lease that runs out, and rows that are gone stay gone and counted.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from memsidecar.domain.errors import DatabaseBusy, DatabaseUnavailable, DeadlineExceeded
from memsidecar.domain.identifiers import new_uuid7

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from memsidecar.domain.erasure import Subject

_LOGGER = logging.getLogger(__name__)

LEASE = timedelta(seconds=30)
"""How long an erasure rests after the worker that held it died; every transaction renews it."""
TURNS_AT_ONCE = 1_000
"""Turns deleted in one transaction: short enough that nobody waits for it."""
TURNS_FOUND_AT_ONCE = 50_000
OTHERS_AT_ONCE = 200
"""Documents or memories deleted in one transaction; each may have many rows beside it."""
MOST_PASSES = 20
"""How often it is looked whether something new came in meanwhile, before the erasure is given up."""
LONGEST_TRANSACTION = timedelta(minutes=10)
"""How long an erasure waits for transactions that were open when it began: they may hold rows that nobody sees yet."""
_REST_SECONDS = 10.0
"""Seconds between looks for work that nobody announced, such as what a process that died left behind."""
_WAIT_SECONDS = 0.02
_RETRY_SECONDS = 1.0


class ErasureLeaseLost(Exception):
    """Another worker has the erasure, or it has ended."""


@dataclass(frozen=True, slots=True)
class HeldErasure:
    """An erasure this worker holds."""

    tenant_id: UUID
    erasure_id: UUID
    worker_id: UUID
    subject: Subject


@dataclass(frozen=True, slots=True)
class DoomedRow:
    """A row of a turn that is to go, and in whose memory it is."""

    row_id: UUID
    agent_id: UUID
    user_id: str = field(repr=False)


class ErasureWorkStore(Protocol):
    """Where erasures are done.

    Each method is one transaction, and raises ``ErasureLeaseLost`` instead of doing anything when the erasure is not
    held any more.
    """

    async def claim(self, worker_id: UUID, lease: timedelta) -> HeldErasure | None:
        """Take an erasure nobody works on, of whatever tenant."""
        ...

    async def find_turns(self, held: HeldErasure, *, limit: int) -> list[DoomedRow]:
        """Find rows of turns that are to go."""
        ...

    async def delete_turns(self, held: HeldErasure, rows: Sequence[DoomedRow]) -> None:
        """Delete rows of turns, and what was derived from them, and count it."""
        ...

    async def delete_others(self, held: HeldErasure, *, limit: int) -> int:
        """Delete some of everything but turns, count it, and say how many rows that were; 0 when nothing is left."""
        ...

    async def running_transactions(self) -> frozenset[str]:
        """Name the transactions that are running now, everybody's."""
        ...

    async def complete(self, held: HeldErasure) -> int:
        """Complete the erasure if nothing is left, forgetting its subject; else say how many rows are."""
        ...

    async def fail(self, held: HeldErasure, error: str, remaining: int) -> None:
        """Stop the erasure and say why."""
        ...

    async def release(self, held: HeldErasure) -> None:
        """Give the erasure back, so that any worker may take it at once."""
        ...


class Reclaimer(Protocol):
    """Makes sure that what was erased is not left in the files either."""

    async def reclaim(self) -> bool:
        """Vacuum what finished erasures touched and mark them; False when this deployment has no role for it."""
        ...


class ErasureWorker:
    """Works on erasures until it is stopped."""

    def __init__(self, store: ErasureWorkStore, reclaimer: Reclaimer) -> None:
        self._store = store
        self._reclaimer = reclaimer
        self._worker_id = new_uuid7()
        self._work_waits = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to work, in a task of the running event loop."""
        self._task = asyncio.create_task(self._work(), name="erasure")

    async def stop(self) -> None:
        """Leave what is under way to other workers, at once."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def notice(self) -> None:
        """Look for work now rather than at the next look."""
        self._work_waits.set()

    async def finish_all(self) -> int:
        """Work until no erasure waits, then reclaim the space, and say how many were worked on.

        Raises:
            DatabaseUnavailable: The database went away; what was under way goes on later.
        """
        done = 0
        while (held := await self._store.claim(self._worker_id, LEASE)) is not None:
            await self._erase(held)
            done += 1
        await self._reclaimer.reclaim()
        return done

    async def _work(self) -> None:
        while True:
            self._work_waits.clear()
            rest = _REST_SECONDS
            try:
                await self.finish_all()
            except (DatabaseUnavailable, DatabaseBusy, DeadlineExceeded) as error:
                _LOGGER.warning("erasure waits for the database: %s", error.message)
                rest = _RETRY_SECONDS
            except Exception:
                _LOGGER.exception("erasure stumbled and goes on")
            with suppress(TimeoutError):
                async with asyncio.timeout(rest):
                    await self._work_waits.wait()

    async def _erase(self, held: HeldErasure) -> None:
        try:
            await self._erase_all(held)
        except ErasureLeaseLost:
            _LOGGER.info("another worker goes on with erasure %s", held.erasure_id)
        except (DatabaseUnavailable, DatabaseBusy, DeadlineExceeded):
            raise
        except asyncio.CancelledError:
            await asyncio.shield(self._release(held))
            raise
        except Exception:
            _LOGGER.exception("erasure %s failed", held.erasure_id)
            await self._store.fail(held, "an error that the server's log describes", 0)

    async def _release(self, held: HeldErasure) -> None:
        with suppress(Exception):
            await self._store.release(held)

    async def _erase_all(self, held: HeldErasure) -> None:
        older = await self._store.running_transactions()
        remaining = 0
        for _pass in range(MOST_PASSES):
            await self._delete(held)
            if not await self._outlast(held, older):
                await self._store.fail(
                    held,
                    f"a transaction of the database is open for {LONGEST_TRANSACTION.total_seconds() / 60:g} minutes"
                    " and may hold rows nobody sees yet: end it, then repeat the call",
                    0,
                )
                return
            older = frozenset()
            remaining = await self._store.complete(held)
            if remaining == 0:
                return
        await self._store.fail(
            held, "new rows kept coming in: stop writing for this subject, then repeat the call", remaining
        )

    async def _delete(self, held: HeldErasure) -> None:
        """Delete what is seen, at half speed: as long as each transaction took, others have the database alone."""
        clock = asyncio.get_running_loop().time
        while rows := await self._store.find_turns(held, limit=TURNS_FOUND_AT_ONCE):
            for first in range(0, len(rows), TURNS_AT_ONCE):
                began = clock()
                await self._store.delete_turns(held, rows[first : first + TURNS_AT_ONCE])
                await asyncio.sleep(clock() - began)
        began = clock()
        while await self._store.delete_others(held, limit=OTHERS_AT_ONCE):
            await asyncio.sleep(clock() - began)
            began = clock()

    async def _outlast(self, held: HeldErasure, older: frozenset[str]) -> bool:
        """Wait until transactions have ended; False when they take too long."""
        clock = asyncio.get_running_loop().time
        end = clock() + LONGEST_TRANSACTION.total_seconds()
        while older & await self._store.running_transactions():
            if clock() > end:
                return False
            await asyncio.sleep(_WAIT_SECONDS)
            await self._store.delete_others(held, limit=OTHERS_AT_ONCE)  # renews the lease
        return True
