"""Shares a number of places among tenants: nobody takes all, and those who want little are served."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Hashable

THRESHOLD: Final = 2.0
"""A holder may take a place while it holds fewer than this many times the free ones.

The dynamic threshold of Choudhury and Hahne ("Dynamic queue length thresholds for shared-memory packet switches",
1998): alone, a holder gets 2/3 of the places; of two that want everything, each gets 2/5; the rest stays free for
whoever comes next, without anybody being told how many there are.
"""


class FairShare:
    """Hands out a fixed number of places. For one event loop.

    Args:
        places: How many there are.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._held: Counter[Hashable] = Counter()
        self._waiting: OrderedDict[Hashable, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return sum(map(len, self._waiting.values()))

    def take_now(self, holder: Hashable) -> bool:
        """Take a place if that needs no waiting, and say whether it was taken."""
        allowed = holder not in self._waiting and self._may_take(holder)
        if allowed:
            self._give(holder)
        return allowed

    async def take(self, holder: Hashable, timeout_seconds: float) -> None:
        """Take a place, waiting for it if need be.

        Of those who wait, the one that holds least is next, then the one whose turn is longest ago.

        Args:
            holder: Who it is for.
            timeout_seconds: How long to wait.

        Raises:
            TimeoutError: None came free in time.
        """
        if self.take_now(holder):
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(holder, deque()).append(place)
        try:
            async with asyncio.timeout(timeout_seconds):
                await place
        except BaseException:
            if place.done() and not place.cancelled():
                self.give_back(holder)
            else:
                self._leave(holder, place)
            raise

    def give_back(self, holder: Hashable) -> None:
        """Give a place back."""
        self._free += 1
        self._held[holder] -= 1
        if not self._held[holder]:
            del self._held[holder]
        while self._waiting and self._free:
            allowed = [waiting for waiting in self._waiting if self._may_take(waiting)]
            if not allowed:
                return
            following = min(allowed, key=self._held.__getitem__)
            place = self._waiting[following][0]
            self._leave(following, place)
            if place.done():
                continue  # cancelled a moment ago; its task has not run yet
            if following in self._waiting:
                self._waiting.move_to_end(following)
            self._give(following)
            place.set_result(None)

    def _may_take(self, holder: Hashable) -> bool:
        held = self._held[holder]
        return self._free > 0 and (held == 0 or (self._free > 1 and held < THRESHOLD * self._free))

    def _give(self, holder: Hashable) -> None:
        self._free -= 1
        self._held[holder] += 1

    def _leave(self, holder: Hashable, place: asyncio.Future[None]) -> None:
        queue = self._waiting.get(holder)
        if queue is not None and place in queue:
            queue.remove(place)
            if not queue:
                del self._waiting[holder]
