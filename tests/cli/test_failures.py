"""What stands in a server's way, for real: each says what is wrong and what to do, in a sentence, and ends with 1."""

from __future__ import annotations

import asyncio
import re
import shutil
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import asyncpg
import pytest

from memsidecar.app import run_sidecar
from memsidecar.client import AsyncMemoryClient
from memsidecar.config import Config
from memsidecar.embedding.model_files import Precision, graph_file, installed_directory
from memsidecar.postgres.embedded import temporary_postgres
from memsidecar.postgres.embedded.urls import APP, ERASER, OWNER, SUPERUSER
from memsidecar.postgres.migrations import migrate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from memsidecar.embedding.engine import OnnxEmbedder
    from memsidecar.postgres.embedded.urls import DatabaseUrls
    from tests.cli.conftest import Outcome
    from tests.conftest import TestDatabase

    Command = Callable[..., Outcome]
    Serve = Callable[[str], Outcome]

SENTENCES = re.compile(r"error: [A-Za-z/].*[.!?]\n(       .*[.!?]\n)?")


@pytest.fixture
def serve(memsidecar_here: Command, monkeypatch: pytest.MonkeyPatch, model_directory: Path) -> Serve:
    """Try to serve from a database that does not allow it."""

    def run(url: str) -> Outcome:
        monkeypatch.setenv("DATABASE_URL", url)
        outcome = memsidecar_here("serve", "--listen", "127.0.0.1:0", "--model-directory", model_directory)
        assert outcome.code == 1
        assert SENTENCES.fullmatch(outcome.errors), outcome.errors
        return outcome

    return run


def test_a_database_that_is_not_there(serve: Serve) -> None:
    outcome = serve("postgresql://ada:secret-word@127.0.0.1:1/memory")
    assert "The database at 127.0.0.1:1, database memory cannot be reached." in outcome.errors
    assert "secret-word" not in outcome.errors


def test_a_database_that_does_not_exist(serve: Serve, postgres_urls: DatabaseUrls) -> None:
    outcome = serve(postgres_urls.for_role(OWNER, "nowhere"))
    assert "does not exist" in outcome.errors


def test_a_user_that_does_not_exist(serve: Serve, test_database: TestDatabase) -> None:
    outcome = serve(test_database.urls.for_role("nobody_we_know", test_database.name))
    assert "does not let this user in" in outcome.errors


def test_a_superuser(serve: Serve, test_database: TestDatabase) -> None:
    outcome = serve(test_database.superuser_url)
    assert "is a superuser" in outcome.errors
    assert "plain login role" in outcome.errors


@pytest.fixture
async def empty_database(postgres_urls: DatabaseUrls) -> AsyncIterator[str]:
    connection = await asyncpg.connect(postgres_urls.for_role(SUPERUSER, "postgres"))
    await connection.execute(f"CREATE DATABASE test_empty OWNER {OWNER}")
    yield postgres_urls.for_role(OWNER, "test_empty")
    await connection.execute("DROP DATABASE test_empty WITH (FORCE)")
    await connection.close()


def test_a_database_that_was_never_migrated(serve: Serve, empty_database: str) -> None:
    outcome = serve(empty_database)
    assert "Run 'memsidecar migrate'" in outcome.errors


def test_a_database_without_a_free_connection(serve: Serve, test_database: TestDatabase) -> None:
    limit_connections(test_database, 0)
    try:
        outcome = serve(test_database.app_url)
        assert "accepts no more connections" in outcome.errors
        assert "MEMSIDECAR_POOL_SIZE" in outcome.errors
    finally:
        limit_connections(test_database, -1)


def limit_connections(database: TestDatabase, limit: int) -> None:
    async def alter() -> None:
        administrator = await asyncpg.connect(database.superuser_url)
        await administrator.execute(f"ALTER DATABASE {database.name} CONNECTION LIMIT {limit}")
        await administrator.close()

    asyncio.run(alter())


def test_a_pool_that_does_not_fit_is_found_by_check(
    memsidecar_here: Command,
    test_database: TestDatabase,
    monkeypatch: pytest.MonkeyPatch,
    model_directory: Path,
) -> None:
    monkeypatch.setenv("DATABASE_URL", test_database.app_url)
    monkeypatch.setenv("MEMSIDECAR_POOL_SIZE", "400")
    checked = memsidecar_here("check", "--no-server", "--model-directory", model_directory)
    assert checked.code == 1
    assert "WRONG  pool" in checked.output
    assert "a pool of 400 does not fit" in checked.output


def test_a_model_that_cannot_be_fetched(
    memsidecar_here: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MEMSIDECAR_MODEL_SOURCE", str(tmp_path / "nothing-here"))
    outcome = memsidecar_here("serve", "--listen", "127.0.0.1:0", "--model-directory", tmp_path / "models")
    assert outcome.code == 1
    assert "there is no such directory" in outcome.errors
    assert "memsidecar model install --source DIRECTORY" in outcome.errors


def test_a_damaged_model_is_refused_by_name(
    memsidecar_here: Command, model_directory: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "models"
    shutil.copytree(installed_directory(model_directory), installed_directory(damaged))
    graph = installed_directory(damaged) / graph_file(Precision.INT8)
    graph.write_bytes(graph.read_bytes()[:-1] + b"?")
    outcome = memsidecar_here("serve", "--listen", "127.0.0.1:0", "--model-directory", damaged)
    assert outcome.code == 1
    assert f"{graph} is not the file that was installed" in outcome.errors
    assert "Run `memsidecar model install`." in outcome.errors
    checked = memsidecar_here("check", "--no-server", "--model-directory", damaged)
    assert checked.code == 1
    assert "WRONG  model" in checked.output


def test_bad_settings_are_all_named(memsidecar_here: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMSIDECAR_POOL_SIZE", "many")
    monkeypatch.setenv("DATABASE_URL", "mysql://somewhere")
    outcome = memsidecar_here("serve")
    assert outcome.code == 1
    assert "DATABASE_URL is not a database URL" in outcome.errors
    assert "MEMSIDECAR_POOL_SIZE is 'many'" in outcome.errors
    assert "somewhere" not in outcome.errors


def test_an_open_server_on_the_network_is_refused(
    memsidecar_here: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMSIDECAR_AUTHENTICATION", "none")
    outcome = memsidecar_here("serve", "--listen", "0.0.0.0:0")
    assert outcome.code == 1
    assert "can be reached from other machines" in outcome.errors


async def test_a_database_that_stops_under_a_running_server(
    memsidecar: Callable[..., Awaitable[Outcome]], embedder: OnnxEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncExitStack() as stack:
        postgres = await stack.enter_async_context(temporary_postgres())
        await migrate(postgres.urls.owner_url, app_login=APP, eraser_login=ERASER)
        monkeypatch.setenv("DATABASE_URL", postgres.urls.app_url)
        config = Config.from_environment(listen="127.0.0.1:0")
        sidecar = await stack.enter_async_context(run_sidecar(config, embedder))
        assert (await memsidecar("recall", "--server", sidecar.address, "anything")).code == 0
        await postgres.stop()

        recalled = await memsidecar("recall", "--server", sidecar.address, "anything")
        assert recalled.code == 1
        assert "database" in recalled.errors
        assert "Find out why with 'memsidecar check'." in recalled.errors
        async with asyncio.timeout(30), AsyncMemoryClient(sidecar.address) as client:
            while await client.health():  # noqa: ASYNC110 - what is waited for happens in the server
                await asyncio.sleep(0.1)
        checked = await memsidecar("check", "--listen", sidecar.address)
        assert checked.code == 1
        assert "WRONG  database" in checked.output
        assert "runs but is not serving" in checked.output


def test_check_says_what_is_missing_before_the_first_start(memsidecar_here: Command, tmp_path: Path) -> None:
    checked = memsidecar_here(
        "check", "--data-directory", tmp_path / "data", "--model-directory", tmp_path / "models"
    )
    assert checked.code == 1
    assert "WRONG  model" in checked.output
    assert "none yet; 'memsidecar serve' makes one" in checked.output
    assert "WRONG  server" in checked.output
    assert "Start one with 'memsidecar serve'" in checked.output
