"""What every test stands on: one throwaway Postgres with a clone per test, the real model, real servers."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg
import grpc
import pytest

from memsidecar.app import run_sidecar
from memsidecar.config import Config
from memsidecar.domain.caller import TENANT_RIGHTS, Caller
from memsidecar.domain.identifiers import new_uuid7
from memsidecar.domain.tenants import TenantSettings
from memsidecar.embedding.engine import OnnxEmbedder
from memsidecar.embedding.install import install_model
from memsidecar.embedding.model_files import Precision, open_installed
from memsidecar.postgres.database import Database
from memsidecar.postgres.embedded import temporary_postgres
from memsidecar.postgres.embedded.urls import APP, ERASER, OWNER, SUPERUSER, DatabaseUrls
from memsidecar.postgres.migrations import migrate
from memsidecar.postgres.models import register_model
from memsidecar.postgres.tenant_store import PostgresTenantStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path
    from uuid import UUID

    from memsidecar.app import RunningSidecar

TEMPLATE = "template_memsidecar"


@dataclass(frozen=True, slots=True)
class TestDatabase:
    """A database of one test, and its connection URLs by role."""

    __test__ = False

    name: str
    urls: DatabaseUrls

    @property
    def app_url(self) -> str:
        return self.urls.for_role(APP, self.name)

    @property
    def owner_url(self) -> str:
        return self.urls.for_role(OWNER, self.name)

    @property
    def eraser_url(self) -> str:
        return self.urls.for_role(ERASER, self.name)

    @property
    def superuser_url(self) -> str:
        return self.urls.for_role(SUPERUSER, self.name)


@pytest.fixture(scope="session")
def postgres_urls() -> Iterator[DatabaseUrls]:
    """One Postgres for the whole run, in an event loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="test-postgres", daemon=True)
    thread.start()

    def run(awaitable: Awaitable[Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(_await(awaitable), loop).result(60)

    context = temporary_postgres({"max_connections": "200"})
    postgres = run(context.__aenter__())
    yield postgres.urls
    run(context.__aexit__(None, None, None))
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


@pytest.fixture(scope="session")
def template_database(postgres_urls: DatabaseUrls) -> str:
    """A migrated database that tests are cloned from."""

    async def make() -> None:
        connection = await asyncpg.connect(postgres_urls.for_role(SUPERUSER, "postgres"))
        await connection.execute(f"CREATE DATABASE {TEMPLATE} OWNER {OWNER}")
        await connection.close()
        connection = await asyncpg.connect(postgres_urls.for_role(SUPERUSER, TEMPLATE))
        await connection.execute("CREATE EXTENSION vector")
        await connection.close()
        await migrate(postgres_urls.for_role(OWNER, TEMPLATE), app_login=APP, eraser_login=ERASER)

    asyncio.run(make())
    return TEMPLATE


_numbers = itertools.count()


@pytest.fixture
async def test_database(postgres_urls: DatabaseUrls, template_database: str) -> AsyncIterator[TestDatabase]:
    """A fresh, migrated database for one test."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    connection = await asyncpg.connect(postgres_urls.for_role(SUPERUSER, "postgres"))
    await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template_database} OWNER {OWNER}")
    yield TestDatabase(name, postgres_urls)
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


@pytest.fixture
async def database(test_database: TestDatabase) -> AsyncIterator[Database]:
    """The app role's pool on the test's database."""
    pool = await Database.connect(test_database.app_url, max_connections=10)
    yield pool
    await pool.close()


@pytest.fixture
def new_tenant(database: Database) -> Callable[..., Awaitable[UUID]]:
    """Make a tenant and give its id."""
    numbers = itertools.count()

    async def make(name: str | None = None, settings: TenantSettings | None = None) -> UUID:
        tenant = await PostgresTenantStore(database).create(
            new_uuid7(), name or f"tenant-{next(numbers)}", settings or TenantSettings(), deadline=None
        )
        return tenant.tenant_id

    return make


@pytest.fixture
async def tenant_id(new_tenant: Callable[..., Awaitable[UUID]]) -> UUID:
    """A tenant."""
    return await new_tenant("acme")


@pytest.fixture
def caller(tenant_id: UUID) -> Caller:
    """A caller with every right of the tenant."""
    return Caller(name="test", rights=TENANT_RIGHTS, tenant_id=tenant_id)


@pytest.fixture(scope="session")
def model_directory() -> Path:
    """Where the model is installed; installs it the first time."""
    directory = Config.from_environment().model_directory
    install_model(directory)
    return directory


@pytest.fixture(scope="session")
def embedder(model_directory: Path) -> Iterator[OnnxEmbedder]:
    """The real model, as served by default."""
    precision = Precision(Config.from_environment({}).model_precision)
    engine = OnnxEmbedder(open_installed(model_directory, precision))
    yield engine
    asyncio.run(engine.close())


@pytest.fixture
async def model_id(database: Database, embedder: OnnxEmbedder) -> int:
    """The number of the model in the test's database."""
    return await register_model(database, embedder.model)


@pytest.fixture
def start_sidecar(
    test_database: TestDatabase, model_directory: Path, embedder: OnnxEmbedder, tmp_path: Path
) -> Callable[..., Any]:
    """Start a server on the test's database: ``async with start_sidecar(authentication="token") as sidecar``."""

    @asynccontextmanager
    async def start(**settings: Any) -> AsyncIterator[RunningSidecar]:
        config = Config.from_environment(
            {},
            **{
                "database_url": test_database.app_url,
                "owner_database_url": test_database.owner_url,
                "eraser_database_url": test_database.eraser_url,
                "model_directory": model_directory,
                "data_directory": tmp_path / "data",
                "listen": "127.0.0.1:0",
                "grace_seconds": 2.0,
                **settings,
            },
        )
        async with run_sidecar(config, embedder) as sidecar:
            yield sidecar

    return start


@pytest.fixture
async def sidecar(start_sidecar: Callable[..., Any]) -> AsyncIterator[RunningSidecar]:
    """A running server without authentication, on a free port of the loopback."""
    async with start_sidecar() as running:
        yield running


@pytest.fixture
async def channel(sidecar: RunningSidecar) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to the running server."""
    async with grpc.aio.insecure_channel(sidecar.address) as open_channel:
        yield open_channel
