"""``grpc.health.v1``, telling the truth: a service is SERVING while the database answers and the model is loaded."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from grpc_health.v1 import health, health_pb2

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

_LOGGER = logging.getLogger(__name__)

CHECK_INTERVAL_SECONDS = 1.0
"""How often the database is asked; with the timeout of the check, the longest time health may be wrong."""

CHECK_TIMEOUT_SECONDS = 2.0


class HealthMonitor:
    """Keeps the health of every service up to date, in the background."""

    def __init__(
        self,
        servicer: health.aio.HealthServicer,
        services: Sequence[str],
        database_answers: Callable[[], Awaitable[bool]],
    ) -> None:
        self._servicer = servicer
        self._services = ("", *services)
        self._database_answers = database_answers
        self._serving: bool | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def serving(self) -> bool:
        """Whether the database answered when it was last asked, and the server is not stopping."""
        return bool(self._serving)

    async def start(self) -> None:
        """Check once, then go on checking until ``stop``."""
        await self._check()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Say NOT_SERVING from now on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._serving = False
        await self._servicer.enter_graceful_shutdown()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(CHECK_INTERVAL_SECONDS)
            await self._check()

    async def _check(self) -> None:
        try:
            serving = await asyncio.wait_for(self._database_answers(), CHECK_TIMEOUT_SECONDS)
        except TimeoutError:
            serving = False
        if serving == self._serving:
            return
        self._serving = serving
        if not serving:
            _LOGGER.warning("the database does not answer: NOT_SERVING until it does")
        status = health_pb2.HealthCheckResponse
        for service in self._services:
            await self._servicer.set(service, status.SERVING if serving else status.NOT_SERVING)
