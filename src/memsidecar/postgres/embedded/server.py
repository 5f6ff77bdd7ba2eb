"""The embedded Postgres as a whole: start it, keep it running, stop it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

from memsidecar.domain.errors import SetupError
from memsidecar.postgres.embedded.account import service_account
from memsidecar.postgres.embedded.cluster import make_cluster, make_database, write_settings
from memsidecar.postgres.embedded.directory import DataDirectory
from memsidecar.postgres.embedded.installation import find_installation, reachable_installation
from memsidecar.postgres.embedded.leftover import does_not_end, forget_dead_postmaster, stop_leftover
from memsidecar.postgres.embedded.postmaster import Postmaster, postmaster_record
from memsidecar.postgres.embedded.settings import SETTINGS
from memsidecar.postgres.embedded.socket_directory import make_socket_directory, remove_socket_directory
from memsidecar.postgres.embedded.urls import DatabaseUrls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path
    from types import TracebackType

    from memsidecar.postgres.embedded.account import Account
    from memsidecar.postgres.embedded.installation import Installation

logger = logging.getLogger(__name__)

FIRST_RETRY_SECONDS = 0.2
LONGEST_RETRY_SECONDS = 10.0
STEADY_SECONDS = 60.0
"""One that ran this long is started again at once when it dies; one that did not waits longer each time."""
LOG_CHECK_SECONDS = 60.0
FREE_SECONDS = 30.0
"""How long the sessions of a Postgres that was killed may take to notice: each ends with its statement."""
NO_SETTINGS: Mapping[str, str] = MappingProxyType({})


class EmbeddedPostgres:
    """A Postgres with pgvector in a directory of its own, reached over a private socket only.

    It lives as long as this object runs: a Postgres that dies is started again, and one that an earlier
    process left behind is stopped, its data intact, before a new one starts. Start and stop it in the same
    event loop.
    """

    def __init__(
        self,
        directory: Path,
        *,
        settings: Mapping[str, str] = NO_SETTINGS,
        on_running_change: Callable[[bool], None] | None = None,
        installation: Installation | None = None,
    ) -> None:
        """Name the data directory; nothing happens before :meth:`start`.

        Args:
            directory: the data directory, made when missing. Nothing else should be in it.
            settings: Postgres settings that replace or extend those of the ``settings`` module.
            on_running_change: called in the event loop with :attr:`running` whenever that changes.
            installation: the binaries; None finds the installed package.
        """
        self._directory = DataDirectory(directory)
        self._settings = {**SETTINGS, **settings}
        self._on_running_change = on_running_change
        self._installation = installation
        self._account: Account | None = None
        self._urls: DatabaseUrls | None = None
        self._postmaster: Postmaster | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._running = False

    @property
    def running(self) -> bool:
        """Whether Postgres is up; False while it is started again after a crash."""
        return self._running

    @property
    def urls(self) -> DatabaseUrls:
        """Where it is reached, the same from start to stop.

        Raises:
            RuntimeError: it has not been started.
        """
        if self._urls is None:
            raise RuntimeError("the embedded Postgres has not been started")
        return self._urls

    async def start(self) -> None:
        """Start Postgres and return when the database is there; make all of it the first time.

        Raises:
            SetupError: it cannot start, with the reason and a remedy; nothing is left running.
            RuntimeError: it has been started already.
        """
        if self._urls is not None:
            raise RuntimeError("the embedded Postgres has been started already")
        self._directory.prepare()
        self._directory.lock()
        try:
            await self._start()
        except BaseException as error:
            await self.stop()
            if isinstance(error, OSError):
                raise self._directory.unusable(error) from error
            raise

    async def stop(self) -> None:
        """Stop Postgres with everything written out, and let the directory go; does nothing when stopped."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.wait({self._supervisor})
            self._supervisor = None
        if self._postmaster is not None:
            await self._postmaster.stop()
            self._postmaster = None
        self._set_running(False)
        if self._urls is not None:
            remove_socket_directory(self._directory.path)
            self._urls = None
        self._directory.unlock()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _start(self) -> None:
        self._account = service_account(self._directory.path, self._directory.cluster)
        self._directory.check_reachable(self._account)
        installation = reachable_installation(
            self._installation or find_installation(), self._account, self._directory.path
        )
        await stop_leftover(self._directory, self._account)
        self._urls = DatabaseUrls(make_socket_directory(self._directory.path, self._account))
        async with self._free_lock() as postgres_lock:
            await make_cluster(installation, self._directory, self._account, self._settings, postgres_lock)
        await self._launch(installation)
        await make_database(self._urls)
        self._supervisor = asyncio.create_task(self._supervise(installation))
        self._set_running(True)

    async def _launch(self, installation: Installation) -> None:
        self._directory.rotate_log()
        write_settings(self._directory, self._settings)
        async with self._free_lock() as postgres_lock:
            forget_dead_postmaster(self._directory)
            self._postmaster = await Postmaster.start(
                installation, self._directory, self.urls.socket_directory, self._account, postgres_lock
            )
        await self._postmaster.wait_until_ready()
        logger.info("Postgres %s runs in %s", installation.version, self._directory.path)

    @contextlib.asynccontextmanager
    async def _free_lock(self) -> AsyncIterator[int]:
        try:
            async with self._directory.postgres_lock(FREE_SECONDS) as postgres_lock:
                yield postgres_lock
        except TimeoutError:
            raise does_not_end(self._directory) from None

    async def _supervise(self, installation: Installation) -> None:
        clock = asyncio.get_running_loop().time
        retry_seconds = 0.0
        while True:
            started = clock()
            await self._until_postmaster_ends()
            self._set_running(False)
            logger.error("Postgres in %s ended unexpectedly; starting it again", self._directory.path)
            if clock() - started > STEADY_SECONDS:
                retry_seconds = 0.0
            while not self._running:
                await asyncio.sleep(retry_seconds)
                retry_seconds = min(max(2 * retry_seconds, FIRST_RETRY_SECONDS), LONGEST_RETRY_SECONDS)
                self._set_running(await self._launched_again(installation))

    async def _until_postmaster_ends(self) -> None:
        assert self._postmaster is not None  # noqa: S101 - start() launches before it supervises
        while not await self._postmaster.ended(within_seconds=LOG_CHECK_SECONDS):
            self._directory.rotate_log()

    async def _launched_again(self, installation: Installation) -> bool:
        try:
            if self._postmaster is not None:
                await self._postmaster.stop()
            await self._launch(installation)
        except SetupError as error:
            logger.error("Postgres cannot be started again yet: %s", error)  # noqa: TRY400 - it says all
            return False
        except Exception:
            logger.exception("Postgres cannot be started again yet")
            return False
        return True

    def _set_running(self, running: bool) -> None:
        if running != self._running:
            self._running = running
            if self._on_running_change is not None:
                self._on_running_change(running)


def running_urls(path: Path) -> DatabaseUrls | None:
    """Where the Postgres is reached that another process of ours runs in the data directory ``path``.

    Returns:
        None when none runs there, or when it is still starting or already stopping.
    """
    directory = DataDirectory(path)
    record = postmaster_record(directory.cluster)
    if record is None or record.socket_directory is None or not record.ready:
        return None
    return DatabaseUrls(record.socket_directory) if directory.postgres_alive() else None
