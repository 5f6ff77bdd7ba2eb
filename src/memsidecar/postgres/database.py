"""Connections. ``Database.tenant`` is the only way to a connection that sees tenants' rows."""

from __future__ import annotations

import asyncio
import logging
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeAlias

import asyncpg

from memsidecar.domain.errors import DatabaseBusy, DatabaseUnavailable, DeadlineExceeded
from memsidecar.domain.fair_share import FairShare
from memsidecar.domain.observation import UNOBSERVED, PoolUse, Stage
from memsidecar.postgres.errors import DRIVER_ERRORS, connection_error, domain_error
from memsidecar.postgres.locks import lock_statements
from memsidecar.postgres.probe import PROBE_SECONDS, DatabaseProbe
from memsidecar.postgres.queries import statement_name
from memsidecar.postgres.vectors import register_vector_codec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
    from uuid import UUID

    from memsidecar.domain.observation import Observer
    from memsidecar.postgres.locks import AdvisoryLock

_LOGGER = logging.getLogger(__name__)

Connection: TypeAlias = asyncpg.pool.PoolConnectionProxy

ERASER_ROLE = "memsidecar_eraser"
"""The role that alone may delete what is append-only."""


ROLL_BACK_SECONDS: Final = 2.0
"""How long a failed or cancelled transaction may take to be rolled back before its connection is given up."""

IDLE_IN_TRANSACTION_SECONDS: Final = 10
"""After this the server ends a transaction whose client fell silent, and frees what it had locked."""

SHORTEST_OUTAGE_SECONDS: Final = 2.5
STUCK_SECONDS: Final = 2.0
"""After an outage of that length every connection is replaced, and what then still waits for an answer from before is
given up after so long: packets that were lost without a word are not answered by a database that is back."""

_COMMIT: Final = "/* COMMIT */ SET LOCAL statement_timeout = 0; COMMIT"
"""A COMMIT that a timeout interrupts while it waits for a synchronous standby reports success without one. And where an
error was passed over, the setting fails instead of a COMMIT that would quietly roll back."""


async def _keep_session_state(_connection: asyncpg.Connection) -> None:
    """Replace asyncpg's reset on release, which costs a round trip.

    Everything set here is set LOCAL and ends with its transaction; a test holds that nothing survives. A transaction
    that is still open, which should not happen, asyncpg rolls back all the same.
    """


@dataclass(eq=False, slots=True)
class _Loan:
    """A connection in use."""

    connection: Connection
    holder: UUID | None
    since: float
    """Event loop time."""


class Database:
    """A pool of connections of one role, shared fairly among tenants."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        probe: DatabaseProbe,
        *,
        acquire_timeout: float,
        longest_statement: float | None = None,
        role: str | None = None,
        observer: Observer = UNOBSERVED,
    ) -> None:
        self._pool = pool
        self._probe = probe
        self._share = FairShare(pool.get_max_size())
        self._acquire_timeout = acquire_timeout
        self._longest_statement = longest_statement
        self._role_setting = "" if role is None else f"SET LOCAL ROLE {role};"
        self._observer = observer
        self._loans: set[_Loan] = set()
        self._rolling_back: set[asyncio.Task[None]] = set()
        self._silent_since: float | None = None

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
        longest_statement: float | None = None,
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
            longest_statement: Seconds a statement may take, whatever the caller's deadline; None for any length.
            role: Role that every transaction takes on, of which the login role is a member; None for the login role.
            observer: Is told how long connections are waited for and transactions take.

        Raises:
            DatabaseUnavailable: Nothing answers at the address.
            SetupError: The server has no room, or refuses the user, the password or the database.
        """
        settings = {
            "statement_cache_size": statement_cache_size,
            "server_settings": {"application_name": "memsidecar"},
        }
        try:
            pool = await asyncpg.create_pool(
                url,
                min_size=min_connections,
                max_size=max_connections,
                timeout=connect_timeout,
                command_timeout=None if longest_statement is None else longest_statement + ROLL_BACK_SECONDS,
                init=_preparation(observer),
                reset=_keep_session_state,
                **settings,
            )
        except DRIVER_ERRORS as error:
            raise connection_error(error) or error from error
        probe = DatabaseProbe(lambda: asyncpg.connect(url, timeout=PROBE_SECONDS, **settings))
        return cls(
            pool,
            probe,
            acquire_timeout=acquire_timeout,
            longest_statement=longest_statement,
            role=role,
            observer=observer,
        )

    def use(self) -> PoolUse:
        """Tell how the pool is doing."""
        idle = self._pool.get_idle_size()
        return PoolUse(self._pool.get_size() - idle, idle, self._pool.get_max_size(), self._share.waiting)

    async def close(self, *, timeout_seconds: float = 5.0) -> None:
        """Give running statements a moment, then close every connection."""
        self._probe.close()
        try:
            async with asyncio.timeout(timeout_seconds):
                await asyncio.gather(*self._rolling_back)
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    async def answers(self) -> bool:
        """Tell whether the database answers and takes writes, however busy the pool is.

        To be asked every second or so: connections that an outage left behind are replaced when it ends.
        """
        answers = await self._probe.answers()
        now = asyncio.get_running_loop().time()
        if not answers:
            self._silent_since = self._silent_since or now
        elif self._silent_since is not None:
            if now - self._silent_since >= SHORTEST_OUTAGE_SECONDS:
                await self._pool.expire_connections()
                asyncio.get_running_loop().call_later(STUCK_SECONDS, self._give_up, now)
            self._silent_since = None
        return answers

    def _give_up(self, before: float) -> None:
        for loan in self._loans:
            if loan.since < before:
                _terminate(loan.connection)

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
        async with self._transaction(tenant_id, setting, deadline) as connection:
            yield connection

    @asynccontextmanager
    async def control(self, *, deadline: float | None = None) -> AsyncIterator[Connection]:
        """Run a transaction without a tenant: it sees no tenant's rows, only the control plane's functions.

        Raises: As ``tenant``.
        """
        async with self._transaction(None, "", deadline) as connection:
            yield connection

    @asynccontextmanager
    async def _transaction(
        self, holder: UUID | None, setting: str, deadline: float | None
    ) -> AsyncIterator[Connection]:
        try:
            with ExitStack() as measured:
                loan = await self._begin(holder, setting, deadline, measured)
                try:
                    yield loan.connection
                    await loan.connection.execute(_COMMIT)
                except BaseException:
                    await self._roll_back(loan)
                    raise
                await self._give_back(loan)
        except DRIVER_ERRORS as error:
            if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
                # These connections lead to what is a standby now; new ones find the primary.
                await self._pool.expire_connections()
            translated = domain_error(error)
            if translated is None:
                raise
            raise translated from error

    async def _begin(
        self, holder: UUID | None, setting: str, deadline: float | None, measured: ExitStack
    ) -> _Loan:
        """Begin a transaction on a connection that lives: those that died while nobody used them are passed over."""
        tries = self._pool.get_max_size()
        while True:
            loan = await self._borrow(holder, deadline)
            measured.enter_context(self._observer.stage(Stage.DATABASE))
            try:
                await loan.connection.execute(self._begin_statements(setting, deadline))
            except BaseException as error:
                measured.close()
                await self._roll_back(loan)
                lost = isinstance(domain_error(error), DatabaseUnavailable) and not isinstance(
                    error, TimeoutError
                )
                if not lost or not tries:
                    raise
                tries -= 1
            else:
                return loan

    def _begin_statements(self, setting: str, deadline: float | None) -> str:
        seconds = [] if self._longest_statement is None else [self._longest_statement]
        if deadline is not None:
            seconds.append(_remaining(deadline))
        timeout = f"SET LOCAL statement_timeout = {max(1, int(min(seconds) * 1000))};" if seconds else ""
        return (
            f"BEGIN; {self._role_setting} SET LOCAL jit = off;"
            f" SET LOCAL idle_in_transaction_session_timeout = '{IDLE_IN_TRANSACTION_SECONDS}s';"
            f" {timeout} {setting}"
        )

    async def _borrow(self, holder: UUID | None, deadline: float | None) -> _Loan:
        loop = asyncio.get_running_loop()
        patience = self._acquire_timeout
        if deadline is not None:
            patience = min(patience, _remaining(deadline))
        ends = loop.time() + patience
        with self._observer.stage(Stage.POOL):
            try:
                await self._share.take(holder, patience)
            except TimeoutError as error:
                raise DatabaseBusy(
                    f"this caller's share of the {self._pool.get_max_size()} database connections is in use: repeat"
                    " the call after the given delay, or raise the pool size or the number of replicas",
                    retry_after=timedelta(seconds=1),
                ) from error
            try:
                connection = await self._pool.acquire(timeout=max(ends - loop.time(), 0.001))
            except BaseException as error:
                self._share.give_back(holder)
                if isinstance(error, asyncpg.PostgresError):
                    raise domain_error(error) or DatabaseUnavailable(
                        f"the database refuses connections (SQLSTATE {error.sqlstate}): look at its log"
                    ) from error
                raise
        loan = _Loan(connection, holder, loop.time())
        self._loans.add(loan)
        return loan

    async def _roll_back(self, loan: _Loan) -> None:
        """Undo what a loan did and give it back, in a task of its own that no further cancellation stops."""
        task = asyncio.create_task(self._roll_back_and_give_back(loan))
        self._rolling_back.add(task)
        task.add_done_callback(self._rolling_back.discard)
        await asyncio.shield(task)

    async def _roll_back_and_give_back(self, loan: _Loan) -> None:
        try:
            async with asyncio.timeout(ROLL_BACK_SECONDS):
                await loan.connection.execute("ROLLBACK")
        except DRIVER_ERRORS:
            # Nobody knows what state it is in. Closing it ends the transaction too.
            _terminate(loan.connection)
        finally:
            await self._give_back(loan)

    async def _give_back(self, loan: _Loan) -> None:
        try:
            await self._pool.release(loan.connection, timeout=ROLL_BACK_SECONDS)
        except DRIVER_ERRORS:
            _LOGGER.warning("a database connection could not be used again and was closed", exc_info=True)
        finally:
            self._loans.discard(loan)
            self._share.give_back(loan.holder)


def _terminate(connection: Connection) -> None:
    with suppress(asyncpg.InterfaceError):  # it is closed already
        connection.terminate()


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


def _remaining(deadline: float) -> float:
    remaining = deadline - asyncio.get_running_loop().time()
    if remaining <= 0:
        raise DeadlineExceeded("the deadline passed before the database was asked")
    return remaining
