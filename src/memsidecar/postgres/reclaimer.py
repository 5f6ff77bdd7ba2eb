"""Takes what was erased out of the files as well. Implements ``domain.erasure_worker.Reclaimer``."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg

from memsidecar.postgres.errors import domain_error
from memsidecar.postgres.queries import load_queries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from memsidecar.postgres.database import Database

_LOGGER = logging.getLogger(__name__)
_ERASURE_QUERIES = load_queries("erasure")
_QUERIES = load_queries("reclaimer")

LONGEST_TRANSACTION = timedelta(minutes=10)
"""How long a vacuum waits for transactions that still see what was erased."""
_WAIT_SECONDS = 0.05
_RECEIPTS = "erasures"
"""Vacuumed with every reclaim: while an erasure runs, its row names the subject."""


class PostgresReclaimer:
    """Vacuums the tables that erasures took rows from.

    A vacuum cannot run inside a transaction nor through a pool that shares connections by transaction, so each reclaim
    opens a connection of its own.
    """

    def __init__(self, database: Database, urls: Sequence[str]) -> None:
        """Set up.

        Args:
            database: The eraser's.
            urls: Connection URLs to vacuum by, in order of preference: the first that may is used.
        """
        self._database = database
        self._urls = tuple(urls)
        self._told = False

    async def reclaim(self) -> bool:
        """Vacuum what finished erasures touched; see the port."""
        async with self._database.control() as connection:
            tables = [row[0] for row in await connection.fetch(_ERASURE_QUERIES["unvacuumed_tables"])]
            older = await _running_transactions(connection)
            began = await connection.fetchval("SELECT clock_timestamp()")
        if not tables:
            return True
        if not await self._outlast(older):
            _LOGGER.warning("not vacuumed: a transaction is open that still sees what was erased")
            return False
        async with self._connection([*tables, _RECEIPTS]) as connection:
            if connection is None:
                return False
            for table in [*sorted(tables), _RECEIPTS]:
                await connection.execute(f"VACUUM (INDEX_CLEANUP ON, ANALYZE, PARALLEL 0) {table}")
        async with self._database.control() as control:
            await control.execute(_ERASURE_QUERIES["mark_vacuumed"], began)
        return True

    @asynccontextmanager
    async def _connection(self, tables: Sequence[str]) -> AsyncIterator[asyncpg.Connection | None]:
        """Open a connection that may vacuum; None when there is none, which is told once."""
        try:
            for url in self._urls:
                connection = await asyncpg.connect(url, server_settings={"application_name": "memsidecar"})
                try:
                    may_vacuum = await connection.fetchval(_QUERIES["may_vacuum"], list(tables))
                    if may_vacuum:
                        yield connection
                    await connection.close()
                    if may_vacuum:
                        return
                finally:
                    connection.terminate()  # does nothing to one that is closed
        except (asyncpg.PostgresError, OSError) as error:
            raise domain_error(error) or error from error
        if not self._told:
            self._told = True
            _LOGGER.warning(
                "not vacuumed: no role here may; run 'memsidecar maintain' with MEMSIDECAR_OWNER_DATABASE_URL set"
            )
        yield None

    async def _outlast(self, older: frozenset[str]) -> bool:
        clock = asyncio.get_running_loop().time
        end = clock() + LONGEST_TRANSACTION.total_seconds()
        while True:
            async with self._database.control() as connection:
                if not older & await _running_transactions(connection):
                    return True
            if clock() > end:
                return False
            await asyncio.sleep(_WAIT_SECONDS)


async def _running_transactions(connection: asyncpg.Connection) -> frozenset[str]:
    rows = await connection.fetch(_ERASURE_QUERIES["running_transactions"])
    return frozenset(row["name"] for row in rows)
