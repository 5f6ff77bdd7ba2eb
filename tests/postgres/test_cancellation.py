"""Cancelled calls, lost connections and silent networks: connections come back clean, or not at all."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import pytest

from benchmarks.fault_proxy import Fault, fault_proxy
from memsidecar.domain.errors import DatabaseBusy, DatabaseUnavailable, DeadlineExceeded, DomainError
from memsidecar.postgres import database as database_module
from memsidecar.postgres.database import Database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.conftest import TestDatabase


@pytest.fixture
async def superuser(test_database: TestDatabase) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(test_database.superuser_url)
    yield connection
    await connection.close()


async def busy_backends(superuser: asyncpg.Connection) -> int:
    """Count the backends of the pool that run something or are in a transaction."""
    count = await superuser.fetchval(
        """
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'memsidecar' AND state <> 'idle'
        """
    )
    return int(count)


async def until_idle(superuser: asyncpg.Connection) -> None:
    async with asyncio.timeout(10):
        while await busy_backends(superuser):  # noqa: ASYNC110 - what is waited for is in another process
            await asyncio.sleep(0.02)


async def test_a_cancelled_call_frees_its_connection_and_its_statement(
    test_database: TestDatabase, superuser: asyncpg.Connection, tenant_id: UUID
) -> None:
    database = await Database.connect(test_database.app_url, max_connections=1)

    async def sleep() -> None:
        async with database.tenant(tenant_id) as connection:
            await connection.execute("SELECT pg_sleep(600)")

    for _ in range(3):
        call = asyncio.create_task(sleep())
        async with asyncio.timeout(10):
            while not await busy_backends(superuser):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        async with asyncio.timeout(5), database.control() as connection:
            assert await connection.fetchval("SELECT 1") == 1
    await until_idle(superuser)
    await database.close()


@pytest.mark.parametrize("seed", range(4))
async def test_a_storm_of_cancellations_leaves_nothing_behind(
    test_database: TestDatabase,
    superuser: asyncpg.Connection,
    new_tenant: Callable[..., Awaitable[UUID]],
    seed: int,
) -> None:
    """Calls are cancelled at every moment, some twice, and connections are killed under them.

    Whoever gets a connection sees its own tenant and nothing of a transaction before; what was cancelled was not
    stored; and afterwards every connection is there and idle.
    """
    chance = random.Random(seed)
    tenants = [await new_tenant() for _ in range(4)]
    database = await Database.connect(test_database.app_url, max_connections=4)
    wrong: list[object] = []

    async def work(tenant_id: UUID, number: int) -> None:
        async with database.tenant(tenant_id) as connection:
            begun_before = await connection.fetchval(
                "SELECT now() < clock_timestamp() - interval '5 seconds'"
            )
            seen = [row["id"] for row in await connection.fetch("SELECT id FROM tenants")]
            if begun_before or seen != [tenant_id]:
                wrong.append(seen)
            await connection.execute(
                "INSERT INTO user_memories (tenant_id, user_id, memory, revision, updated_by)"
                " VALUES ($1, $2, 'x', 1, 'x')",
                tenant_id,
                f"{number}",
            )
            if chance.random() < 0.3:
                await connection.execute("SELECT pg_sleep($1)", chance.random() * 0.02)
            if chance.random() < 0.1:
                await connection.execute("SELECT 1/0")

    done: set[int] = set()

    async def call(number: int) -> None:
        with suppress(DomainError, asyncpg.DivisionByZeroError):
            await work(chance.choice(tenants), number)
            done.add(number)

    tasks: list[asyncio.Task[None]] = []
    for number in range(300):
        tasks.append(asyncio.create_task(call(number)))
        await asyncio.sleep(chance.random() * 0.004)
        for victim in chance.sample(tasks[-20:], min(len(tasks), 4)):
            if chance.random() < 0.4:
                victim.cancel()
        if chance.random() < 0.02:
            await superuser.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'memsidecar'"
                " AND datname = current_database() ORDER BY random() LIMIT 1"
            )
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    defects = [each for each in outcomes if not isinstance(each, asyncio.CancelledError | None)]
    assert defects == []
    assert wrong == []
    assert len(done) > 20
    stored = {int(row["user_id"]) for row in await superuser.fetch("SELECT user_id FROM user_memories")}
    assert done <= stored
    await until_idle(superuser)
    use = database.use()
    assert (use.in_use, use.waiting) == (0, 0)
    async with asyncio.timeout(5):
        await asyncio.gather(*(_ping(database, tenant) for tenant in tenants for _ in range(5)))
    await database.close()


async def _ping(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as connection:
        assert await connection.fetchval("SELECT id FROM tenants") == tenant_id


async def _reached(database: Database, tenant_id: UUID) -> bool:
    try:
        await _ping(database, tenant_id)
    except (DatabaseUnavailable, DatabaseBusy):
        return False
    return True


async def test_an_open_transaction_never_reaches_whoever_has_the_connection_next(
    test_database: TestDatabase, tenant_id: UUID
) -> None:
    """Whatever goes wrong with the rolling back: this is the last line of defence."""
    database = await Database.connect(test_database.app_url, max_connections=1)
    connection = await database._pool.acquire()
    await connection.execute(f"BEGIN; SET LOCAL app.current_tenant = '{tenant_id}'")
    await database._pool.release(connection)
    async with database.control() as another:
        assert await another.fetchval("SELECT count(*) FROM tenants") == 0
    await database.close()


async def test_an_error_that_is_passed_over_does_not_end_as_a_commit(
    test_database: TestDatabase, tenant_id: UUID
) -> None:
    database = await Database.connect(test_database.app_url, max_connections=1)

    async def pass_over() -> None:
        async with database.tenant(tenant_id) as connection:
            with suppress(asyncpg.DivisionByZeroError):
                await connection.execute("SELECT 1/0")

    with pytest.raises(asyncpg.InFailedSQLTransactionError):
        await pass_over()
    await database.close()


async def test_one_slow_tenant_cannot_take_the_pool(
    test_database: TestDatabase, new_tenant: Callable[..., Awaitable[UUID]]
) -> None:
    slow, other = await new_tenant(), await new_tenant()
    database = await Database.connect(test_database.app_url, max_connections=4, acquire_timeout=30)

    async def sleep() -> None:
        async with database.tenant(slow) as connection:
            await connection.execute("SELECT pg_sleep(600)")

    calls = [asyncio.create_task(sleep()) for _ in range(50)]
    await asyncio.sleep(0.2)
    assert database.use().waiting == 47
    async with asyncio.timeout(5):
        await asyncio.gather(*(_ping(database, other) for _ in range(20)))
        async with database.control() as connection:
            assert await connection.fetchval("SELECT 1") == 1
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await database.close()


async def test_a_statement_ends_by_itself_without_a_deadline(
    test_database: TestDatabase, tenant_id: UUID, superuser: asyncpg.Connection
) -> None:
    database = await Database.connect(test_database.app_url, max_connections=1, longest_statement=0.2)
    with pytest.raises(DeadlineExceeded):
        async with database.tenant(tenant_id) as connection:
            await connection.execute("SELECT pg_sleep(600)")
    await until_idle(superuser)
    await database.close()


async def test_a_client_that_falls_silent_does_not_keep_its_locks(
    test_database: TestDatabase, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "IDLE_IN_TRANSACTION_SECONDS", 1)
    database = await Database.connect(test_database.app_url, max_connections=1)

    async def fall_silent() -> None:
        async with database.tenant(tenant_id) as connection:
            await asyncio.sleep(1.5)
            await connection.execute("SELECT 1")

    with pytest.raises(DatabaseUnavailable):
        await fall_silent()
    await database.close()


async def test_a_network_that_swallows_everything_is_noticed_and_healed(
    test_database: TestDatabase, tenant_id: UUID, superuser: asyncpg.Connection
) -> None:
    """While packets vanish, calls end by their deadlines; when they pass again, it takes seconds, not a restart."""
    async with fault_proxy(test_database.app_url) as (proxy, url):
        database = await Database.connect(
            url, min_connections=3, max_connections=3, acquire_timeout=1, connect_timeout=1
        )
        assert await database.answers()
        proxy.fault = Fault.BLACK_HOLE
        loop = asyncio.get_running_loop()
        # Without deadlines of their own they hang on what they are at, until it is known to be lost.
        hanging = [asyncio.create_task(_ping(database, tenant_id)) for _ in range(2)]
        await asyncio.sleep(0.1)
        for _ in range(2):
            assert not await database.answers()
            with pytest.raises((DatabaseUnavailable, DatabaseBusy, TimeoutError)):
                async with asyncio.timeout(1):
                    await _ping(database, UUID(int=7))
        proxy.fault = Fault.NONE
        back = loop.time()
        async with asyncio.timeout(5):
            while not await database.answers():  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            while not await _reached(database, tenant_id):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            outcomes = await asyncio.gather(*hanging, return_exceptions=True)
        assert loop.time() - back < 5
        assert all(outcome is None or isinstance(outcome, DatabaseUnavailable) for outcome in outcomes), (
            outcomes
        )
        await asyncio.gather(*(_ping(database, tenant_id) for _ in range(10)))
        await database.close()


async def test_connections_that_died_unused_fail_no_call(
    test_database: TestDatabase, tenant_id: UUID, superuser: asyncpg.Connection
) -> None:
    """As after a restart of the database: the first calls find a pool full of dead connections."""
    database = await Database.connect(test_database.app_url, min_connections=5, max_connections=5)
    for _ in range(3):
        await asyncio.gather(*(_ping(database, tenant_id) for _ in range(5)))
        killed = await superuser.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'memsidecar'"
            " AND datname = current_database()"
        )
        assert len(killed) >= 2
        await asyncio.gather(*(_ping(database, tenant_id) for _ in range(5)))
    await database.close()


async def test_cut_connections_are_made_anew(test_database: TestDatabase, tenant_id: UUID) -> None:
    async with fault_proxy(test_database.app_url) as (proxy, url):
        database = await Database.connect(url, max_connections=3, acquire_timeout=1)
        for _ in range(5):
            calls = [asyncio.create_task(_ping(database, tenant_id)) for _ in range(6)]
            await asyncio.sleep(random.random() * 0.01)
            proxy.reset()
            for outcome in await asyncio.gather(*calls, return_exceptions=True):
                assert outcome is None or isinstance(outcome, DatabaseUnavailable)
            await _ping(database, tenant_id)
        proxy.fault = Fault.REFUSE
        proxy.reset()
        with pytest.raises(DatabaseUnavailable):
            await _ping(database, tenant_id)
        assert not await database.answers()
        proxy.fault = Fault.NONE
        await _ping(database, tenant_id)
        assert await database.answers()
        await database.close()
