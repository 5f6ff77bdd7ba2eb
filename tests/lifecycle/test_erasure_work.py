"""Erasing as work: nobody else may, crashes and open transactions lose nothing, and the space is given back."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import pytest

from memsidecar.domain.document_reading import ReadDocument
from memsidecar.domain.documents import DocumentType
from memsidecar.domain.erasure import Erasure, Erasures, ErasureStatus
from memsidecar.domain.erasure_worker import ErasureLeaseLost, ErasureWorker
from memsidecar.domain.identifiers import new_uuid7
from memsidecar.domain.ingestion_worker import LeaseLost
from memsidecar.postgres.database import Database
from memsidecar.postgres.erasure_work_store import PostgresErasureWorkStore
from memsidecar.postgres.ingestion_work_store import PostgresIngestionWorkStore
from memsidecar.postgres.reclaimer import PostgresReclaimer
from tests.lifecycle.people import add_job_document, rows_by_table, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from memsidecar.domain.caller import Caller
    from tests.conftest import TestDatabase


@pytest.mark.parametrize("name", ["app", "owner"])
async def test_nobody_but_the_eraser_can_erase(
    test_database: TestDatabase, peopled: Caller, worker: ErasureWorker, requests: Erasures, name: str
) -> None:
    """The same statements as the app role, and as the owner, end in a refusal by the database."""
    await requests.erase_user(peopled, "ann", reason="", request_id="")
    url = {"app": test_database.app_url, "owner": test_database.owner_url}[name]
    pool = await Database.connect(url, max_connections=1)
    impostor = PostgresErasureWorkStore(pool)

    async def erase() -> None:
        held = await impostor.claim(new_uuid7(), timedelta(seconds=30))
        assert held is not None
        await impostor.delete_turns(held, await impostor.find_turns(held, limit=10))

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await erase()
    await pool.close()


async def test_an_erasure_is_resumed_by_another_worker_after_a_crash(
    requests: Erasures,
    peopled: Caller,
    eraser: Database,
    superuser: asyncpg.Connection,
    worker: ErasureWorker,
) -> None:
    asked = await requests.erase_user(peopled, "ann", reason="", request_id="")
    store = PostgresErasureWorkStore(eraser)
    held = await store.claim(new_uuid7(), timedelta(seconds=0))
    assert held is not None
    rows = await store.find_turns(held, limit=3)
    await store.delete_turns(held, rows)
    # The first worker is never heard of again; its lease was renewed by its last transaction.
    assert await worker.finish_all() == 0
    await superuser.execute("UPDATE erasures SET lease_expires_at = now() - interval '1 second'")
    assert await worker.finish_all() == 1
    erasure = await requests.get(peopled, asked.erasure_id)
    assert erasure.status is ErasureStatus.COMPLETED
    assert erasure.erased["conversation_embeddings"] == 5
    with pytest.raises(ErasureLeaseLost):
        await store.delete_turns(held, rows)


async def test_a_worker_that_is_stopped_gives_its_erasure_back(
    requests: Erasures,
    peopled: Caller,
    eraser: Database,
    worker: ErasureWorker,
    superuser: asyncpg.Connection,
) -> None:
    """An open transaction keeps the first worker waiting; once stopped, another can go on at once."""
    blocker = superuser.transaction()
    await blocker.start()
    await superuser.execute("SELECT 1")
    asked = await requests.erase_user(peopled, "ann", reason="", request_id="")
    worker.start()

    async def has_begun() -> bool:
        return bool((await requests.get(peopled, asked.erasure_id)).erased)

    await until(has_begun)
    await worker.stop()
    await blocker.rollback()
    assert await worker.finish_all() == 1
    assert (await requests.get(peopled, asked.erasure_id)).status is ErasureStatus.COMPLETED


async def test_rows_of_transactions_that_were_open_are_waited_for(
    requests: Erasures, peopled: Caller, worker: ErasureWorker, test_database: TestDatabase, model_id: int
) -> None:
    late = await asyncpg.connect(test_database.app_url)
    await late.execute(f"BEGIN; SET LOCAL app.current_tenant = '{peopled.tenant_id}'")
    asked = await requests.erase_user(peopled, "ann", reason="", request_id="")
    working = asyncio.create_task(worker.finish_all())

    async def has_begun() -> bool:
        return bool((await requests.get(peopled, asked.erasure_id)).erased)

    await until(has_begun)
    await late.execute(
        "INSERT INTO conversation_embeddings (tenant_id, id, turn_id, agent_id, user_id, conversation_id, role,"
        " content, token_count, model_id, embedding) VALUES ($1, $2, $2, $2, 'ann', 'C', 'user', 'late', 3, $3,"
        " array_fill(0.05, ARRAY[384])::vector)",
        peopled.tenant_id,
        uuid4(),
        model_id,
    )
    assert not working.done()
    await late.execute("COMMIT")
    assert await late.fetchval("SELECT 1") == 1
    await late.close()
    await working
    erasure = await requests.get(peopled, asked.erasure_id)
    assert erasure.status is ErasureStatus.COMPLETED
    assert erasure.erased["conversation_embeddings"] == 6


async def test_an_erasure_that_fails_says_so_and_goes_on_when_repeated(
    requests: Erasures,
    peopled: Caller,
    eraser: Database,
    worker: ErasureWorker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = await requests.erase_user(peopled, "ann", reason="", request_id="")

    async def breaks(*_arguments: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as broken:
        broken.setattr(PostgresErasureWorkStore, "delete_turns", breaks)
        assert await worker.finish_all() == 1
    failed = await requests.get(peopled, asked.erasure_id)
    assert (failed.status, failed.error) == (ErasureStatus.FAILED, "an error that the server's log describes")
    assert await worker.finish_all() == 0
    resumed = await requests.erase_user(peopled, "ann", reason="", request_id="")
    assert (resumed.erasure_id, resumed.status) == (asked.erasure_id, ErasureStatus.RUNNING)
    assert await worker.finish_all() == 1
    assert (await requests.get(peopled, asked.erasure_id)).status is ErasureStatus.COMPLETED


async def test_an_ingestion_under_way_stores_nothing_of_a_forgotten_user(
    erasures: Erasures, caller: Caller, database: Database, superuser: asyncpg.Connection, model_id: int
) -> None:
    assert caller.tenant_id is not None
    job_id = uuid4()
    await superuser.execute(f"SET app.current_tenant = '{caller.tenant_id}'")
    await superuser.execute(
        "INSERT INTO ingestion_jobs (tenant_id, id, total, requested_by) VALUES ($1, $2, 3, 'test')",
        caller.tenant_id,
        job_id,
    )
    for position, user_id in enumerate(["ann", "bob", "ann"]):
        await add_job_document(superuser, caller.tenant_id, job_id, position, user_id, "queued")
    work = PostgresIngestionWorkStore(database, model_id=model_id)
    job = await work.claim(new_uuid7(), timedelta(seconds=30))
    assert job is not None
    assert await work.start(job, 0) is not None
    erasure = await erasures.erase_user(caller, "ann", reason="", request_id="")
    assert erasure.erased == {"ingestion_job_documents": 2}
    document = ReadDocument(DocumentType.TEXT, "title", titled=True, content="secret", passages=())
    with pytest.raises(LeaseLost):
        await work.store(job, 0, document, [])
    assert await rows_by_table(superuser, "user_id = 'ann'") == {}
    assert await work.start(job, 1) is not None
    await work.fail(job, 1, "unreadable")
    row = await superuser.fetchrow("SELECT status, total, processed, failed FROM ingestion_jobs")
    assert tuple(row) == ("failed", 1, 0, 1)


async def test_a_job_with_nothing_left_to_do_ends(
    erasures: Erasures, caller: Caller, superuser: asyncpg.Connection
) -> None:
    assert caller.tenant_id is not None
    job_id = uuid4()
    await superuser.execute(f"SET app.current_tenant = '{caller.tenant_id}'")
    await superuser.execute(
        "INSERT INTO ingestion_jobs (tenant_id, id, total, processed, failed, requested_by, errors) VALUES"
        ' ($1, $2, 3, 1, 1, \'test\', \'[{"document": "key 1", "error": "x"}]\')',
        caller.tenant_id,
        job_id,
    )
    for position, (user_id, status) in enumerate(
        [("bob", "completed"), ("ann", "failed"), ("ann", "queued")]
    ):
        await add_job_document(superuser, caller.tenant_id, job_id, position, user_id, status)
    await erasures.erase_user(caller, "ann", reason="", request_id="")
    row = await superuser.fetchrow(
        "SELECT status, total, processed, failed, errors, finished_at IS NULL FROM ingestion_jobs"
    )
    assert tuple(row) == ("completed", 1, 1, 0, "[]", False)


async def test_the_space_is_vacuumed_and_the_receipt_says_so(
    erasures: Erasures, worker: ErasureWorker, peopled: Caller, superuser: asyncpg.Connection
) -> None:
    asked = await erasures.erase_user(peopled, "ann", reason="", request_id="")

    async def is_vacuumed() -> bool:
        return (await erasures.get(peopled, asked.erasure_id)).vacuumed_at is not None

    await until(is_vacuumed)
    vacuumed = {
        row["relname"]
        for row in await superuser.fetch(
            "SELECT relname::text FROM pg_stat_user_tables WHERE last_vacuum IS NOT NULL AND n_dead_tup = 0"
        )
    }
    assert set(asked.erased) | {"erasures"} <= vacuumed


@asynccontextmanager
async def working(
    eraser: Database, urls: list[str], requests: Erasures, caller: Caller
) -> AsyncIterator[Erasure]:
    asked = await requests.erase_user(caller, "ann", reason="", request_id="")
    await ErasureWorker(PostgresErasureWorkStore(eraser), PostgresReclaimer(eraser, urls)).finish_all()
    yield await requests.get(caller, asked.erasure_id)


async def test_from_postgres_17_on_the_eraser_itself_may_vacuum(
    requests: Erasures, eraser: Database, peopled: Caller, test_database: TestDatabase
) -> None:
    async with working(eraser, [test_database.eraser_url], requests, peopled) as erasure:
        assert erasure.vacuumed_at is not None


async def test_without_a_role_that_may_vacuum_the_receipt_says_so_until_maintenance(
    requests: Erasures, eraser: Database, peopled: Caller, test_database: TestDatabase
) -> None:
    async with working(eraser, [test_database.app_url], requests, peopled) as erasure:
        assert (erasure.status, erasure.vacuumed_at) == (ErasureStatus.COMPLETED, None)
    assert await PostgresReclaimer(eraser, [test_database.owner_url]).reclaim()
    assert (await requests.get(peopled, erasure.erasure_id)).vacuumed_at is not None
