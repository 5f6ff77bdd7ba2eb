"""Connections. ``Database.tenant`` is the only way to a connection that sees tenants' rows."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

import asyncpg

from memsidecar.domain.errors import DatabaseBusy, DatabaseUnavailable, DeadlineExceeded, DomainError
from memsidecar.domain.observation import UNOBSERVED, PoolUse, Stage
from memsidecar.postgres.errors import connection_error, domain_error
from memsidecar.postgres.locks import lock_statements
from memsidecar.postgres.queries import statement_name
from memsidecar.postgres.vectors import register_vector_codec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
    from uuid import UUID

    from memsidecar.domain.observation import Observer
    from memsidecar.postgres.locks import AdvisoryLock

Connection: TypeAlias = asyncpg.pool.PoolConnectionProxy

ERASER_ROLE = "memsidecar_eraser"
"""The role that alone may delete what is append-only."""


async def _keep_session_state(_connection: asyncpg.Connection) -> None:
    """Replace asyncpg's reset on release, which costs a round trip.

    Everything set here is set LOCAL and ends with its transaction; a test holds that nothing survives.
    """


class Database:
    """A pool of connections of one role."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        *,
        acquire_timeout: float,
        role: str | None = None,
        observer: Observer = UNOBSERVED,
    ) -> None:
        self._pool = pool
        self._acquire_timeout = acquire_timeout
        self._role_setting = "" if role is None else f"SET LOCAL ROLE {role};"
        self._observer = observer
        self._acquiring = 0

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        min_connections: int = 1,
        max_connections: int = 10,
        acquire_timeout: float = 5.0,
        connect_timeout: float = 5.0,
        statement_cache_size: int = 256,
        role: str | None = None,
        observer: Observer = UNOBSERVED,
    ) -> Database:
        """Open a pool.

        Args:
            url: A libpq connection URL.
            min_connections: Connections kept open.
            max_connections: Connections opened at most.
            acquire_timeout: Seconds a call waits for a free connection before it is refused.
            connect_timeout: Seconds a connection attempt may take.
            statement_cache_size: Prepared statements kept per connection; 0 for a PgBouncer without
                ``max_prepared_statements``.
            role: Role that every transaction takes on, of which the login role is a member; None for the login role.
            observer: Is told how long connections are waited for and transactions take.

        Raises:
            DatabaseUnavailable: Nothing answers at the address.
            SetupError: The server has no room, or refuses the user, the password or the database.
        """
        try:
            pool = await asyncpg.create_pool(
                url,
                min_size=min_connections,
                max_size=max_connections,
                timeout=connect_timeout,
                init=_preparation(observer),
                reset=_keep_session_state,
                statement_cache_size=statement_cache_size,
                server_settings={"application_name": "memsidecar"},
            )
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            raise connection_error(error) or error from error
        return cls(pool, acquire_timeout=acquire_timeout, role=role, observer=observer)

    def use(self) -> PoolUse:
        """Tell how the pool is doing."""
        idle = self._pool.get_idle_size()
        # A free connection is taken without waiting, so only when there is none does anybody wait.
        waiting = 0 if idle else self._acquiring
        return PoolUse(self._pool.get_size() - idle, idle, self._pool.get_max_size(), waiting)

    async def close(self, *, timeout_seconds: float = 5.0) -> None:
        """Give running statements a moment, then close every connection."""
        try:
            await asyncio.wait_for(self._pool.close(), timeout_seconds)
        except TimeoutError:
            self._pool.terminate()

    async def answers(self) -> bool:
        """Tell whether the database runs statements; never raises what only means that it does not."""
        try:
            async with self.control() as connection:
                return bool(await connection.fetchval("SELECT 1"))
        except DatabaseBusy:
            return True  # every connection is at work, which is an answer
        except DomainError:
            return False

    @asynccontextmanager
    async def tenant(
        self, tenant_id: UUID, *, deadline: float | None = None, locks: Iterable[AdvisoryLock] = ()
    ) -> AsyncIterator[Connection]:
        """Run a transaction that sees and writes the rows of one tenant, committed on leaving without an error.

        Costs two round trips beside the statements inside: BEGIN with the settings and locks, and COMMIT.

        Args:
            tenant_id: Whose rows.
            deadline: Event loop time at which the caller stops waiting; becomes the statement timeout.
            locks: Taken before the first statement, which therefore sees what earlier holders committed.

        Raises:
            DatabaseBusy: No connection came free in time.
            DatabaseUnavailable: The database is not there or went away.
            DeadlineExceeded: The deadline passed.
        """
        setting = f"SET LOCAL app.current_tenant = '{tenant_id}';{lock_statements(locks)}"
        async with self._transaction(setting, deadline) as connection:
            yield connection

    @asynccontextmanager
    async def control(self, *, deadline: float | None = None) -> AsyncIterator[Connection]:
        """Run a transaction without a tenant: it sees no tenant's rows, only the control plane's functions.

        Raises: As ``tenant``.
        """
        async with self._transaction("", deadline) as connection:
            yield connection

    @asynccontextmanager
    async def _transaction(self, setting: str, deadline: float | None) -> AsyncIterator[Connection]:
        try:
            async with self._connection(deadline) as connection:
                begin = f"BEGIN; {self._role_setting} SET LOCAL jit = off; {_statement_timeout(deadline)} {setting}"
                with self._observer.stage(Stage.DATABASE):
                    try:
                        await connection.execute(begin)
                        yield connection
                    except BaseException:
                        if not connection.is_closed():
                            await connection.execute("ROLLBACK")
                        raise
                    await connection.execute("COMMIT")
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, EOFError) as error:
            translated = domain_error(error)
            if translated is None:
                raise
            raise translated from error

    @asynccontextmanager
    async def _connection(self, deadline: float | None) -> AsyncIterator[Connection]:
        patience = self._acquire_timeout
        if deadline is not None:
            patience = min(patience, deadline - asyncio.get_running_loop().time())
            if patience <= 0:
                raise DeadlineExceeded("the deadline passed before the database was asked")
        self._acquiring += 1
        try:
            with self._observer.stage(Stage.POOL):
                connection = await self._pool.acquire(timeout=patience)
        except TimeoutError as error:
            raise DatabaseBusy(
                f"all {self._pool.get_max_size()} database connections are in use: repeat the call after the given"
                " delay, or raise the pool size or the number of replicas",
                retry_after=timedelta(seconds=1),
            ) from error
        except asyncpg.PostgresError as error:
            raise domain_error(error) or DatabaseUnavailable(
                f"the database refuses connections (SQLSTATE {error.sqlstate}): look at its log"
            ) from error
        finally:
            self._acquiring -= 1
        try:
            yield connection
        finally:
            await self._pool.release(connection)


def _preparation(observer: Observer) -> Callable[[asyncpg.Connection], Awaitable[None]]:
    """Give what is done once to every new connection."""
    if not observer.wants_statements:
        return register_vector_codec

    def tell(statement: asyncpg.connection.LoggedQuery) -> None:
        observer.statement(statement_name(statement.query), statement.elapsed)

    async def prepare(connection: asyncpg.Connection) -> None:
        await register_vector_codec(connection)
        connection.add_query_logger(tell)

    return prepare


def _statement_timeout(deadline: float | None) -> str:
    if deadline is None:
        return ""
    remaining = deadline - asyncio.get_running_loop().time()
    if remaining <= 0:
        raise DeadlineExceeded("the deadline passed before the database was asked")
    return f"SET LOCAL statement_timeout = {max(1, int(remaining * 1000))};"
