"""The embedded Postgres, for real: started, stopped, killed, refused."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import asyncpg
import psutil
import pytest

from memsidecar.domain.errors import Problem, SetupError
from memsidecar.postgres.embedded import EmbeddedPostgres, running_urls, temporary_postgres
from memsidecar.postgres.embedded.account import Account, closed_parent
from memsidecar.postgres.embedded.directory import LOG_BYTES, DataDirectory
from memsidecar.postgres.embedded.installation import Installation, find_installation
from memsidecar.postgres.embedded.postmaster import postmaster_record
from memsidecar.postgres.embedded.settings import SETTINGS, THROWAWAY
from memsidecar.postgres.embedded.socket_directory import SOCKET_NAME, SOCKET_PATH_BYTES
from memsidecar.postgres.embedded.temporary import make_temporary_folder, temporary_parent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = os.geteuid() == 0
ORDINARY_USER = 61000
"""Any user number without an account that is not the one Postgres is run as."""
PATIENCE_SECONDS = 30.0

only_root = pytest.mark.skipif(
    not ROOT, reason="takes root: it is about what root does, or becomes other users"
)


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory that every user may pass through."""
    folder = make_temporary_folder(temporary_parent())
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def kept(place: Path) -> Path:
    """A data directory that the tests here share, because making one takes the longest."""
    path = place / "kept"

    async def make() -> None:
        async with embedded(path) as postgres:
            await execute(postgres.urls.owner_url, "CREATE TABLE kept (owner text, word text)")

    asyncio.run(make())
    return path


@pytest.fixture
def directory(kept: Path) -> DataDirectory:
    """A data directory that is not in use."""
    directory = DataDirectory(kept)
    assert not directory.postgres_alive()
    return directory


@pytest.fixture(scope="module")
def open_installation(place: Path) -> Installation:
    """Binaries that every user may run: a checkout of root's is often closed to others."""
    installation = find_installation()
    if (
        ROOT
        and closed_parent(Account(ORDINARY_USER, ORDINARY_USER), installation.program("postgres")) is not None
    ):
        installation = installation.copy_to(place / "installation")
    return installation


@pytest.fixture(scope="module")
def as_ordinary_user(open_installation: Installation) -> tuple[str, ...]:
    """Options that make a child process an ordinary user, one with an account."""
    if not ROOT:
        return ()
    return ("--user", str(pwd.getpwnam("nobody").pw_uid), "--installation", str(open_installation.root))


class Words:
    """Rows of one test in the shared data directory."""

    def __init__(self, owner: str) -> None:
        self.owner = owner

    async def add(self, url: str, word: str) -> None:
        await execute(url, f"INSERT INTO kept VALUES ('{self.owner}', '{word}')")

    async def all(self, url: str) -> list[str]:
        return list(
            await value(url, f"SELECT array_agg(word ORDER BY word) FROM kept WHERE owner = '{self.owner}'")
            or []
        )


@pytest.fixture
def words(request: pytest.FixtureRequest) -> Words:
    return Words(request.node.name)


def embedded(path: Path, **options: Any) -> EmbeddedPostgres:
    return EmbeddedPostgres(path, settings=THROWAWAY, **options)


async def execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def value(url: str, statement: str) -> Any:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in other processes
            await asyncio.sleep(0.02)


def postgres_process(directory: DataDirectory) -> int:
    record = postmaster_record(directory.cluster)
    assert record is not None
    return record.process_id


def started_as_postgres(directory: DataDirectory, *command: str | Path) -> subprocess.Popen[bytes]:
    """Start a program as the user Postgres runs as."""
    owner = directory.cluster.stat()
    user = {"user": owner.st_uid, "group": owner.st_gid} if ROOT else {}
    return subprocess.Popen(command, cwd="/", stderr=subprocess.DEVNULL, **user)  # type: ignore[call-overload, no-any-return]


def connection_error(path: Path, user: int) -> str:
    """What goes wrong, if anything, when ``user`` connects to a socket."""
    connect = """
import os, socket, sys
client = socket.socket(socket.AF_UNIX)
os.setuid(int(sys.argv[1]))
client.connect(sys.argv[2])
"""
    command = [sys.executable, "-c", connect, str(user), str(path)]
    return subprocess.run(command, check=False, capture_output=True, text=True).stderr


class Child:
    """Another process that serves a data directory."""

    def __init__(self, path: Path, *options: str, prefix: tuple[str, ...] = ()) -> None:
        program = Path(__file__).with_name("embedded_child.py")
        settings = json.dumps(dict(THROWAWAY))
        self.process = subprocess.Popen(
            [*prefix, sys.executable, str(program), str(path), "--settings", settings, *options],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        with self.process.stdout:
            self.answer: dict[str, str] = json.loads(self.process.stdout.readline() or '{"what": "it died"}')

    @property
    def url(self) -> str:
        assert "owner_url" in self.answer, self.answer
        return self.answer["owner_url"]

    def watchers(self) -> list[psutil.Process]:
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if "memsidecar-watch" in child.cmdline()]

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


# --- what is there after the first start


async def test_first_start_makes_roles_database_and_extension(place: Path) -> None:
    async with EmbeddedPostgres(place / "fresh") as postgres:
        urls = postgres.urls
        assert postgres.running
        whoami = "SELECT current_user || ' in ' || current_database()"
        assert await value(urls.owner_url, whoami) == "memsidecar_owner in memsidecar"
        assert await value(urls.app_url, whoami) == "memsidecar_server in memsidecar"
        assert await value(urls.eraser_url, whoami) == "memsidecar_eraser_login in memsidecar"
        roles = """
            SELECT array_agg(rolname || ':' || rolcreaterole::text ORDER BY rolname) FROM pg_roles
            WHERE rolname LIKE 'memsidecar%' AND NOT rolsuper AND NOT rolbypassrls AND NOT rolcreatedb
        """
        assert await value(urls.app_url, roles) == [
            "memsidecar_eraser_login:false",
            "memsidecar_owner:true",
            "memsidecar_server:false",
        ]
        owner = "SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = current_database()"
        assert await value(urls.app_url, owner) == "memsidecar_owner"
        assert await value(urls.app_url, "SELECT '[1,2]'::vector <-> '[1,4]'") == 2.0
        await execute(urls.owner_url, "CREATE ROLE a_group; GRANT a_group TO memsidecar_server")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await execute(urls.app_url, "CREATE ROLE another_group")
        for name, wanted in {**SETTINGS, "data_checksums": "on", "server_encoding": "UTF8"}.items():
            assert await value(urls.app_url, f"SELECT current_setting('{name}')") == wanted, name


async def test_full_text_search_knows_letters_from_dashes_and_quotes(directory: DataDirectory) -> None:
    async with embedded(directory.path) as postgres:
        lexemes = "SELECT tsvector_to_array(to_tsvector('simple', 'ÄRGER—naïve “quoted”'))"
        assert await value(postgres.urls.app_url, lexemes) == ["naïve", "quoted", "ärger"]


async def test_nothing_listens_on_the_network(directory: DataDirectory) -> None:
    async with embedded(directory.path):
        postgres = psutil.Process(postgres_process(directory))
        assert postgres.net_connections(kind="inet") == []
        assert len(postgres.net_connections(kind="unix")) >= 1


async def test_variables_for_other_servers_change_nothing(
    directory: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = {
        "PGPORT": "1",
        "PGHOST": "nowhere.invalid",
        "PGDATA": "/nowhere",
        "PGUSER": "no",
        "PGSSLMODE": "require",
    }
    for name, text in others.items():
        monkeypatch.setenv(name, text)
    async with embedded(directory.path) as postgres:
        assert await value(postgres.urls.app_url, "SELECT current_user::text") == "memsidecar_server"


async def test_log_holds_no_content(directory: DataDirectory) -> None:
    async with embedded(directory.path) as postgres:
        for statement in ("SELECT 'a secret word'::uuid", "INSERT INTO nowhere VALUES ('a secret word')"):
            with pytest.raises(asyncpg.PostgresError):
                await execute(postgres.urls.owner_url, statement)
    log = directory.log.read_text()
    assert "database system is ready" in log
    assert "secret" not in log


async def test_large_log_is_moved_aside(directory: DataDirectory) -> None:
    directory.log.write_text("x" * (LOG_BYTES + 1))
    async with embedded(directory.path):
        assert "database system is ready" in directory.log.read_text()
        assert directory.log.stat().st_size < LOG_BYTES
        assert directory.log.with_suffix(".log.1").stat().st_size == LOG_BYTES + 1


# --- stopping and starting


async def test_rows_are_there_after_a_restart(directory: DataDirectory, words: Words) -> None:
    async with embedded(directory.path) as postgres:
        await words.add(postgres.urls.owner_url, "one")
    async with embedded(directory.path) as postgres:
        assert await words.all(postgres.urls.owner_url) == ["one"]


async def test_stop_leaves_nothing_running_and_may_be_repeated(directory: DataDirectory) -> None:
    changes: list[bool] = []
    postgres = embedded(directory.path, on_running_change=changes.append)
    await postgres.stop()
    await postgres.start()
    process = postgres_process(directory)
    assert running_urls(directory.path) == postgres.urls
    await postgres.stop()
    await postgres.stop()
    assert changes == [True, False]
    assert not postgres.running
    assert not psutil.pid_exists(process)
    assert not directory.postgres_alive()
    assert running_urls(directory.path) is None
    await postgres.start()
    await postgres.stop()
    assert changes == [True, False, True, False]


async def test_terminated_process_leaves_nothing_running(directory: DataDirectory) -> None:
    with Child(directory.path) as child:
        assert directory.postgres_alive()
        assert child.end(signal.SIGTERM) == 0
    assert not directory.postgres_alive()


@pytest.mark.parametrize("milliseconds", [0, 20, 60, 150])
async def test_interrupted_start_leaves_nothing_running(directory: DataDirectory, milliseconds: int) -> None:
    postgres = embedded(directory.path)
    start = asyncio.create_task(postgres.start())
    await asyncio.sleep(milliseconds / 1000)
    start.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await start
    await postgres.stop()
    assert not directory.postgres_alive()
    async with embedded(directory.path) as postgres:
        assert postgres.running


async def test_first_start_that_was_interrupted_is_made_good_by_the_next(place: Path) -> None:
    directory = DataDirectory(place / "interrupted")
    start = asyncio.create_task(embedded(directory.path).start())
    await until((directory.path / "cluster.new" / "base").exists)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert not directory.cluster.exists()
    async with embedded(directory.path) as postgres:
        assert await value(postgres.urls.app_url, "SELECT '[1,2]'::vector <-> '[1,4]'") == 2.0


async def test_temporary_postgres_is_gone_afterwards() -> None:
    async with temporary_postgres({"work_mem": "5MB"}) as postgres:
        url = postgres.urls.app_url
        assert await value(url, "SELECT current_setting('work_mem')") == "5MB"
        assert await value(url, "SELECT current_setting('fsync')") == "off"
        folder = postgres.urls.socket_directory.parent.parent
        assert folder.is_dir()
    assert not folder.exists()


# --- crashes


async def test_postgres_ends_in_order_when_its_process_is_killed(
    directory: DataDirectory, words: Words
) -> None:
    log_size = directory.log_size()
    with Child(directory.path) as child:
        await words.add(child.url, "one")
        child.end(signal.SIGKILL)
        await until(lambda: not directory.postgres_alive())
    assert "database system is shut down" in directory.log_since(log_size)
    async with embedded(directory.path) as postgres:
        assert await words.all(postgres.urls.owner_url) == ["one"]


async def test_postgres_that_outlived_its_process_is_stopped_and_its_rows_kept(
    directory: DataDirectory, words: Words
) -> None:
    with Child(directory.path) as child:
        await words.add(child.url, "one")
        (watcher,) = child.watchers()
        watcher.kill()
        child.end(signal.SIGKILL)
        leftover = postgres_process(directory)
        assert psutil.pid_exists(leftover)
        async with embedded(directory.path) as postgres:
            assert postgres_process(directory) != leftover
            assert await words.all(postgres.urls.owner_url) == ["one"]


async def test_killed_postgres_is_started_again(directory: DataDirectory, words: Words) -> None:
    changes: list[bool] = []
    async with embedded(directory.path, on_running_change=changes.append) as postgres:
        urls = postgres.urls
        for word in ("one", "two"):
            await words.add(urls.owner_url, word)
            changes.clear()
            os.kill(postgres_process(directory), signal.SIGKILL)
            await until(lambda: changes == [False, True])
            assert postgres.running
            assert postgres.urls == urls
            assert word in await words.all(urls.owner_url)


async def test_new_postgres_waits_for_the_sessions_of_a_killed_one(directory: DataDirectory) -> None:
    async with embedded(directory.path) as postgres:
        busy = await asyncpg.connect(postgres.urls.owner_url)
        session = psutil.Process(await busy.fetchval("SELECT pg_backend_pid()"))
        # Suspended, it does not notice that its server is gone, like one deep in a long computation.
        session.suspend()
        killed = postgres_process(directory)
        os.kill(killed, signal.SIGKILL)
        await until(lambda: not postgres.running)
        await asyncio.sleep(0.5)
        assert postgres_process(directory) == killed
        session.resume()
        await until(lambda: postgres.running)
        assert not session.is_running() or session.status() == psutil.STATUS_ZOMBIE
        busy.terminate()


async def test_restart_is_tried_until_it_succeeds(
    directory: DataDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    control = directory.cluster / "global" / "pg_control"
    async with embedded(directory.path) as postgres:
        control.rename(directory.path / "pg_control")
        os.kill(postgres_process(directory), signal.SIGKILL)
        await until(lambda: caplog.text.count("cannot be started again yet") == 2)
        assert "pg_control" in caplog.text
        assert not postgres.running
        (directory.path / "pg_control").rename(control)
        await until(lambda: postgres.running)


async def test_process_number_of_a_dead_postgres_is_not_believed(directory: DataDirectory) -> None:
    pid_file = directory.cluster / "postmaster.pid"
    async with embedded(directory.path):
        record = pid_file.read_text().splitlines()
    with started_as_postgres(directory, "sleep", "60") as stranger:
        pid_file.write_text("\n".join([str(stranger.pid), *record[1:], ""]))
        async with embedded(directory.path) as postgres:
            assert postgres.running
        assert stranger.poll() is None
        stranger.kill()


# --- refusals


async def refusal(postgres: EmbeddedPostgres) -> Problem:
    with pytest.raises(SetupError) as raised:
        await postgres.start()
    assert not postgres.running
    return raised.value.problem


async def test_second_process_on_the_same_directory_is_refused(directory: DataDirectory) -> None:
    with Child(directory.path) as child:
        problem = await refusal(embedded(directory.path))
        assert f"process {child.process.pid}" in problem.what
        assert str(directory.path) in problem.what
        assert f"kill {child.process.pid}" in problem.remedy
        assert await value(child.url, "SELECT 1") == 1
        child.end(signal.SIGTERM)


async def test_postgres_started_by_someone_else_is_left_alone(
    directory: DataDirectory, place: Path, open_installation: Installation
) -> None:
    folder = place / "by-hand"
    folder.mkdir()
    folder.chmod(0o777)
    program = open_installation.program("postgres")
    with started_as_postgres(directory, program, "-D", directory.cluster, "-k", folder, "-h", "") as other:
        await until((folder / SOCKET_NAME).exists)
        problem = await refusal(embedded(directory.path))
        assert f"kill -INT {other.pid}" in problem.remedy
        assert other.poll() is None
        other.send_signal(signal.SIGINT)
        assert other.wait(PATIENCE_SECONDS) == 0


async def test_data_of_another_major_version_is_refused(directory: DataDirectory) -> None:
    version = directory.cluster / "PG_VERSION"
    version.write_text("17\n")
    try:
        problem = await refusal(embedded(directory.path))
    finally:
        version.write_text("18\n")
    assert "PostgreSQL 17" in problem.what
    assert "PostgreSQL 18" in problem.what
    assert "pg_dump" in problem.remedy


async def test_lack_of_memory_is_named(directory: DataDirectory) -> None:
    problem = await refusal(EmbeddedPostgres(directory.path, settings={"shared_buffers": "8000GB"}))
    assert "could not map anonymous shared memory" in problem.what
    assert "more memory" in problem.remedy
    assert str(directory.log) in problem.remedy
    async with embedded(directory.path) as postgres:
        assert postgres.running


async def test_file_that_cannot_be_written_is_named(directory: DataDirectory) -> None:
    in_the_way = directory.path / "memsidecar.new"
    in_the_way.mkdir()
    try:
        problem = await refusal(embedded(directory.path))
    finally:
        in_the_way.rmdir()
    assert f"{in_the_way}: Is a directory" in problem.what


async def test_unknown_setting_is_named(directory: DataDirectory) -> None:
    problem = await refusal(EmbeddedPostgres(directory.path, settings={"no_such_setting": "1"}))
    assert "no_such_setting" in problem.what


@contextlib.contextmanager
def child_on_a_small_disk(folder: Path, installation: Installation) -> Iterator[Child]:
    folder.mkdir()
    mount = f"mount -t tmpfs -o size=20m,mode=0711 tmpfs {folder}"
    private = ("unshare", "--mount", "sh", "-c")
    if shutil.which("unshare") is None or subprocess.run([*private, mount], check=False).returncode != 0:
        pytest.skip("this user may not mount a small file system")
    prefix = (*private, f'{mount} && exec "$@"', "sh")
    with Child(folder / "data", "--installation", str(installation.root), prefix=prefix) as child:
        yield child


def test_full_disk_is_named(place: Path, open_installation: Installation) -> None:
    with child_on_a_small_disk(place / "full", open_installation) as child:
        assert "initdb failed" in child.answer["what"]
        assert "Free some space" in child.answer["remedy"]


@only_root
def test_full_disk_is_named_when_binaries_are_copied(place: Path) -> None:
    hidden = place / "hidden-binaries"
    hidden.mkdir(mode=0o700)
    installation = find_installation().copy_to(hidden / "installation")
    with child_on_a_small_disk(place / "too-full", installation) as child:
        assert "No space left on device" in child.answer["what"]
        assert "100 MB" in child.answer["remedy"]


# --- who Postgres runs as


@only_root
async def test_root_runs_postgres_as_a_user_that_nobody_else_is(directory: DataDirectory) -> None:
    async with embedded(directory.path) as postgres:
        user = psutil.Process(postgres_process(directory)).uids().real
        assert user != 0
        with pytest.raises(KeyError):
            pwd.getpwuid(user)
        for path in (directory.cluster, postgres.urls.socket_directory):
            assert path.stat().st_uid == user
            assert stat.S_IMODE(path.stat().st_mode) == 0o700


@only_root
async def test_other_users_cannot_reach_the_socket(directory: DataDirectory) -> None:
    async with embedded(directory.path) as postgres:
        path = postgres.urls.socket_directory / SOCKET_NAME
        assert connection_error(path, 0) == ""
        assert "PermissionError" in connection_error(path, ORDINARY_USER)


@only_root
async def test_root_does_not_open_directories_above_its_own(place: Path) -> None:
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    problem = await refusal(embedded(closed / "data"))
    assert str(closed) in problem.what
    assert "/var/lib/memsidecar" in problem.remedy
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@only_root
async def test_root_copies_binaries_that_only_root_can_reach(directory: DataDirectory, place: Path) -> None:
    hidden = place / "hidden"
    hidden.mkdir(mode=0o700)
    installation = find_installation().copy_to(hidden / "installation")
    (directory.path / "installation-1.0.0").mkdir()
    for _ in ("copied", "found"):
        async with embedded(directory.path, installation=installation) as postgres:
            assert postgres.running
        (copy,) = directory.path.glob("installation-*")
        assert copy.name == f"installation-{installation.version}"


async def test_ordinary_user_runs_postgres_as_itself(place: Path, as_ordinary_user: tuple[str, ...]) -> None:
    home = place / "home"
    home.mkdir()
    home.chmod(0o755)
    directory = DataDirectory(home / "share" / "data")
    user = os.geteuid()
    if ROOT:
        user = int(as_ordinary_user[1])
        os.chown(home, user, user)
    with Child(directory.path, *as_ordinary_user) as child:
        await execute(child.url, "CREATE TABLE kept (word text); INSERT INTO kept VALUES ('one')")
        assert psutil.Process(postgres_process(directory)).uids().real == user
        assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700
        child.end(signal.SIGKILL)
    with Child(directory.path, *as_ordinary_user) as child:
        assert await value(child.url, "SELECT word FROM kept") == "one"
        assert child.end(signal.SIGTERM) == 0
    assert not directory.postgres_alive()


@only_root
def test_directory_that_cannot_be_written_is_named(place: Path, as_ordinary_user: tuple[str, ...]) -> None:
    with Child(place / "not-mine" / "data", *as_ordinary_user) as child:
        assert f"{place / 'not-mine'}: Permission denied" in child.answer["what"]
        assert "write there" in child.answer["remedy"]


# --- where the socket is


@pytest.fixture
def long_directory(directory: DataDirectory, place: Path) -> Iterator[DataDirectory]:
    """The data directory under a name too long for a socket in it."""
    long = directory.path.rename(place / ("long-" * 30))
    yield DataDirectory(long)
    long.rename(directory.path)


async def test_socket_of_a_long_path_is_in_a_short_private_directory(long_directory: DataDirectory) -> None:
    async with embedded(long_directory.path) as postgres:
        short = postgres.urls.socket_directory
        assert len(os.fsencode(short / SOCKET_NAME)) <= SOCKET_PATH_BYTES
        assert stat.S_IMODE(short.stat().st_mode) == 0o700
        assert short.stat().st_uid == long_directory.cluster.stat().st_uid
        assert await value(postgres.urls.app_url, "SELECT 1") == 1
        assert running_urls(long_directory.path) == postgres.urls
    assert not short.exists()


async def test_short_directory_that_others_can_enter_is_not_used_again(
    long_directory: DataDirectory, place: Path
) -> None:
    opened = place / "opened"
    opened.mkdir(mode=0o755)
    socket_link = long_directory.path / "socket"
    if socket_link.exists():
        socket_link.rmdir()
    socket_link.symlink_to(opened)
    async with embedded(long_directory.path) as postgres:
        assert postgres.urls.socket_directory != opened
        assert await value(postgres.urls.app_url, "SELECT 1") == 1
    assert opened.is_dir()
