"""Asks the database whether it answers, on a connection of its own: a pool whose connections all hang cannot tell."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import asyncpg

from memsidecar.postgres.errors import DRIVER_ERRORS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PROBE_SECONDS: Final = 1.5
"""How long the database may take to answer, a new connection included."""

_TOO_MANY_CONNECTIONS: Final = "53300"


class DatabaseProbe:
    """One connection that is made anew whenever it failed.

    Args:
        connect: Opens a connection.
    """

    def __init__(self, connect: Callable[[], Awaitable[asyncpg.Connection]]) -> None:
        self._connect = connect
        self._connection: asyncpg.Connection | None = None

    async def answers(self) -> bool:
        """Tell whether the database runs statements and takes writes; a standby does not. Never raises an error."""
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                if self._connection is None:
                    self._connection = await self._connect()
                return not await self._connection.fetchval("SELECT pg_is_in_recovery()")
        except asyncpg.PostgresError as error:
            self.close()
            return bool(
                error.sqlstate == _TOO_MANY_CONNECTIONS
            )  # a full server is at work, which is an answer
        except DRIVER_ERRORS:
            self.close()
            return False
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Drop the connection."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
