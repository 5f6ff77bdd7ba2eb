"""How a server in this process is told to stop."""

from __future__ import annotations

import asyncio
import signal


class StopSignals:
    """SIGTERM and SIGINT: the first ends serving gracefully; one during the start, or a second, at once."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._serving = asyncio.current_task()
        self._asked = asyncio.Event()
        self._waiting = False
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._receive)

    async def wait(self) -> None:
        """Wait for the first signal."""
        self._waiting = True
        await self._asked.wait()
        self._waiting = False

    def _receive(self) -> None:
        if self._waiting:
            self._asked.set()
        elif self._serving is not None:
            self._serving.cancel()
