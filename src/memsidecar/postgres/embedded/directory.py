"""The data directory of the embedded Postgres: what lies where, and who uses it.

::

    server.lock     held by the process that serves this directory, and naming it
    postgres.lock   held by Postgres: its processes inherit it, so it is free exactly when none of them lives
    memsidecar.conf the settings
    cluster/        the data files, owned by the user Postgres runs as
    socket/         the socket; a link to a short directory when this one's path is too long for a socket
    postgres.log    what Postgres logged, with postgres.log.1 before it

Both locks are the kernel's (flock): they end with the processes that hold them, however those end, and no process
number, which another process may have by then, has to be believed.

When this process is root, only ``cluster`` and what ``socket`` names belong to the user Postgres runs as, and root
writes to no file in them: a link there could lead it astray.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import shutil
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from memsidecar.domain.errors import Problem, SetupError
from memsidecar.postgres.embedded.account import closed_parent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from memsidecar.postgres.embedded.account import Account

LOG_BYTES = 8 * 1024 * 1024
"""A log larger than this becomes ``postgres.log.1``, so that both together stay around twice this."""
LOCK_POLL_SECONDS = 0.05


class DataDirectory:
    """The paths in one data directory, and its two locks."""

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.abspath(path))  # noqa: PTH100 - links in it are the operator's, and stay
        self.cluster = self.path / "cluster"
        self.settings = self.path / "memsidecar.conf"
        self.log = self.path / "postgres.log"
        self._server_lock: int | None = None

    def prepare(self) -> None:
        """Make the directory where it is missing, for this user only.

        Raises:
            SetupError: it cannot be made.
        """
        # Root serves Postgres under another user, which has to pass through.
        root = os.geteuid() == 0
        missing = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        try:
            for folder in reversed(missing):
                folder.mkdir(exist_ok=True)
                folder.chmod(0o711 if root else 0o700)
            if root:
                self.path.chmod(self.path.stat().st_mode | 0o011)
        except OSError as error:
            raise self.unusable(error) from error

    def check_reachable(self, account: Account | None) -> None:
        """Make sure that the user Postgres runs as can get to the directory.

        Raises:
            SetupError: a directory above lets only its owner through.
        """
        if account and (closed := closed_parent(account, self.cluster)):
            raise SetupError(
                Problem(
                    f"Postgres refuses to run as root, and user {account.user_id}, which it runs as instead,"
                    f" may not pass through {closed} to the data directory {self.path}.",
                    "Set MEMSIDECAR_DATA_DIRECTORY to one outside of it, for example /var/lib/memsidecar,"
                    " or run memsidecar as an ordinary user.",
                )
            )

    def lock(self) -> None:
        """Become the one process that serves this directory.

        Raises:
            SetupError: another process serves it, or the directory cannot be written to or locked.
        """
        try:
            descriptor = os.open(self.path / "server.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self.unusable(error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode().strip()
            os.close(descriptor)
            raise SetupError(
                Problem(
                    f"Another memsidecar, process {holder}, already serves the data directory {self.path}.",
                    f"Use that one, or stop it (kill {holder}), or give this one a directory of its own"
                    " (MEMSIDECAR_DATA_DIRECTORY).",
                    details={"process": holder},
                )
            ) from None
        except OSError as error:
            os.close(descriptor)
            raise self.unusable(error) from error
        self._server_lock = descriptor

    def unlock(self) -> None:
        """Let another process serve this directory."""
        if self._server_lock is not None:
            os.close(self._server_lock)
            self._server_lock = None

    def postgres_alive(self) -> bool:
        """Whether any Postgres process of this directory lives, whichever process of ours started it."""
        try:
            os.close(self._take_postgres_lock())
        except BlockingIOError:
            return True
        return False

    @asynccontextmanager
    async def postgres_lock(self, patience_seconds: float) -> AsyncIterator[int]:
        """Hold the lock that a new Postgres is to inherit, as a file descriptor.

        Raises:
            TimeoutError: some Postgres process of this directory lived until the end of ``patience_seconds``.
        """
        async with asyncio.timeout(patience_seconds):
            while True:
                try:
                    descriptor = self._take_postgres_lock()
                    break
                except BlockingIOError:
                    await asyncio.sleep(LOCK_POLL_SECONDS)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def open_log(self) -> int:
        """Open the log for appending, as a file descriptor."""
        return os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def log_size(self) -> int:
        """The bytes in the log; what is logged later stands behind them."""
        return self.log.stat().st_size if self.log.exists() else 0

    def log_since(self, size: int) -> str:
        """What was logged after the log had ``size`` bytes."""
        with self.log.open("rb") as file:
            file.seek(size)
            return file.read().decode("utf-8", errors="replace")

    def rotate_log(self) -> None:
        """Move the log's text aside once it is large; the file stays, because Postgres has it open."""
        if self.log_size() > LOG_BYTES:
            shutil.copyfile(self.log, self.log.with_suffix(".log.1"))
            os.truncate(self.log, 0)

    def unusable(self, error: OSError) -> SetupError:
        """The error for a directory in which something could not be read, made, written or locked."""
        reason = os.strerror(error.errno or 0)
        remedy = "Choose another data directory, or configure a DATABASE_URL."
        if error.errno in {errno.EACCES, errno.EPERM}:
            remedy = f"Let user {os.geteuid()} write there, or choose another data directory."
        elif error.errno in {errno.ENOLCK, errno.EOPNOTSUPP}:
            remedy = "Choose a data directory on a disk of this machine: this file system cannot lock files."
        elif error.errno in {errno.ENOSPC, errno.EDQUOT}:
            remedy = "Free some space there, or choose another data directory."
        return SetupError(
            Problem(
                f"The data directory {self.path} cannot be used ({error.filename or self.path}: {reason}).",
                remedy,
            )
        )

    def _take_postgres_lock(self) -> int:
        descriptor = os.open(self.path / "postgres.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor
