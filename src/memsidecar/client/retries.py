"""When a failed call is made again, and after how long."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from memsidecar.client.errors import ExhaustedError, MemoryServiceError, UnavailableError


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently calls that are safe to repeat are repeated, always within their deadline.

    Repeated are calls that found nobody (UNAVAILABLE) and calls that an overloaded server refused
    (RESOURCE_EXHAUSTED with a delay). A used-up quota is not: waiting does not help.
    """

    max_attempts: int = 6
    """The first one included; 1 never repeats."""
    first_delay_seconds: float = 0.1
    """Doubled with each attempt; the server's own delay is waited for at least."""
    longest_delay_seconds: float = 2.0

    def delay_seconds(
        self, error: MemoryServiceError, *, attempt: int, remaining_seconds: float
    ) -> float | None:
        """Say how long to wait before the next attempt, or None to give up.

        Half of the delay is random, so that clients which failed together do not come back together.

        Args:
            error: What the attempt ended with.
            attempt: Its number, from 1.
            remaining_seconds: Until the deadline of the call.
        """
        overloaded = isinstance(error, ExhaustedError) and error.retry_after is not None
        if attempt >= self.max_attempts or not (overloaded or isinstance(error, UnavailableError)):
            return None
        doubled = min(self.first_delay_seconds * 2 ** (attempt - 1), self.longest_delay_seconds)
        delay = doubled * random.uniform(0.5, 1.0)  # noqa: S311 - nothing secret about it
        if error.retry_after is not None:
            delay += error.retry_after.total_seconds()
        return delay if delay < remaining_seconds else None


NO_RETRIES = RetryPolicy(max_attempts=1)


class Attempts:
    """The attempts of one call, all within its deadline."""

    def __init__(self, policy: RetryPolicy, *, timeout_seconds: float, safe_to_repeat: bool = True) -> None:
        self._policy = policy if safe_to_repeat else NO_RETRIES
        self._deadline = time.monotonic() + timeout_seconds
        self._attempt = 1

    @property
    def remaining_seconds(self) -> float:
        """Until the deadline; never negative."""
        return max(self._deadline - time.monotonic(), 0.0)

    def delay_after(self, error: MemoryServiceError) -> float:
        """Give the seconds to wait before the next attempt.

        Raises:
            MemoryServiceError: The given one, when there is to be no other attempt.
        """
        delay = self._policy.delay_seconds(
            error, attempt=self._attempt, remaining_seconds=self.remaining_seconds
        )
        if delay is None:
            raise error
        self._attempt += 1
        return delay

    def progressed(self) -> None:
        """Start counting anew: an attempt got somewhere."""
        self._attempt = 1
