"""How often calls may be made: one token bucket for each tenant."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

BURST_SECONDS: Final = 10.0
"""A rate is an average over this long: so many seconds' worth of calls may come at once."""

_REMEMBERED: Final = 10_000
"""Buckets kept. One that is forgotten starts full again, as one that nobody used for ten seconds would be."""


@dataclass(slots=True)
class _Bucket:
    calls: float
    at: float


class CallRates:
    """Counts calls.

    Args:
        clock: Gives seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: OrderedDict[Hashable, _Bucket] = OrderedDict()

    def count(self, whose: Hashable, per_second: float) -> float:
        """Count a call if it may be made.

        Args:
            whose: Whose rate.
            per_second: The rate, above 0.

        Returns:
            0 when the call may be made, else the seconds until it may.
        """
        now = self._clock()
        most = max(per_second * BURST_SECONDS, 1.0)
        bucket = self._buckets.get(whose)
        if bucket is None:
            bucket = self._buckets[whose] = _Bucket(most, now)
            if len(self._buckets) > _REMEMBERED:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(whose)
        bucket.calls = min(most, bucket.calls + (now - bucket.at) * per_second)
        bucket.at = now
        if bucket.calls < 1.0:
            return (1.0 - bucket.calls) / per_second
        bucket.calls -= 1.0
        return 0.0
