"""Lets running calls finish and takes no new ones when the server is to stop."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import grpc

from memsidecar.domain.errors import ServerStopping
from memsidecar.rpc.wrapped_handler import around, wrapped_handler

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from memsidecar.rpc.context import ServicerContext

QUIET_SECONDS: Final = 0.05
LONGEST_UNREST_SECONDS: Final = 1.0
"""Calls that gRPC has received but not handed over are refused too: until none came for so long, or for so long."""


class DrainingInterceptor(grpc.aio.ServerInterceptor):
    """Counts the calls under way.

    gRPC's own way to stop ends calls that it received and nobody has begun to answer as CANCELLED, which few clients
    repeat. This one says UNAVAILABLE, and gRPC is stopped when nothing runs any more and nothing more arrives.
    """

    def __init__(self) -> None:
        self._running = 0
        self._last_arrival = 0.0
        self._draining = False
        self._idle = asyncio.Event()

    async def drain(self, seconds: float) -> None:
        """Refuse new calls from now on, and wait for those that run, but not longer than ``seconds``."""
        self._draining = True
        self._idle.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                if self._running:
                    await self._idle.wait()
                await self._wait_for_quiet()

    async def _wait_for_quiet(self) -> None:
        loop = asyncio.get_running_loop()
        ends = loop.time() + LONGEST_UNREST_SECONDS
        self._last_arrival = loop.time()
        while (now := loop.time()) < ends:
            left = self._last_arrival + QUIET_SECONDS - now
            if left <= 0:
                return
            await asyncio.sleep(left)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler of a call."""
        answering, streaming = around(self._call)
        return await wrapped_handler(
            continuation, handler_call_details, answering=answering, streaming=streaming
        )

    @contextmanager
    def _call(self, _context: ServicerContext) -> Iterator[None]:
        if self._draining:
            self._last_arrival = asyncio.get_running_loop().time()
            raise ServerStopping
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()
