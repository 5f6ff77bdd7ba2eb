"""What an earlier run left in a data directory: a running Postgres, or only the file that names one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from typing import TYPE_CHECKING

from memsidecar.domain.errors import Problem, SetupError
from memsidecar.postgres.embedded.postmaster import FAST_SHUTDOWN, IMMEDIATE_SHUTDOWN, postmaster_record
from memsidecar.postgres.embedded.process import spawn
from memsidecar.postgres.embedded.socket_directory import SOCKET_NAME

if TYPE_CHECKING:
    from pathlib import Path

    from memsidecar.postgres.embedded.account import Account
    from memsidecar.postgres.embedded.directory import DataDirectory

logger = logging.getLogger(__name__)

ON_ITS_WAY = (signal.SIGINT, 2.0)
"""A Postgres that was about to start has not written its process number yet; the next round finds it."""


async def stop_leftover(directory: DataDirectory, account: Account | None) -> None:
    """Stop a Postgres that outlived the process of ours that started it, orderly, so that nothing is lost.

    It is not taken over: only the parent of a process is told at once when it ends, and its settings may be
    older.

    Raises:
        SetupError: it does not stop.
    """
    if not directory.postgres_alive():
        return
    logger.warning("A Postgres of an earlier run still runs in %s; stopping it", directory.path)
    for number, patience_seconds in (ON_ITS_WAY, FAST_SHUTDOWN, IMMEDIATE_SHUTDOWN):
        record = postmaster_record(directory.cluster)
        if record is not None:
            await _signal(record.process_id, number, account)
        with contextlib.suppress(TimeoutError):
            async with directory.postgres_lock(patience_seconds):
                return
    raise does_not_end(directory)


def does_not_end(directory: DataDirectory) -> SetupError:
    """The error for a Postgres of an earlier run that cannot be stopped."""
    record = postmaster_record(directory.cluster)
    name = f"process {record.process_id}" if record else "see the output of ps"
    return SetupError(
        Problem(
            f"A Postgres of an earlier run ({name}) still uses {directory.path} and does not end.",
            "End it and start again.",
        )
    )


def forget_dead_postmaster(directory: DataDirectory) -> None:
    """Remove the ``postmaster.pid`` of a Postgres that is gone, as the caller's lock proves for all of ours.

    Postgres would believe the process number in it, which another process may have by now: after a container
    is started anew that is the rule, and Postgres would not start.

    Raises:
        SetupError: a Postgres that was not started by us answers at the socket the file names.
    """
    record = postmaster_record(directory.cluster)
    if record is not None and record.socket_directory is not None and _answers(record.socket_directory):
        raise SetupError(
            Problem(
                f"Another Postgres, process {record.process_id}, uses the data files in {directory.cluster}.",
                f"Stop it (kill -INT {record.process_id}) and start again.",
                details={"process": str(record.process_id)},
            )
        )
    (directory.cluster / "postmaster.pid").unlink(missing_ok=True)


async def _signal(process_id: int, number: int, account: Account | None) -> None:
    # As the user Postgres runs as, who could have written any number into the file, and can end only its own.
    sender = await spawn(
        "/bin/sh",
        "-c",
        'kill -"$1" "$2"',
        "memsidecar-signal",
        str(number),
        str(process_id),
        account=account,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    await sender.wait()


def _answers(socket_directory: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.connect(str(socket_directory / SOCKET_NAME))
        except OSError:
            return False
        return True
