"""Takes what was erased out of the files as well. Implements ``domain.erasure_worker.Reclaimer``."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg

from memsidecar.postgres.errors import domain_error
from memsidecar.postgres.queries import load_queries

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        connection = await self._connect([*tables, _RECEIPTS])
        if connection is None:
            return False
        try:
            for table in [*sorted(tables), _RECEIPTS]:
                await connection.execute(f"VACUUM (INDEX_CLEANUP ON, ANALYZE, PARALLEL 0) {table}")
        except (asyncpg.PostgresError, OSError) as error:
            raise domain_error(error) or error from error
        finally:
            await connection.close()
        async with self._database.control() as control:
            await control.execute(_ERASURE_QUERIES["mark_vacuumed"], began)
        return True

    async def _connect(self, tables: Sequence[str]) -> asyncpg.Connection | None:
        """Open a connection that may vacuum; None when there is none."""
        for url in self._urls:
            try:
                connection = await asyncpg.connect(url, server_settings={"application_name": "memsidecar"})
            except (asyncpg.PostgresError, OSError) as error:
                raise domain_error(error) or error from error
            if await connection.fetchval(_QUERIES["may_vacuum"], list(tables)):
                return connection
            await connection.close()
        _LOGGER.warning(
            "not vacuumed: no role here may; set MEMSIDECAR_OWNER_DATABASE_URL, or run 'memsidecar maintain' with it"
        )
        return None

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
