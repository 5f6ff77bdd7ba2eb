"""One Postgres server process, from its start to its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from memsidecar.domain.errors import Problem, SetupError
from memsidecar.postgres.embedded.failure import startup_problem
from memsidecar.postgres.embedded.process import spawn

if TYPE_CHECKING:
    from memsidecar.postgres.embedded.account import Account
    from memsidecar.postgres.embedded.directory import DataDirectory
    from memsidecar.postgres.embedded.installation import Installation

READY_POLL_SECONDS = 0.02
READY_SECONDS = 120.0
"""How long recovery after a crash may take; ``max_wal_size`` bounds it far below this."""
FAST_SHUTDOWN = (signal.SIGINT, 30.0)
"""Ends sessions and writes everything out; the seconds bound a slow disk."""
IMMEDIATE_SHUTDOWN = (signal.SIGQUIT, 10.0)
"""Ends at once and leaves recovery to the next start; nothing acknowledged is lost."""

WATCH = 'read -r line; kill -INT "$1"'
"""Waits for the end of a pipe that only this process holds open, so for its end, however it comes."""


@dataclass(frozen=True, slots=True)
class PostmasterRecord:
    """What the file ``postmaster.pid`` says; it outlives a crash, so alone it proves nothing."""

    process_id: int
    socket_directory: Path | None
    """None until the socket is there."""
    ready: bool
    """Whether connections are accepted."""


def postmaster_record(cluster: Path) -> PostmasterRecord | None:
    """Read ``postmaster.pid``; None when there is none, or none that is whole.

    Its lines are described in Postgres's ``src/include/utils/pidfile.h``.
    """
    try:
        text = (cluster / "postmaster.pid").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    lines = [line.strip() for line in text.splitlines()] + [""] * 8
    if not lines[0].isdigit():
        return None
    return PostmasterRecord(int(lines[0]), Path(lines[4]) if lines[4] else None, lines[7] == "ready")


class Postmaster:
    """A Postgres server process that this process started."""

    def __init__(self, process: asyncio.subprocess.Process, directory: DataDirectory, log_size: int) -> None:
        self._process = process
        self._directory = directory
        self._log_size = log_size
        self._exit = asyncio.create_task(process.wait())
        self._watcher: asyncio.subprocess.Process | None = None
        self._lifeline: int | None = None

    @classmethod
    async def start(
        cls,
        installation: Installation,
        directory: DataDirectory,
        socket_directory: Path,
        account: Account | None,
        postgres_lock: int,
    ) -> Postmaster:
        """Start Postgres, and beside it a small process that stops it if this one dies.

        Args:
            installation: whose binaries.
            directory: the data directory.
            socket_directory: where it puts its socket.
            account: who it runs as; None is this user.
            postgres_lock: file descriptor of the lock that it inherits.
        """
        log_size = directory.log_size()
        log = directory.open_log()
        quoted = str(socket_directory).replace('"', '""')
        try:
            process = await spawn(
                str(installation.program("postgres")),
                "-D",
                str(directory.cluster),
                "-c",
                f"config_file={directory.settings}",
                "-c",
                f'unix_socket_directories="{quoted}"',
                account=account,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(postgres_lock,),
            )
        finally:
            os.close(log)
        postmaster = cls(process, directory, log_size)
        try:
            await postmaster._watch(account)
        except BaseException:
            await postmaster.stop()
            raise
        return postmaster

    @property
    def process_id(self) -> int:
        """The number of the process."""
        return self._process.pid

    async def wait_until_ready(self) -> None:
        """Return as soon as it accepts connections.

        Raises:
            SetupError: it ended instead, or takes longer than two minutes.
        """
        deadline = asyncio.get_running_loop().time() + READY_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            if await self.ended(within_seconds=READY_POLL_SECONDS):
                output = self._directory.log_since(self._log_size)
                raise SetupError(
                    startup_problem("postgres", output, self._directory.path, self._directory.log)
                )
            record = postmaster_record(self._directory.cluster)
            if record and record.process_id == self.process_id and record.ready:
                return
        raise SetupError(
            Problem(
                f"Postgres in {self._directory.path} accepts no connection after {READY_SECONDS:.0f} s.",
                f"Its log, {self._directory.log}, tells what it does; if that is recovery, start again.",
            )
        )

    async def ended(self, *, within_seconds: float) -> bool:
        """Whether it has ended, at the latest ``within_seconds`` from now."""
        await asyncio.wait({self._exit}, timeout=within_seconds)
        return self._exit.done()

    async def stop(self) -> None:
        """End it, orderly if that is quick enough; nothing happens when it has ended."""
        await self._unwatch()
        for number, patience_seconds in (FAST_SHUTDOWN, IMMEDIATE_SHUTDOWN, (signal.SIGKILL, 10.0)):
            if self._exit.done():
                break
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)
            await self.ended(within_seconds=patience_seconds)

    async def _watch(self, account: Account | None) -> None:
        reading, self._lifeline = os.pipe()
        try:
            self._watcher = await spawn(
                "/bin/sh",
                "-c",
                WATCH,
                "memsidecar-watch",
                str(self.process_id),
                account=account,
                stdin=reading,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
        finally:
            os.close(reading)

    async def _unwatch(self) -> None:
        if self._watcher is not None:
            with contextlib.suppress(ProcessLookupError):
                self._watcher.kill()
            await self._watcher.wait()
            self._watcher = None
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
