"""Keeps the metrics of the ingestion backlog fresh: they belong to the database, not to this process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from memsidecar.domain.errors import DomainError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from memsidecar.domain.ingestion_worker import IngestionBacklog
    from memsidecar.telemetry.metrics import Metrics

READ_EVERY_SECONDS: Final = 15.0
"""As often as metrics are usually scraped. Scraping itself asks the database nothing."""


class BacklogMonitor:
    """Reads the backlog every now and then; while the database is away the last figures stand."""

    def __init__(self, read: Callable[[], Awaitable[IngestionBacklog]], metrics: Metrics) -> None:
        self._read = read
        self._metrics = metrics
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in a task of the running event loop."""
        self._task = asyncio.create_task(self._run(), name="ingestion backlog")

    async def stop(self) -> None:
        """End the task."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def refresh(self) -> None:
        """Read the backlog once."""
        try:
            backlog = await self._read()
        except DomainError:
            return
        self._metrics.open_jobs.set(backlog.open_jobs)
        self._metrics.ingestion_lag.set(backlog.oldest_seconds)

    async def _run(self) -> None:
        while True:
            await self.refresh()
            await asyncio.sleep(READ_EVERY_SECONDS)
